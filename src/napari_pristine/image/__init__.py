"""Images: axes, blocks and tiles, intensity, noise, refinement and quality; numpy only, without torch, files or Qt."""

"""Physics: how images come from scenes, as linear forward operators; torch only."""

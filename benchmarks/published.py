"""Numbers that others published for the mixed test set of FMD (Zhang et al. 2019): 12 types × 4 captures."""

from __future__ import annotations

from dataclasses import dataclass

LEVELS = (1, 2, 4, 8, 16)
"""How many frames were averaged."""
IMAGES = 48

NOISY: dict[str, tuple[float, ...]] = {
    "Confocal_BPAE_B": (31.99, 34.83, 37.53, 40.61, 42.13),
    "Confocal_BPAE_G": (28.43, 31.34, 33.99, 37.03, 40.87),
    "Confocal_BPAE_R": (33.00, 36.06, 38.15, 40.95, 43.47),
    "Confocal_FISH": (22.86, 25.90, 29.07, 32.33, 36.23),
    "Confocal_MICE": (29.36, 32.44, 35.57, 38.91, 42.69),
    "TwoPhoton_BPAE_B": (24.2,),
    "TwoPhoton_BPAE_G": (25.3,),
    "TwoPhoton_BPAE_R": (30.8,),
    "TwoPhoton_MICE": (24.87, 27.72, 30.96, 33.52, 37.45),
    "WideField_BPAE_B": (25.6,),
    "WideField_BPAE_G": (23.88, 26.96, 30.13, 33.48, 37.40),
    "WideField_BPAE_R": (26.2,),
}
"""PSNR in dB of the noisy images, mean of the four captures of a type, per level as far as it is known."""


@dataclass(frozen=True)
class Published:
    """One published row: mean PSNR in dB (and SSIM) per level, as far as it is known.

    `label` is that of our row to which it is the counterpart, empty if we have none.
    """

    name: str
    source: str
    psnr: tuple[float, ...]
    ssim: tuple[float, ...] = ()
    label: str = ""

    def at(self, level: int) -> str:
        """PSNR, and SSIM where it is known, at a level; empty where nothing is known."""
        index = LEVELS.index(level) if level in LEVELS else len(LEVELS)
        psnr = f"{self.psnr[index]:.2f}" if index < len(self.psnr) else ""
        return f"{psnr} / {self.ssim[index]:.3f}" if index < len(self.ssim) else psnr


_FMD = "FMD benchmark, 48 images"
_ZHENG = "INS paper, table 1, 48 images"
_GUO = "Guo et al. 2025, 48 images"

PUBLISHED: tuple[Published, ...] = (
    Published("noisy", _FMD, (27.22, 30.08, 32.86, 36.03, 39.70), label="noisy"),
    Published(
        "INR", "Kim et al. 2022, images not stated",
        (34.01, 36.83, 39.76, 40.01, 41.56), (0.809, 0.863, 0.903, 0.968, 0.977), "inr:paper",
    ),
    Published("VST + BM3D", _FMD, (32.71, 34.09, 36.05, 38.01, 40.60), label="bm3d-vst"),
    Published("VST + NLM", _FMD, (31.25, 32.85, 34.92, 37.09, 40.04)),
    Published("PURE-LET", _FMD, (31.95, 33.49, 35.29, 37.25, 39.59)),
    Published("Noise2Noise U-Net (supervised)", _FMD, (34.70, 35.54, 37.06, 38.60, 40.35)),
    Published("BM3D", _ZHENG, (30.06,), (0.771,)),
    Published("DIP", _ZHENG, (32.90,), (0.854,)),
    Published("Self2Self", _ZHENG, (30.76,), (0.695,)),
    Published("ScoreDVI", _ZHENG, (33.10,), (0.865,)),
    Published("MASH", _ZHENG, (33.71,), (0.882,)),
    Published("INS", _ZHENG, (33.95,), (0.885,)),
    Published("ZS-N2N", _GUO, (31.65,), (0.767,)),
    Published("Pixel2Pixel", _GUO, (33.26,), (0.830,)),
    Published("NLR", _GUO, (33.47,), (0.882,)),
)  # fmt: skip
"""In full frames of 512 × 512 pixels, by protocol A unless the source says nothing (Kim et al.)."""

"""Blind2Unblind: a network learns to predict each pixel from its neighbours; computed by `fits.blind2unblind`.

The `paper` preset is that of the released code for fluorescence. The others fit a small network.
"""

from __future__ import annotations

from typing import Literal

from napari_pristine.methods.fit_settings import DenoiserParams
from napari_pristine.methods.method import LazyModule, Method, MethodParams
from napari_pristine.settings import setting

compute = LazyModule("napari_pristine.fits.blind2unblind")


class Blind2UnblindParams(DenoiserParams, MethodParams):
    """Learns from the noisy images alone; for noise that is independent from pixel to pixel."""

    output: Literal["mixed", "blind", "visible"] = setting(
        "mixed",
        "Result: predicted without seeing the pixel, with seeing it, or a mixture of both.",
        title="Result",
        labels={"blind": "predicted blindly", "visible": "predicted by seeing"},
    )
    cell: int = setting(
        4,
        "Side of the cells in which one pixel at a time is hidden from the network.",
        title="Cell size",
        unit="pixels",
        higher="fewer pixels are hidden at once: predictions are better, but a step learns less",
        ge=2,
        le=8,
    )
    copies: int | None = setting(
        1,
        "Masked copies of each crop per step, of as many as a cell has pixels.",
        title="Masked copies",
        none="all",
        higher="slower steps, each of which learns more",
        ge=1,
        advanced=True,
    )
    visible_start: float = setting(
        2.0,
        "Weight of the visible error at the start.",
        title="Seen weight, first",
        higher="pixels count more for themselves: sharper, and noisier",
        ge=0,
        le=1000,
        advanced=True,
    )
    visible_end: float = setting(
        20.0,
        "Weight of the visible error at the end.",
        title="Seen weight, last",
        higher="pixels count more for themselves: sharper, and noisier",
        ge=0,
        le=1000,
        advanced=True,
    )
    visible_from: float = setting(
        0.4,
        "Fraction of the steps after which that weight grows.",
        title="Seen weight, from",
        higher="it grows later",
        ge=0,
        lt=1,
        advanced=True,
    )
    blind_weight: float = setting(
        1.0,
        "Weight of the blind error alone.",
        higher="pixels count less for themselves: smoother",
        ge=0,
        le=100,
        advanced=True,
    )
    halvings: int = setting(
        0,
        "Number of times that the learning rate is halved, at equal intervals.",
        title="Rate halvings",
        higher="the network changes less and less towards the end",
        ge=0,
        le=20,
        advanced=True,
    )

    def visible_weight(self, progress: float) -> float:
        """λ after this fraction of the steps."""
        late = max(0.0, progress - self.visible_from) / (1 - self.visible_from)
        return self.visible_start + late * (self.visible_end - self.visible_start)


BLIND2UNBLIND = Method(
    key="blind2unblind",
    title="Blind2Unblind",
    summary="Learns from one or many noisy images to predict each pixel from its neighbours; for independent noise.",
    cite="Wang, Liu, Li & Han (2022), Blind2Unblind: self-supervised image denoising with visible blind spots, CVPR",
    params=Blind2UnblindParams,
    presets={
        # smaller cells hide more pixels at once, so that a step learns more; after that many steps the result does not
        # gain by the refinement
        "balanced": {"cell": 3, "steps": 1200, "refine": False},
        "fast": {"cell": 3, "steps": 200},
        "paper": {
            "steps": 23_700,
            "side": 128,
            "copies": None,
            "turns": False,
            "unet": "paper",
            "width": 48,
            "levels": 5,
            "learning_rate": 1e-4,
            "cooling": 0.0,
            "halvings": 4,
            "averaging": 0.0,
            "brightness": False,
            "stabilise": False,
            "hot_pixels": False,
            "stripes": False,
            "safeguard": False,
            "refine": False,
        },
    },
    from_pretrained={
        "unet": "pretrained",
        "steps": 15,
        "learning_rate": 1e-4,
        "cooling": 1.0,
        "averaging": 0.9,
        "visible_start": 20.0,
    },
    test_settings={"steps": 40, "width": 16, "levels": 2, "side": 32, "batch": 2},
    seconds={"fast": 29, "balanced": 122},
    network=compute.network,
    fit=compute.fit,
    restore=compute.restore,
    learn=compute.fit,
    needs_independent_noise=True,
)

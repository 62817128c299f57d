"""IDDP: a network learns to restore its own output, made noisy again by its own residual; computed by `fits.iddp`."""

from __future__ import annotations

from napari_pristine.methods.fit_settings import FINAL_RATE, DenoiserParams
from napari_pristine.methods.method import LazyModule, Method, MethodParams
from napari_pristine.settings import setting

compute = LazyModule("napari_pristine.fits.iddp")


class IddpParams(DenoiserParams, MethodParams):
    """Learns from the noisy images alone; for noise that is independent from pixel to pixel."""

    stop_at: float = setting(
        0.0,
        "Stop when the difference between image and result is as small as this, or no longer falls; 0 takes all steps.",
        title="Stop at residual",
        unit="noise levels",
        higher="stops sooner; the result is smoother",
        ge=0,
        le=10,
    )
    keep_best: bool = setting(
        True,
        "Return to the network whose residual was closest to the noise level, if the fit moves away from it.",
        title="Keep best step",
        advanced=True,
    )
    blur_weight: float = setting(
        0.005,
        "Weight of the distance to the blurred image (α).",
        title="Pull to the blur",
        higher="closer to the blurred image: less noise, less structure",
        ge=0,
        le=10,
    )
    renoised_weight: float = setting(
        1.0,
        "Weight of restoring the output with its residual added again (β).",
        title="Pull to itself",
        higher="the network trusts its own output more: smoother",
        ge=0,
        le=10,
        advanced=True,
    )
    blur: int = setting(
        5,
        "Side of the squares that the blur averages over.",
        title="Blur size",
        unit="pixels",
        higher="smoother",
        unless=("blur_weight", 0.0),
        ge=3,
        le=15,
        advanced=True,
    )
    clamp: bool = setting(
        False,
        "Keep the output with its residual added within the range of the noisy image.",
        title="Keep in range",
        advanced=True,
    )
    stop_gradient: bool = setting(
        True,
        "Do not let the first output learn to make its own restoration easier.",
        title="Fixed first output",
        advanced=True,
    )
    momentum: float = setting(
        0.9,
        "Decay of Adam's mean of gradients (β₁).",
        higher="steps keep their direction longer",
        ge=0,
        lt=1,
        advanced=True,
    )
    cooling: float = setting(
        0.6,
        "Fraction of the steps, at the end, over which the learning rate falls.",
        title="Slow down over",
        higher="the rate falls sooner",
        ge=0,
        le=1,
        advanced=True,
    )
    final_rate: float = setting(
        FINAL_RATE,
        "Fraction of the learning rate that is left at the end.",
        title="Rate at the end",
        higher="the network still changes at the end",
        unless=("cooling", 0.0),
        ge=0,
        le=1,
        advanced=True,
    )


IDDP = Method(
    key="iddp",
    title="IDDP",
    summary="Learns from one or many noisy images to undo their own noise, shuffled; for independent noise.",
    cite="Lin, Zhuang, Ding, Zeng, Huang, Tu & Paisley (2023), Self-supervised image denoising using implicit deep "
    "denoiser prior, AAAI",
    params=IddpParams,
    presets={
        "balanced": {"steps": 600},
        "fast": {"steps": 120},
        "paper": {
            "steps": 2_000_000,
            "batch": 1,
            "side": 128,
            "turns": False,
            "unet": "paper",
            "width": 32,
            "levels": 3,
            "learning_rate": 2e-4,
            "cooling": 0.5,
            "final_rate": 0.0,
            "momentum": 0.5,
            "averaging": 0.0,
            "blur_weight": 0.001,
            "clamp": True,
            "keep_best": False,
            "brightness": False,
            "stabilise": False,
            "hot_pixels": False,
            "stripes": False,
            "safeguard": False,
            "refine": False,
        },
    },
    from_pretrained={"unet": "pretrained", "steps": 15, "learning_rate": 1e-4, "cooling": 1.0, "averaging": 0.9},
    test_settings={"steps": 40, "width": 12, "levels": 2, "side": 32, "batch": 2},
    seconds={"fast": 19, "balanced": 84},
    network=compute.network,
    fit=compute.fit,
    restore=compute.restore,
    learn=compute.fit,
    needs_independent_noise=True,
)

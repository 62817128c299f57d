"""Sampling: a network predicts hidden pixels from distant visible ones; computed by `fits.sampling`.

The `paper` preset shows a tenth of the pixels. The others choose by the measured correlation length of the noise.
"""

from __future__ import annotations

from typing import Literal

from napari_pristine.methods.fit_settings import TrainingParams
from napari_pristine.methods.method import LazyModule, Method, MethodParams
from napari_pristine.settings import setting

compute = LazyModule("napari_pristine.fits.sampling")


class SamplingParams(TrainingParams, MethodParams):
    """Fits a function and a network to each image at once; nothing to train beforehand."""

    visible: float | None = setting(
        None,
        "Fraction of the pixels that the network sees.",
        title="Pixels seen",
        none="by the noise",
        higher="predictions are sharper; too high, and correlated noise stays",
        gt=0,
        lt=1,
    )
    margin: int | None = setting(
        None,
        "Pixels around a visible one that are not predicted.",
        title="Hidden margin",
        none="by the noise",
        unit="pixels",
        higher="noise that is correlated over more pixels is removed, with fine structure",
        ge=0,
        le=3,
    )
    passes: int | None = setting(
        None,
        "Number of masks that the result is averaged over; 0 shows the network the whole image.",
        title="Masks to average",
        none="by the noise",
        higher="slower; a little less noise",
        ge=0,
        le=10_000,
    )
    smoothness: float = setting(
        0.85,
        "Weight of the function's slope penalty; it follows the noise.",
        unit="noise levels",
        higher="smoother; too high, and fine structure is lost",
        ge=0,
        le=100,
    )
    loss: Literal["squared", "absolute"] = setting(
        "squared", "Errors to minimise; the optimum of squared ones is the mean.", title="Errors", advanced=True
    )
    consistency: float = setting(
        0.0,
        "Weight of the difference of function and network between pixels.",
        higher="network and function agree more: smoother",
        ge=0,
        le=100,
        advanced=True,
    )
    answers: Literal["unseen", "all"] = setting(
        "unseen",
        "Predictions to average: of pixels that the network did not see, or of all.",
        title="Average over",
        labels={"unseen": "pixels not seen", "all": "all pixels"},
        unless=("passes", 0),
        advanced=True,
    )
    folds: int = setting(
        2,
        "Parts of the pixels; each is filled in by a function fitted to the others.",
        title="Parts of the pixels",
        higher="slower; each function sees more of the pixels",
        ge=1,
        le=16,
        advanced=True,
    )
    cadence: int = setting(
        3,
        "Number of network steps per step of the function.",
        title="Network steps",
        higher="faster; the function is fitted less",
        ge=1,
        le=100,
        advanced=True,
    )
    refresh: int = setting(
        60,
        "Number of steps after which the gaps are filled again.",
        title="Refill after",
        unit="steps",
        higher="faster; the network sees older fillings",
        ge=1,
        le=1000,
        advanced=True,
    )
    patch: int | None = setting(
        96,
        "Side of the patches, each of which has a function of its own.",
        title="Patch size",
        none="one for all",
        unit="pixels",
        higher="fewer functions; slower for the same detail",
        ge=24,
        le=1024,
        advanced=True,
    )
    function_width: int = setting(
        48,
        "Units per layer of the function.",
        higher="slower; finer structure can be fitted",
        ge=4,
        le=256,
        advanced=True,
    )
    function_layers: int = setting(
        3,
        "Sine layers of the function.",
        higher="slower; more complex structure can be fitted",
        ge=2,
        le=16,
        advanced=True,
    )
    frequency: float | None = setting(
        0.5,
        "Highest initial frequency of the function.",
        title="Top frequency",
        none="as in the paper",
        unit="radians per pixel",
        higher="fine structure and noise are fitted sooner",
        gt=0,
        le=4,
        advanced=True,
    )
    function_batch: int | None = setting(
        512,
        "Pixels per patch and step that the function is fitted to.",
        title="Pixels per step",
        none="all",
        unit="pixels",
        higher="slower steps, of which fewer are needed",
        ge=64,
        advanced=True,
    )
    cosine: bool = setting(
        False,
        "Let the network's learning rate fall to 0 along a cosine and keep the function's, instead of cooling both.",
        title="Cosine schedule",
        advanced=True,
    )
    function_rate: float = setting(
        2e-3,
        "Learning rate of Adam for the function.",
        higher="larger steps; too high, and the fit does not settle",
        gt=0,
        le=1,
        advanced=True,
    )
    dropout: float = setting(
        0.0,
        "Fraction of the activations of the published network that are dropped.",
        higher="smoother",
        only=("unet", "paper"),
        ge=0,
        lt=1,
        advanced=True,
    )
    dilation: int = setting(
        1,
        "Dilation of the published network's convolutions.",
        unit="pixels",
        higher="pixels are predicted from more distant ones",
        only=("unet", "paper"),
        ge=1,
        le=4,
        advanced=True,
    )


SAMPLING = Method(
    key="sampling",
    title="Neural sampling",
    summary="Predicts hidden pixels from distant ones and a continuous function; for independent and correlated noise.",
    cite="Quan, Zheng, Ma & Ji (2025), Zero-shot blind-spot image denoising via implicit neural sampling, CVPR",
    params=SamplingParams,
    presets={
        "balanced": {},
        "fast": {"steps": 100},
        "paper": {
            "steps": 1200,
            "visible": 0.1,
            "margin": 1,
            "passes": 400,
            "smoothness": 0.0,
            "stabilise": False,
            "refine": False,
            "hot_pixels": False,
            "stripes": False,
            "safeguard": False,
            "warm_start": False,
            "loss": "absolute",
            "consistency": 1.0,
            "answers": "all",
            "folds": 1,
            "cadence": 1,
            "refresh": 1,
            "patch": None,
            "function_width": 32,
            "function_layers": 6,
            "frequency": None,
            "function_batch": None,
            "function_rate": 1e-4,
            "unet": "paper",
            "width": 48,
            "levels": 5,
            "dropout": 0.5,
            "dilation": 2,
            "learning_rate": 4e-4,
            "cosine": True,
            "batch": 1,
            "side": 4096,
            "turns": False,
            "averaging": 0.0,
            "brightness": False,
            "tile": 512,
        },
    },
    test_settings={"steps": 40, "width": 12, "levels": 2, "side": 32, "batch": 2},
    seconds={"fast": 15, "balanced": 56},
    network=compute.network,
    fit=compute.fit,
    restore=compute.restore,
)

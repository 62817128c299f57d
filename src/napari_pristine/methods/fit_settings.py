"""Settings that several methods share: those of fits of continuous functions, and of trained U-Nets."""

from __future__ import annotations

from typing import Any, Literal

from napari_pristine.settings import Params, setting

FINAL_RATE = 0.02
"""Fraction of the learning rate that is left at the end of a linear decay."""


def cooling_setting() -> Any:
    """Declare the fall of the learning rate; a new declaration for each class."""
    return setting(
        0.6,
        "Fraction of the steps, at the end, over which the learning rate falls to 2 %.",
        title="Slow down over",
        higher="the rate falls sooner",
        ge=0,
        le=1,
        advanced=True,
    )


def averaging_setting() -> Any:
    """Declare the average over iterates; a new declaration for each class."""
    return setting(
        0.99,
        "Decay of the average over iterates; 0 uses the last.",
        title="Step averaging",
        higher="the average reaches further back",
        ge=0,
        lt=1,
        advanced=True,
    )


class FieldParams(Params):
    """The settings of a fit of a continuous function to pixels."""

    steps: int = setting(
        600,
        "Maximum number of optimiser steps.",
        title="Steps",
        higher="slower; finer structure is fitted, and at last noise as well",
        ge=1,
        le=100_000,
    )
    smoothness: float = setting(
        0.85,
        "Weight of the slope penalty; it follows the measured noise.",
        unit="noise levels",
        higher="smoother; too high, and fine structure is lost",
        ge=0,
        le=100,
    )
    stop_at: float = setting(
        0.0,
        "Stop when the difference between image and fit is as small as this; 0 takes all steps. At 1, as much is "
        "removed as there is noise.",
        title="Stop at residual",
        unit="noise levels",
        higher="stops sooner; the result is smoother",
        ge=0,
        le=10,
    )
    fits: int = setting(
        1,
        "Independent fits that are averaged.",
        title="Fits to average",
        higher="slower in proportion; a little less noise",
        ge=1,
        le=64,
    )
    patch: int | None = setting(
        96,
        "Side of the patches, each of which has a network of its own.",
        title="Patch size",
        none="one for all",
        unit="pixels",
        higher="fewer networks; slower for the same detail",
        ge=24,
        le=1024,
        advanced=True,
    )
    overlap: int = setting(
        16,
        "Least overlap of neighbouring patches.",
        title="Patch overlap",
        unit="pixels",
        higher="slower; smoother transitions between patches",
        ge=0,
        le=512,
        advanced=True,
    )
    width: int | None = setting(
        48,
        "Units per layer; the paper: 256 for 512 × 512 pixels, and in proportion.",
        title="Network width",
        none="as in the paper",
        higher="slower; finer structure can be fitted",
        ge=4,
        le=1024,
        advanced=True,
    )
    layers: int = setting(
        3,
        "Sine layers.",
        title="Network layers",
        higher="slower; more complex structure can be fitted",
        ge=2,
        le=16,
        advanced=True,
    )
    frequency: float | None = setting(
        0.5,
        "Highest initial frequency; the paper: 15 radians per half side.",
        title="Top frequency",
        none="as in the paper",
        unit="radians per pixel",
        higher="fine structure and noise are fitted sooner",
        gt=0,
        le=4,
        advanced=True,
    )
    batch: int | None = setting(
        512,
        "Pixels per patch and step.",
        title="Pixels per step",
        none="all",
        unit="pixels",
        higher="slower steps, of which fewer are needed",
        ge=64,
        advanced=True,
    )
    optimiser: Literal["adam", "muon"] = setting(
        "muon", "Optimiser of the hidden layers.", labels={"adam": "Adam", "muon": "Muon"}, advanced=True
    )
    learning_rate: float = setting(
        1e-3,
        "Learning rate of Adam.",
        title="Rate of Adam",
        higher="larger steps; too high, and the fit does not settle",
        gt=0,
        le=1,
        advanced=True,
    )
    muon_rate: float = setting(
        1e-3,
        "Learning rate of Muon.",
        title="Rate of Muon",
        higher="larger steps; too high, and the fit does not settle",
        only=("optimiser", "muon"),
        gt=0,
        le=1,
        advanced=True,
    )
    cooling: float = cooling_setting()
    averaging: float = averaging_setting()
    weight_decay: float = setting(
        0.0, "Weight decay of the last two sine layers.", higher="smoother", ge=0, le=1, advanced=True
    )
    holdout: float = setting(
        0.0,
        "Fraction of the pixels that is held out; the fit stops when their error no longer falls.",
        title="Pixels held out",
        higher="a surer stop, by fewer pixels to fit",
        ge=0,
        le=0.5,
        advanced=True,
    )
    warm_steps: float = setting(
        0.4,
        "Fraction of the steps for a frame that starts from the network of the frame before.",
        title="Later-frame steps",
        higher="slower; frames depend less on those before",
        only=("warm_start", True),
        gt=0,
        le=1,
        advanced=True,
    )

    def steps_of(self, warm: bool, at_most: int | None = None) -> int:
        """Number of steps of a fit that starts from random weights, or (`warm`) from a fitted network."""
        steps = self.steps if at_most is None else min(self.steps, at_most)
        return max(1, round(steps * (self.warm_steps if warm else 1)))


class TrainingParams(Params):
    """The settings of a U-Net that is trained on random crops."""

    steps: int = setting(
        400,
        "Maximum number of optimiser steps.",
        title="Steps",
        higher="slower; the network learns more of the structure",
        ge=1,
        le=10_000_000,
    )
    batch: int = setting(4, "Crops per step.", higher="slower steps, each of which learns more", ge=1, le=1024)
    side: int = setting(
        64,
        "Side of the crops.",
        title="Crop size",
        unit="pixels",
        higher="slower steps, each of which learns more",
        ge=8,
        le=4096,
    )
    turns: bool = setting(True, "Flip and rotate the crops at random.", title="Flip and rotate", advanced=True)
    unet: Literal["small", "paper"] = setting(
        "small",
        "U-Net with the same number of channels on all levels, or as published.",
        title="Network",
        labels={"paper": "as published"},
        advanced=True,
    )
    width: int = setting(
        32,
        "Channels of the first level of the U-Net.",
        title="Network channels",
        higher="slower; more complex structure can be learned",
        unless=("unet", "pretrained"),
        ge=3,
        le=512,
        advanced=True,
    )
    levels: int = setting(
        3,
        "Number of times that the U-Net halves the image.",
        title="Network levels",
        higher="slower; structure is seen in a wider surrounding",
        unless=("unet", "pretrained"),
        ge=1,
        le=6,
        advanced=True,
    )
    learning_rate: float = setting(
        1e-3,
        "Learning rate of Adam.",
        higher="larger steps; too high, and the network does not settle",
        gt=0,
        le=1,
        advanced=True,
    )
    cooling: float = cooling_setting()
    averaging: float = averaging_setting()
    mixed_precision: bool = setting(
        False,
        "Train in 16-bit floats on CUDA GPUs: faster, and the result differs a little.",
        title="Half precision",
        advanced=True,
    )
    brightness: bool = setting(
        True, "Give the result the mean brightness of the noisy image.", title="Keep brightness", advanced=True
    )
    warm_steps: float = setting(
        0.4,
        "Fraction of the steps for a network that has learned before.",
        title="Later-frame steps",
        higher="slower; more is learned anew",
        gt=0,
        le=1,
        advanced=True,
    )

    def steps_of(self, warm: bool) -> int:
        """Number of steps of a fit that starts from random weights, or (`warm`) from a trained network."""
        return max(1, round(self.steps * (self.warm_steps if warm else 1)))


class DenoiserParams(TrainingParams):
    """The settings of a U-Net that is the denoiser itself, and so can start from the pretrained network."""

    unet: Literal["small", "paper", "pretrained"] = setting(  # type: ignore[assignment]  # one more choice
        "small",
        "U-Net with the same number of channels on all levels, as published, or the pretrained network.",
        title="Network",
        labels={"paper": "as published"},
        advanced=True,
    )

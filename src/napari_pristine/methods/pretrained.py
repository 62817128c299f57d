"""Pretrained: a network that has learned from simulated scenes; computed by `fits.pretrained`."""

from __future__ import annotations

from napari_pristine.methods.method import LazyModule, Method, MethodParams, last_step_setting
from napari_pristine.settings import setting

compute = LazyModule("napari_pristine.fits.pretrained")


class PretrainedParams(MethodParams):
    """Restores within a second; has learned from simulated scenes, not from images of anybody."""

    orientations: int = setting(
        8,
        "Number of flipped and rotated versions of the image that are restored and averaged.",
        higher="slower in proportion; a little less noise",
        ge=1,
        le=8,
    )
    warm_start: bool = setting(
        False,
        "Start each frame of a stack from the network of the frame before.",
        title="Reuse last frame",
        unless=("steps", 0),
        advanced=True,
    )
    steps: int = setting(
        0,
        "Steps of adapting the network to the image before it restores it.",
        title="Steps to adapt",
        higher="slower; structure unlike that of cells is kept better",
        ge=0,
        le=100_000,
    )
    last_step: int | None = last_step_setting(unless=("steps", 0))
    learning_rate: float = setting(
        5e-4,
        "Learning rate of the adaptation.",
        higher="larger steps; too high, and the network forgets what it knew",
        unless=("steps", 0),
        gt=0,
        le=1,
        advanced=True,
    )
    batch: int = setting(
        4,
        "Crops per step of the adaptation.",
        higher="slower steps, each of which learns more",
        unless=("steps", 0),
        ge=1,
        le=1024,
        advanced=True,
    )
    side: int = setting(
        64,
        "Side of these crops.",
        title="Crop size",
        unit="pixels",
        higher="slower steps, each of which learns more",
        unless=("steps", 0),
        ge=16,
        le=4096,
        advanced=True,
    )
    warm_steps: float = setting(
        0.4,
        "Fraction of the steps for a frame that starts from the network of the frame before.",
        title="Later-frame steps",
        higher="slower; frames depend less on those before",
        only=("warm_start", True),
        unless=("steps", 0),
        gt=0,
        le=1,
        advanced=True,
    )

    def steps_of(self, warm: bool) -> int:
        """Number of steps of an adaptation of the network of the package, or (`warm`) of an adapted one."""
        return max(1, round(self.steps * self.warm_steps)) if warm and self.steps else self.steps


PRETRAINED = Method(
    key="pretrained",
    title="Pretrained",
    summary="Restores within a second by a network that has learned from simulated scenes; for independent and "
    "correlated noise.",
    cite="The developers of napari-pristine (2026), see docs/pretrained.md",
    params=PretrainedParams,
    presets={"balanced": {}, "fast": {"orientations": 1, "refine": False}, "best": {"steps": 30}},
    seconds={"fast": 0.9, "balanced": 3.8, "best": 15},
    network=compute.network,
    fit=compute.fit,
    restore=compute.restore,
    noise_kept=compute.noise_kept,
    restore_with_error=compute.restore_with_error,
    test_settings={"orientations": 1, "batch": 1, "side": 32},
)

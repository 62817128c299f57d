"""LINR: one continuous function behind one or several degraded images of a scene; computed by `fits.linr`.

The `paper` preset is one SIREN for the whole scene and a fixed number of steps. The others fit many small SIRENs to
overlapping patches.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from napari_pristine.errors import SettingError
from napari_pristine.methods.degradation import Degradation, ExtraImage, read_extra_images
from napari_pristine.methods.fit_settings import FieldParams
from napari_pristine.methods.method import LazyModule, Method, MethodParams
from napari_pristine.settings import setting
from napari_pristine.text import counted

compute = LazyModule("napari_pristine.fits.linr")


class LinrParams(FieldParams, MethodParams, Degradation):
    """Fits a continuous function to degraded images of a scene; nothing to train beforehand."""

    extra_images: tuple[ExtraImage, ...] = setting(
        (),
        "Extra images of the scene, each with its degradation: FILE NAME=VALUE …, separated by semicolons.",
    )
    rounds: int = setting(
        20,
        "Rounds of refinement, for images with blur, coarse pixels or extra images.",
        title="Rounds to refine",
        higher="slower; sharper, and at last noisier",
        only=("refine", True),
        ge=1,
        le=1000,
        advanced=True,
    )
    rough_steps: int = setting(
        60,
        "Maximum number of optimiser steps before the rounds of refinement.",
        title="Steps before",
        higher="slower; the rounds start from a finer fit",
        only=("refine", True),
        ge=1,
        le=100_000,
        advanced=True,
    )
    scaling: Literal["spread", "range"] = setting(
        "spread",
        "Unit of the networks: the standard deviation of the values, or half their range.",
        title="Unit of values",
        labels={"spread": "standard deviation", "range": "half the range"},
        advanced=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _read_extra_images(cls, values: Any) -> Any:
        """Read extra images from texts, and under the name `also` that version 0.1 gave them."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if (also := values.pop("also", None)) and values.get("extra_images"):
            raise SettingError("'extra_images' and 'also', its old name, are both set; leave out 'also'")
        if also:
            values["extra_images"] = also
        if "extra_images" in values:
            values["extra_images"] = read_extra_images(values["extra_images"])
        return values

    @property
    def degradations(self) -> tuple[Degradation, ...]:
        """The degradations of all images, that of the restored one first."""
        return (self, *self.extra_images)

    def finer_by(self, axes: str) -> tuple[int, ...]:
        """Upsampling of the grid of the result, along each of the axes of space."""
        return self.factors(axes)

    @property
    def degraded(self) -> bool:
        """True if the image is degraded by more than noise: blurred, coarse, or one of several images of a scene."""
        return self.finer > 1 or self.blur != "none" or bool(self.extra_images)

    @property
    def refinements(self) -> int:
        """Rounds of refinement."""
        return self.rounds if self.refine and self.degraded else 0

    @property
    def input_files(self) -> dict[str, str]:
        """Files of measured PSFs and of extra images, by role; images that are given as such have no file."""
        files = {"psf": self.psf_file} if self.blur == "file" else {}
        for number, image in enumerate(self.extra_images, start=1):
            if image.file:
                files[f"extra_image_{number}"] = image.file
            if image.blur == "file":
                files[f"extra_image_{number}_psf"] = image.psf_file
        return files

    def check(self, axes: str, others: int) -> None:
        """Raise a `SettingError` unless there are settings for each of that many extra images, and these axes suit.

        Blocks without an axis Z cannot be finer along it.
        """
        if others != len(self.extra_images):
            raise SettingError(
                f"'extra_images' describes {counted(len(self.extra_images), 'extra image')} of the scene, "
                f"and {others} {'is' if others == 1 else 'are'} given; write one description for each, separated by "
                "semicolons"
            )
        if any(d.finer > 1 and not set(d.finer_axes) <= set(axes) for d in self.degradations):
            raise SettingError(
                f"finer_axes '{self.finer_axes}' name axes that are not restored together ({axes}); "
                "set together, such as ZYX"
            )


LINR = Method(
    key="linr",
    title="LINR",
    summary="Fits a continuous function to degraded images of a scene: denoises, deblurs, fills in, upsamples.",
    cite="Xu & Jiao (2023), Revisiting implicit neural representations in low-level vision, ICLR workshop on "
    "neural fields",
    params=LinrParams,
    presets={
        "balanced": {},
        "fast": {"steps": 200, "rounds": 10},
        "paper": {
            "steps": 500,
            "smoothness": 0.0,
            "stabilise": False,
            "refine": False,
            "hot_pixels": False,
            "stripes": False,
            "safeguard": False,
            "warm_start": False,
            "scaling": "range",
            "patch": None,
            "width": 256,
            "layers": 7,
            "frequency": None,
            "batch": None,
            "optimiser": "adam",
            "learning_rate": 1e-4,
            "cooling": 0.0,
            "averaging": 0.0,
            "tile": 16384,
        },
    },
    test_settings={"steps": 60},
    network=compute.network,
    fit=compute.fit,
    restore=compute.restore,
    forward_model=compute.forward_model,
    refine=compute.refine,
    memory=900,
)

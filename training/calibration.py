"""Calibrate the errors that the network predicts, on pictures that it was never trained on, through the whole package.

Half the width of an interval is hypot(s e, 1.64 d): the predicted error e times a factor s, and d, what refinement and
safeguard have changed. Where few photons are counted, s goes from that of the kind of noise to that of few photons, as
the level of the stabilised noise goes from 1 to 0. The factor of each kind is the one with which 90 % of the pixels of
simulated pictures are covered, times that by which the network is more wrong on real ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file

from napari_pristine.errors import PristineError
from napari_pristine.fits import pretrained
from napari_pristine.fits.pretrained import ERROR_SCALES, FEW_PHOTONS, NOISE_KINDS, kind_of_noise
from napari_pristine.image.image import Image
from napari_pristine.jobs.plan import make_plan
from napari_pristine.jobs.restore import restore
from napari_pristine.recipe import Recipe
from training.camera import Camera
from training.denoiser import FIRST_HELD_OUT
from training.scenes import make_scenes

Array = NDArray[np.float64]

_COVERED = 0.9
_FIRST_SCENE = FIRST_HELD_OUT + 1000
"""Number of the first scene; those before are used to watch the training."""
_SIDE = 192
"""Height and width of a picture, in pixels."""
_OFFSET = 100.0
"""Value that is added to the pictures, as a camera does."""
_JUDGED = 1.5
"""Factor by which the measured variance of the noise may be wrong; of other pictures, no error can be predicted."""
_REAL = {"independent": 1.8, "correlated": 1.3}
"""Factors by which the network is more wrong on real images than on simulated ones; found on the developer images, on
which the eight orientations help less, noise is measured less well, and the truth has some noise, too."""
_FEW = 0.52
"""Factor for few photons, relative to that for independent noise; found there as well, as simulated pictures are hardly
ever so dark."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Pixels of a picture that was restored.

    Attributes:
        kind: Kind of its noise, as measured.
        variance: True variance of the noise over the measured one.
        wrong: Absolute errors.
        expected: Errors that the network predicts.
        changed: Half the width of the interval for what refinement and safeguard have changed.
        level: Level of the stabilised noise.
    """

    kind: str
    variance: float
    wrong: Array
    expected: Array
    changed: Array
    level: Array

    def covered(self, scale: float) -> float:
        """Fraction of pixels that the interval covers, with this factor where there are many photons."""
        scales = scale * (_FEW + (1 - _FEW) * self.level.clip(0, 1))
        return float((self.wrong <= np.hypot(scales * self.expected, self.changed)).mean())


def calibrate(weights: Path, pictures: int, seed: int, report: Callable[[str], None] = print) -> dict[str, float]:
    """Find the factors, and write them to the metadata of the file of the weights.

    Args:
        weights: The file of the package.
        pictures: Number of pictures.
        seed: Of the pictures.
        report: Gets a line for each factor.
    """
    samples = [s for s in take_samples(pictures, seed) if 1 / _JUDGED < s.variance < _JUDGED]
    report(f"{len(samples)} of {pictures} pictures")
    scales = {}
    for kind in NOISE_KINDS:
        scales[kind] = round(_REAL[kind] * _factor([sample for sample in samples if sample.kind == kind]), 3)
    scales[FEW_PHOTONS] = round(_FEW * scales[NOISE_KINDS[0]], 3)
    for kind, scale in scales.items():
        report(f"{kind} {scale}")
    _write_scales(weights, scales)
    return scales


def take_samples(pictures: int, seed: int) -> list[Sample]:
    """Take pictures of scenes that were never trained on, restore them, and compare them with the truth."""
    scenes = np.stack(list(make_scenes(range(_FIRST_SCENE, _FIRST_SCENE + pictures), 1)))
    camera = Camera(seed, torch.device("cpu"))
    pairs = camera.picture(camera.crops(torch.from_numpy(scenes), pictures, _SIDE))
    noisy, truth = (_OFFSET + pairs.light(pixels)[:, 0].double().numpy() for pixels in (pairs.noisy, pairs.target))
    ones = dict.fromkeys((*NOISE_KINDS, FEW_PHOTONS), 1.0)
    with patch.object(pretrained, "error_scales", return_value=ones):
        found = [_sample(*picture) for picture in zip(noisy, truth, strict=True)]
    return [sample for sample in found if sample is not None]


def _sample(noisy: Array, truth: Array) -> Sample | None:
    """Restore a picture `(Y, X)` with and without refinement and safeguard; None if it cannot be restored."""
    image = noisy.astype(np.float32)
    recipe = Recipe(method="pretrained")
    try:
        block = make_plan(Image(image, "YX"), recipe).block(())
        fit = restore(image, recipe=recipe, settings={"refine": False, "safeguard": False}, uncertainty=True)
        result = restore(image, recipe=recipe).data.astype(np.float64)
    except PristineError:
        return None
    assert fit.uncertainty is not None
    intensity = block.intensities[0]
    first = fit.data.astype(np.float64)
    changed = block.half_widths(np.zeros_like(block.pixels), first[None], result[None], None)[0]
    inside = np.isfinite(changed)
    measured = float(np.mean(intensity.noise.variance + intensity.noise.gain * truth))
    return Sample(
        kind=kind_of_noise(block.correlation_length),
        variance=float(((noisy - truth) ** 2).mean()) / max(measured, 1e-30),
        wrong=np.abs(result - truth)[inside],
        expected=(fit.uncertainty.data * intensity.slope(result) / intensity.slope(first))[inside],
        changed=changed[inside].astype(np.float64),
        level=intensity.level(block.pixels[0])[inside],
    )


def _factor(samples: Sequence[Sample], highest: float = 20.0) -> float:
    """Find the factor with which 90 % of the pixels are covered, in the mean of all pictures."""
    lowest = 0.0
    for _ in range(30):
        middle = (lowest + highest) / 2
        enough = np.mean([sample.covered(middle) for sample in samples]) >= _COVERED
        lowest, highest = (lowest, middle) if enough else (middle, highest)
    return highest


def _write_scales(weights: Path, scales: dict[str, float]) -> None:
    with safe_open(weights, "pt") as file:
        metadata = {**(file.metadata() or {}), ERROR_SCALES: json.dumps(scales)}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
    part = weights.with_suffix(".part")
    save_file(tensors, part, metadata)
    os.replace(part, weights)
    pretrained.error_scales.cache_clear()

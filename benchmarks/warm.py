"""`python -m benchmarks warm`: steps that are saved when a fit starts from the network of the previous frame.

A stack is restored with all steps from scratch; then each frame but the first starts from its predecessor's network
and takes a fraction of the steps; then all frames start from scratch with as few. Where the truth is not known, a
tenth of the pixels is hidden from the fits and serves as the target: its noise adds the same amount to all errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import napari_pristine as pristine
from benchmarks.images import Array, crop_square
from benchmarks.measure import save_json
from benchmarks.speed import FitOptions
from napari_pristine.errors import AxesError, SettingError
from napari_pristine.image.image import Image
from napari_pristine.methods import find_method
from napari_pristine.samples import simulate_timelapse

_FRACTIONS = (0.05, 0.1, 0.2, 0.4)
_HIDDEN = 0.1  # fraction of the pixels of a real stack that is hidden
_EQUAL = 1.002  # ratio of errors up to which they count as equal: 0.02 dB


@dataclass(frozen=True)
class Outcome:
    """Mean error of the frames after a fraction of the steps: root mean square, in grey values."""

    fraction: float
    steps: int
    warm: float
    cold: float


def run_warm(options: FitOptions, file: Path | None, frames: int, json: Path | None) -> int:
    """Restore a stack with warm and with cold starts and print the errors.

    Args:
        options: The fit; its seed also decides the simulated stack and the hidden pixels.
        file: A stack with the axes TYX; None simulates one.
        frames: Number of frames to take.
        json: File for the errors; None for none.

    Raises:
        AxesError: The file does not hold a stack of grey frames.
        SettingError: The method has no steps to save, or there is only one frame.
    """
    method, changes, crop, seed = options.method, options.changes, options.crop or 128, options.seed
    settings = find_method(method).settings(options.preset, changes).model_dump()
    if not {"steps", "warm_steps"} <= settings.keys():
        raise SettingError(f"{method} has no settings 'steps' and 'warm_steps', so there is nothing to compare")
    name, noisy, target = _read(file, frames, crop, seed) if file else _simulate(frames, crop, seed)
    if len(noisy) < 2:
        raise SettingError("one frame has no predecessor; take --frames 2 or more")
    print(f"{name}: {len(noisy)} frames, {options.label}")

    def error(**more: Any) -> float:
        """Mean error of all frames but the first, which never starts warm."""
        restored = pristine.restore(
            noisy, method, axes="TYX", preset=options.preset, settings={**changes, **more}, device=options.device,
            seed=seed,
        )  # fmt: skip
        squares = np.nanmean((restored.data - target) ** 2, axis=(1, 2))
        return float(np.mean(np.sqrt(squares[1:])))

    whole = error(warm_start=False)
    full = Outcome(1.0, settings["steps"], whole, whole)
    outcomes = []
    for fraction in _FRACTIONS:
        steps = max(1, round(fraction * settings["steps"]))
        warm, cold = error(warm_start=True, warm_steps=fraction), error(warm_start=False, steps=steps)
        outcomes.append(Outcome(fraction, steps, warm, cold))
    print(report(full, outcomes))
    if json:
        save_json(json, {"name": name, "full": asdict(full), "fractions": [asdict(outcome) for outcome in outcomes]})
    return 0


def _simulate(frames: int, crop: int, seed: int) -> tuple[str, Array, Array]:
    """Name, frames `(T, Y, X)` and truth of the sample time-lapse."""
    noisy, truth = simulate_timelapse((crop, crop), frames=frames, seed=seed)
    return noisy.name, noisy.data[:, 0].astype(np.float64), truth.data[:, 0].astype(np.float64)


def _read(file: Path, frames: int, crop: int, seed: int) -> tuple[str, Array, Array]:
    """Name and frames `(T, Y, X)` of a real stack with some pixels hidden (NaN), and their values (else NaN)."""
    image: Image = pristine.read(file)
    if image.axes != "TYX":
        raise AxesError(f"'{image.name}' has the axes {image.axes}; a stack of frames with the axes TYX is needed")
    stack = np.stack([crop_square(np.asarray(frame, np.float64), crop) for frame in image.data[:frames]])
    hidden = np.random.default_rng(seed).random(stack.shape) < _HIDDEN
    return image.name, np.where(hidden, np.nan, stack), np.where(hidden, stack, np.nan)


def report(full: Outcome, outcomes: Sequence[Outcome]) -> str:
    """Format a table, and the fewest steps that are as good as all of them from scratch."""
    lines = ["root mean square error in grey values", f"{'steps':>8}{'part':>8}{'warm':>10}{'cold':>10}"]
    lines += [f"{o.steps:>8}{o.fraction:>8.0%}{o.warm:>10.3f}{o.cold:>10.3f}" for o in outcomes]
    lines.append(f"{full.steps:>8}{full.fraction:>8.0%}{'':>10}{full.cold:>10.3f}")
    for start in ("warm", "cold"):
        enough = next((o for o in [*outcomes, full] if getattr(o, start) <= full.cold * _EQUAL), full)
        saved = f"{1 - enough.fraction:.0%} saved"
        lines.append(f"{start}: {enough.steps} of {full.steps} steps are as good as all from scratch ({saved})")
    return "\n".join(lines)

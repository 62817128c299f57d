"""`python -m benchmarks warm`: what a fit saves that starts from the network of the frame before.

Each frame is fitted from scratch, then again from its neighbour's network with fewer and fewer steps, and, to tell
what the start is worth, from scratch with as few. Where the truth is not known, a tenth of the pixels is hidden from
the fits and serves instead: their noise adds the same to the error of all.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.entries import label_of
from benchmarks.fitting import Array, Trial, noise_of
from benchmarks.pair import centre
from napari_pristine.device import Device, describe_device, pick_device
from napari_pristine.errors import AxesError, SettingError
from napari_pristine.image.image import Image
from napari_pristine.image.noise import Noise
from napari_pristine.io.atomic import appearing
from napari_pristine.io.registry import read
from napari_pristine.methods import find_method
from napari_pristine.samples import simulate_timelapse

_SHARES = (0.05, 0.1, 0.2, 0.4)
_HIDDEN = 0.1
_SAME = 1.002
"""Ratio of errors that counts as equal: 0.02 dB."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Neighbouring frames `(Y, X)`; `targets` are what a result is compared with, NaN where it is not."""

    name: str
    noisy: tuple[Array, ...]
    targets: tuple[Array, ...]

    def error(self, index: int, restored: Array) -> float:
        """Root mean square error in grey values."""
        return float(np.sqrt(np.nanmean((restored - self.targets[index]) ** 2)))


@dataclass(frozen=True)
class Outcome:
    """Mean error over the frames (root mean square, in grey values) after a share of the steps."""

    share: float
    steps: int
    warm: float
    cold: float


@dataclass(frozen=True)
class WarmPlan:
    """What to fit; `file` is a stack `TYX`, none simulates one."""

    file: Path | None
    frames: int
    crop: int
    method: str
    preset: str
    changes: Mapping[str, str]
    device: Device
    seed: int
    json: Path | None


def run_warm(plan: WarmPlan) -> int:
    """Fit all neighbours and print what is saved."""
    device, note = pick_device(plan.device)
    if note:
        print(note.text)
    frames = measured(read(plan.file), plan) if plan.file else simulated(plan)
    label = label_of(plan.method, plan.preset, plan.changes)
    print(f"{frames.name}: {len(frames.noisy)} frames, {label}, on {describe_device(device)}")
    full, outcomes = compare_starts(frames, plan, device)
    print(report(full, outcomes))
    if plan.json:
        found = {"name": frames.name, "full": asdict(full), "shares": [asdict(outcome) for outcome in outcomes]}
        with appearing(plan.json, overwrite=True) as part:
            part.write_text(json.dumps(found, indent=1), "utf-8")
    return 0


def simulated(plan: WarmPlan) -> Frames:
    """Frames of the sample time-lapse, with their truth."""
    noisy, truth = simulate_timelapse((plan.crop, plan.crop), frames=plan.frames, seed=plan.seed)
    parts = [tuple(np.asarray(stack.data[:, 0], np.float64)) for stack in (noisy, truth)]
    return Frames(noisy.name, *parts)


def measured(image: Image, plan: WarmPlan) -> Frames:
    """Frames of a real stack; some pixels are hidden from the fits and become the targets.

    Raises:
        AxesError: It is not a stack of grey pictures.
    """
    if image.axes != "TYX":
        raise AxesError(f"'{image.name}' has the axes {image.axes}; a stack of frames with the axes TYX is needed")
    frames = np.stack([centre(np.asarray(frame, np.float64), plan.crop) for frame in image.data[: plan.frames]])
    hidden = np.random.default_rng(plan.seed).random(frames.shape) < _HIDDEN
    return Frames(image.name, tuple(np.where(hidden, np.nan, frames)), tuple(np.where(hidden, frames, np.nan)))


@dataclass(frozen=True, eq=False)
class _Fits:
    """Fits of the frames, all with the noise of the whole stack, as `run` does it."""

    frames: Frames
    plan: WarmPlan
    device: torch.device

    @cached_property
    def noise(self) -> Noise:
        return noise_of(self.frames.noisy)

    def fit(self, index: int, changes: Mapping[str, Any], start: nn.Module | None = None) -> tuple[float, nn.Module]:
        """Error and network of one frame; `start` is left as it is."""
        method = find_method(self.plan.method)
        params = method.settings(self.plan.preset, {**self.plan.changes, **changes})
        trial = Trial.of(method, params, self.frames.noisy[index], self.noise, self.device, self.plan.seed)
        net = trial.network() if start is None else copy.deepcopy(start)
        for _ in trial.fit(net, warm=start is not None):
            pass
        return self.frames.error(index, trial.render(net)), net


def compare_starts(frames: Frames, plan: WarmPlan, device: torch.device) -> tuple[Outcome, list[Outcome]]:
    """The fit with all steps, and those with a share of them.

    Raises:
        SettingError: The method has no steps to save, or there is only one frame.
    """
    settings = find_method(plan.method).settings(plan.preset, plan.changes).model_dump()
    if not {"steps", "warm_steps"} <= settings.keys():
        raise SettingError(f"{plan.method} has no settings 'steps' and 'warm_steps', so there is nothing to compare")
    if len(frames.noisy) < 2:
        raise SettingError("one frame has no neighbour; take --frames 2 or more")
    fits = _Fits(frames, plan, device)
    whole = [fits.fit(index, {}) for index in range(len(frames.noisy))]
    full = float(np.mean([error for error, _ in whole[1:]]))
    outcomes = []
    for share in _SHARES:
        few = max(1, round(share * settings["steps"]))
        warm = [fits.fit(i, {"warm_steps": share}, net)[0] for i, (_, net) in enumerate(whole[:-1], start=1)]
        cold = [fits.fit(i, {"steps": few})[0] for i in range(1, len(whole))]
        outcomes.append(Outcome(share, few, float(np.mean(warm)), float(np.mean(cold))))
    return Outcome(1.0, settings["steps"], full, full), outcomes


def report(full: Outcome, outcomes: Sequence[Outcome]) -> str:
    """A table, and the fewest steps that are enough."""
    lines = ["root mean square error in grey values", f"{'steps':>8}{'share':>8}{'warm':>10}{'cold':>10}"]
    lines += [f"{o.steps:>8}{o.share:>8.0%}{o.warm:>10.3f}{o.cold:>10.3f}" for o in outcomes]
    lines.append(f"{full.steps:>8}{full.share:>8.0%}{'':>10}{full.cold:>10.3f}")
    for name in ("warm", "cold"):
        enough = next((o for o in [*outcomes, full] if getattr(o, name) <= full.cold * _SAME), full)
        saved = f"{1 - enough.share:.0%} saved"
        lines.append(f"{name}: {enough.steps} of {full.steps} steps are as good as all from scratch ({saved})")
    return "\n".join(lines)

"""`python -m benchmarks speed`: how soon our fit and a textbook loop of the same method reach a given quality.

Both run in one process with the same threads and take turns, the one that has used less time so far first, so that
whatever else the machine does hits both. Looking at the quality is not timed.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.cases import Case
from benchmarks.entries import label_of
from benchmarks.fitting import Trial, noise_of
from benchmarks.pair import Pair, load
from benchmarks.textbook import textbook_fit
from napari_pristine.device import Device, describe_device, pick_device
from napari_pristine.image.noise import estimate_sigma
from napari_pristine.io.atomic import appearing
from napari_pristine.methods import find_method

_GROWTH = 1.1
"""Ratio of the steps at which our fit is looked at."""
_PATIENCE = 200
"""Steps without a better picture after which the textbook loop is over its best."""


@dataclass(frozen=True)
class Point:
    """Where a fit is: `seconds` of its own time, quality in dB, residual in noise levels."""

    step: int
    seconds: float
    psnr: float
    psnr_affine: float
    residual: float


@dataclass(frozen=True)
class Race:
    """Two fits of one image, `ours` and `textbook`."""

    image: str
    crop: int | None
    label: str
    device: str
    ours: tuple[Point, ...]
    textbook: tuple[Point, ...]

    def reached(self, quality: float, measure: str = "psnr") -> tuple[float, float]:
        """Seconds until ours and the textbook loop have this PSNR (or `psnr_affine`); infinite if never."""

        def soonest(points: Sequence[Point]) -> float:
            # not the first in order: rendering takes a little longer at one step than at the next
            return min((point.seconds for point in points if getattr(point, measure) >= quality), default=math.inf)

        return soonest(self.ours), soonest(self.textbook)

    def best(self, measure: str = "psnr") -> float:
        """The textbook loop at its best step, which only one who has the truth can know."""
        return float(max(getattr(point, measure) for point in self.textbook))

    @property
    def targets(self) -> list[tuple[str, str, float]]:
        """Name, measure and value of what is to be reached: the textbook's best, a little below, and its own stop."""
        at_noise = [point.psnr for point in self.textbook if point.residual <= 1]
        best = self.best()
        return [
            ("textbook's best", "psnr", best),
            *((f"best - {below} dB", "psnr", best - below) for below in (0.5, 1, 2)),
            *(("textbook's stop", "psnr", psnr) for psnr in at_noise[:1]),
            ("best, affine", "psnr_affine", self.best("psnr_affine")),
        ]


@dataclass(frozen=True)
class SpeedPlan:
    """What to time and where to keep it."""

    cases: Sequence[Case]
    method: str
    preset: str
    changes: Mapping[str, str]
    crop: int | None
    device: Device
    seed: int
    steps: int
    json: Path | None


class _Stopwatch:
    """Seconds of the timed sections, each of which ends when the device is done."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0

    def __enter__(self) -> None:
        self.started = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds += time.perf_counter() - self.started


def ours(pair: Pair, plan: SpeedPlan, device: torch.device) -> Iterator[Point]:
    """Our fit, from measuring the noise to the picture in hand, looked at at some steps."""
    watch, method, shown = _Stopwatch(device), find_method(plan.method), 10.0
    params = method.settings(plan.preset, plan.changes)
    with watch:
        trial = Trial.of(method, params, pair.noisy, noise_of([pair.noisy]), device, plan.seed)
        net = trial.network()
        fit = trial.fit(net)
    while True:
        with watch:
            step = next(fit, None)
        if step is None:
            return
        if step.done < min(shown, step.total):
            continue
        shown = max(shown * _GROWTH, step.done + 1)
        render = _Stopwatch(device)
        with render:
            picture = trial.render(net)
        # the picture is in hand only after it is rendered; later points do not pay for this look
        seconds, residual = watch.seconds + render.seconds, float(step.residual) ** 0.5
        yield Point(step.done, seconds, *pair.psnr(picture), residual)


def textbook(pair: Pair, device: torch.device, seed: int, steps: int) -> Iterator[Point]:
    """The textbook loop, looked at at every step, until it is well past its best."""
    watch, best = _Stopwatch(device), (0.0, 0)
    with watch:
        picture = torch.from_numpy(2 * pair.noisy / pair.full - 1).float().to(device)
        sigma = estimate_sigma(2 * pair.noisy[None] / pair.full - 1)
        fit = textbook_fit(picture, steps, seed)
    for step in range(1, steps + 1):
        with watch:
            square, values = next(fit)
        psnr, affine = pair.psnr((values.cpu().double().numpy() + 1) / 2 * pair.full)
        yield Point(step, watch.seconds, psnr, affine, square**0.5 / sigma)
        best = max(best, (psnr, step))
        # its own rule may come late, or never where noise is correlated
        if step - best[1] > (_PATIENCE if square**0.5 < sigma else 3 * _PATIENCE):
            return


def race(runners: dict[str, Iterator[Point]]) -> dict[str, tuple[Point, ...]]:
    """Let fits take turns until all have ended."""
    points: dict[str, list[Point]] = {name: [] for name in runners}
    running = dict(runners)
    while running:
        name = min(running, key=lambda n: points[n][-1].seconds if points[n] else 0.0)
        point = next(running[name], None)
        if point is None:
            del running[name]
        else:
            points[name].append(point)
    return {name: tuple(found) for name, found in points.items()}


def run_speed(plan: SpeedPlan) -> int:
    """Time all images and print who reaches what when."""
    device, note = pick_device(plan.device)
    if note:
        print(note.text)
    print(f"on {describe_device(device)}; PSNR by protocol A; times without looking at the quality")
    races: list[Race] = []
    for case in plan.cases:
        pair = load(case.noisy, case.truth).cropped(plan.crop)
        _warm_up(pair, plan, device)
        points = race(
            {
                "ours": ours(pair, plan, device),
                "textbook": textbook(pair, device, plan.seed, plan.steps),
            }
        )
        label = label_of(plan.method, plan.preset, plan.changes)
        races.append(Race(case.name, plan.crop, label, describe_device(device), points["ours"], points["textbook"]))
        print(report(races[-1]), flush=True)
        if plan.json:
            with appearing(plan.json, overwrite=True) as part:
                part.write_text(json.dumps({"races": [asdict(r) for r in races]}, indent=1), "utf-8")
    print(summary(races))
    return 0


def _warm_up(pair: Pair, plan: SpeedPlan, device: torch.device) -> None:
    """A look at each, so that neither pays for what is made once per process."""
    for runner in (ours(pair, plan, device), textbook(pair, device, plan.seed, 3)):
        next(runner)


def report(race: Race) -> str:
    """One image: who reaches what when."""
    last = race.ours[-1]
    end = f"{last.psnr:.2f} dB (affine {last.psnr_affine:.2f}) after {last.seconds:.1f} s"
    lines = [f"{race.image} ({race.label}): ours ends at {end}"]
    for name, measure, quality in race.targets:
        mine, theirs = race.reached(quality, measure)
        times = f"{theirs / mine:.1f} times sooner" if mine < math.inf else "ours never reaches it"
        lines.append(f"  {name:<16} reaches {quality:.2f} dB in {mine:.2f} s against {theirs:.2f} s: {times}")
    return "\n".join(lines)


def summary(races: Sequence[Race]) -> str:
    """All images: geometric mean of the ratios where there is one, and the least."""
    pairs = [race.reached(race.best()) for race in races]
    ratios = [theirs / mine for mine, theirs in pairs if mine < math.inf]
    gain = np.mean([race.ours[-1].psnr - race.best() for race in races])
    sooner = ""
    if ratios:
        sooner = f", {np.exp(np.mean(np.log(ratios))):.1f} times sooner (geometric mean; least {min(ratios):.1f})"
    return (
        f"the best of the textbook loop is reached in {len(ratios)} of {len(races)} images{sooner}; "
        f"our end is {gain:+.2f} dB from it"
    )

"""`python -m benchmarks speed`: time until our fit and a textbook loop of the same method reach a given quality.

Both run in one process with the same threads and take turns, the one that has used less time first, so that other
load of the machine slows both alike. Computing the quality is not timed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.entries import label_of
from benchmarks.images import Array, ImagePair, read_pair
from benchmarks.measure import save_json
from benchmarks.suites import Case
from napari_pristine.device import describe_device, pick_device, seeded
from napari_pristine.image.noise import estimate_sigma, measure_noise
from napari_pristine.jobs.block import make_block
from napari_pristine.methods import find_method
from napari_pristine.resources import Device

_GROWTH = 1.1  # ratio of one step at which the quality of our fit is computed to the step before
_PATIENCE = 200  # steps without a better image after which the textbook loop ends
_OMEGA = 30.0
_LEARNING_RATE = 1e-4
_WEIGHT_DECAY = 1e-3


@dataclass(frozen=True)
class FitOptions:
    """A fit of one of our methods, as the commands `speed` and `warm` run it."""

    method: str
    preset: str
    changes: Mapping[str, str]  # settings that differ from the preset
    crop: int | None  # side of the central square to take; None for whole images
    device: Device
    seed: int

    @property
    def label(self) -> str:
        """Name in the tables."""
        return label_of(self.method, self.preset, self.changes)


@dataclass(frozen=True)
class Point:
    """The state of a fit at one step."""

    step: int
    seconds: float  # that the fit has used
    psnr: float  # in dB, by protocol A
    psnr_affine: float  # in dB after the best gain and offset
    residual: float  # root mean square, in noise levels


@dataclass(frozen=True)
class Race:
    """Our fit and the textbook loop on one image."""

    image: str
    crop: int | None
    label: str
    device: str
    ours: tuple[Point, ...]
    textbook: tuple[Point, ...]

    def times(self, quality: float, measure: str = "psnr") -> tuple[float, float]:
        """Seconds until ours and the textbook loop reach a PSNR (`measure`: `psnr` or `psnr_affine`); inf if never."""
        # not simply the first point: rendering takes longer at some steps than at the next
        ours, textbook = (
            min((point.seconds for point in points if getattr(point, measure) >= quality), default=math.inf)
            for points in (self.ours, self.textbook)
        )
        return ours, textbook

    def best(self, measure: str = "psnr") -> float:
        """PSNR of the textbook loop at its best step, which only somebody who has the truth can know."""
        return float(max(getattr(point, measure) for point in self.textbook))

    def targets(self) -> list[tuple[str, str, float]]:
        """List the qualities to reach, `(name, measure, dB)`: the textbook's best, a little less, and its own stop."""
        best, at_noise_level = self.best(), [point.psnr for point in self.textbook if point.residual <= 1]
        return [
            ("textbook's best", "psnr", best),
            *((f"best - {below} dB", "psnr", best - below) for below in (0.5, 1, 2)),
            *(("textbook's stop", "psnr", psnr) for psnr in at_noise_level[:1]),
            ("best, affine", "psnr_affine", self.best("psnr_affine")),
        ]

    def report(self) -> str:
        """List the times of both for each quality."""
        last = self.ours[-1]
        end = f"{last.psnr:.2f} dB (affine {last.psnr_affine:.2f}) after {last.seconds:.1f} s"
        lines = [f"{self.image} ({self.label}): ours ends at {end}"]
        for name, measure, quality in self.targets():
            ours, textbook = self.times(quality, measure)
            ratio = f"{textbook / ours:.1f} times sooner" if ours < math.inf else "ours never reaches it"
            lines.append(f"  {name:<16} reaches {quality:.2f} dB in {ours:.2f} s against {textbook:.2f} s: {ratio}")
        return "\n".join(lines)


def run_speed(cases: Sequence[Case], options: FitOptions, steps: int, json: Path | None) -> int:
    """Time both fits on all images and print the times.

    Args:
        cases: The images.
        options: Our fit.
        steps: Largest number of steps of the textbook loop.
        json: File for all points; None for none.
    """
    device, note = pick_device(options.device)
    if note:
        print(note.text)
    print(f"on {describe_device(device)}; PSNR by protocol A; times without computing the quality")
    races: list[Race] = []
    for case in cases:
        pair = read_pair(case.noisy, case.truth).cropped(options.crop)
        # each starts once before it is timed, to build what lasts for the process
        next(run_ours(pair, options, device))
        next(run_textbook(pair, device, options.seed, steps))
        fits = {"ours": run_ours(pair, options, device), "textbook": run_textbook(pair, device, options.seed, steps)}
        points = take_turns(fits)
        races.append(Race(case.name, options.crop, options.label, describe_device(device), **points))
        print(races[-1].report(), flush=True)
        if json:
            save_json(json, {"races": [asdict(race) for race in races]})
    print(summary(races))
    return 0


def summary(races: Sequence[Race]) -> str:
    """Summarise all images: geometric mean of the ratios of the times, where ours gets there, and the smallest."""
    times = [race.times(race.best()) for race in races]
    ratios = [textbook / ours for ours, textbook in times if ours < math.inf]
    gain = np.mean([race.ours[-1].psnr - race.best() for race in races])
    sooner = ""
    if ratios:
        sooner = f", {np.exp(np.mean(np.log(ratios))):.1f} times sooner (geometric mean; least {min(ratios):.1f})"
    return (
        f"the best of the textbook loop is reached in {len(ratios)} of {len(races)} images{sooner}; "
        f"our end is {gain:+.2f} dB from it"
    )


def take_turns(fits: Mapping[str, Iterator[Point]]) -> dict[str, tuple[Point, ...]]:
    """Run fits side by side until all have ended, always the one that has used least time."""
    points: dict[str, list[Point]] = {name: [] for name in fits}
    running = dict(fits)
    while running:
        name = min(running, key=lambda n: points[n][-1].seconds if points[n] else 0.0)
        point = next(running[name], None)
        if point is None:
            del running[name]
        else:
            points[name].append(point)
    return {name: tuple(found) for name, found in points.items()}


class _Stopwatch:
    """Sum of the seconds of the timed sections; each ends when the device has finished."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds += time.perf_counter() - self.start


class Fit:
    """A fit of one of our methods to an image `(Y, X)` that fits into one tile, open to a look at any step.

    It does the same as `napari_pristine.restore`, which shows its image only now and then.
    """

    def __init__(self, image: Array, options: FitOptions, device: torch.device) -> None:
        self.method = find_method(options.method)
        self.params = self.method.settings(options.preset, options.changes)
        self.block = make_block(image[None], [measure_noise(image)], self.params)
        self.noisy = self.block.noisy(device, options.seed)
        with seeded(options.seed):
            net: nn.Module = self.method.network(self.params, 1, self.block.space)
        self.net = net.to(device)
        self.steps = self.method.fit(self.net, self.noisy, self.params, False)

    def render(self) -> Array:
        """Return the restored image `(Y, X)` as it is at this step."""
        with torch.no_grad():
            pixels = self.method.restore(self.net, self.noisy, self.params).cpu().numpy()
        kept = None
        if self.params.refine:
            pixels, kept = self.block.refine(pixels, (slice(None), slice(None)))
        values = self.block.denormalise(pixels)
        if self.params.safeguard and kept is not None:
            values, *_ = self.block.replace_worse(values, kept)
        restored: Array = values[0]
        return restored


def run_ours(pair: ImagePair, options: FitOptions, device: torch.device) -> Iterator[Point]:
    """Fit, from measuring the noise to the restored image; yield the state at some of the steps."""
    watch, next_look = _Stopwatch(device), 10.0
    with watch:
        fit = Fit(pair.noisy, options, device)
    while True:
        with watch:
            step = next(fit.steps, None)
        if step is None:
            return
        if step.done < min(next_look, step.total):
            continue
        next_look = max(next_look * _GROWTH, step.done + 1)
        rendering = _Stopwatch(device)
        with rendering:
            restored = fit.render()
        # a user has the image after it is rendered; later points do not pay for this look
        seconds, residual = watch.seconds + rendering.seconds, float(step.residual) ** 0.5
        yield Point(step.done, seconds, *pair.psnr(restored), residual)


# the method as anyone would write it down from the paper (Kim, Lee & Shin 2022), independent of our code


def run_textbook(pair: ImagePair, device: torch.device, seed: int, steps: int) -> Iterator[Point]:
    """Run the textbook loop until it is well past its best; yield the state at every step."""
    watch, best, best_step = _Stopwatch(device), 0.0, 0
    with watch:
        pixels = 2 * pair.noisy / pair.full_scale - 1
        sigma = estimate_sigma(pixels[None])
        fit = textbook_fit(torch.from_numpy(pixels).float().to(device), steps, seed)
    for step in range(1, steps + 1):
        with watch:
            square, values = next(fit)
        psnr, affine = pair.psnr((values.cpu().double().numpy() + 1) / 2 * pair.full_scale)
        yield Point(step, watch.seconds, psnr, affine, square**0.5 / sigma)
        if psnr > best:
            best, best_step = psnr, step
        # its own stopping rule may apply late, or never where the noise is correlated
        if step - best_step > (_PATIENCE if square**0.5 < sigma else 3 * _PATIENCE):
            return


def textbook_fit(image: Tensor, steps: int, seed: int) -> Iterator[tuple[float, Tensor]]:
    """Fit one SIREN to all pixels of an image `(Y, X)` from -1 to 1 with Adam.

    Yields:
        Mean squared residual and prediction `(Y, X)` of each step.
    """
    torch.manual_seed(seed)
    # section 4.1 of the paper; at least 64, below which the residual never falls to the noise level
    net = make_siren(max(64, round(256 * image.numel() / 512**2))).to(image.device)
    axes = [torch.linspace(-1, 1, size) for size in image.shape]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 2).to(image.device)
    decayed = [weight for sine in list(net)[-3:-1] for weight in sine.parameters()]
    others = [weight for layer in [*list(net)[:-3], net[-1]] for weight in layer.parameters()]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": decayed, "weight_decay": _WEIGHT_DECAY}]
    adam = torch.optim.Adam(groups, lr=_LEARNING_RATE)
    for _ in range(steps):
        values = net(points).reshape(image.shape)
        loss = nn.functional.mse_loss(values, image)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        yield loss.item(), values.detach()


class _Sine(nn.Module):
    def __init__(self, inputs: int, outputs: int, bound: float) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(_OMEGA * self.linear(x))


def make_siren(width: int, layers: int = 6) -> nn.Sequential:
    """Make sine layers and a linear one, from `(points, 2)` to `(points, 1)`; weights as in SIREN, section 3.2."""
    bound = (6 / width) ** 0.5 / _OMEGA
    sines = [_Sine(2, width, 1 / 2), *(_Sine(width, width, bound) for _ in range(layers - 1))]
    head = nn.Linear(width, 1)
    nn.init.uniform_(head.weight, -bound, bound)
    return nn.Sequential(*sines, head)

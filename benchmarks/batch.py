"""`python -m benchmarks batch`: what a batch takes: frames per minute, memory against frames, warm starts, workers.

Each run is a process of its own, `pristine batch` as a user starts it; its seconds hold the start of Python and torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.large import write_plane, write_tiff, write_zarr
from napari_pristine.image.image import Image
from napari_pristine.image.quality import compare
from napari_pristine.io.atomic import appearing
from napari_pristine.io.registry import read, write
from napari_pristine.jobs.train import learn
from napari_pristine.model import save_model
from napari_pristine.recipe import Recipe
from napari_pristine.recipe_file import save_recipe
from napari_pristine.samples import simulate_timelapse
from napari_pristine.settings import make

TASKS = ("frames", "warm", "workers", "small", "large", "plane")
_LOOK = 0.2
"""Seconds between two looks at the memory."""
_LARGE = ("large.ome.zarr", 2500, "huge.tif", 500)
"""Names and numbers of frames of 2048 x 2048 pixels of 16 bits: 21 GB as OME-Zarr, 4.2 GB as BigTIFF."""
_PLANE = ("plane.ome.zarr", 20000, 3)
"""Name of a single plane, its side in pixels of 16 bits, and how many squares of 1024 pixels are not empty in it."""
_ONE_BY_ONE = "import sys; from napari_pristine import cli, ranks; ranks._ROOM = 1; sys.exit(cli.main(sys.argv[1:]))"
"""The program as it would be if it fitted one block after the other."""


@dataclass(frozen=True)
class BatchPlan:
    """What to measure.

    Attributes:
        tasks: Some of `TASKS`.
        frames: Numbers of frames of the stacks.
        side: Pixels of a frame along Y and X.
        method: That fits frames one by one; large images are restored by a model of blind2unblind.
        changes: Settings of the method that differ from the preset.
        folder: Where large images are written and kept, so that a second run need not write them again.
    """

    tasks: tuple[str, ...]
    frames: tuple[int, ...]
    side: int
    method: str
    preset: str
    changes: Mapping[str, str]
    folder: Path | None
    json: Path | None


@dataclass(frozen=True)
class Run:
    """One batch; `peak` is the most memory of all its processes together, in bytes, as the system counts it."""

    name: str
    frames: int
    seconds: float
    peak: int
    psnr: float | None = None

    def line(self) -> str:
        """It in words."""
        rate = 60 * self.frames / self.seconds
        psnr = "" if self.psnr is None else f"  {self.psnr:6.2f} dB"
        return f"{self.name:32}{self.frames:6} frames  {self.seconds:8.1f} s  {rate:8.1f} per minute  " + (
            f"{self.peak / 1e6:7.0f} MB{psnr}"
        )


@dataclass
class Bench:
    """The runs of a plan."""

    plan: BatchPlan
    folder: Path
    runs: list[Run] = field(default_factory=list)

    def recipe(self, name: str, **fields: Any) -> Path:
        """A recipe file."""
        path = self.folder / f"{name}.yaml"
        chosen = {"method": self.plan.method, "preset": self.plan.preset, "settings": dict(self.plan.changes)}
        save_recipe(path, make(Recipe, {**chosen, **fields}), overwrite=True)
        return path

    def run(
        self,
        name: str,
        recipe: Path,
        source: Path,
        frames: int,
        options: Sequence[str] = (),
        program: Sequence[str] = ("-m", "napari_pristine"),
    ) -> Path:
        """One batch; returns its result."""
        output = self.folder / f"out {name}"
        words = ["batch", str(recipe), str(source), "-o", str(output), "--overwrite", *options]
        began = time.monotonic()
        peak = _peak([sys.executable, *program, *words])
        seconds = time.monotonic() - began
        result = next(
            path
            for path in output.iterdir()
            if path.name.startswith(source.name.split(".")[0]) and path.suffix in (".tif", ".zarr")
        )
        self.runs.append(Run(name, frames, seconds, peak, self.psnr(source, result)))
        print(self.runs[-1].line(), flush=True)
        return result

    def psnr(self, source: Path, result: Path) -> float | None:
        """Against the truth of a simulated stack; none for others."""
        truth = source.with_suffix(".npy")
        if not truth.exists():
            return None
        right = np.load(truth)
        return compare(np.asarray(read(result).data), right, float(right.max() - right.min())).psnr


def run_batch(plan: BatchPlan) -> int:
    """Measure all that is planned."""
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(plan, plan.folder or Path(scratch))
        bench.folder.mkdir(parents=True, exist_ok=True)
        for task in plan.tasks:
            _TASKS[task](bench)
    if plan.json:
        with appearing(plan.json, overwrite=True) as part:
            part.write_text(json.dumps([asdict(run) for run in bench.runs], indent=1), encoding="utf-8")
    return 0


def _frames(bench: Bench) -> None:
    """Frames per minute and memory, by the number of frames."""
    recipe = bench.recipe("frames")
    for frames in bench.plan.frames:
        bench.run(f"{bench.plan.method}, {frames} frames", recipe, _stack(bench, frames), frames)


def _warm(bench: Bench) -> None:
    """The same stack with and without starting from the frame before."""
    frames = bench.plan.frames[0]
    for name, warm in (("cold", False), ("warm", True)):
        recipe = bench.recipe(name, settings={**bench.plan.changes, "warm_start": warm})
        bench.run(f"{bench.plan.method}, {name} starts", recipe, _stack(bench, frames), frames)


def _workers(bench: Bench) -> None:
    """The same stack by one process, and by two."""
    frames, recipe = bench.plan.frames[-1], bench.recipe("workers")
    results = [
        bench.run(f"{workers} worker{'s' * (workers > 1)}", recipe, _stack(bench, frames), frames, options)
        for workers, options in ((1, ()), (2, ("--workers", "2")))
    ]
    same = np.array_equal(*(read(result).data for result in results))
    print(f"both results are {'equal' if same else 'NOT EQUAL'}")


def _small(bench: Bench) -> None:
    """Frames so small that several are fitted at once, and one after the other."""
    frames, recipe = bench.plan.frames[-1], bench.recipe("small")
    source = _stack(bench, frames, side=64)
    for name, program in (("one by one", ("-c", _ONE_BY_ONE)), ("at once", ("-m", "napari_pristine"))):
        bench.run(f"64 x 64, {name}", recipe, source, frames, program=program)


def _large(bench: Bench) -> None:
    """Images larger than memory, by a network that has learned."""
    recipe = _learned(bench)
    for source, frames in _large_images(bench.folder):
        bench.run(source.name, recipe, source, frames, ("--memory", "2GB"))


def _plane(bench: Bench) -> None:
    """A single plane larger than memory should have to hold, by the same network."""
    name, side, filled = _PLANE
    source = bench.folder / name
    if not source.exists():
        write_plane(source, side, filled)
    bench.run(source.name, _learned(bench), source, 1, ("--memory", "2GB"))


def _learned(bench: Bench) -> Path:
    """The recipe of a network that has learned."""
    model = bench.folder / "large.safetensors"
    if not model.exists():
        noisy, _ = simulate_timelapse((256, 256), frames=4)
        settings = {"steps": 300}
        save_model(model, learn([noisy], "blind2unblind", preset="fast", settings=settings), overwrite=True)
    return bench.recipe("large", method="blind2unblind", preset="fast", settings={"steps": 300}, model=str(model))


def _large_images(folder: Path) -> Iterator[tuple[Path, int]]:
    zarr_name, zarr_frames, tiff_name, tiff_frames = _LARGE
    if not (folder / zarr_name).exists():
        write_zarr(folder / zarr_name, zarr_frames, 2048, 3)
    if not (folder / tiff_name).exists():
        write_tiff(folder / tiff_name, tiff_frames, 2048, 2)
    yield folder / zarr_name, zarr_frames
    yield folder / tiff_name, tiff_frames


def _stack(bench: Bench, frames: int, side: int = 0) -> Path:
    """A simulated stack TYX, and its truth beside it; with sides as planned if none is given."""
    side = side or bench.plan.side
    path = bench.folder / f"stack{frames}x{side}.tif"
    if not path.exists():
        noisy, truth = simulate_timelapse((side, side), frames=frames)
        write(path, Image(noisy.data[:, 0], "TYX"))
        np.save(path.with_suffix(".npy"), truth.data[:, 0])
    return path


_TASKS = dict(zip(TASKS, (_frames, _warm, _workers, _small, _large, _plane), strict=True))


def _peak(words: Sequence[str]) -> int:
    """Run a command; the most memory of it and its children together, in bytes."""
    peak = 0
    with subprocess.Popen(words) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _memory(watched))
            time.sleep(_LOOK)
    if process.returncode:
        raise SystemExit(process.returncode)
    return peak


def _memory(process: psutil.Process) -> int:
    """Resident bytes of a process and its children."""
    try:
        return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))
    except psutil.Error:  # one of them has just ended
        return 0

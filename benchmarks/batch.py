"""`python -m benchmarks batch`: frames per minute and memory of batches and plans; warm starts, workers, large images.

Each run starts `pristine batch` as a user does, in a process of its own with one thread per worker; its seconds
include the start of Python and torch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

import napari_pristine as pristine
from benchmarks.measure import save_json
from napari_pristine.errors import ComputeError
from napari_pristine.image.quality import compare
from napari_pristine.samples import simulate_timelapse

_INTERVAL = 0.2  # seconds between two readings of the memory
_LARGE_STACKS = {"large.ome.zarr": ((2500, 2048, 2048), 3), "huge.tif": ((500, 2048, 2048), 2)}
"""Shape TYX and number of frames that are not empty: 21 GB as OME-Zarr and 4.2 GB as BigTIFF, 16 bits."""
_PLANNED_FILES = 10_000
_LARGE_PLANE = ("plane.ome.zarr", (20000, 20000), 3)
"""Name and shape of a single plane of 0.8 GB, and the number of squares in it that are not empty."""
_ONE_BLOCK_AT_A_TIME = """
import sys
from dataclasses import replace
from napari_pristine.cli.main import main
from napari_pristine.methods import METHODS
for key, method in METHODS.items():
    METHODS[key] = replace(method, fit_batch=None)
sys.exit(main(sys.argv[1:]))
"""
"""`pristine` as it would be if no method could fit several blocks at once."""


@dataclass(frozen=True)
class Run:
    """One batch."""

    name: str
    frames: int
    seconds: float
    peak: int  # largest resident memory of all its processes together, in bytes
    psnr: float | None = None  # in dB, where the truth is known
    cpu: float | None = None  # seconds of CPU, of plans

    def line(self) -> str:
        """Format the run for the terminal."""
        rate = 60 * self.frames / self.seconds
        psnr = "" if self.psnr is None else f"  {self.psnr:6.2f} dB"
        return f"{self.name:32}{self.frames:6} frames  {self.seconds:8.1f} s  {rate:8.1f} per minute  " + (
            f"{self.peak / 1e6:7.0f} MB{psnr}"
        )


@dataclass
class BatchBenchmark:
    """Runs of `pristine batch` on simulated stacks and on large images."""

    folder: Path  # for all files; large images that it holds already are used again
    frames: Sequence[int]  # numbers of frames of the stacks
    side: int  # pixels of a frame along Y and X
    method: str  # that fits the frames; large images are restored by a model of blind2unblind
    preset: str
    changes: Mapping[str, str]  # settings that differ from the preset
    runs: list[Run] = field(default_factory=list)

    def frame_counts(self) -> None:
        """Frames per minute and memory against the number of frames."""
        for frames in self.frames:
            self._run(f"{self.method}, {frames} frames", self._recipe("frames"), self._stack(frames), frames)

    def warm_starts(self) -> None:
        """The same stack with cold starts, and with each frame started from the previous one."""
        frames = self.frames[0]
        for name, warm in (("cold", False), ("warm", True)):
            recipe = self._recipe(name, settings={**self.changes, "warm_start": warm})
            self._run(f"{self.method}, {name} starts", recipe, self._stack(frames), frames)

    def workers(self) -> None:
        """The same stack with one worker and with two."""
        frames, recipe = self.frames[-1], self._recipe("workers")
        results = [
            self._run(name, recipe, self._stack(frames), frames, workers=workers)
            for name, workers in (("1 worker", 1), ("2 workers", 2))
        ]
        equal = np.array_equal(*(pristine.read(result).data for result in results))
        print(f"both results are {'equal' if equal else 'NOT EQUAL'}")

    def small_frames(self) -> None:
        """Frames so small that several are fitted at once, and the same frames one after the other."""
        frames, recipe = self.frames[-1], self._recipe("small")
        source = self._stack(frames, side=64)
        one_by_one = ("-c", _ONE_BLOCK_AT_A_TIME)
        self._run("64 x 64, one by one", recipe, source, frames, program=one_by_one)
        self._run("64 x 64, at once", recipe, source, frames)

    def large_stacks(self) -> None:
        """Stacks larger than the memory that a batch may use, restored by a saved model."""
        for name, (shape, filled) in _LARGE_STACKS.items():
            self._restore_large(name, shape, filled)

    def large_plane(self) -> None:
        """One plane larger than the memory that a batch may use, restored by the same model."""
        self._restore_large(*_LARGE_PLANE)

    def plans(self) -> None:
        """Plans of many small files, of a store that claims a billion frames, and of one with nothing in it."""
        files, claimed, empty = (self.folder / name for name in ("files", "claimed.ome.zarr", "empty.ome.zarr"))
        if not files.exists():
            files.mkdir()
            for number in range(_PLANNED_FILES):
                tifffile.imwrite(files / f"{number:05}.tif", _blobs(64, number))
        for path, frames, filled in ((claimed, 10**9, 3), (empty, 10**5, 0)):
            if not path.exists():
                write_large(path, (frames, 64, 64), filled)
        self._plan(f"{_PLANNED_FILES} files of 64 x 64", files, _PLANNED_FILES)
        self._plan("10^9 claimed frames, 3 stored", claimed, 10**9)
        self._plan("10^5 frames, none stored", empty, 10**5)

    def _plan(self, name: str, source: Path, frames: int) -> None:
        """Plan one batch, and print its figures and the last line of the plan."""
        command = [sys.executable, "-m", "napari_pristine", "batch", str(self._recipe("plans")), str(source), "--plan"]
        started = time.monotonic()
        with subprocess.Popen([*command, "-o", str(self.folder / "out")], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            plan = process.stdout.read().splitlines()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode > 1:  # 1: there is nothing to restore
            raise ComputeError(f"'pristine batch --plan' ended with exit status {process.returncode}")
        cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
        self.runs.append(Run(f"plan, {name}", frames, time.monotonic() - started, peak, cpu=cpu))
        found = plan[-1] if len(plan) > 2 else "; ".join(plan)
        print(f"plan, {name:32}{cpu:8.1f} s of CPU  {peak / 1e6:7.0f} MB  {found}", flush=True)

    def _restore_large(self, name: str, shape: tuple[int, ...], filled: int) -> None:
        source, model = self.folder / name, self.folder / "large.safetensors"
        if not source.exists():
            write_large(source, shape, filled)
        method: dict[str, Any] = {"method": "blind2unblind", "preset": "fast", "settings": {"steps": 300}}
        if not model.exists():
            noisy, _ = simulate_timelapse((256, 256), frames=4)
            pristine.save_model(model, pristine.learn([noisy], **method))
        recipe = self._recipe("large", **method, model=str(model))
        self._run(name, recipe, source, 1 if len(shape) == 2 else shape[0], "--memory", "2GB")

    def _recipe(self, name: str, **fields: Any) -> Path:
        """Write a recipe; JSON is YAML, too."""
        path = self.folder / f"{name}.yaml"
        values = {"method": self.method, "preset": self.preset, "settings": dict(self.changes), **fields}
        path.write_text(json.dumps(values), encoding="utf-8")
        return path

    def _stack(self, frames: int, side: int | None = None) -> Path:
        """Write a simulated stack TYX, and its truth beside it, unless they are there."""
        side = side or self.side
        path = self.folder / f"stack{frames}x{side}.tif"
        if not path.exists():
            noisy, truth = simulate_timelapse((side, side), frames=frames)
            pristine.write(path, pristine.Image(noisy.data[:, 0], "TYX"))
            np.save(path.with_suffix(".npy"), truth.data[:, 0])
        return path

    def _run(
        self,
        name: str,
        recipe: Path,
        source: Path,
        frames: int,
        *options: str,
        workers: int = 1,
        program: Sequence[str] = ("-m", "napari_pristine"),
    ) -> Path:
        """Run one batch, print its figures and return the file of the result."""
        output = self.folder / f"out {name}"
        start = time.monotonic()
        peak = run_and_watch(
            [
                *(sys.executable, *program, "batch", str(recipe), str(source), "-o", str(output), "--overwrite"),
                *("--workers", str(workers), "--threads", "1", *options),
            ]
        )
        seconds = time.monotonic() - start
        stem = source.name.split(".")[0]
        result = next(p for p in output.iterdir() if p.name.startswith(stem) and p.suffix in (".tif", ".zarr"))
        psnr = None
        if source.with_suffix(".npy").exists():
            truth = np.load(source.with_suffix(".npy"))
            psnr = compare(np.asarray(pristine.read(result).data), truth, float(truth.max() - truth.min())).psnr
        self.runs.append(Run(name, frames, seconds, peak, psnr))
        print(self.runs[-1].line(), flush=True)
        return result


TASKS = {
    "frames": BatchBenchmark.frame_counts,
    "warm": BatchBenchmark.warm_starts,
    "workers": BatchBenchmark.workers,
    "small": BatchBenchmark.small_frames,
    "large": BatchBenchmark.large_stacks,
    "plane": BatchBenchmark.large_plane,
    "plans": BatchBenchmark.plans,
}


def run_batch(tasks: Sequence[str], folder: Path | None, json: Path | None, **options: Any) -> int:
    """Run some of `TASKS`; `folder` is None for a temporary one, `options` are fields of `BatchBenchmark`."""
    with tempfile.TemporaryDirectory() as temporary:
        benchmark = BatchBenchmark((folder or Path(temporary)).absolute(), **options)
        benchmark.folder.mkdir(parents=True, exist_ok=True)
        for task in tasks:
            TASKS[task](benchmark)
    if json:
        save_json(json, [asdict(run) for run in benchmark.runs])
    return 0


def run_and_watch(command: Sequence[str]) -> int:
    """Run a command; return the largest resident memory of it and its child processes together, in bytes.

    Raises:
        ComputeError: The command failed; it has printed the reason.
    """
    import psutil  # here, as machines for other benchmarks may lack it

    peak = 0
    with subprocess.Popen(command) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                processes = (watched, *watched.children(recursive=True))
                peak = max(peak, sum(one.memory_info().rss for one in processes))
            except psutil.Error:  # one of them has just ended
                pass
            time.sleep(_INTERVAL)
    if process.returncode:
        raise ComputeError(f"'pristine batch' ended with exit status {process.returncode}; its own message is above")
    return peak


def write_large(path: Path, shape: tuple[int, ...], filled: int) -> None:
    """Write an image of 16 bits that is almost empty, so that it can be stored: OME-Zarr 0.5 or, for `.tif`, BigTIFF.

    Args:
        path: The file or folder.
        shape: Of a stack `(T, Y, X)` or a plane `(Y, X)`.
        filled: Number of frames, or of squares of 1024 pixels on the diagonal of the plane, that are not empty.
    """
    axes, side = "TYX"[-len(shape) :], min(shape[-1], 2048)
    array: Any
    if path.suffix == ".tif":  # the empty frames are holes in the file
        array = tifffile.memmap(path, shape=shape, dtype="uint16", bigtiff=True, ome=True, metadata={"axes": axes})
    else:
        time_axis = {"name": "t", "type": "time", "unit": "second"}
        names = [time_axis if a == "T" else {"name": a.lower(), "type": "space", "unit": "micrometer"} for a in axes]
        scale = {"type": "scale", "scale": [1.0 if axis == "T" else 0.1 for axis in axes]}
        levels = [{"path": "0", "coordinateTransformations": [scale]}]
        ome = {"version": "0.5", "multiscales": [{"axes": names, "datasets": levels}]}
        chunks = (*(1,) * (len(shape) - 2), min(side, 1024), min(side, 1024))
        group = zarr.create_group(path, attributes={"ome": ome})
        array = group.create_array("0", shape=shape, chunks=chunks, dtype="uint16")
    places = shape[0] if len(shape) == 3 else shape[0] // 2048
    for place in np.linspace(0, places - 1, filled).astype(int).tolist():
        if len(shape) == 3:
            array[place] = _blobs(side, place)
        else:
            square = slice(place * 2048 + 512, place * 2048 + 1536)
            array[square, square] = _blobs(1024, place)
    if isinstance(array, np.memmap):
        array.flush()


def _blobs(side: int, seed: int) -> NDArray[np.uint16]:
    """Simulate blobs with photon noise."""
    y, x = np.mgrid[:side, :side].astype(np.float32)
    signal = 20 + 40 * np.square(np.sin(x / 17 + seed) * np.sin(y / 23))
    return np.asarray(np.random.default_rng(seed).poisson(signal), np.uint16)

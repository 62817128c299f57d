"""`python -m benchmarks gpu`: what can be seen on a GPU alone, in one command of at most five minutes.

Each row is caught by itself: what fails is a row with its error. Nothing is begun after the time is up. On a CPU it
tries itself out (`--device cpu --tiny`); what needs a GPU then says so.
"""

from __future__ import annotations

import gc
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.profiler import ProfilerActivity, profile

import napari_pristine as pristine
from benchmarks.images import ImagePair, read_pair
from benchmarks.measure import save_json
from benchmarks.speed import Fit, FitOptions
from benchmarks.suites import find_cases
from napari_pristine.device import describe_device, pick_device
from napari_pristine.errors import ComputeError, PristineError
from napari_pristine.fits.pretrained import network, predict
from napari_pristine.image.image import Image
from napari_pristine.jobs.plan import make_plan
from napari_pristine.jobs.restore import Restored, run_plan
from napari_pristine.methods import METHODS
from napari_pristine.methods.pretrained import PretrainedParams
from napari_pristine.nets.ema import EmaModel
from napari_pristine.nets.residual_unet import ResidualUNet
from napari_pristine.recipe import Recipe
from napari_pristine.resources import Device, cpu_count
from napari_pristine.samples import simulate_image, simulate_timelapse

Figures: TypeAlias = Mapping[str, float | str]

_MEBIBYTE = 2**20
_STEPS_COMPARED = 40
"""Steps of the fits that are compared with those of the CPU: enough to see a difference, and few for the CPU."""
_MOST_DIFFERENT = 0.3
"""Largest root mean square difference from the CPU's pixels, in noise levels: fits amplify the rounding of products."""
_KINDS = {
    "optimiser": ("foreach", "adam", "optimizer"),
    "products": ("mm", "conv"),
    "sines": ("aten::sin", "aten::cos"),
}
"""Parts of the names of operations, by what they belong to."""


class NotHereError(Exception):
    """It cannot be measured on this device."""


@dataclass(frozen=True)
class Row:
    """One measurement."""

    part: str
    name: str
    seconds: float  # that it took altogether
    figures: Figures
    problem: str = ""  # why it was not measured, or what is wrong with what was
    failed: bool = False

    def line(self) -> str:
        """Format it for the table."""
        figures = "  ".join(f"{name} {_text(value)}" for name, value in self.figures.items())
        told = f"{'FAILED: ' if self.failed else ''}{self.problem}" if self.problem else ""
        return f"{self.part:<10}{self.name:<38}{self.seconds:>7.1f} s  {'  '.join(filter(None, (figures, told)))}"


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


@dataclass
class GpuBenchmark:
    """All parts, with the rows that they have added.

    Attributes:
        device: Where to compute.
        tiny: Take sizes that a CPU manages in a minute or two.
        data: Folder of the real images of FMD; simulated ones are taken without it.
        limit: Seconds after which nothing is begun.
        json: File for all rows, complete after each of them.
    """

    device: torch.device
    tiny: bool = False
    data: Path | None = None
    limit: float = 270.0
    json: Path | None = None
    rows: list[Row] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    @property
    def on_gpu(self) -> bool:
        """True on CUDA devices, which measure memory and run besides the CPU."""
        return self.device.type == "cuda"

    @property
    def kind(self) -> Device:
        """The device as `restore` takes it."""
        return "cuda" if self.on_gpu else "mps" if self.device.type == "mps" else "cpu"

    def measure(self, part: str, name: str, work: Callable[[], Figures]) -> None:
        """Add a row with the figures that some work returns, or with its error."""
        started, figures, problem, failed = time.monotonic(), dict[str, float | str](), "", False
        if started - self.started > self.limit:
            problem = "not begun, the time is up"
        else:
            gc.collect()
            if self.on_gpu:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            try:
                figures |= work()
            except NotHereError as reason:
                problem = str(reason)
            except Exception as error:  # noqa: BLE001 - the others are measured all the same
                problem, failed = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", True
            else:
                if self.on_gpu:
                    figures["MiB"] = torch.cuda.max_memory_allocated() / _MEBIBYTE
                problem = str(figures.pop("problem", ""))
                failed = bool(problem)
        self.rows.append(Row(part, name, time.monotonic() - started, figures, problem, failed))
        print(self.rows[-1].line(), flush=True)
        if self.json:
            save_json(self.json, [asdict(row) for row in self.rows])

    def finish(self) -> float:
        """Wait for the device; returns the time."""
        if self.on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def seconds_of(self, work: Callable[[], Any], repeats: int = 1) -> float:
        """Seconds that some work takes, in the mean."""
        started = self.finish()
        for _ in range(repeats):
            work()
        return (self.finish() - started) / repeats

    # the parts

    def machine(self) -> None:
        """The machine, and how fast it is at the two things that limit everything else."""

        def describe() -> Figures:
            side, repeats = (256, 1) if self.tiny else (8192, 5) if self.on_gpu else (1024, 1)
            figures: dict[str, float | str] = {
                "device": describe_device(self.device),
                "torch": torch.__version__,
                "CUDA": torch.version.cuda or "none",
                "CPUs": cpu_count(),
            }
            for dtype in (torch.float32, torch.bfloat16):
                matrix = torch.randn(side, side, device=self.device, dtype=dtype)
                partial(torch.mm, matrix, matrix)()
                seconds = self.seconds_of(partial(torch.mm, matrix, matrix), repeats)
                figures[f"{str(dtype).removeprefix('torch.')} TFLOP/s"] = 2 * side**3 / seconds / 1e12
            values = torch.zeros(side, side, device=self.device)
            seconds = self.seconds_of(partial(torch.clone, values), repeats)
            return figures | {"copy GB/s": 2 * values.nbytes / seconds / 1e9}

        self.measure("machine", "", describe)

    def tests(self) -> None:
        """The tests that need a GPU."""

        def run() -> Figures:
            if not self.on_gpu:
                raise NotHereError("the tests of GPUs need one")
            command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/methods"]
            root = Path(__file__).resolve().parents[1]
            done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=100, check=False)
            last = (done.stdout.strip() or done.stderr.strip() or "no output").splitlines()[-1]
            if done.returncode:
                raise ComputeError(f"pytest: {last}")
            return {"pytest": last}

        self.measure("tests", "-m gpu", run)

    def methods(self) -> None:
        """Every method against the CPU's pixels: two images, a stack with warm starts, a volume, three channels."""
        side = 24 if self.tiny else 128
        pairs = self._pairs(side)
        stack = simulate_timelapse((side, side), frames=3)[0].data[:, 0]
        inputs = {f"image {n}": (pair.noisy.astype(np.float32), "YX", "") for n, pair in enumerate(pairs, start=1)}
        inputs |= {
            "stack": (stack, "TYX", ""),
            "volume": (stack, "ZYX", "ZYX"),
            "3 channels": (stack, "CYX", "CYX"),
        }
        for method in METHODS.values():
            for preset in ("fast", "balanced"):
                for name, (pixels, axes, together) in inputs.items():
                    if preset == "fast" or axes == "YX":
                        compare = partial(self._compare, method.key, preset, pixels, axes, together)
                        self.measure("methods", f"{method.key}:{preset} {name}", compare)

    def _pairs(self, side: int | None = None) -> list[ImagePair]:
        """Two images with their truth, cropped."""
        if self.data:
            cases = find_cases(self.data, "fmd", [1], [1])
            return [read_pair(case.noisy, case.truth).cropped(side) for case in (cases[0], cases[-1])]
        shape = (side or 512, side or 512)
        pairs = [simulate_image(shape, channel=channel) for channel in ("nuclei", "microtubules")]
        return [ImagePair(*(image.data.astype(np.float64) for image in pair)) for pair in pairs]

    def _compare(self, method: str, preset: str, pixels: NDArray[Any], axes: str, together: str) -> Figures:
        """Restore by few steps on the CPU and on the device."""
        settings = self._few(method, preset) if self.tiny else {}
        steps = METHODS[method].settings(preset).model_dump().get("steps", 0)
        if steps and not self.tiny:
            settings["steps"] = min(steps, _STEPS_COMPARED)
        keep: dict[str, Any] = {
            "axes": axes,
            "together": together,
            "preset": preset,
            "settings": settings,
            "value_type": "float32",
        }
        found = [pristine.restore(pixels, method, device=device, **keep) for device in ("cpu", self.kind)]
        cpu, here = (result.data.astype(np.float64) for result in found)
        # what is removed is at least of the order of the noise
        level = max(float(np.std(pixels - cpu)), 1e-9)
        difference = float(np.sqrt(np.mean((here - cpu) ** 2))) / level
        figures: dict[str, float | str] = {
            "CPU s": found[0].seconds,
            "s": found[1].seconds,
            "difference": difference,
        }
        ran_out = [note.text for note in found[1].notes if "memory ran out" in note.text]
        if not difference < _MOST_DIFFERENT:
            figures["problem"] = f"differs from the CPU by {difference:.2g} noise levels"
        elif ran_out:
            figures["problem"] = ran_out[0]
        return figures

    def _few(self, method: str, preset: str) -> dict[str, Any]:
        """Settings with which a method takes a moment."""
        params = METHODS[method].settings(preset).model_dump()
        few = {"steps": 2, "side": 16, "rounds": 1, "batch": 1 if "side" in params else 256}
        return {name: value for name, value in few.items() if params.get(name)}

    def memory(self) -> None:
        """Memory that runs out: a large tile, a batch of small frames, and so little that the CPU takes over."""
        image = simulate_image((512, 512))[0].data
        frames = np.stack([image[:64, n : n + 64] for n in range(32)])
        usual: dict[str, Any] = {"preset": "fast", "settings": {"steps": 30}}
        self.measure("memory", "inr, a tile of 512²", partial(self._run_out, image, "YX", 0.6, **usual))
        self.measure("memory", "inr, 32 frames of 64²", partial(self._run_out, frames, "CYX", 0.5, **usual))
        self.measure("memory", "inr, far too little", partial(self._run_out, image[:128, :128], "YX", 0.05, **usual))

    def _run_out(self, pixels: NDArray[Any], axes: str, share: float, **options: Any) -> Figures:
        """Restore with a share of the memory that is needed, and see what is done about it."""
        if not self.on_gpu:
            raise NotHereError("the memory of a GPU alone can be limited")
        restore = partial(pristine.restore, pixels, "inr", axes=axes, device="cuda", **options)
        restore()
        needed, total = torch.cuda.max_memory_allocated(), torch.cuda.mem_get_info()[1]
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(min(share * needed / total, 1.0))
        try:
            result = restore()
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        notes = [note.text for note in result.notes if "memory ran out" in note.text]
        if not np.isfinite(result.data).all():
            raise ComputeError("the result is not finite")
        told = "; ".join(note.removeprefix("the memory ran out; ") for note in notes) or "the memory was enough"
        return {"needed MiB": needed / _MEBIBYTE, "given MiB": share * needed / _MEBIBYTE, "note": told}

    def paper(self) -> None:
        """The methods as published at 256² (LINR states 8.3 s for 500 steps on an A100), and where their time goes."""
        side, steps = (32, 5) if self.tiny else (256, 500)
        pair = self._pairs(side)[0]
        for method in ("linr", "inr"):
            changes = {"steps": str(steps), **({"stop_at": "0"} if method == "inr" else {})}
            options = FitOptions(method, "paper", changes, side, self.kind, 0)
            for precision in ("highest", "high") if self.on_gpu else ("highest",):
                name = f"{method}:paper {side}² {steps} steps"
                work = partial(self._time_fit, pair, options, precision)
                self.measure("paper", name + (", TF32" if precision == "high" else ""), work)
            self.measure("paper", f"{method}:paper, shares", partial(self._profile_fit, pair, options))

    def _time_fit(self, pair: ImagePair, options: FitOptions, precision: str) -> Figures:
        """Take all steps of a fit, with products of this precision."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(precision)
        try:
            next(Fit(pair.noisy, options, self.device).steps)  # what is built once for the process
            started = self.finish()
            fit = Fit(pair.noisy, options, self.device)
            ready = self.finish()
            steps = sum(1 for step in fit.steps if step.done)
            done = self.finish()
            plain, affine = pair.psnr(fit.render())
        finally:
            torch.set_float32_matmul_precision(before)
        return {
            "preparing s": ready - started,
            "steps s": done - ready,
            "ms per step": 1e3 * (done - ready) / steps,
            "PSNR": plain,
            "affine": affine,
        }

    def _profile_fit(self, pair: ImagePair, options: FitOptions) -> Figures:
        """Shares of the time of a step, by kind of operation."""
        count = 2 if self.tiny else 20
        fit = Fit(pair.noisy, options, self.device)
        steps = iter(fit.steps)
        for _ in range(2):
            next(steps, None)
        wall = self.seconds_of(lambda: next(steps, None), count) * count
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.on_gpu else [])]
        with profile(activities=activities) as profiled:
            for _ in range(count):
                next(steps, None)
            self.finish()
        events = profiled.key_averages()
        busy: dict[str, float] = {}
        for event in events:
            if event.key.startswith("aten::"):  # kernels are counted again under their own names
                used = event.self_device_time_total if self.on_gpu else event.self_cpu_time_total
                kind = next((k for k, parts in _KINDS.items() if any(p in event.key for p in parts)), "other")
                busy[kind] = busy.get(kind, 0.0) + used / 1e6
        total = sum(busy.values())
        launches = sum(event.count for event in events if "LaunchKernel" in event.key)
        shares = {f"{kind} %": 100 * used / max(total, 1e-9) for kind, used in sorted(busy.items())}
        figures: dict[str, float | str] = {"ms per step": 1e3 * wall / count, **shares}
        if self.on_gpu:
            figures |= {"launches per step": launches / count, "GPU idle %": 100 * max(0.0, 1 - total / wall)}
        return figures

    def small(self) -> None:
        """Small frames fitted side by side, against one by one."""
        count = 4 if self.tiny else 32
        for side in (24,) if self.tiny else (64, 128):
            frames = np.stack([simulate_image((side, side), seed=seed)[0].data for seed in range(count)])
            # channels do not start from each other's networks
            self.measure("small", f"inr:fast, {count} frames of {side}²", partial(self._side_by_side, frames))

    def _side_by_side(self, frames: NDArray[Any]) -> Figures:
        settings = {"steps": 3} if self.tiny else {}
        recipe = Recipe(method="inr", preset="fast", settings=settings, device=self.kind)
        together = make_plan(Image(frames, "CYX"), recipe)
        alone = make_plan(Image(frames, "CYX"), recipe, batch_size=1)
        first = make_plan(Image(frames[:1], "CYX"), recipe)
        _finish_job(first)  # what is built once for the process
        seconds = [self.seconds_of(partial(_finish_job, plan)) for plan in (together, alone)]
        return {
            "at once": min(together.batch_size, len(frames)),
            "s": seconds[0],
            "one by one s": seconds[1],
            "ratio": seconds[1] / seconds[0],
        }

    def frames(self) -> None:
        """Frames per second of the shipped network: the network alone, and from noisy to restored pixels."""
        for side in (64,) if self.tiny else (512, 2048):
            self.measure("frames", f"pretrained, network alone, {side}²", partial(self._network_alone, side))
            for preset in ("fast", "balanced"):
                name = f"pretrained:{preset}, stack of {side}²"
                self.measure("frames", name, partial(self._restore_stack, side, preset))

    def _network_alone(self, side: int) -> Figures:
        net = network(PretrainedParams(), 1, (side, side)).to(self.device)
        planes = torch.randn(1, 1, side, side, device=self.device)
        maps = torch.zeros(1, 2, side, side, device=self.device)
        repeats = 1 if self.tiny else 10

        @torch.no_grad()
        def apply(dtype: torch.dtype | None) -> torch.Tensor:
            with torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
                return predict(net, planes, maps, 1)[0]

        figures = {}
        for name, dtype in {"": None, "bf16 ": torch.bfloat16}.items():
            apply(dtype)
            figures[f"{name}frames/s"] = 1 / self.seconds_of(partial(apply, dtype), repeats)
        rounding = (apply(torch.bfloat16) - apply(None)).square().mean().sqrt()
        return figures | {"rounding of bf16, noise levels": float(rounding)}

    def _restore_stack(self, side: int, preset: str) -> Figures:
        """Time more frames against fewer: what is done once for a stack cancels out."""
        crop = simulate_image((min(side, 512),) * 2)[0].data
        plane = np.tile(crop, (side // len(crop),) * 2)
        few, many = (1, 2) if self.tiny or side > 1024 else (2, 8)
        seconds = {}
        for count in (few, few, many):  # the first time builds what lasts for the process
            stack = np.stack([np.roll(plane, 7 * n, axis=1) for n in range(count)])
            restore = partial(pristine.restore, stack, "pretrained", preset=preset, axes="TYX", device=self.kind)
            seconds[count] = self.seconds_of(restore)
        each = max((seconds[many] - seconds[few]) / (many - few), 1e-9)
        return {"frames/s": 1 / each, "first frames s": seconds[few]}

    def training(self) -> None:
        """Training of the shipped network: scenes, cameras and steps per second; interrupted and resumed."""
        processes = 1 if self.tiny else cpu_count()
        self.measure("training", f"scenes, {counted_processes(processes)}", partial(self._make_scenes, processes))
        for batch in (2,) if self.tiny else (8, 64, 256):
            self.measure("training", f"{batch} crops in a step", partial(self._train, batch))
        self.measure("training", "interrupted and resumed", self._resume)

    def _make_scenes(self, processes: int) -> Figures:
        from training.scenes import make_scenes

        count = 2 if self.tiny else 4 * processes
        coming = make_scenes(range(count + 1), 0 if self.tiny else processes)
        next(coming)  # the processes have started
        started = time.perf_counter()
        made = sum(1 for _ in coming)
        return {"scenes/s": made / (time.perf_counter() - started)}

    def _train(self, batch: int) -> Figures:
        """Time steps as `training.denoiser.train` takes them, on scenes of random numbers."""
        from training.camera import Camera
        from training.denoiser import Training, compiled, make_optimizers, take_step

        settings = Training(batch=batch, widths=(8, 8, 8), side=16) if self.tiny else Training(batch=batch)
        nets = EmaModel(ResidualUNet(settings.widths)).to(self.device)
        optimizers, camera = make_optimizers(nets.model, settings), Camera(0, self.device)
        net = compiled(nets.model, self.device)
        scenes = torch.rand((16, 128, 128), device=self.device).half()

        def picture() -> Any:
            return camera.picture(camera.crops(scenes, batch, settings.side))

        def step() -> None:
            loss = take_step(net, nets, optimizers, picture(), settings)
            nets.update(0.999)
            losses.append(loss)

        losses: list[torch.Tensor] = []
        first = self.seconds_of(step)
        repeats = 2 if self.tiny else 50
        self.seconds_of(step, repeats // 2)
        each, pictures = self.seconds_of(step, repeats), self.seconds_of(picture, repeats)
        if not all(math.isfinite(float(loss)) for loss in losses):
            raise ComputeError("the loss is not finite")
        return {
            "steps/s": 1 / each,
            "crops/s": batch / each,
            "pictures %": 100 * pictures / each,
            "first step s": first,
        }

    def _resume(self) -> Figures:
        """Train for some steps, and go on from the checkpoint."""
        from training.denoiser import Training, train

        settings = Training(scenes=4, batch=4, side=32, last_side=48)
        if self.tiny:
            settings = Training(scenes=2, batch=2, side=16, last_side=16, widths=(8, 8, 8))
        with tempfile.TemporaryDirectory() as folder:
            for steps in (4, 8):
                train(Path(folder), settings, steps=steps, device=self.device, resume=steps > 4, report=_silent)
            state = torch.load(Path(folder) / "state.pt", weights_only=True, map_location="cpu")
        return {"steps": state["step"]}

    def presets(self) -> None:
        """Every method with all steps of its presets, on one image of 512²."""
        pair = self._pairs(48 if self.tiny else 512)[0]
        pixels = pair.noisy.astype(np.float32)

        def restore(method: str, preset: str) -> Figures:
            settings = self._few(method, preset) if self.tiny else {}
            result = pristine.restore(
                pixels, method, axes="YX", preset=preset, settings=settings, device=self.kind, value_type="float32"
            )
            plain, affine = pair.psnr(result.data)
            return {"s": result.seconds, "PSNR": plain, "affine": affine}

        for method in sorted(METHODS, key=lambda key: key in ("iddp", "sampling", "blind2unblind")):  # slow ones last
            for preset in ("fast", "balanced"):
                self.measure("presets", f"{method}:{preset}", partial(restore, method, preset))

    def published(self) -> None:
        """Two methods as published on a full frame: minutes on a GPU, days on a CPU. Not among the usual parts."""
        pair = self._pairs(32 if self.tiny else None)[0]
        pixels = pair.noisy.astype(np.float32)

        def restore(method: str) -> Figures:
            settings = {"steps": 1, "width": 4, "levels": 2} if self.tiny else {}
            result = pristine.restore(pixels, method, axes="YX", preset="paper", settings=settings, device=self.kind)
            plain, affine = pair.psnr(result.data)
            return {"s": result.seconds, "PSNR": plain, "affine": affine}

        for method in ("sampling", "blind2unblind"):
            self.measure("published", f"{method}:paper", partial(restore, method))


def counted_processes(count: int) -> str:
    """A number of processes in words."""
    return f"{count} process{'es' if count > 1 else ''}"


def _finish_job(plan: Any) -> Restored:
    """Run a plan to its end."""
    job = run_plan(plan)
    while True:
        try:
            next(job)
        except StopIteration as end:
            result: Restored = end.value
            return result


def _silent(line: str) -> None:
    """Report nothing."""


PARTS: dict[str, Callable[[GpuBenchmark], None]] = {
    "machine": GpuBenchmark.machine,
    "tests": GpuBenchmark.tests,
    "paper": GpuBenchmark.paper,
    "frames": GpuBenchmark.frames,
    "memory": GpuBenchmark.memory,
    "small": GpuBenchmark.small,
    "methods": GpuBenchmark.methods,
    "training": GpuBenchmark.training,
    "presets": GpuBenchmark.presets,
    "published": GpuBenchmark.published,
}
"""In the order in which they are run; all but the last are the usual ones."""


def run_gpu(
    parts: Sequence[str], device: Device, tiny: bool, data: Path | None, seconds: float, json: Path | None
) -> int:
    """Run parts of the benchmark, and print the table of all rows at the end.

    Returns:
        1 if a row failed, else 0.
    """
    chosen, note = pick_device(device)
    if note:
        print(note.text)
    benchmark = GpuBenchmark(chosen, tiny, data, seconds, json)
    for part in parts:
        try:
            PARTS[part](benchmark)
        except (PristineError, RuntimeError) as error:  # before its first row
            benchmark.measure(part, "", partial(_raise, error))
    failed = sum(row.failed for row in benchmark.rows)
    print(f"\n{table(benchmark.rows)}")
    print(f"{len(benchmark.rows)} rows, {failed} failed, {time.monotonic() - benchmark.started:.0f} s")
    return 1 if failed else 0


def _raise(error: Exception) -> Figures:
    raise error


def table(rows: Sequence[Row]) -> str:
    """Format all rows."""
    return "\n".join(row.line() for row in rows)

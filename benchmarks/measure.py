"""`python -m benchmarks quality`: restore each image by each entry; measure quality, time and memory.

Every restoration runs in a fresh process, so that the peak memory is its own. A network that learns from many images
restores all of them in one process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import napari_pristine as pristine
from benchmarks.entries import BASELINES, Entry
from benchmarks.images import ImagePair, read_pair
from benchmarks.published import FMD_IMAGES, FMD_NOISY, LEVELS, PUBLISHED, TableCell
from benchmarks.suites import Case, load_case
from napari_pristine.errors import ComputeError, FileError, ImageError
from napari_pristine.image.image import Image
from napari_pristine.io.atomic import atomic_write

_MEBIBYTE = 2**20
_TOLERANCE = dict(zip(LEVELS, (1.5, 1.5, 1.5, 3.0, 3.0), strict=True))
"""Largest difference, in dB, between some captures of a type and the mean of all four, for each level: the brightness
drifts between captures, which counts more where there is less noise."""


@dataclass(frozen=True)
class Setup:
    """Everything that decides a measurement."""

    label: str
    method: str
    settings: Mapping[str, Any]
    image: str
    type: str
    level: int
    crop: int | None
    device: str
    seed: int
    suite: str = "fmd"
    scope: str = ""
    preset: str = ""  # of methods that choose another one by it; all others are decided by their settings


@dataclass(frozen=True)
class Measurement:
    """The result of one entry on one image."""

    setup: Setup
    psnr: float  # in dB, by the protocol of the suite
    psnr_affine: float  # in dB after the best gain and offset
    ssim: float  # in the form that the protocol asks for
    ssim_gaussian: float  # with the Gaussian window of Wang et al. 2004
    seconds: float  # wall time of the restoration, without reading the file and importing the software
    memory: float  # peak in MiB
    memory_of: str  # `process`: its resident memory; `cuda`: what torch allocated on the GPU
    device: str
    notes: tuple[str, ...] = ()
    date: str = ""  # in UTC, such as `2026-05-31`
    learning: float = 0.0  # seconds that the network took to learn from many images first
    images: int = 0  # number of images that it learned from

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Measurement:
        """Make a measurement from the values of `dataclasses.asdict`."""
        return cls(**{**values, "setup": Setup(**values["setup"]), "notes": tuple(values["notes"])})


def read_measurements(path: Path) -> list[Measurement]:
    """Read the measurements in a file.

    Raises:
        FileError: The file cannot be read or holds something else.
    """
    try:
        return [Measurement.from_json(values) for values in json.loads(path.read_text("utf-8"))["measurements"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"'{path}' holds no measurements of this benchmark ({error}); choose another name") from error


def save_json(path: Path, values: Any) -> None:
    """Write values as JSON; an existing file is replaced when the new one is complete."""
    with atomic_write(path, overwrite=True) as part:
        part.write_text(json.dumps(values, indent=1), "utf-8")


# one measurement

_learned: tuple[pristine.Model, int, float] | None = None
"""Network that has learned in this process, number of images that it learned from, and seconds that it took."""


def _learn(setup: Setup, cases: Sequence[Case]) -> None:
    """Let the method learn from the noisy images of the cases; the truth is not used."""
    global _learned
    images = [_as_image(load_case(case, setup.crop).noisy) for case in cases]
    _warm_up(setup.device)
    start = time.perf_counter()
    model = pristine.learn(images, setup.method, settings=setup.settings, device=setup.device, seed=setup.seed)
    _learned = model, len(images), time.perf_counter() - start


def measure(setup: Setup, case: Case) -> Measurement:
    """Restore the image of a case and compare it with the truth, in this process."""
    pair = load_case(case, setup.crop)
    device, notes = "cpu", tuple[str, ...]()
    if setup.method in BASELINES:
        start = time.perf_counter()
        restored = _run_baseline(setup.method, case, pair)
    else:
        _warm_up(setup.device)
        start = time.perf_counter()
        noisy, device, seed = _as_image(pair.noisy), setup.device, setup.seed
        if _learned:
            result = pristine.restore(noisy, model=_learned[0], device=device, seed=seed)
        else:
            also = [_as_image(extra) for extra in pair.extra_images]
            result = pristine.restore(
                noisy, setup.method, preset=setup.preset, settings=setup.settings, also=also, device=device, seed=seed
            )
        restored, device, notes = result.data, result.device, tuple(note.text for note in result.notes)
    seconds = time.perf_counter() - start
    memory, memory_of = _peak_memory()
    score = pair.score(restored)
    return Measurement(
        setup=setup,
        psnr=score.psnr,
        psnr_affine=score.psnr_affine,
        ssim=score.ssim,
        ssim_gaussian=score.ssim_gaussian,
        seconds=seconds,
        memory=memory,
        memory_of=memory_of,
        device=device,
        notes=notes,
        date=datetime.now(UTC).date().isoformat(),
        images=_learned[1] if _learned else 0,
        learning=_learned[2] if _learned else 0.0,
    )


def _run_baseline(method: str, case: Case, pair: ImagePair) -> NDArray[np.float64]:
    """Run a baseline on the image of the pair that poses its task, colour by colour."""
    baseline = BASELINES[method]
    image = (pair.noisy, *pair.extra_images)[case.degradation.tasks.index(baseline.task)]
    factor = len(pair.truth) // len(image)
    if image.ndim == 2:
        return baseline.run(image, factor)
    return np.stack([baseline.run(image[..., i], factor) for i in range(image.shape[2])], axis=-1)


def _as_image(values: NDArray[np.float64]) -> Image:
    """Convert to floating point of 32 bits, so that the result is not rounded (protocol A)."""
    return Image(values.astype(np.float32), "YXS"[: values.ndim])


def _warm_up(device: str) -> None:
    """Import torch and start the GPU, which is done once per process and not timed."""
    import torch

    _ = pristine.restore  # imported with its first use
    if device in ("auto", "cuda") and torch.cuda.is_available():
        torch.zeros(1, device="cuda")


def _peak_memory() -> tuple[float, str]:
    """Peak memory of this process so far in MiB, and its kind (see `Measurement.memory_of`)."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.max_memory_allocated() / _MEBIBYTE, "cuda"
    status = Path("/proc/self/status")
    if status.exists():  # not ru_maxrss, which counts the memory of the parent process, too
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) * 1024 / _MEBIBYTE, "process"
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset) / _MEBIBYTE, "process"
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MEBIBYTE, "process"


def measure_in_new_process(work: Sequence[tuple[Setup, Case]], training: Sequence[Case] = ()) -> Iterator[Measurement]:
    """Measure in a fresh process; yield each measurement as soon as it is there.

    Args:
        work: Setups of one entry, each with its case.
        training: Cases from whose noisy images a network learns first, for all setups; empty to fit each image.

    Raises:
        ComputeError: A measurement failed, or the process died.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        tasks: list[Future[Measurement | None]] = []
        if training:
            tasks.append(process.submit(_learn, work[0][0], training))
        tasks += [process.submit(measure, setup, case) for setup, case in work]
        for task in tasks:
            if error := task.exception():
                process.shutdown(cancel_futures=True)
                names = ", ".join(setup.image for setup, _ in work)
                raise ComputeError(f"{work[0][0].label} failed on {names}: {error}") from error
            if measurement := task.result():
                yield measurement


# all entries on all images


def measure_all(
    cases: Sequence[Case],
    entries: Sequence[Entry],
    training: Sequence[Case] = (),
    *,
    crop: int | None,
    device: str,
    seed: int,
    json: Path | None,
    resume: bool,
) -> Iterator[Measurement | ComputeError]:
    """Restore each image by each entry; yield each measurement as soon as it is there, or the error that it raised.

    Args:
        cases: Images to restore.
        entries: Methods to run.
        training: All images that networks may learn from.
        crop: Side of the central square to take; None for whole images.
        device: Device of our methods; baselines run on the CPU.
        seed: Seed of our methods.
        json: File for the measurements, complete after each of them; None for none.
        resume: Take from that file what it holds already.

    Raises:
        FileError: The file exists and `resume` is not set, or it cannot be read.
    """
    measurements: list[Measurement] = []
    if json and json.exists():
        if not resume:
            raise FileError(f"'{json}' exists already; add --resume to go on from it, or choose another name")
        measurements = read_measurements(json)
    # one process restores one image, or all images that share a network
    batches = [(entry, [case]) for case in cases for entry in entries if not entry.scope and entry.accepts(case)]
    for entry in (entry for entry in entries if entry.scope):
        accepted = sorted(filter(entry.accepts, cases), key=entry.training_group)
        batches += [(entry, list(group)) for _, group in groupby(accepted, key=entry.training_group)]
    for entry, batch in batches:
        work = []
        for case in batch:
            setup = Setup(
                label=entry.label,
                method=entry.method,
                settings=entry.settings_for(case),
                image=case.name,
                type=case.type,
                level=case.level,
                crop=crop,
                device=device if entry.preset else "cpu",
                seed=seed,
                suite=case.suite,
                scope=entry.scope,
                preset=entry.preset if entry.chooses else "",
            )
            known = next((m for m in measurements if m.setup == setup), None)
            if known:
                yield known
            else:
                work.append((setup, case))
        if not work:
            continue
        group = entry.training_group(batch[0])
        learn_from = [case for case in training if entry.scope and entry.training_group(case) == group]
        try:
            for measurement in measure_in_new_process(work, learn_from):
                measurements.append(measurement)
                if json:
                    save_json(json, {"measurements": [asdict(m) for m in measurements]})
                yield measurement
        except ComputeError as error:
            yield error


def check_noisy(cases: Iterable[Case]) -> list[str]:
    """Compare the PSNR of the noisy images of FMD with the published values; return a description of each check.

    Raises:
        ImageError: The PSNR differs: these are other images, another pairing or another protocol.
    """
    lines: list[str] = []
    for level, of_level in groupby(sorted(cases, key=lambda c: c.level), key=lambda c: c.level):
        psnr: dict[str, list[float]] = {}
        for case in of_level:
            pair = read_pair(case.noisy, case.truth)
            psnr.setdefault(case.type, []).append(pair.psnr(pair.noisy)[0])
        checks = []
        for kind, values in psnr.items():
            published = FMD_NOISY.get(kind, ())[LEVELS.index(level) :][:1]
            if published:
                checks.append((f"{kind} ({len(values)} of 4 captures)", values, published[0], _TOLERANCE[level]))
            else:
                lines.append(
                    f"level {level}, {kind}: noisy {np.mean(values):.2f} dB, nothing published to check it against"
                )
        everything = [value for values in psnr.values() for value in values]
        if psnr.keys() == FMD_NOISY.keys() and len(everything) == FMD_IMAGES:
            published_mean = PUBLISHED["fmd"][0].scores[TableCell(level)].psnr
            checks.append((f"all {FMD_IMAGES} images", everything, published_mean, 0.01))
        for name, values, wanted, tolerance in checks:
            mean = float(np.mean(values))
            lines.append(f"level {level}, {name}: noisy {mean:.3f} dB, published {wanted:.2f}")
            if abs(mean - wanted) > tolerance:
                raise ImageError(
                    f"{lines[-1]}; more than {tolerance} dB apart: these are other images, or another pairing or "
                    "level; --unchecked measures them anyway"
                )
    return lines

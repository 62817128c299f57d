"""One entry on one image, in a process of its own: how good, how long, how much memory.

The process is fresh so that its peak memory is that of this one restoration. It is started by `measure_apart`, reads
its job as JSON from stdin and prints the row as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines import BASELINES
from benchmarks.suites import load
from napari_pristine.errors import ComputeError, PristineError

_ROOT = Path(__file__).resolve().parents[1]
_MEBI = 2**20


@dataclass(frozen=True)
class Job:
    """All that decides a row; two rows with equal jobs are the same measurement."""

    label: str
    method: str
    settings: Mapping[str, Any]
    image: str
    type: str
    level: int
    crop: int | None
    device: str
    seed: int


@dataclass(frozen=True)
class Row:
    """A finished measurement.

    Attributes:
        job: What was measured.
        psnr: In dB, by protocol A.
        psnr_affine: After the gain and offset that fit best.
        ssim: scikit-image's default form; `ssim_gaussian` that of Wang et al. 2004.
        seconds: Wall time of the restoration, without reading the file and importing the software.
        memory: Peak in MiB: resident memory of the whole process, or what torch allocated on a GPU.
        memory_of: `process` or `cuda`.
        device: Where it ran, in words.
        notes: What the method said.
    """

    job: Job
    psnr: float
    psnr_affine: float
    ssim: float
    ssim_gaussian: float
    seconds: float
    memory: float
    memory_of: str
    device: str
    notes: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Row:
        """The row that `dataclasses.asdict` made these values of."""
        return cls(**{**values, "job": Job(**values["job"]), "notes": tuple(values["notes"])})


@dataclass(frozen=True, eq=False)
class _Outcome:
    values: NDArray[Any]
    device: str
    notes: tuple[str, ...] = ()


def measure(job: Job, noisy: Path, truth: Path) -> Row:
    """Restore and compare, in this process."""
    pair = load(noisy, truth).cropped(job.crop)
    restore = _baseline if job.method in BASELINES else _ours(job)
    started = time.perf_counter()
    outcome = restore(job, pair.noisy)
    seconds = time.perf_counter() - started
    memory, memory_of = _peak_memory()
    score = pair.score(outcome.values)
    return Row(
        job=job,
        psnr=score.psnr,
        psnr_affine=score.psnr_affine,
        ssim=score.ssim,
        ssim_gaussian=score.ssim_gaussian,
        seconds=seconds,
        memory=memory,
        memory_of=memory_of,
        device=outcome.device,
        notes=outcome.notes,
    )


def _baseline(job: Job, noisy: NDArray[np.float64]) -> _Outcome:
    return _Outcome(BASELINES[job.method].run(noisy), "cpu")


def _ours(job: Job) -> Any:
    """How to restore with one of our methods; what is done once per process, not per image, is done here."""
    import torch

    from napari_pristine.restoration import restore

    if job.device in ("auto", "cuda") and torch.cuda.is_available():
        torch.zeros(1, device="cuda")  # the context takes seconds, whatever comes after

    def run(job: Job, noisy: NDArray[np.float64]) -> _Outcome:
        # floating point in, so that the result is not rounded (protocol A)
        result = restore(noisy.astype(np.float32), job.method, settings=job.settings, device=job.device, seed=job.seed)
        return _Outcome(result.data, result.device, tuple(note.text for note in result.notes))

    return run


def _peak_memory() -> tuple[float, str]:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.max_memory_allocated() / _MEBI, "cuda"
    return _peak_resident() / _MEBI, "process"


def _peak_resident() -> int:
    """Most resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # not ru_maxrss, which counts the memory of the process that started this one
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure_apart(job: Job, noisy: Path, truth: Path) -> Row:
    """Restore and compare in a fresh process.

    Raises:
        ComputeError: The process failed; the message is its last words.
    """
    task = json.dumps({"job": asdict(job), "noisy": str(noisy.resolve()), "truth": str(truth.resolve())})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.measure"], input=task, capture_output=True, text=True, cwd=_ROOT, check=False
    )
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise ComputeError(f"{job.label} failed on {job.image}: {words[-1]}")
    return Row.from_json(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure what stdin says and print the row."""
    task = json.load(sys.stdin)
    try:
        row = measure(Job(**task["job"]), Path(task["noisy"]), Path(task["truth"]))
    except PristineError as error:
        sys.exit(str(error))
    print(json.dumps(asdict(row)))


if __name__ == "__main__":
    main()

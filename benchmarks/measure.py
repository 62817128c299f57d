"""One entry on one image, in a process of its own: how good, how long, how much memory.

The process is fresh so that its peak memory is that of this one restoration. It is started by `measure_apart`, reads
its job as JSON from stdin and prints the row as JSON. A network that learns from many images restores all of them in
one process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines import BASELINES
from benchmarks.cases import Case
from benchmarks.pair import Pair
from benchmarks.recovery import RECOVERIES
from benchmarks.rows import Job, Row
from benchmarks.suites import load_case
from napari_pristine.errors import ComputeError, PristineError
from napari_pristine.image.image import Image

if TYPE_CHECKING:
    from napari_pristine.model import Model

_ROOT = Path(__file__).resolve().parents[1]
_MEBI = 2**20
_MARK = "row: "
"""Before each row, to tell it from what libraries print."""


@dataclass(frozen=True, eq=False)
class _Outcome:
    values: NDArray[Any]
    device: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Learned:
    """A network that has learned from noisy images, and how long that took."""

    model: Model
    images: int
    seconds: float


def learn(job: Job, cases: Sequence[Case]) -> Learned:
    """Let the method of a job learn from the noisy pictures of cases; their truth stays unseen."""
    from napari_pristine import learning

    images = [_image(load_case(case, job.crop).noisy) for case in cases]
    _warm_up(job)
    started = time.perf_counter()
    model = learning.learn(images, job.method, settings=job.settings, device=job.device, seed=job.seed)
    return Learned(model, len(images), time.perf_counter() - started)


def measure(job: Job, case: Case, learned: Learned | None = None) -> Row:
    """Restore and compare, in this process."""
    pair = load_case(case, job.crop)
    classical = job.method in BASELINES or job.method in RECOVERIES
    if not classical:
        _warm_up(job)
    started = time.perf_counter()
    outcome = _classical(job, case, pair) if classical else _ours(job, pair, learned)
    seconds = time.perf_counter() - started
    memory, memory_estimate = _peak_memory()
    score = pair.score(outcome.values)
    return Row(
        job=job,
        psnr=score.psnr,
        psnr_affine=score.psnr_affine,
        ssim=score.ssim,
        ssim_gaussian=score.ssim_gaussian,
        seconds=seconds,
        memory=memory,
        memory_estimate=memory_estimate,
        device=outcome.device,
        notes=outcome.notes,
        date=datetime.now(UTC).date().isoformat(),
        learning=learned.seconds if learned else 0.0,
        images=learned.images if learned else 0,
    )


def _classical(job: Job, case: Case, pair: Pair) -> _Outcome:
    """Each colour by itself, of the one of its pictures that the method is for."""
    task = RECOVERIES[job.method].task if job.method in RECOVERIES else "denoise"
    # a picture that is only noisy is all there is of most cases
    picture = (pair.noisy, *pair.others)[case.tasks.index(task)]
    finer = len(pair.truth) // len(picture)

    def one(channel: NDArray[np.float64]) -> NDArray[np.float64]:
        found = RECOVERIES.get(job.method)
        return found.run(channel, finer) if found else BASELINES[job.method].run(channel)

    if picture.ndim == 2:
        return _Outcome(one(picture), "cpu")
    return _Outcome(np.stack([one(picture[..., i]) for i in range(picture.shape[2])], axis=-1), "cpu")


def _image(picture: NDArray[np.float64]) -> Image:
    """Floating point, so that the result is not rounded (protocol A)."""
    return Image(picture.astype(np.float32), "YXS"[: picture.ndim])


def _ours(job: Job, pair: Pair, learned: Learned | None) -> _Outcome:
    from napari_pristine.jobs.restore import restore

    image = _image(pair.noisy)
    if learned:
        result = restore(image, model=learned.model, device=job.device, seed=job.seed)
    else:
        others = [_image(other) for other in pair.others]
        result = restore(image, job.method, settings=job.settings, also=others, device=job.device, seed=job.seed)
    return _Outcome(result.data, result.device, tuple(note.text for note in result.notes))


def _warm_up(job: Job) -> None:
    """What is done once per process, not per image."""
    import torch

    import napari_pristine.jobs.restore  # noqa: F401

    if job.device in ("auto", "cuda") and torch.cuda.is_available():
        torch.zeros(1, device="cuda")  # the context takes seconds, whatever comes after


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


def measure_apart(work: Sequence[tuple[Job, Case]], training: Sequence[Case] = ()) -> Iterator[Row]:
    """Restore and compare in a fresh process; each row as soon as it is there.

    Args:
        work: Jobs of one entry, each with its case.
        training: Cases from whose noisy pictures a network learns first, for all jobs; none for a fit of each.

    Raises:
        ComputeError: The process failed; the message is its last words.
    """
    task = {"work": [(asdict(job), case.to_json()) for job, case in work], "training": [c.to_json() for c in training]}
    command = [sys.executable, "-m", "benchmarks.measure"]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=_ROOT
        ) as process,
    ):  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(task))
        process.stdin.close()
        for line in process.stdout:
            if line.startswith(_MARK):
                yield Row.from_json(json.loads(line[len(_MARK) :]))
        if process.wait():
            errors.seek(0)
            words = errors.read().strip().splitlines() or [f"exit status {process.returncode}"]
            images = ", ".join(job.image for job, _ in work)
            raise ComputeError(f"{work[0][0].label} failed on {images}: {words[-1]}")


def main() -> None:
    """Measure what stdin says and print the rows."""
    task = json.load(sys.stdin)
    work = [(Job(**job), Case.from_json(case)) for job, case in task["work"]]
    training = [Case.from_json(case) for case in task["training"]]
    try:
        learned = learn(work[0][0], training) if training else None
        for job, case in work:
            print(_MARK + json.dumps(asdict(measure(job, case, learned))), flush=True)
    except PristineError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

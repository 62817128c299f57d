"""Slurm: jobs that work for a batch for as long as it runs.

dask-jobqueue writes the script of a job, as its configuration says. The jobs are looked after here: it would not say
that Slurm refuses them, nor start another one for a job that has reached its limit of time.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from napari_pristine.errors import ComputeError, SettingError

_LOOKS = 15.0
"""Seconds between two looks at the queue, which thousands of others look at."""
_TIMEOUT = 60.0
"""Seconds after which a command of Slurm is given up."""
_HANGUP = getattr(signal, "SIGHUP", signal.SIGTERM)
"""What a terminal that is closed sends; Windows knows none."""


class Jobs:
    """Jobs in the queue of Slurm: made when this is entered, cancelled when it is left.

    Args:
        script: What each does. Its worker has the number of the job as name, followed by `-0` and so on if there are
            several.
        wanted: How many there are to be.
    """

    def __init__(self, script: str, wanted: int) -> None:
        self._script, self._wanted = script, wanted
        self._jobs: list[str] = []
        self._seen: set[str] = set()
        self._looked = time.monotonic()
        self._refused = ""

    def __enter__(self) -> Jobs:
        """Submit them; raises a `SettingError` if Slurm takes none."""
        try:
            self._fill()
        except BaseException:
            self._cancel()
            raise
        if not self._jobs:
            raise SettingError(
                f"Slurm does not take the jobs: {self._refused}; see jobqueue.slurm in the configuration of dask"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cancel()

    def advice(self) -> str:
        """What is known of jobs that do not work, for the user."""
        try:
            queue = _queue()
        except SettingError as error:
            return str(error)
        states = Counter(queue[job] for job in self._jobs if job in queue)
        told = [f"{count} {state}" for state, count in states.items()]
        return f"its jobs in the queue of Slurm: {', '.join(told) or 'none that is not over'}"

    def look(self, workers: Collection[str]) -> str:
        """Look after them: one that ends though it has worked, by its limit of time or a fault, has a successor.

        Args:
            workers: Names of the workers that are there now.

        Returns:
            What the user should know, if anything.

        Raises:
            ComputeError: There are none, and will be none.
        """
        self._seen |= {name.split("-")[0] for name in workers}
        if time.monotonic() - self._looked < _LOOKS:
            return ""
        self._looked = time.monotonic()
        try:
            queue = _queue()
        except SettingError:  # it is too busy to answer now
            return ""
        over = [job for job in self._jobs if job not in queue]
        self._jobs = [job for job in self._jobs if job in queue]
        idle = [job for job in over if job not in self._seen]
        self._wanted -= len(idle)
        return "; ".join(filter(None, [self._mourn(idle), self._refill()]))

    def _mourn(self, jobs: Sequence[str]) -> str:
        """What is said of jobs that ended before they worked: others would do the same."""
        if not jobs:
            return ""
        text = f"{len(jobs)} jobs of Slurm ended before they worked; {_last_words(self._script, jobs[-1])}"
        if not self._wanted:
            raise ComputeError(f"{text}; there is no other, --resume goes on when that is mended")
        return text

    def _refill(self) -> str:
        before = self._refused
        self._fill()
        if not self._jobs:
            raise ComputeError(f"Slurm takes no more jobs: {self._refused}; --resume goes on from here")
        return f"Slurm takes no more jobs: {self._refused}" if self._refused and not before else ""

    def _fill(self) -> None:
        """Submit those that are wanting, until one is refused."""
        self._refused = ""
        while len(self._jobs) < self._wanted and not self._refused:
            with _undisturbed():  # a job whose number is not known could not be cancelled
                try:
                    self._jobs.append(_slurm("sbatch", "--parsable", script=self._script).split(";")[0].strip())
                except SettingError as error:
                    self._refused = str(error)

    def _cancel(self) -> None:
        with _undisturbed(), suppress(SettingError):
            if self._jobs:
                _slurm("scancel", *self._jobs)
            self._jobs = []


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """End as by Ctrl-C when the process is told to end or its terminal is closed: jobs must not be left behind."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, _HANGUP):
            if signal.getsignal(number) is signal.SIG_DFL:  # who has set something else, such as nohup, means it
                before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Hear signals that end the batch only when this is over."""
    heard: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, _HANGUP):
            if callable(signal.getsignal(number)):
                before[number] = signal.signal(number, lambda sent, _: heard.append(sent))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if heard:
        raise KeyboardInterrupt


def _queue() -> dict[str, str]:
    """State, and reason if there is one, of all jobs of this user that are not over."""
    lines = _slurm("squeue", "--noheader", f"--user={os.getuid()}", "--format=%i|%T|%r").splitlines()
    found = [line.split("|") for line in lines if line.count("|") == 2]
    return {job: state.lower() + ("" if why in ("None", "") else f" ({why})") for job, state, why in found}


def _slurm(*words: str, script: str = "") -> str:
    """What a command of Slurm says; raises a `SettingError` with what it complains of."""
    try:
        done = subprocess.run(
            words, input=script, capture_output=True, text=True, timeout=_TIMEOUT, start_new_session=True, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SettingError(f"'{words[0]}' does not work: {error}") from error
    if done.returncode:
        lines = [line.removeprefix(f"{words[0]}: ").removeprefix("error: ") for line in done.stderr.splitlines()]
        raise SettingError(f"'{words[0]}' says: {'; '.join(filter(None, lines)) or f'exit code {done.returncode}'}")
    return done.stdout


def _last_words(script: str, job: str) -> str:
    """The last line that a job has written."""
    found = re.search(r"^#SBATCH (?:-e |--error[= ])(\S+)", script, re.MULTILINE)
    log = Path(re.sub("%[jJ]", job, found[1] if found else "slurm-%j.out"))
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return f"there is no '{log}' that would say why"
    return f"the last words in '{log}': {next(filter(None, map(str.strip, reversed(lines))), 'none')}"

"""Jobs in a worker thread: events, results, errors, and how a job is kept or cancelled."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from collections.abc import Generator
from typing import Any

import pytest
import torch

from napari_pristine.errors import ComputeError
from napari_pristine.events import Command
from napari_pristine.gui.job_runner import JobRunner

pytestmark = pytest.mark.gui


class Recorder:
    """Counts the steps of an endless job, and records how it ended."""

    def __init__(self) -> None:
        self.steps = 0
        self.threads: list[int] = []
        self.closed_in = 0

    def job(self) -> Generator[int, Command | None, str]:
        self.threads.append(torch.get_num_threads())
        try:
            while (yield self.steps) is not Command.KEEP:
                self.steps += 1
        finally:
            self.closed_in = threading.get_ident()
        return f"kept after {self.steps} steps"


def collect(runner: JobRunner) -> list[tuple[str, Any]]:
    """All signals of a runner, in order."""
    received: list[tuple[str, Any]] = []
    runner.yielded.connect(lambda event: received.append(("yielded", event)))
    runner.returned.connect(lambda result: received.append(("returned", result)))
    runner.errored.connect(lambda error: received.append(("errored", error)))
    runner.finished.connect(lambda: received.append(("finished", None)))
    return received


def test_events_come_first_then_the_result_then_finished(qtbot):
    def job() -> Generator[int, None, str]:
        yield 1
        yield 2
        return "done"

    runner = JobRunner()
    received = collect(runner)
    with qtbot.waitSignal(runner.finished):
        runner.start(job())
        assert runner.running
    assert received == [("yielded", 1), ("yielded", 2), ("returned", "done"), ("finished", None)]
    assert not runner.running


def test_keep_is_sent_to_the_job(qtbot):
    runner, recorder = JobRunner(), Recorder()
    received = collect(runner)
    runner.start(recorder.job())
    qtbot.waitUntil(lambda: len(received) > 3)
    with qtbot.waitSignal(runner.finished):
        runner.keep()
    assert received[-2] == ("returned", f"kept after {recorder.steps} steps")


def test_a_cancelled_job_takes_one_step_at_most_and_is_closed_in_its_thread(qtbot):
    runner, recorder = JobRunner(), Recorder()
    received = collect(runner)
    threads = torch.get_num_threads()
    job = recorder.job()
    runner.start(job)
    qtbot.waitUntil(lambda: len(received) > 3)
    with qtbot.waitSignal(runner.finished):
        runner.cancel()
        steps = recorder.steps
        received.clear()
        assert runner.running
        assert not runner.active
    assert recorder.steps <= steps + 1
    assert received == [("finished", None)]
    assert inspect.getgeneratorstate(job) == inspect.GEN_CLOSED
    assert recorder.closed_in not in (0, threading.get_ident())
    assert torch.get_num_threads() == threads


def test_a_core_is_left_to_the_window(qtbot, monkeypatch):
    used: list[int] = []
    monkeypatch.setattr("napari_pristine.gui.job_runner.leave_a_core", lambda: torch.set_num_threads(1))
    monkeypatch.setattr(torch, "set_num_threads", used.append)
    runner = JobRunner()

    def job() -> Generator[None, None, None]:
        assert used == [1]
        yield

    with qtbot.waitSignal(runner.finished):
        runner.start(job())
    assert used == [1, torch.get_num_threads()]


@pytest.mark.parametrize(
    ("error", "shown"),
    [(ValueError("wrong"), ValueError), (RuntimeError("torch failed"), ComputeError)],
    ids=["other", "runtime"],
)
def test_errors_are_passed_on_also_those_that_workers_swallow(qtbot, error, shown):
    def job() -> Generator[None, None, None]:
        yield
        raise error

    runner = JobRunner()
    received = collect(runner)
    with qtbot.waitSignal(runner.finished):
        runner.start(job())
    (found,) = [value for name, value in received if name == "errored"]
    assert isinstance(found, shown)
    assert str(error) in str(found)


def test_there_is_one_job_at_a_time(qtbot):
    runner, recorder = JobRunner(), Recorder()
    runner.start(recorder.job())
    with pytest.raises(TypeError, match="running already"):
        runner.start(recorder.job())
    with qtbot.waitSignal(runner.finished):
        runner.cancel()


def test_python_ends_without_an_abort_while_something_is_measured():
    """As if napari is closed just after an image was opened: torch aborts if its thread ends after Python has."""
    done = subprocess.run(
        [sys.executable, "-c", "import torch\n"
        "from qtpy.QtWidgets import QApplication\n"
        "from threading import Event\n"
        "from napari_pristine.gui.job_runner import LatestCall\n"
        "application, begun = QApplication([]), Event()\n"
        "def measure():\n"
        "    image = torch.rand(1, 1, 300, 300)\n"
        "    begun.set()\n"
        "    for _ in range(50): image = torch.nn.functional.conv2d(image, torch.ones(1, 1, 9, 9) / 81, padding=4)\n"
        "call = LatestCall()\n"
        "call.start(measure)\n"
        "begun.wait()\n"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

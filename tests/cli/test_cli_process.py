"""The command as a process of its own: pipes, terminals, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

FEW = ("--set", "steps=3")
ENDLESS = ("--set", "steps=100000")


def test_help_and_version_do_not_wait_for_torch() -> None:
    code = (
        "import sys; from napari_pristine.cli.main import main; main(sys.argv[1:]); assert 'torch' not in sys.modules"
    )
    for words in (["--help"], ["--version"], []):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=200)
        assert (done.returncode, done.stderr) == (0, "")
        assert "pristine" in done.stdout


def test_in_a_pipe_there_is_the_result_and_nothing_else(cell: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "napari_pristine", "restore", str(cell), "-o", str(tmp_path / "x.tif"), *FEW]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["output"] == str(tmp_path / "x.tif")


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal: the end that the user sees, and the end for the program."""
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals on this system")
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    yield ours, theirs
    for end in (ours, theirs):
        os.close(end)


def seen_on(terminal: int) -> str:
    try:
        return os.read(terminal, 1 << 20).decode(errors="replace")
    except BlockingIOError:
        return ""


def test_a_terminal_shows_the_time_left_and_ctrl_c_leaves_nothing(
    terminal: tuple[int, int], cell: Path, tmp_path: Path
) -> None:
    ours, theirs = terminal
    command = [sys.executable, "-m", "napari_pristine", "restore", str(cell), "-o", str(tmp_path / "x.tif"), *ENDLESS]
    before = sorted(tmp_path.iterdir())
    environment = os.environ | {"TERM": "xterm"}
    # tests that run in the background ignore Ctrl-C, and so would all that they start
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment, preexec_fn=heed) as job:
        seen, end = "", time.monotonic() + 100
        while " left" not in seen and job.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
            seen += seen_on(ours)
        job.send_signal(signal.SIGINT)
        out, _ = job.communicate(timeout=200)
    seen += seen_on(ours)
    assert "cell.tif" in seen
    assert "residual" in seen
    assert " left" in seen
    assert job.returncode == 130
    assert "pristine: interrupted; no unfinished file has a final name" in seen
    assert "Traceback" not in seen
    assert out == b""
    assert sorted(tmp_path.iterdir()) == before

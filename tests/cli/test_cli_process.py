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

from napari_pristine.methods import METHODS

FEW = ("--method", "inr", "--set", "steps=3")
ENDLESS = ("--method", "inr", "--set", "steps=100000")


def test_help_lists_and_wrong_words_wait_for_no_library(tmp_path: Path) -> None:
    commands = ["restore", "batch", "learn", "compare", "diagnose", "methods", "export", "demo"]
    words = [[], ["--help"], ["--version"], *([command, "--help"] for command in commands)]
    words += [["methods"], ["methods", "--json"], *(["methods", name] for name in METHODS), ["methods", "magic"]]
    words += [["restores"], ["restore"], ["batch", "r.yaml"], ["restore", "x.tif", "-o", "y.tif", "--sead", "1"]]
    words += [
        ["restore", "x.tif", "-o", "y.tif", "--memory", "5"],
        ["batch", "r.yaml", "x", "-o", "y", "--workers", "0"],
    ]
    words += [["--install-completion", "--shell", "bash"]]
    heavy = [
        "torch", "numpy", "scipy", "skimage", "napari", "qtpy", "zarr", "tifffile", "imagecodecs", "PIL", "safetensors",
        "jinja2", "dask", "distributed",
    ]  # fmt: skip
    code = (
        "import json, sys\n"
        "from napari_pristine.cli.main import main\n"
        "for words in json.loads(sys.argv[1]): print(words, main(words), file=sys.stderr)\n"
        f"found = set({heavy}) & set(sys.modules)\n"
        "assert not found, found"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(words)], capture_output=True, text=True, timeout=200,
        env=os.environ | {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage: pristine") == 10
    assert done.stderr.count("pristine: ") == 7
    (script,) = tmp_path.rglob("pristine")
    assert all(f"{word}" in script.read_text() for word in [*commands, "--method", "--workers"])


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
    assert "pristine: interrupted; no incomplete file has a final name" in seen
    assert "Traceback" not in seen
    assert out == b""
    assert sorted(tmp_path.iterdir()) == before

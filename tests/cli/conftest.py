"""The command as a function, and small files for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from napari_pristine import write
from napari_pristine.cli.main import main
from napari_pristine.samples import simulate_image, simulate_timelapse

Shell = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shell(
    tmp_path: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    """Run a command in a folder of its own; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    """A small noisy picture on disk."""
    path = tmp_path / "cell.tif"
    write(path, simulate_image((32, 40))[0])
    return path


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    """A small noisy time-lapse on disk."""
    path = tmp_path / "movie.ome.tif"
    write(path, simulate_timelapse((32, 40), frames=2)[0])
    return path

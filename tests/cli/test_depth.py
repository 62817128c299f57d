"""The shell is near the optimiser: few frames between them, each file opened and planned once."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import napari_pristine
from napari_pristine import Image, write
from napari_pristine.cli.main import main
from napari_pristine.jobs import plan
from napari_pristine.methods import METHODS
from napari_pristine.nets.muon import Muon
from napari_pristine.nets.optimiser import Adam

PACKAGE = str(Path(napari_pristine.__file__).parent)
MAX_FRAMES = 12


@pytest.fixture
def noisy(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / "a.tif", tmp_path / "b.tif"]
    for path in paths:
        write(path, Image(rng.poisson(20, (48, 48)).astype(np.uint16), "YX"))
    return paths


@pytest.mark.parametrize("method", [key for key, method in METHODS.items() if not method.candidates])
def test_few_frames_lie_between_the_shell_and_the_optimiser(
    method: str, noisy: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deepest: list[str] = []

    def count_frames(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            frame, own = sys._getframe(1), []
            while frame is not None:
                if frame.f_code.co_filename.startswith(PACKAGE):
                    own.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_code.co_qualname}")
                frame = frame.f_back  # type: ignore[assignment]
            if len(own) > len(deepest):
                deepest[:] = own
            return function(*args, **kwargs)

        return wrapped

    for optimiser in (Adam, Muon):
        monkeypatch.setattr(optimiser, "step", count_frames(optimiser.step))
    words = ["restore", str(noisy[0]), "-o", str(tmp_path / "out.tif"), "--method", method, "--set", "steps=2"]
    assert main([*words, "--preset", "fast"]) == 0
    assert deepest
    assert len(deepest) <= MAX_FRAMES, deepest


def test_each_file_is_opened_and_planned_once(
    noisy: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: Counter[str] = Counter()
    planned: Counter[str] = Counter()
    open_tiff, make = tifffile.TiffFile.__init__, plan.RestorationPlan.__init__

    def count_opened(self: Any, file: Any, *args: Any, **kwargs: Any) -> None:
        opened[Path(str(file)).name] += 1
        open_tiff(self, file, *args, **kwargs)

    def count_planned(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        planned[self.image.name] += 1

    monkeypatch.setattr(tifffile.TiffFile, "__init__", count_opened)
    monkeypatch.setattr(plan.RestorationPlan, "__init__", count_planned)
    words = [
        "restore",
        *map(str, noisy),
        "-o",
        str(tmp_path / "out"),
        "--preset",
        "fast",
        "--method",
        "inr",
        "--set",
        "steps=2",
    ]
    assert main(words) == 0
    assert {name: opened[name] for name in ("a.tif", "b.tif")} == {"a.tif": 1, "b.tif": 1}
    assert dict(planned) == {"a": 1, "b": 1}

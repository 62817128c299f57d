"""What the command says, and its exit codes, when something is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from napari_pristine import read, write
from napari_pristine.image.image import Image
from napari_pristine.methods import METHODS
from napari_pristine.methods.method import Fit, NoisyBlock

FEW = ("--method", "inr", "--set", "steps=3")
ENDLESS = ("--method", "inr", "--set", "steps=100000")
Shell = Callable[..., tuple[int, str, str]]

WRONG = [
    (("restore",), "'pristine restore' needs INPUTS. ('pristine restore --help' shows the usage)"),
    (("restore", "cell.tif"), "needs a value for --output"),
    (("restore", "cell.tif", "-o", "x.tif", "--sead", "1"), "--sead"),
    (("restore", "cell.tif", "-o", "x.tif", "--seed", "one"), '"one"'),
    (("restore", "cell.tif", "-o", "x.tif", "--device", "tpu"), "cuda"),
    (("restore", "cell.tif", "-o", "x.tif", "--method", "magic"), "no method 'magic'; the methods are auto"),
    (("restore", "cell.tif", "-o", "x.tif", "--preset", "magic"), "no preset 'magic'"),
    (("restore", "cell.tif", "-o", "x.tif", "--method", "inr", "--set", "steps"), "write it like --set steps=500"),
    (("restore", "cell.tif", "-o", "x.tif", "--set", "stops=3"), "no setting 'stops'"),
    (("restore", "cell.tif", "-o", "x.tif", "--method", "inr", "--set", "steps=0"), "'steps'"),
    (("restore", "cell.tif", "-o", "x.tif", "--select", "Z=0"), "the axes YX"),
    (("restore", "cell.tif", "-o", "x.tif", "--select", "Z"), "write it like --select T=0:10"),
    (("restore", "cell.tif", "-o", "x.tif", "--axes", "TYX"), "axes 'TYX'"),
    (("restore", "cell.tif", "-o", "x.tif", "--together", "ZYX"), "'ZYX'"),
    (("restore", "cell.tif", "-o", "x.tif", "--adapt"), "no model is given"),
    (("restore", "nowhere.tif", "-o", "x.tif"), "does not exist"),
    (("restore", "nothing*.tif", "-o", "x"), "nothing matches the pattern 'nothing*.tif'; check its spelling"),
    (("restore", "nothing*", "-o", "x"), "nothing matches the pattern 'nothing*'"),
    (("restore", "cell.tif", "no/[ab].tif", "-o", "x"), "nothing matches the pattern 'no/[ab].tif'"),
    (("learn", "nothing?.tif", "-o", "x.safetensors"), "nothing matches the pattern 'nothing?.tif'"),
    (("diagnose", "nothing*"), "'nothing*' does not exist, and patterns cannot be used here"),
    (("restore", "sub", "-o", "x.tif"), "'sub' is a folder"),
    (("restore", "cell.tif", "-o", "no/x.tif"), "no folder 'no'"),
    (("restore", "cell.tif", "-o", "x.doc"), "'.doc'"),
    (("restore", "cell.tif", "movie.ome.tif", "-o", "x.doc"), "or end the name of a folder with /"),
    (("restore", "", "-o", "x.tif"), "the name of an input is empty"),
    (("restore", "cell.tif", "-o", ""), "the name of the output is empty"),
    (("restore", "cell.tif", "movie.ome.tif", "-o", "x.tif"), "'x.tif' is the name of a file; for 2 images"),
    (("restore", "cell.tif", "-o", "x.zarr/y"), "has the name of an OME-Zarr"),
    (("restore", "empty", "-o", "x"), "there is nothing to restore in empty"),
    (("restore", "movie.ome.tif", "-o", "x.png"), "'x.png': PNG cannot hold"),
    (("restore", "cell.tif", "-o", "cell.tif", "--overwrite"), "would replace the input"),
    (("restore", "cell.tif", "movie.ome.tif", "-o", ".", "--overwrite"), "would replace the input"),
    (("restore", "cell.tif", "sub/cell.tif", "-o", "x"), "both be written to"),
    (("restore", "cell.tif", "movie.ome.tif", "-o", "taken.tif", "--overwrite"), "is a file"),
    (("restore", "cell.tif", "-o", "taken.tif"), "already exists"),
    (("compare", "cell.tif"), "--reference"),
    (("compare", "cell.tif", "--reference", "movie.ome.tif"), "shape"),
    (("compare", "cell.tif", "--reference", "cell.tif", "--data-range", "0"), "data range"),
    (("diagnose", "nowhere.tif"), "does not exist"),
    (("methods", "magic"), "no method 'magic'"),
    (("restores",), "restore"),
]


@pytest.mark.parametrize(("words", "said"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_wrong_use_is_told_on_one_line_before_any_fit(
    shell: Shell, cell: Path, movie: Path, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "cell.tif", read(cell))
    write(tmp_path / "taken.tif", read(cell))
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    # a fit would not end before the test's time is up
    endless = ENDLESS if words[0] == "restore" and not {"--set", "--method"} & set(words) else ()
    code, out, err = shell(*words, *endless)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"pristine: .*\n", err)
    assert said in err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == files


def test_a_result_is_replaced_only_on_demand(shell: Shell, cell: Path) -> None:
    shell("restore", cell, "-o", "clean.tif", *FEW)
    first = Path("clean.tif").read_bytes()
    assert shell("restore", cell, "-o", "clean.tif", *FEW, "--seed", "1")[0] == 2
    assert Path("clean.tif").read_bytes() == first
    assert shell("restore", cell, "-o", "clean.tif", *FEW, "--seed", "1", "--overwrite")[0] == 0
    assert Path("clean.tif").read_bytes() != first


def test_files_that_fail_do_not_stop_the_rest(shell: Shell, cell: Path, tmp_path: Path) -> None:
    write(tmp_path / "flat.tif", Image(np.full((32, 32), 7, np.uint16), "YX"))
    (tmp_path / "broken.tif").write_bytes(b"no picture at all")
    code, out, err = shell("restore", "flat.tif", "broken.tif", "nowhere.tif", cell, "-o", "clean", *FEW)
    assert code == 1
    assert re.findall(r"(\w+)\.tif", err) == ["broken", "nowhere", "flat"]
    assert len(err.splitlines()) == 3
    assert sorted(path.name for path in (tmp_path / "clean").iterdir()) == ["cell.tif", "cell.tif.json"]
    assert len(out.splitlines()) == 1


def test_nothing_usable_is_wrong_use(shell: Shell, tmp_path: Path) -> None:
    write(tmp_path / "flat.tif", Image(np.full((32, 32), 7, np.uint16), "YX"))
    (tmp_path / "broken.tif").write_bytes(b"no picture at all")
    assert shell("restore", "flat.tif", "broken.tif", "-o", "clean", *FEW)[0] == 2


def fail(net: nn.Module, noisy: NoisyBlock, params: Any, warm: bool) -> Fit:
    yield from ()
    raise ZeroDivisionError("one of our mistakes")


@pytest.mark.parametrize("debug", [(), ("--debug",)])
def test_our_own_mistakes_are_said_to_be_ours(
    shell: Shell, cell: Path, monkeypatch: pytest.MonkeyPatch, debug: tuple[str, ...]
) -> None:
    monkeypatch.setitem(METHODS, "inr", replace(METHODS["inr"], fit=fail))
    code, out, err = shell("restore", cell, "-o", "clean.tif", *FEW, *debug)
    assert (code, out) == (1, "")
    *traceback, last = err.splitlines()
    assert "ZeroDivisionError: one of our mistakes; this is a bug in napari-pristine" in last
    assert any(line.startswith("Traceback") for line in traceback) == bool(debug)
    assert not Path("clean.tif").exists()


def test_debug_shows_where_an_error_comes_from(shell: Shell) -> None:
    code, _, err = shell("diagnose", "nowhere.tif", "--debug")
    assert code == 2
    assert err.startswith("Traceback")

"""What the commands print: nothing that a terminal would obey, a log, and progress line by line."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_pristine import Image, restore, write
from napari_pristine.cli.main import main
from napari_pristine.errors import FileError
from napari_pristine.image.outliers import describe_defects
from napari_pristine.io.registry import FORMATS
from napari_pristine.resources import cpu_count
from napari_pristine.samples import simulate_image
from napari_pristine.text import counted

Shell = Callable[..., tuple[int, str, str]]
ODD = [
    "\x1b]0;title\x07\x1b[2Jclear.tif",
    "turn\u202efit.tif",
    "two\nlines.tif",
    "cr\rback.tif",
    "\x9b31mred.tif",
    "zero\u200bwidth\u2028.tif",
    "tag\U000e0041.tif",
    "bad\udc80byte.tif",
]
"""Names with characters that terminals obey or hide."""
FORBIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\U000e0000-\U000e007f\ud800-\udfff]")


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder of images with odd names, and of a file that is no image."""
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in ODD:
        write(folder / name, simulate_image((24, 24))[0])
    (folder / "broken\x1b[31m.tif").write_text("no image")
    return folder


def test_names_of_files_cannot_reach_the_terminal_as_they_are(shell: Shell, odd: Path) -> None:
    recipe = Path("recipe.yaml")
    recipe.write_text("method: inr\npreset: fast\nsettings: {steps: 2}\n")
    files = sorted(map(str, odd.iterdir()))
    for words, lines in (
        (["restore", *files, "-o", "out/", "--method", "inr", "--set", "steps=2"], len(ODD)),
        (
            [
                "restore",
                *files,
                "-o",
                "out/",
                "--method",
                "inr",
                "--set",
                "steps=2",
                "--debug",
                "--resume",
                "--log",
                "log\x1b.txt",
            ],
            len(ODD),
        ),
        (["batch", recipe, odd, "-o", "batch"], len(ODD) + 2),
        (["batch", recipe, odd, "-o", "batch", "--plan"], len(ODD) + 2),
        (["batch", recipe, odd, "-o", "again", "--json"], len(ODD) + 1),
        (["diagnose", files[0]], None),
        (["diagnose", f"{odd}/\x1b[2Jno\nwhere.tif"], 0),
        (["restore", files[1], "-o", f"{odd}/\x1b[2J/x.tif"], 0),
        (["restore", files[1], "-o", "x.tif", "--set", "\x1b[2J=1"], 0),
        (["restore", files[1], "-o", "x.tif", "--\x1b[2J"], 0),
        (["re\x1b[2J"], 0),
    ):
        _, out, err = shell(*words)
        assert not FORBIDDEN.search(out + err), words
        assert lines is None or len(out.splitlines()) == lines, (words, out)
        if "--json" in words:
            found = {json.loads(line)["input"] for line in out.splitlines()}
            assert found == set(files)
    assert not FORBIDDEN.search(Path("log\x1b.txt").read_text())
    assert not FORBIDDEN.search(Path("batch/report.html").read_text())


def test_results_have_the_usual_permissions(shell: Shell, cell: Path) -> None:
    Path("out").mkdir()
    Path("plain").mkdir()
    Path("plain/file").write_text("")
    for name in ("a.tif", "b.ome.zarr"):
        shell("restore", cell, "-o", f"out/{name}", "--method", "inr", "--set", "steps=2")
    modes = {path: path.stat().st_mode for path in Path("out").rglob("*")}
    assert len(modes) > 4
    usual = {True: Path("plain").stat().st_mode, False: Path("plain/file").stat().st_mode}
    assert {path: mode for path, mode in modes.items() if mode != usual[path.is_dir()]} == {}


def test_the_log_holds_all_that_is_said_with_the_time(shell: Shell, cell: Path) -> None:
    Path("run.log").write_text("2026-01-01 10:00:00 pristine before\n")
    code, out, err = shell(
        "restore", cell, "nowhere.tif", "-o", "out/", "--method", "inr", "--set", "steps=2", "--log", "run.log"
    )
    assert code == 1
    first, *lines = Path("run.log").read_text().splitlines()
    assert first.endswith("before")
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines)
    texts = [line[20:] for line in lines]
    assert texts[0].startswith("pristine restore ")
    assert sorted(texts[1:]) == sorted([*out.splitlines(), *err.splitlines()])
    code, _, err = shell("restore", "nowhere.tif", "-o", "x.tif", "--debug", "--log", "run.log")
    assert "Traceback (most recent call last):" in Path("run.log").read_text()
    code, _, err = shell("restore", cell, "-o", "x.tif", "--log", "no/run.log")
    assert (code, err.count("\n")) == (2, 1)
    assert "the log 'no/run.log' cannot be written" in err
    shell("restore", cell, "-o", "x.tif", "--method", "inr", "--set", "steps=2")
    assert "x.tif" not in Path("run.log").read_text().splitlines()[-1]  # logs end with the command


def test_warnings_of_libraries_are_said_as_ours_are(shell: Shell, cell: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: object, **__: object) -> None:
        logging.getLogger("zarr").warning("odd tag in 'a\x1b[2J.tif'\nat offset 8")
        logging.getLogger("tifffile").warning("<tifffile.TiffFile> what our own notes say")
        raise FileError("no")

    monkeypatch.setattr("napari_pristine.io.registry.read", warn)
    _, _, err = shell("diagnose", cell, "--debug")
    assert "pristine: odd tag in 'a\\u001b[2J.tif' at offset 8\n" in err
    assert "<tifffile" not in err
    assert err.endswith("pristine: no\n")


@pytest.mark.parametrize("seconds", [0.0, 1e6])
def test_progress_is_said_line_by_line_where_there_is_no_terminal(
    shell: Shell, cell: Path, movie: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr("napari_pristine.cli.output._LINE_SECONDS", seconds)
    monkeypatch.setattr("napari_pristine.cli.output._FILE_SECONDS", seconds)
    recipe = Path("recipe.yaml")
    recipe.write_text("method: inr\npreset: fast\nsettings: {steps: 2}\n")
    for words, line in (
        (
            ["restore", cell, movie, "-o", "out/", "--method", "inr", "--set", "steps=2", "--log", "log"],
            r"\d of 2 files, .*movie\.ome\.tif",
        ),
        (["batch", recipe, cell, movie, "-o", "batch"], r"\d of 2 files, .*movie\.ome\.tif \d+ %.*"),
        (["batch", recipe, cell, movie, "-o", "more", "--plan"], r"1 of 2 files, reading cell\.tif"),
        (
            ["learn", movie, "-o", "m.safetensors", "--set", "steps=5", "--set", "side=16"],
            r"learning \d+ %, residual .*",
        ),
    ):
        code, _, err = shell(*words)
        assert code == 0
        lines = err.splitlines()
        assert all(re.match(r"\d\d:\d\d:\d\d ", each) for each in lines)
        assert any(re.search(line, each) for each in lines) == (not seconds), err
    assert bool(re.search("of 2 files", Path("log").read_text())) == (not seconds)


def test_restore_computes_with_the_threads_that_are_given(shell: Shell, cell: Path) -> None:
    out = shell("restore", cell, "-o", "x.tif", "--method", "inr", "--set", "steps=2", "--threads", "2")[1]
    assert out.endswith("on cpu (2 threads)\n")
    code, _, err = shell("restore", cell, "-o", "y.tif", "--threads", "0")
    assert (code, err) == (2, "pristine: --threads is 0; give at least 1\n")


@pytest.mark.parametrize("command", ["restore", "batch", "learn"])
def test_help_names_every_format(shell: Shell, command: str) -> None:
    code, out, _ = shell(command, "--help")
    words = set(re.findall(r"[\w-]+", out.replace("OME-Zarr", "ZARR")))
    assert code == 0
    assert [
        each.name for each in FORMATS if not words & {suffix[1:].upper() for suffix in each.suffixes} - {"TIF"}
    ] == []
    assert {"LOF", "OIF", "OIB"} <= words  # the formats of several suffixes of their own


@pytest.mark.parametrize("command", ["restore", "batch", "learn", "compare", "diagnose", "methods", "export"])
def test_help_explains_every_argument(shell: Shell, command: str) -> None:
    out = shell(command, "--help")[1]
    box = out.partition("Arguments")[2].partition("╰")[0]
    rows = re.findall(r"^│ [ *]\s+([A-Z]+)(.*)│$|^│ ([A-Z]+)(.*)│$", box, re.MULTILINE)
    assert rows
    assert all(re.search("[a-z]{3}", "".join(row)) for row in rows)


def test_more_threads_than_cpus_give_a_warning(shell: Shell, cell: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    said = f"on {counted(cpu_count(), 'available CPU')} can make the computation many times slower"
    few = ("--method", "inr", "--set", "steps=2")
    code, out, err = shell("restore", cell, "-o", "x.tif", *few, "--threads", "99")
    assert (code, err.count(f"99 threads {said}"), "(99 threads)" in out) == (0, 1, True)
    assert shell("restore", cell, "-o", "y.tif", *few, "--threads", cpu_count())[2] == ""
    Path("r.yaml").write_text("method: inr\npreset: fast\nsettings: {steps: 2}\n")
    assert f"99 threads {said}" in shell("batch", "r.yaml", cell, "-o", "a", "--threads", "99")[2]
    workers = ("--workers", "3", "--threads", cpu_count())
    assert f"threads in 3 processes {said}" in shell("batch", "r.yaml", cell, "-o", "b", "--plan", *workers)[2]


def test_one_thing_is_counted_as_one() -> None:
    assert [counted(n, "file") for n in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
    assert [counted(n, "axis", "axes") for n in (1, 3)] == ["1 axis", "3 axes"]
    assert describe_defects({"hot pixels": 1}) == "1 hot pixel stands out from its neighbours"
    assert describe_defects({"hot pixels": 2, "rows": 1}) == "2 hot pixels and 1 row stand out from their neighbours"
    assert describe_defects({"columns": 1, "cold pixels": 1}).startswith("1 column and 1 cold pixel stand")


def test_one_file_one_column_and_one_pixel_are_told_as_such(shell: Shell) -> None:
    values = np.random.default_rng(0).poisson(100, (48, 48)).astype(np.float32)
    values[20, 30] = 5000
    values[5, 5] = np.nan
    write("a.tif", Image(values, "YX"))
    notes = " ".join(note.text for note in restore(values, method="inr", settings={"steps": 2}).notes)
    assert "1 hot pixel stands out from its neighbours; it was filled" in notes
    assert "1 pixel without a value (NaN, infinite or masked) was filled" in notes
    Path("r.yaml").write_text("method: inr\npreset: fast\nsettings: {steps: 2}\n")
    assert "1 of 1 file can be restored" in shell("batch", "r.yaml", "a.tif", "-o", "out", "--plan")[1]
    shell("batch", "r.yaml", "a.tif", "-o", "out")
    assert "<h1>r: 1 file</h1>" in Path("out/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["image.tif", "new.tif", "recipe.yaml", "notes.txt", "table.csv", "a.tif.json"])
def test_nothing_but_a_log_is_appended_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if name != "new.tif":
        Path(name).write_bytes(b"2026-01-01 of somebody else\n")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(["restore", "nowhere.tif", "-o", "out/", "--log", name]) == 2
    assert f"'{name}' is no log, and nothing is appended to it" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

"""The report of a batch: what happened to each file, as a table and as a page that nothing can break."""

from __future__ import annotations

import base64
import csv
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_pristine.batch.report import CSV_COLUMNS, MAX_PICTURED, write_report
from napari_pristine.errors import FileError
from napari_pristine.events import ItemDone
from napari_pristine.image.image import Image
from napari_pristine.image.quality import Quality
from napari_pristine.io.registry import write
from napari_pristine.jobs.restore import Restored
from napari_pristine.recipe import Recipe
from napari_pristine.recipe_file import load_recipe

VOID = {"meta", "img", "br"}
SIGMA = 20.0
QUALITY = Quality(SIGMA, 0.98, -0.012, 0.03, 4, ("residual reached 1 noise level: once",))


class Page(HTMLParser):
    """What a browser makes of a page: fails where elements are not closed in turn."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


def facts(image: Image, recipe: Recipe | None = None) -> dict[str, Any]:
    """A sidecar as the batch writes it."""
    known = Restored(image, recipe or Recipe(method="inr", preset="fast"), QUALITY, 12.5, "cpu").provenance()
    sizes = {"shape": list(image.shape), "axes": image.axes, "dtype": str(image.dtype)}
    return {**known, "input": {"name": "a.tif", **sizes}, "checksum": "sha256:12ab"}


def restored(folder: Path, name: str = "cells.tif", recipe: Recipe | None = None) -> ItemDone:
    """A file and its result, really there."""
    rng = np.random.default_rng(0)
    clean = np.add.outer(np.arange(40.0), np.arange(50.0)) * 4 + np.zeros((3, 1, 1))
    source, target = folder / "in" / name, folder / "out" / name
    for path, values in ((source, clean + rng.normal(0, SIGMA, clean.shape)), (target, clean)):
        path.parent.mkdir(exist_ok=True)
        write(path, Image(values.astype(np.float32), "TYX"), overwrite=True)
    return ItemDone(source, target, "restored", "", facts(Image(clean.astype(np.float32), "TYX"), recipe))


def bare(name: str, status: str = "failed", text: str = "", known: Mapping[str, Any] | None = None) -> ItemDone:
    return ItemDone(Path("in") / name, Path("out") / name, status, text, known or {})  # type: ignore[arg-type]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_holds_what_is_known_of_each_file(tmp_path: Path) -> None:
    rows = [restored(tmp_path), bare("junk.tif", text='is no TIFF,\nbut a "letter"; give a picture')]
    done, failed = table(write_report(tmp_path / "out", rows, title="night")[0])
    assert tuple(done) == CSV_COLUMNS
    assert done["input"] == str(rows[0].source)
    assert (done["status"], done["method"], done["preset"]) == ("restored", "inr", "fast")
    assert (done["shape"], done["axes"], done["dtype"]) == ("3 x 40 x 50", "TYX", "float32")
    numbers = [float(done[name]) for name in ("sigma", "residual", "whiteness", "structure", "invalid", "seconds")]
    assert numbers == [SIGMA, 0.98, -0.012, 0.03, 4, 12.5]  # a number below zero is no formula
    assert (done["checksum"], done["device"], done["stopped"]) == ("sha256:12ab", "cpu", QUALITY.stopped[0])
    assert done["version"] == rows[0].facts["versions"]["napari-pristine"]
    assert (failed["status"], failed["message"]) == ("failed", 'is no TIFF, but a "letter"; give a picture')
    assert failed["sigma"] == failed["method"] == ""


@pytest.mark.parametrize("start", [*"=+-@\t\r\n＝"])
def test_no_cell_of_the_table_is_a_formula(tmp_path: Path, start: str) -> None:
    evil = start + "cmd|' /C calc'!A0"
    row = ItemDone(Path(evil), Path(evil), "failed", evil, {"device": evil, "notes": [evil], "checksum": evil})
    with write_report(tmp_path, [row], title="t")[0].open(encoding="utf-8-sig", newline="") as file:
        (_, cells) = list(csv.reader(file))
    assert [cell for cell in cells if cell.startswith(tuple("=+-@\t\r\n＝"))] == []
    assert cells[0] == "'" + evil  # the name itself is kept


def test_excel_is_told_that_the_table_is_unicode(tmp_path: Path) -> None:
    written = write_report(tmp_path, [bare("細胞 ü.tif")], title="t")[0].read_bytes()
    assert written.startswith(b"\xef\xbb\xbf")
    assert "細胞 ü.tif".encode() in written


def test_the_page_shows_failures_first_and_pictures_and_figures_of_the_others(tmp_path: Path) -> None:
    row = restored(tmp_path)
    later = bare("later.tif", "skipped", "not reached: the disk was full")
    shown = write_report(tmp_path / "out", [row, later, bare("junk.tif", text="is no TIFF")], title="night")[1]
    page = Page(shown)
    first = [page.texts.index(text) for text in ("is no TIFF", "cells.tif", "later.tif")]
    assert first == sorted(first)
    assert "skipped: not reached: the disk was full" in page.texts
    after = {
        word: i for i, text in enumerate(page.texts) for word in ("restored", "failed") if text.startswith(f" {word} ·")
    }
    assert [page.texts[after[word] - 1] for word in ("restored", "failed")] == ["1", "1"]
    for text in ("20", "0.98", "−0.01", "0.03", "12 s", "cpu", "T 3 × Y 40 × X 50, float32", "method inr (fast)"):
        assert text in page.text
    assert [image["alt"] for image in page.all("img")] == ["before", "after", "removed"]
    assert (shown.parent / str(page.all("a")[0]["href"])).samefile(row.target)


def test_the_page_holds_the_recipe_unless_there_are_several(tmp_path: Path) -> None:
    recipes = [Recipe(method="inr", settings={"steps": n}, mask="/data/dürre \"<b>\" & 'c'.tif") for n in (7, 8)]
    rows = [restored(tmp_path, f"{number}.tif", recipe) for number, recipe in enumerate(recipes)]
    _, page = write_report(tmp_path / "out", rows[:1], title="t")
    assert load_recipe(page) == recipes[0]
    _, page = write_report(tmp_path / "out", rows, title="t")
    with pytest.raises(FileError, match="shows results of several; give the file NAME"):
        load_recipe(page)


def test_the_page_asks_for_no_other_and_holds_no_script(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "out", [restored(tmp_path)], title="t")[1])
    assert {"script", "link", "iframe"} & {tag for tag, _ in page.tags} == set()
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in page.all("img"))
    assert "http:" not in page.text + str(page.tags)
    assert "https:" not in page.text + str(page.tags)


_NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=80).filter(
    lambda name: name not in (".", "..")
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_KEYS = ("recipe", "quality", "seconds", "device", "notes", "versions", "shape", "axes", "input", "checksum", "dtype")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    name=_NAMES, text=st.text(max_size=50), title=st.text(max_size=20), status=st.sampled_from(["failed", "skipped"])
)
def test_no_name_or_message_breaks_the_page(tmp_path: Path, name: str, text: str, title: str, status: str) -> None:
    calm = Page(write_report(tmp_path, [bare("a.tif", status, "b")], title="t")[1])
    page = Page(write_report(tmp_path, [bare(name, status, text)], title=title)[1])
    assert page.tags == calm.tags
    if name.isprintable():
        assert name in page.texts


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(known=st.dictionaries(st.sampled_from(_KEYS), _JSON, max_size=6))
def test_no_sidecar_breaks_the_report(tmp_path: Path, known: dict[str, Any]) -> None:
    csv_path, shown = write_report(tmp_path, [bare("a.tif", "skipped", "done before", known)], title="t")
    assert "a.tif" in Page(shown).texts
    assert len(table(csv_path)) == 1


@pytest.mark.parametrize(
    "name", ["a <b> & \"c\" 'd'.tif", "細胞 ü #1 100%?.tif", "javascript:alert(1).tif", "x" * 240 + ".tif"]
)
def test_links_lead_to_results_whatever_their_names(tmp_path: Path, name: str) -> None:
    row = restored(tmp_path, name)
    (link,) = Page(write_report(tmp_path / "out", [row], title="t")[1]).all("a")
    href = str(link["href"])
    assert re.fullmatch(r"[\w.~/%-]+", href, re.ASCII)
    assert Path(os.fsdecode(unquote_to_bytes(href))) == Path(name)


@pytest.mark.skipif(os.name != "posix", reason="elsewhere all names of files are Unicode")
def test_a_name_that_is_no_unicode_is_shown_with_escapes(tmp_path: Path) -> None:
    csv_path, shown = write_report(tmp_path, [bare(os.fsdecode(b"caf\xe9.tif"))], title="t")
    assert r"caf\udce9.tif" in Page(shown).texts
    assert table(csv_path)[0]["input"].endswith(r"caf\udce9.tif")


def test_a_picture_that_cannot_be_drawn_costs_the_picture_alone(tmp_path: Path) -> None:
    row = restored(tmp_path)
    row.target.write_bytes(row.target.read_bytes()[:300])
    page = Page(write_report(tmp_path / "out", [row], title="t")[1])
    assert page.all("img") == []
    assert "0.98" in page.texts


def test_a_failed_file_of_any_claimed_size_is_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = replace(restored(tmp_path), status="failed", text="too large", facts={})
    monkeypatch.setattr("napari_pristine.batch.report._MAX_PLANE", 40 * 50 - 1)
    assert Page(write_report(tmp_path / "out", [row], title="t")[1]).all("img") == []
    monkeypatch.setattr("napari_pristine.batch.report._MAX_PLANE", 40 * 50)
    assert len(Page(write_report(tmp_path / "out", [row], title="t")[1]).all("img")) == 1


def test_the_selected_part_is_what_is_drawn(tmp_path: Path) -> None:
    row = restored(tmp_path, recipe=Recipe(method="inr", preset="fast", select={"T": "1:3"}))
    write(row.target, Image(np.ones((2, 40, 50), np.float32), "TYX"), overwrite=True)
    page = Page(write_report(tmp_path / "out", [row], title="t")[1])
    assert len(page.all("img")) == 3


def test_a_large_batch_shows_a_sample_and_says_so(tmp_path: Path) -> None:
    row = restored(tmp_path)
    rows = [*[row] * MAX_PICTURED, replace(row, status="failed", text="no memory", facts={})]
    shown = write_report(tmp_path / "out", rows, title="t")[1]
    page = Page(shown)
    assert f"for 101 of {len(rows)} files" in page.text
    assert len(page.all("img")) == 3 * 100 + 1  # of the file that failed, only what it was
    assert len(page.all("tr")) == MAX_PICTURED + 1
    assert shown.stat().st_size < 8e6


def test_what_cannot_be_written_leaves_nothing_behind_and_the_old_report_in_place(tmp_path: Path) -> None:
    write_report(tmp_path, [bare("a.tif")], title="old")
    with pytest.raises(AttributeError):
        write_report(tmp_path, [bare("a.tif"), None], title="new")  # type: ignore[list-item]
    assert sorted(os.listdir(tmp_path)) == ["report.csv", "report.html"]
    assert len(table(tmp_path / "report.csv")) == 1
    with pytest.raises(FileError, match="no folder"):
        write_report(tmp_path / "gone", [], title="t")


def test_a_batch_of_nothing_has_a_report(tmp_path: Path) -> None:
    csv_path, shown = write_report(tmp_path, [], title="t")
    assert table(csv_path) == []
    assert "restored" in Page(shown).text


def test_pictures_are_png(tmp_path: Path) -> None:
    page = Page(write_report(tmp_path / "out", [restored(tmp_path)], title="t")[1])
    png = base64.b64decode(str(page.all("img")[0]["src"]).partition(",")[2])
    assert PIL.Image.open(BytesIO(png)).size == (50, 40)

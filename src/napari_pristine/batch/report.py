"""Report of a batch: `report.csv` for programs, `report.html` for people.

To show another number for each result on the page, add a line to `COLUMNS`; to show another picture (a diagram,
say), add it to what `thumbnails.draw_pictures` returns and to `PICTURES`.
"""

from __future__ import annotations

import base64
import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, cast, get_args
from urllib.parse import quote

import yaml
from jinja2 import Environment, FileSystemLoader

from napari_pristine.batch.inputs import REPORTS
from napari_pristine.batch.results import ResultFacts, count_outcomes, result_facts, source_of, was_done
from napari_pristine.batch.store import SIDECAR, folder_lock, read_sidecar, target_of
from napari_pristine.batch.thumbnails import RANGE, draw_pictures, thumbnail
from napari_pristine.errors import FileError
from napari_pristine.events import ItemDone, Status
from napari_pristine.image.image import Image
from napari_pristine.io import atomic
from napari_pristine.io.fingerprint import path_key
from napari_pristine.io.registry import read
from napari_pristine.text import duration, one_line, printable, short_name, to_json

MAX_PICTURED = 200
"""Maximum number of files that are shown with pictures, about 50 kB each."""
_SAMPLE = 100
"""Number of files without failure that are shown with pictures if there are more than `MAX_PICTURED` files."""
_MAX_PLANE = 2**28
"""Maximum number of values in a plane of a failed file for it to be drawn: a damaged file may claim any size."""
_LOCK_SECONDS = 600.0
"""Seconds to wait for another batch to write its report."""
_RESTORED_BEFORE = "restored before"
"""Message of results that were made by earlier batches."""


@dataclass(frozen=True)
class Picture:
    """A picture that the page shows of each result, in the order of `draw_pictures`."""

    title: str
    unit: str
    meaning: str


@dataclass(frozen=True)
class Column:
    """A number that the page shows for each result.

    Attributes:
        title, unit: Head of the column.
        meaning: Explanation in the legend.
        value: Returns the number; `None` if it is not known.
        text: Formats the number.
    """

    title: str
    unit: str
    meaning: str
    value: Callable[[ResultFacts], float | None]
    text: Callable[[float], str]


PICTURES = (
    Picture("Before", "", "Middle plane of the input."),
    Picture("After", "", "Middle plane of the result, with the same contrast."),
    Picture(
        "Removed", f"±{RANGE} noise levels",
        f"Before minus after: white is {RANGE} noise levels removed, black {RANGE} added, mid grey no change. "
        "It should look like noise; shapes of the sample in it are lost detail. Planes of more than 160 pixels are "
        "shown as means, with fainter noise.",
    ),
)  # fmt: skip
COLUMNS = (
    Column(
        "Noise", "grey values", "Root mean square of the noise of the input, in grey values (the units of the image).",
        lambda facts: facts.sigma, "{:.4g}".format,
    ),
    Column(
        "Residual", "noise levels",
        "Root mean square of what was removed, in noise levels: about 1 is expected; well below 1 noise was left, "
        "above 1 detail may have been removed.", lambda facts: facts.residual, "{:.2f}".format,
    ),
    Column(
        "Whiteness", "−1 … 1", "Correlation of what was removed with its neighbours one pixel away: 0 for white noise.",
        lambda facts: facts.whiteness, "{:z.2f}".format,
    ),
    Column(
        "Structure", "−1 … 1",
        "Correlation of what was removed with the result: 0 when no structure was lost; up to 0.4 is usual, since "
        "faint structure is lost in part.", lambda facts: facts.structure, "{:z.2f}".format,
    ),
    Column(
        "Filled", "values", "Number of values that were missing (NaN or infinite) and were filled in.",
        lambda facts: facts.invalid, "{:,.0f}".format,
    ),
    Column("Time", "", "Computing time of this file.", lambda facts: facts.seconds, duration),
)  # fmt: skip

_CSV_FIGURES = [field.name for field in fields(ResultFacts) if field.name != "recipe"]
CSV_COLUMNS = ("input", "output", "status", "message", *_CSV_FIGURES)
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""Spreadsheets take texts that begin with these for formulas, which may run programs."""


def write_report(
    folder: Path, items: Sequence[ItemDone], *, title: str, since: datetime | None = None
) -> tuple[Path, Path]:
    """Write `report.csv` and `report.html`; each appears when it is complete, in place of an older one.

    Args:
        folder: Folder of the results.
        items: Outcome of each file.
        title: Title of the batch.
        since: Start of the batch. If given, all other results in the folder are shown too, and other files that a
            batch running at the same time has reported.

    Raises:
        FileError: They cannot be written there.
    """
    table, page = (folder / name for name in REPORTS)
    if not folder.is_dir():
        raise FileError(f"cannot write '{table}': there is no folder '{folder}'; make it first")
    with folder_lock(folder, "report", timeout=_LOCK_SECONDS) as hidden:
        items = _with_others(folder, items, since) if since else items
        # file names that are not valid Unicode, which Linux allows, are written with escapes
        for path, encoding in (
            (table, "utf-8-sig"),
            (page, "utf-8"),
        ):  # without the mark, Excel takes UTF-8 for Latin-1
            part = hidden / f"{path.name}.part"  # always the same name, so that an interruption leaves no files behind
            try:
                with part.open("w", encoding=encoding, errors="backslashreplace", newline="") as file:
                    if path == table:
                        csv.writer(file).writerows([CSV_COLUMNS, *map(_csv_row, items)])
                    else:
                        file.writelines(_render(folder, items, title))
                atomic.replace(part, path)
            except OSError as error:
                raise FileError(f"'{path}' cannot be written: {error.strerror or error}; is the disk full?") from error
            finally:
                part.unlink(missing_ok=True)
    return table, page


def _with_others(folder: Path, items: Sequence[ItemDone], since: datetime) -> list[ItemDone]:
    """The files of this batch, those that other batches have reported since its start, and all earlier results."""
    reported, meanwhile = _read_table(folder / REPORTS[0], since)
    sources = {path_key(item.target): item.source for item in reported if item.facts}
    results = {path_key(target): target for target in _results(folder)}
    ours = {one_line(item.source) for item in items}
    others = [
        replace(item, facts={})
        for item in (reported if meanwhile else ())
        if one_line(item.source) not in ours and item.text != _RESTORED_BEFORE
    ]
    shown: list[ItemDone] = []
    for item in [*items, *others]:
        key = path_key(item.target)
        facts = read_sidecar(results[key]) if key in results else {}
        # a file that was not restored is shown with its result from before, unless that is the result of another file
        if not item.is_error or one_line(sources.get(key, item.source)) == one_line(item.source):
            results.pop(key, None)
            item = replace(item, facts=item.facts or facts)
        shown.append(item)
    for key, target in results.items():
        facts = read_sidecar(target)
        source = sources.get(key, Path(source_of(facts) or short_name(target)))
        shown.append(ItemDone(source, target, "skipped", _RESTORED_BEFORE, facts))
    return shown


def _read_table(table: Path, since: datetime) -> tuple[list[ItemDone], bool]:
    """Read the files of an existing table (of their facts only the checksum), and if it was written since then."""
    try:
        meanwhile = table.stat().st_mtime >= since.timestamp()
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = [{name: _unescape(value) for name, value in row.items() if name} for row in csv.DictReader(file)]
    except (OSError, ValueError, csv.Error):
        return [], False
    items = []
    for row in rows:
        source, target, status, text = (row.get(name, "") for name in CSV_COLUMNS[:4])
        status = "skipped" if status == "left" else status  # of version 0.1
        if status in get_args(Status):
            facts = {"checksum": row["checksum"]} if row.get("checksum") else {}
            items.append(ItemDone(Path(source), Path(target), cast("Status", status), text, facts))
    return items, meanwhile


def _results(folder: Path) -> Iterator[Path]:
    """All results of batches in a folder."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith(".zarr"))
        for name in sorted(files):
            target = target_of(Path(here) / name)
            if name.endswith(SIDECAR) and target.exists() and "identity" in read_sidecar(target):
                yield target


def _csv_row(item: ItemDone) -> list[Any]:
    facts = result_facts(item)
    target = item.target if item.facts else ""  # there is no result
    values = [item.source, target, item.status, one_line(item.text), *(getattr(facts, name) for name in _CSV_FIGURES)]
    return [_escape(value) for value in values]


def _escape(value: Any) -> Any:
    """Prepare a value for the table: numbers are kept, texts never look like a formula, unknown values are empty."""
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, tuple):
        value = (" x " if value and isinstance(value[0], int) else "; ").join(one_line(item) for item in value)
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _unescape(value: object) -> str:
    text = value if isinstance(value, str) else ""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def _printable(value: object) -> object:
    """Applied to each value on the page, before the template escapes it: no page may hold control characters."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


_TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, finalize=_printable)
_TEMPLATES.filters["short_name"] = short_name


def _render(folder: Path, items: Sequence[ItemDone], title: str) -> Iterator[str]:
    """Generate the page in pieces, so that pictures are drawn one by one as they are written."""
    pictured = _choose_pictured(items)
    failed = [number for number, item in enumerate(items) if item.status == "failed"]
    listed = [number for number, item in enumerate(items) if item.status != "failed" or item.facts]
    facts = [result_facts(item) for item in items]
    methods = dict.fromkeys(f"{each.method} ({each.preset})" if each.preset else each.method for each in facts)
    versions = dict.fromkeys(each.version for each in facts if each.method and each.version)
    seconds = sum(each.seconds or 0.0 for item, each in zip(items, facts, strict=True) if item.status == "restored")
    recipes = {repr(each.recipe): each.recipe for each in facts if each.recipe}
    return _TEMPLATES.get_template("report.html").generate(
        title=title,
        counts={word: n for word, n in count_outcomes(items).items() if n or word != "done before"},
        summary=[
            f"computing time {duration(seconds)}",
            *([f"method {', '.join(filter(None, methods))}"] if any(methods) else []),
            *([f"napari-pristine {', '.join(versions)}"] if versions else []),
        ],
        recipe=_recipe_lines(next(iter(recipes.values()), {})),
        recipes=len(recipes),
        failed=[_FailedFile(items[n], n in pictured and not items[n].facts) for n in failed],
        listed=[_ListedFile(items[n], facts[n], folder, n in pictured) for n in listed],
        total=len(items),
        pictured=len(pictured),
        pictures=PICTURES,
        columns=COLUMNS,
    )


def _choose_pictured(items: Sequence[ItemDone]) -> set[int]:
    """Choose the files that are shown with pictures: all, or the failures and evenly spaced others."""
    if len(items) <= MAX_PICTURED:
        return set(range(len(items)))
    failed = [number for number, item in enumerate(items) if item.status == "failed"]
    others = [number for number, item in enumerate(items) if item.status != "failed" and item.facts]
    count = min(_SAMPLE, len(others))
    return {*failed[: MAX_PICTURED - _SAMPLE], *(others[k * len(others) // count] for k in range(count))}


def _recipe_lines(recipe: Mapping[str, Any]) -> list[str]:
    """The recipe as lines of YAML, from which `load_recipe` reads it; empty if there is none."""
    plain = json.loads(to_json(recipe))  # no part is there twice: YAML would refer to the first
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True).splitlines() if recipe else []


@dataclass(frozen=True)
class _FailedFile:
    """A failed file on the page."""

    item: ItemDone
    pictured: bool

    @property
    def message(self) -> str:
        return one_line(self.item.text)

    def pictures(self) -> list[str]:
        """The input, if it can be read."""
        if not self.pictured:
            return []
        try:
            image = _selected_input(self.item)
            if image.size("Y") * image.size("X") * image.size("S") > _MAX_PLANE:
                return []
            return [_data_url(thumbnail(image))]
        except Exception:  # noqa: BLE001 - a thousand results must not lose their report to one picture
            return []


@dataclass(frozen=True)
class _ListedFile:
    """A file in the table of the page."""

    item: ItemDone
    facts: ResultFacts
    folder: Path
    pictured: bool

    @property
    def message(self) -> str:
        if self.item.status == "restored":
            return ""
        if was_done(self.item):
            return one_line(self.item.text)
        if self.item.status == "skipped":
            return f"skipped: {one_line(self.item.text)}"
        if self.item.status == "exists":
            return f"not replaced: {one_line(self.item.text)}"
        return "failed, see above; this is the result from before"

    @property
    def link(self) -> str:
        """Address of the result, relative to the page; empty if there is no result."""
        if not os.path.exists(self.item.target):  # no error, whatever the name
            return ""
        try:
            return quote(os.fsencode(Path(os.path.relpath(self.item.target, self.folder)).as_posix()))
        except ValueError:  # on another drive
            return self.item.target.absolute().as_uri()

    @property
    def kind(self) -> str:
        """Shape and type of the image, such as `T 5 × Y 64 × X 64, uint16`."""
        axes, shape = self.facts.axes, self.facts.shape
        sizes = [f"{axis} {n}" for axis, n in zip(axes, shape, strict=True)] if len(axes) == len(shape) else shape
        return ", ".join(part for part in (" × ".join(map(str, sizes)), self.facts.dtype) if part)

    @property
    def numbers(self) -> list[str]:
        """Text of each column."""
        values = [(column, column.value(self.facts)) for column in COLUMNS]
        return ["–" if value is None else column.text(value).replace("-", "−") for column, value in values]

    @property
    def notes(self) -> list[str]:
        return [one_line(note) for note in [self.facts.stopped, *self.facts.notes] if note]

    def pictures(self) -> list[str]:
        """One address for each of `PICTURES`; empty where there is none."""
        drawn: Sequence[bytes] = ()
        if self.pictured and self.link:
            try:
                sigma = self.facts.sigma or 0.0
                drawn = draw_pictures(_selected_input(self.item), read(self.item.target, lazy=True), sigma)
            except Exception:  # noqa: BLE001 - a thousand results must not lose their report to one picture
                drawn = ()
        return [_data_url(png) if png else "" for png in drawn] or [""] * len(PICTURES)


def _selected_input(item: ItemDone) -> Image:
    """The part of the input that was restored."""
    recipe = result_facts(item).recipe
    select = recipe.get("select")
    image = read(item.source, axes=str(recipe.get("axes", "")), series=recipe.get("series"), lazy=True)
    return image.select(select if isinstance(select, Mapping) else {})


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"

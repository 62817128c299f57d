"""What happened to each file of a batch: a table for programs, a page for people."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO, cast, get_args

from napari_pristine.batch.file_result import Figures, Status, figures, source_of
from napari_pristine.batch.inputs import REPORTS
from napari_pristine.batch.output_lock import alone
from napari_pristine.batch.report_page import page
from napari_pristine.batch.store import SIDECAR, read_sidecar
from napari_pristine.errors import FileError
from napari_pristine.events import ItemDone
from napari_pristine.text import one_line

_PATIENCE = 600.0
"""Seconds to wait for another batch to write its report."""

_FIGURES = [field.name for field in fields(Figures) if field.name != "recipe"]
COLUMNS = ("input", "output", "status", "message", *_FIGURES)
"""Of the table."""
_BEFORE = "restored before"
"""What is said of results that no batch at work has made."""
_KEPT = (*COLUMNS[:4], "checksum")
"""Those that a later report takes over."""
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""What spreadsheets take for the beginning of a formula, which may run programs."""


def write_report(
    folder: Path, rows: Sequence[ItemDone], *, title: str, since: datetime | None = None
) -> tuple[Path, Path]:
    """Write `report.csv` and `report.html`; each appears when it is complete, in place of what was there.

    Args:
        folder: Where the results are.
        rows: What happened to each file.
        title: What the batch is called.
        since: When it began. Then all other results in the folder are shown too, and what another batch, which ran
            at the same time, has reported of other files.

    Raises:
        FileError: They cannot be written there.
    """
    table, shown = (folder / name for name in REPORTS)
    if not folder.is_dir():
        raise FileError(f"cannot write '{table}': there is no folder '{folder}'; make it first")
    with alone(folder, "report", timeout=_PATIENCE) as hidden:
        rows = _with_others(folder, rows, _reported(table, since)) if since else rows
        with _appearing(hidden, table, "utf-8-sig") as file:  # without a mark, Excel takes the rest for Latin-1
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(_cells(row) for row in rows)
        with _appearing(hidden, shown, "utf-8") as file:
            file.writelines(page(folder, rows, title=title))
    return table, shown


@contextmanager
def _appearing(hidden: Path, path: Path, encoding: str) -> Iterator[TextIO]:
    """Write a file under one and the same hidden name, so that nothing stays of one that was interrupted."""
    part = hidden / f"{path.name}.part"
    try:
        part.unlink(missing_ok=True)
        with _open(part, encoding) as file:
            yield file
        os.replace(part, path)
    except OSError as error:
        raise FileError(f"'{path}' cannot be written: {error.strerror or error}; is the disk full?") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Reported:
    """What a report said.

    Attributes:
        rows: Of all files; of what is known of results, the checksum of the input alone.
        meanwhile: Whether it was written while we were at work.
    """

    rows: Sequence[ItemDone] = ()
    meanwhile: bool = False


def _reported(table: Path, since: datetime) -> _Reported:
    """What the table says that is there."""
    try:
        written = table.stat().st_mtime
        with table.open(encoding="utf-8-sig", newline="") as file:
            lines = [[_uncelled(cells.get(name)) for name in _KEPT] for cells in csv.DictReader(file)]
    except (OSError, ValueError, csv.Error):
        return _Reported()
    rows = [
        ItemDone(Path(source), Path(target), cast("Status", status), text, {"checksum": known} if known else {})
        for source, target, status, text, known in lines
        if status in get_args(Status)
    ]
    return _Reported(rows, written >= since.timestamp())


def _with_others(folder: Path, rows: Sequence[ItemDone], reported: _Reported) -> list[ItemDone]:
    """Our rows, those of others who were at work meanwhile, and those of all that was restored before."""
    sources = {_key(row.target): row.source for row in reported.rows if row.facts}
    found = {_key(target): target for target in _results(folder)}
    shown: list[ItemDone] = []
    mine = {one_line(row.source) for row in rows}
    meanwhile = reported.rows if reported.meanwhile else ()
    others = [replace(row, facts={}) for row in meanwhile if one_line(row.source) not in mine and row.text != _BEFORE]
    for row in [*rows, *others]:
        key = _key(row.target)
        facts = read_sidecar(found[key]) if key in found else {}
        # of a file that failed, what there was before; unless that is of another file
        if row.status != "failed" or one_line(sources.get(key, row.source)) == one_line(row.source):
            found.pop(key, None)
            row = replace(row, facts=row.facts or facts)
        shown.append(row)
    for key, target in found.items():
        facts = read_sidecar(target)
        source = sources.get(key, Path(source_of(facts) or target.name))
        shown.append(ItemDone(source, target, "skipped", _BEFORE, facts))
    return shown


def _results(folder: Path) -> Iterator[Path]:
    """All results of batches in a folder, by name."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not name.endswith(".zarr"))
        for name in sorted(files):
            target = Path(here) / name.removesuffix(SIDECAR)
            if name.endswith(SIDECAR) and target.exists() and "identity" in read_sidecar(target):
                yield target


def _key(path: Path) -> str:
    return os.path.normcase(os.path.realpath(path))


def _uncelled(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def _open(part: Path, encoding: str) -> TextIO:
    """A file to write; of names that are no Unicode, which Linux allows, it gets the escapes."""
    return part.open("x", encoding=encoding, errors="backslashreplace", newline="")


def _cells(row: ItemDone) -> list[Any]:
    found = figures(row)
    target = row.target if row.facts else ""  # there is none
    values = [row.source, target, row.status, one_line(row.text), *(getattr(found, name) for name in _FIGURES)]
    return [_cell(value) for value in values]


def _cell(value: Any) -> Any:
    """Numbers as they are; texts so that no spreadsheet takes them for a formula; nothing for what is not known."""
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, tuple):
        value = (" x " if value and isinstance(value[0], int) else "; ").join(one_line(item) for item in value)
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text

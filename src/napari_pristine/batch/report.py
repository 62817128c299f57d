"""What happened to each file of a batch: a table for programs, a page for people."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO, cast, get_args

from napari_pristine.batch.claim import alone
from napari_pristine.batch.inputs import REPORTS
from napari_pristine.batch.page import page
from napari_pristine.batch.rows import Figures, Row, Status, figures
from napari_pristine.batch.work import read_sidecar
from napari_pristine.errors import FileError
from napari_pristine.report import one_line

_PATIENCE = 600.0
"""Seconds to wait for another batch to write its report."""

_FIGURES = [field.name for field in fields(Figures) if field.name != "recipe"]
COLUMNS = ("input", "output", "status", "message", *_FIGURES)
"""Of the table."""
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""What spreadsheets take for the beginning of a formula, which may run programs."""


def write_report(folder: Path, rows: Sequence[Row], *, title: str, since: datetime | None = None) -> tuple[Path, Path]:
    """Write `report.csv` and `report.html`; each appears when it is complete, in place of what was there.

    Args:
        folder: Where the results are.
        rows: What happened to each file.
        title: What the batch is called.
        since: When it began. What another batch, which ran at the same time, has reported of other files is kept.

    Raises:
        FileError: They cannot be written there.
    """
    table, shown = (folder / name for name in REPORTS)
    if not folder.is_dir():
        raise FileError(f"cannot write '{table}': there is no folder '{folder}'; make it first")
    with alone(folder, "report", timeout=_PATIENCE) as hidden:
        rows = [*rows, *(_of_others(table, rows, since) if since else ())]
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


def _of_others(table: Path, rows: Sequence[Row], since: datetime) -> Iterator[Row]:
    """What a table says of files that are not ours, if it was written while we were at work."""
    mine = {one_line(row.source) for row in rows}
    try:
        if table.stat().st_mtime < since.timestamp():
            return
        with table.open(encoding="utf-8-sig", newline="") as file:
            theirs = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return
    for cells in theirs:
        source, target, status, text = (_uncelled(cells.get(name)) for name in COLUMNS[:4])
        if source not in mine and status in get_args(Status):
            found = read_sidecar(Path(target)) if status != "failed" else {}
            yield Row(Path(source), Path(target), cast("Status", status), text, found)


def _uncelled(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def _open(part: Path, encoding: str) -> TextIO:
    """A file to write; of names that are no Unicode, which Linux allows, it gets the escapes."""
    return part.open("x", encoding=encoding, errors="backslashreplace", newline="")


def _cells(row: Row) -> list[Any]:
    found = figures(row)
    values = [row.source, row.target, row.status, one_line(row.text), *(getattr(found, name) for name in _FIGURES)]
    return [_cell(value) for value in values]


def _cell(value: Any) -> Any:
    """Numbers as they are; texts so that no spreadsheet takes them for a formula; nothing for what is not known."""
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, tuple):
        value = (" x " if value and isinstance(value[0], int) else "; ").join(one_line(item) for item in value)
    text = str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text

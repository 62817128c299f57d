"""Finished rows in a JSON file that is complete after every row, so that a run can be stopped and taken up again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from benchmarks.rows import Job, Row
from napari_pristine.errors import FileError
from napari_pristine.io.atomic import appearing


class Records:
    """The rows so far, and the file that holds them (none: nothing is kept).

    Raises:
        FileError: The file exists and is not to be taken up, or cannot be read.
    """

    def __init__(self, path: Path | None, *, resume: bool) -> None:
        self.path = path
        self.rows: dict[str, Row] = {}
        if path is None or not path.exists():
            return
        if not resume:
            raise FileError(f"'{path}' exists already; add --resume to go on from it, or choose another name")
        self.rows = {_key(row.job): row for row in read_rows(path)}

    def find(self, job: Job) -> Row | None:
        """The row of this very job, if it was measured before."""
        return self.rows.get(_key(job))

    def add(self, row: Row) -> None:
        """Keep a row, in the file at once."""
        self.rows[_key(row.job)] = row
        if self.path:
            with appearing(self.path, overwrite=True) as part:
                part.write_text(json.dumps({"rows": [asdict(r) for r in self.rows.values()]}, indent=1), "utf-8")


def _key(job: Job) -> str:
    return json.dumps(asdict(job), sort_keys=True)


def read_rows(path: Path) -> list[Row]:
    """The rows in a file.

    Raises:
        FileError: It holds something else.
    """
    try:
        return [Row.from_json(row) for row in json.loads(path.read_text("utf-8"))["rows"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileError(f"'{path}' does not hold rows of this benchmark ({error}); choose another name") from error

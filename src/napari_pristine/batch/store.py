"""Work: the hidden folder in which the result of one file grows, so that nothing half-written bears a final name."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from napari_pristine.events import BlockDone, Note
from napari_pristine.image.axes import BlockIndex
from napari_pristine.io.atomic import ZARR_METADATA, flush_directory, flush_to_disk, remove

HIDDEN = ".pristine"
"""Folder, beside the results, that holds all that is not finished; gone when all is."""
SIDECAR = ".json"
"""What the name of a result gets at its end, for the file beside it that says how it came about."""


@dataclass(frozen=True)
class BlockRecord:
    """A block that is written, and what it took."""

    done: BlockDone
    seconds: float
    device: str


@dataclass(frozen=True)
class WorkDir:
    """The place where one result grows.

    Attributes:
        target: The file or folder that it becomes.
    """

    target: Path

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return self.target.parent / HIDDEN / self.target.name

    @property
    def array(self) -> Path:
        """The values, as OME-Zarr."""
        return self.folder / "values.zarr"

    @property
    def part(self) -> Path:
        """The result in its final format, until it is renamed; with the suffix of the target."""
        return self.folder / f"part{''.join(self.target.suffixes[-2:])}"

    @property
    def sidecar(self) -> Path:
        """Where the final sidecar stands, beside the result."""
        return sidecar_of(self.target)

    @property
    def shelf(self) -> Path:
        """Folder of the networks that have learned for it."""
        return self.folder / "learned"

    def told(self, text: str) -> str:
        """A message about what lies here, for those who know the result alone."""
        for hidden in (self.part, self.array / "0", self.array, self.folder):
            text = text.replace(str(hidden), str(self.target))
        return text

    def state(self) -> dict[str, Any]:
        """What the work was begun with; empty if there is none, or what there is cannot be read."""
        return _read_json(self.folder / "state.json")

    def begin(self, state: dict[str, Any]) -> None:
        """Start anew, with an empty folder."""
        self.clear()
        self.shelf.mkdir(parents=True)
        _write_json(self.folder / "state.json", state, lasting=False)

    def flush(self) -> None:
        """Have what all blocks depend on, and the names of it, on disk before the first of them."""
        flush_to_disk([self.folder / "state.json"])
        flush_to_disk(folder / name for folder in (self.array, self.array / "0") for name in ZARR_METADATA)

    def clear(self) -> None:
        """Throw away what there is of it; what cannot be removed now is worth nothing, at least."""
        if self.folder.exists():
            (self.folder / "state.json").unlink(missing_ok=True)
            remove(self.folder)

    def give_turn(self, turn: str) -> None:
        """Let those write here who were told this word, and no others any more."""
        _write_json(self.folder / "turn.json", {"turn": turn}, lasting=False)

    def has_turn(self, turn: str) -> bool:
        """Whether those who were told this word may still write here."""
        return bool(_read_json(self.folder / "turn.json").get("turn") == turn)

    def end_turn(self) -> None:
        """Let nobody write here any more."""
        (self.folder / "turn.json").unlink(missing_ok=True)

    def record(self, unit: int, writer: str, entry: BlockRecord) -> None:
        """Remember that a block of a unit is written; each writer has a file of its own."""
        line = json.dumps({**asdict(entry.done), "seconds": entry.seconds, "device": entry.device}, default=float)
        folder = self.folder / "units" / str(unit)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{writer}.jsonl").open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def entries(self, unit: int, places: Sequence[BlockIndex]) -> dict[BlockIndex, BlockRecord]:
        """Those of the blocks of a unit that are written, in their order."""
        found: dict[BlockIndex, BlockRecord] = {}
        for file in sorted((self.folder / "units" / str(unit)).glob("*.jsonl")):
            found |= _read_records(file)
        return {place: found[place] for place in places if place in found}

    @property
    def has_blocks(self) -> bool:
        """Whether going on with it would save time."""
        return self.ripe or any((self.folder / "units").glob("*/*.jsonl"))

    def prepare_sidecar(self, facts: dict[str, Any]) -> None:
        """Lay the sidecar ready: from now on only names have to be changed."""
        _write_json(self.folder / "sidecar.json", facts)

    def appear(self, made: Path) -> None:
        """Give a finished result its name, then its sidecar; what was there before goes last.

        Called again after it was interrupted, it does what remains to be done.
        """
        old = self.folder / "old"
        if made.exists():
            if self.target.exists():
                remove(old)
                os.replace(self.target, old)
            os.replace(made, self.target)
        if (self.folder / "sidecar.json").exists():
            os.replace(self.folder / "sidecar.json", self.sidecar)
        flush_directory(self.target.parent)
        with suppress(OSError):  # the result is complete; what is left behind goes when somebody looks at it again
            self.clear()

    @property
    def ripe(self) -> bool:
        """Whether all is written and only the renaming was interrupted."""
        return (self.folder / "sidecar.json").exists()


def sidecar_of(target: Path) -> Path:
    """The file beside a result that says how it came about."""
    return target.with_name(f"{target.name}{SIDECAR}")


def read_sidecar(target: Path) -> dict[str, Any]:
    """What the sidecar of a result says; empty if there is none."""
    return _read_json(sidecar_of(target))


def _read_records(file: Path) -> dict[BlockIndex, BlockRecord]:
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            entry = _entry(json.loads(line))
        except (ValueError, TypeError, KeyError):
            continue  # the process was killed, or the disk was full, while it wrote this line
        found[entry.done.index] = entry
    return found


def _entry(values: dict[str, Any]) -> BlockRecord:
    done = BlockDone(
        index=tuple(values["index"] if "index" in values else values["place"]),
        quality=tuple((a, b, c, d) for a, b, c, d in values.get("quality", values.get("judged", ()))),
        hot=values["hot"],
        invalid=values["invalid"],
        stops=tuple((text, count) for text, count in values["stops"]),
        notes=tuple(Note(**note) for note in values["notes"]),
        unchanged=values.get("unchanged", values.get("left", "")),
    )
    return BlockRecord(done, float(values["seconds"]), str(values["device"]))


def _write_json(path: Path, value: Any, *, lasting: bool = True) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, ensure_ascii=False, indent=1, default=str), encoding="utf-8")
    if lasting:
        flush_to_disk([part], names=False)
    os.replace(part, path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

"""Files beside the results: locks, the hidden work folder of an unfinished result, records of its blocks, sidecars."""

from __future__ import annotations

import json
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from napari_pristine.errors import FileError, PristineError
from napari_pristine.events import BlockDone, Note
from napari_pristine.image.axes import BlockIndex
from napari_pristine.io.atomic import (
    ZARR_METADATA,
    ZARR_SUFFIX,
    flush_directory,
    flush_to_disk,
    remove,
    write_json,
)
from napari_pristine.io.collection_writer import ResultStore
from napari_pristine.io.registry import SUFFIXES
from napari_pristine.recipe import Choice
from napari_pristine.settings import make

_SHARED_HIDDEN = ".pristine"
"""The name of `HIDDEN` in version 0.1."""
HIDDEN = f"{_SHARED_HIDDEN}-{os.geteuid()}" if hasattr(os, "geteuid") else _SHARED_HIDDEN
"""Folder beside the results that holds everything unfinished; it is removed when nothing is left in it.

Each user has one, which nobody else may write to, since colleagues may share a folder of results.
"""
SLASH = "%2F"
"""Replaces `/` in the names of the work folders of results in a store."""
SIDECAR = ".json"
"""Appended to the name of a result, this is the name of its sidecar, which says how the result was made."""
SIDECARS = ".sidecars"
"""Suffix of the folder of sidecars beside a store of several results."""
_STORE_LOCK_SECONDS = 300.0
"""Longest time to wait until another process has added its result to a store."""
_LOCK_ATTEMPTS = 100
"""Attempts to lock a file in a folder that other processes may remove at the same moment because it is empty."""


@dataclass(frozen=True)
class BlockRecord:
    """A block that is written, with the seconds it took and the device that it was computed on."""

    done: BlockDone
    seconds: float
    device: str


@dataclass(frozen=True)
class WorkDir:
    """The hidden work folder of an unfinished result, so that nothing unfinished has a final name.

    Attributes:
        target: Path of the finished result, a file or a folder.
    """

    target: Path

    @property
    def folder(self) -> Path:
        """The folder itself; for a result in a store, it lies beside the store."""
        base = store_of(self.target) or self.target
        return base.parent / HIDDEN / self.target.relative_to(base.parent).as_posix().replace("/", SLASH)

    @property
    def lock_file(self) -> Path:
        """The file that is locked while the result is made."""
        return self.folder.with_name(f"{self.folder.name}.lock")

    @property
    def array(self) -> Path:
        """The restored values, as zarr."""
        return self.folder / "values.zarr"

    @property
    def uncertainty(self) -> Path:
        """The uncertainty of the restored values, as zarr."""
        return self.folder / "uncertainty.zarr"

    def uncertainty_part(self, final: Path) -> Path:
        """The uncertainty in its final format until it is renamed to `final`."""
        return self.folder / f"uncertainty{''.join(final.suffixes[-2:])}"

    @property
    def part(self) -> Path:
        """The result in its final format until it is renamed; it has the suffix of the target."""
        return self.folder / f"part{''.join(self.target.suffixes[-2:])}"

    @property
    def checkpoint_dir(self) -> Path:
        """Folder of the networks that were trained for this result."""
        return self.folder / "learned"

    @property
    def state(self) -> dict[str, Any]:
        """Identity and batch size that the work was started with; empty if there is none or it cannot be read."""
        return read_json(self.folder / "state.json")

    @property
    def choice(self) -> Choice | None:
        """The method that was chosen for the image; none if it is not chosen yet, or if the recipe names it."""
        found = read_json(self.folder / "choice.json")
        return make(Choice, found) if found else None

    def keep_choice(self, choice: Choice) -> None:
        """Keep the method that was chosen, for all processes that restore a part of the image."""
        write_json(self.folder / "choice.json", choice.model_dump(), durable=False)

    @property
    def has_blocks(self) -> bool:
        """True if blocks or the whole result are written, so that resuming saves time."""
        return self.is_complete or any((self.folder / "units").glob("*/*.jsonl"))

    @property
    def is_complete(self) -> bool:
        """True if everything is written and only the renaming was interrupted."""
        return (self.folder / "sidecar.json").exists()

    def start(self, state: dict[str, Any]) -> None:
        """Start from an empty folder."""
        self.clear()
        self.checkpoint_dir.mkdir(parents=True)
        write_json(self.folder / "state.json", state, durable=False)

    def flush(self) -> None:
        """Make sure that everything the blocks depend on is on disk before the first of them is written."""
        flush_to_disk([self.folder / "state.json"])
        flush_to_disk(folder / name for folder in (self.array, self.array / "0") for name in ZARR_METADATA)

    def clear(self) -> None:
        """Remove the work folder; its state goes first, so that what cannot be removed is not resumed from."""
        if self.folder.exists():
            (self.folder / "state.json").unlink(missing_ok=True)
            remove(self.folder)

    def allow(self, token: str) -> None:
        """Let only processes that hold this token write here."""
        write_json(self.folder / "turn.json", {"turn": token}, durable=False)

    def allows(self, token: str) -> bool:
        """True if processes that hold this token may still write here."""
        return bool(read_json(self.folder / "turn.json").get("turn") == token)

    def forbid(self) -> None:
        """Let no process write here any more."""
        (self.folder / "turn.json").unlink(missing_ok=True)

    def record(self, unit: int, writer: str, entry: BlockRecord) -> None:
        """Record that a block of a work unit is written; each writer has a file of its own."""
        line = json.dumps({**asdict(entry.done), "seconds": entry.seconds, "device": entry.device}, default=float)
        folder = self.folder / "units" / str(unit)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{writer}.jsonl").open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def records(self, unit: int, indices: Sequence[BlockIndex]) -> dict[BlockIndex, BlockRecord]:
        """Records of those blocks of a work unit that are written, in the order of `indices`."""
        records: dict[BlockIndex, BlockRecord] = {}
        for file in sorted((self.folder / "units" / str(unit)).glob("*.jsonl")):
            for line in file.read_text(encoding="utf-8").splitlines():
                try:
                    entry = _parse_record(json.loads(line))
                except (ValueError, TypeError, KeyError):
                    continue  # the process was killed, or the disk was full, while it wrote this line
                records[entry.done.index] = entry
        return {index: records[index] for index in indices if index in records}

    def prepare_sidecar(self, facts: dict[str, Any]) -> None:
        """Write the sidecar under its hidden name; after that only renaming is left to do."""
        write_json(self.folder / "sidecar.json", facts)

    def publish(self, finished: Path, store: ResultStore | None = None, uncertainty: Path | None = None) -> None:
        """Rename a finished result, then its sidecar, to their final names; an older result is removed last.

        It can be called again after an interruption, and then does the rest.

        Args:
            finished: The result under its hidden name.
            store: The store that it is added to.
            uncertainty: Final name of the uncertainty, if there is one.

        Raises:
            FileError: Other processes do not release the lock of the store, or it holds anything else.
            OSError: Something cannot be renamed or written.
        """
        if uncertainty is not None and (part := self.uncertainty_part(uncertainty)).exists():
            if uncertainty.is_dir():
                remove(uncertainty)
            os.replace(part, uncertainty)
            flush_directory(uncertainty.parent)
        if store is None:
            self._rename(finished)
        else:
            image = self.target.relative_to(store.path).as_posix()
            with folder_lock(store.path.parent, store.path.name, timeout=_STORE_LOCK_SECONDS):
                store.check()
                store.prepare(image, self.folder)
                if finished.exists() and self.target.exists():
                    store.remove(image, self.folder)
                self._rename(finished)
                store.add(image, self.folder)
        sidecar = sidecar_of(self.target)
        if self.is_complete:
            sidecar.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.folder / "sidecar.json", sidecar)
        flush_directory(sidecar.parent)
        with suppress(OSError):  # the result is complete; the remains are removed when the file is next looked at
            self.clear()

    def _rename(self, finished: Path) -> None:
        """Rename a finished result; an older one is kept in the work folder."""
        if finished.exists():
            if self.target.exists():
                remove(self.folder / "old")
                os.replace(self.target, self.folder / "old")
            os.replace(finished, self.target)
        flush_directory(self.target.parent)

    def name_target(self, text: str) -> str:
        """Replace the paths of hidden files in a message by that of the result."""
        for hidden in (self.part, self.array / "0", self.array, self.folder):
            text = text.replace(str(hidden), str(self.target))
        return text


def _parse_record(values: dict[str, Any]) -> BlockRecord:
    """Read a record; in version 0.1, `index` was `place`, `quality` `judged`, `unchanged` `left`, `defects` `hot`."""
    rows, columns = values.get("stripes", (0.0, 0.0))
    count, lowest = values.get("below_zero", (0, 0.0))
    done = BlockDone(
        index=tuple(values["index"] if "index" in values else values["place"]),
        quality=tuple((a, b, c, d) for a, b, c, d in values.get("quality", values.get("judged", ()))),
        defects=tuple(
            (name, count) for name, count in values.get("defects", [["hot pixels", values.get("hot", 0)]]) if count
        ),
        invalid=values["invalid"],
        stops=tuple((text, count) for text, count in values["stops"]),
        notes=tuple(Note(**note) for note in values["notes"]),
        unchanged=values.get("unchanged", values.get("left", "")),
        errors=tuple((a, b, c, lost[0] if lost else 0.0) for a, b, c, *lost in values.get("errors", ())),
        stripes=(rows, columns),
        means=tuple((exact, stored) for exact, stored in values.get("means", ())),
        below_zero=(count, lowest),
        patch_sigmas=tuple(values.get("patch_sigmas", ())),
        weights=tuple(values.get("weights", ())),
    )
    return BlockRecord(done, float(values["seconds"]), str(values["device"]))


def store_of(target: Path) -> Path | None:
    """The store of several images that a result is part of, by its path; None for a result by itself."""
    if target.suffix.lower() in SUFFIXES:
        return None
    return next((parent for parent in target.parents if parent.suffix.lower() == ZARR_SUFFIX), None)


def sidecar_of(target: Path) -> Path:
    """The sidecar beside a result; for a result in a store, in a folder beside the store."""
    store = store_of(target)
    if store is None:
        return target.with_name(f"{target.name}{SIDECAR}")
    inside = target.relative_to(store)
    return store.with_name(f"{store.name}{SIDECARS}") / inside.with_name(f"{inside.name}{SIDECAR}")


def target_of(sidecar: Path) -> Path:
    """The result that a sidecar belongs to."""
    target = sidecar.with_name(sidecar.name.removesuffix(SIDECAR))
    for folder in sidecar.parents:
        if folder.name.endswith(f"{ZARR_SUFFIX}{SIDECARS}"):
            return folder.with_name(folder.name.removesuffix(SIDECARS)) / target.relative_to(folder)
    return target


def read_sidecar(target: Path) -> dict[str, Any]:
    """Content of the sidecar of a result; empty if there is none."""
    return read_json(sidecar_of(target))


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file; empty if there is none, or it holds anything other than an object."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


class LockedElsewhere(PristineError):
    """Another batch is restoring the file now."""


class OutputLock:
    """The exclusive right to make one result; the system releases it if the process dies.

    Args:
        target: The result.

    Attributes:
        work: Work folder of the result.
        token: Identifies this lock; processes that hold the token of an earlier lock may no longer write.

    Raises:
        LockedElsewhere: Another batch holds the lock, in this process or another.
        FileError: Nothing can be written there.
    """

    def __init__(self, target: Path) -> None:
        self.work, self.token = WorkDir(target), secrets.token_hex(8)
        folder = self.work.folder.parent.parent
        self._new_folders = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
        try:
            self._lock = _acquire(self.work.lock_file)
        except Timeout:
            raise LockedElsewhere(f"'{target}' is being restored by another batch right now") from None
        except OSError as error:
            self._remove_empty_folders()
            raise FileError(
                f"'{target}' cannot be written: {error.strerror or error}; choose another folder"
            ) from error
        try:
            _adopt(self.work.folder)
            if os.path.lexists(self.work.folder):
                _check_private(self.work.folder)
        except PristineError:
            self.release()
            raise

    def release(self) -> None:
        """Release the lock, and remove the folders made for it unless something unfinished is in them."""
        with suppress(OSError):  # the disk is disconnected; the next lock removes the token
            self.work.forbid()
        _release(self._lock)
        self._remove_empty_folders()

    def discard_unless_useful(self) -> None:
        """Remove the work folder if it holds neither a finished block nor a trained network."""
        with suppress(OSError):
            if not self.work.has_blocks and not any(self.work.checkpoint_dir.glob("*")):
                self.work.clear()

    def _remove_empty_folders(self) -> None:
        for folder in (self.work.folder.parent, *self._new_folders):
            with suppress(OSError):  # it is not empty, or does not exist
                folder.rmdir()


@contextmanager
def folder_lock(folder: Path, name: str, *, timeout: float) -> Iterator[Path]:
    """Hold a lock in a folder; yields its hidden folder.

    Raises:
        FileError: Another process holds the lock for longer than `timeout` seconds, or nothing can be written there.
    """
    hidden = folder / HIDDEN
    try:
        lock = _acquire(hidden / f"{name}.lock", timeout)
    except Timeout:
        raise FileError(f"'{folder / name}' has been locked by another batch for {timeout:.0f} seconds") from None
    except OSError as error:
        raise FileError(f"'{folder / name}' cannot be written: {error.strerror or error}") from error
    try:
        yield hidden
    finally:
        _release(lock)
        with suppress(OSError):
            hidden.rmdir()


def _acquire(path: Path, timeout: float = 0) -> FileLock:
    """Lock a file. Its existence alone means nothing: it may be left from a process that died."""
    for attempts_left in reversed(range(_LOCK_ATTEMPTS)):
        lock = FileLock(path, thread_local=False)  # a batch may be closed by another thread
        try:
            path.parent.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                path.parent.mkdir(mode=0o700)
            _check_private(path.parent)
            lock.acquire(timeout=timeout)
            return lock
        except FileNotFoundError:  # another process has removed the folder, which was empty for a moment
            if not attempts_left:
                raise
    raise AssertionError


def _check_private(folder: Path) -> None:
    """Make sure that nobody else may write to a folder.

    Raises:
        FileError: It is a link, or belongs to another user.
        OSError: It is not there, or cannot be written to.
    """
    found, owner = folder.lstat(), -1
    if stat.S_ISDIR(found.st_mode):
        # a network disk may know users by other numbers than this system, so a new file shows who this one is
        with suppress(PermissionError), tempfile.TemporaryFile(dir=folder) as file:
            owner = os.fstat(file.fileno()).st_uid
    if found.st_uid == owner:
        if found.st_mode & 0o077 and os.name != "nt":
            with suppress(OSError):  # the disk knows no permissions
                folder.chmod(0o700)
        return
    raise FileError(
        f"'{folder}' was made by another user, who could change results in it; remove it, or choose another folder"
    )


def _adopt(folder: Path) -> None:
    """Move a work folder to its place from where version 0.1 had it."""
    old = folder.parent.with_name(_SHARED_HIDDEN) / folder.name
    if old == folder or folder.exists() or not old.is_dir():
        return
    with suppress(PristineError, OSError):  # it belongs to somebody else
        _check_private(old.parent)
        _check_private(old)
        os.replace(old, folder)
        old.with_name(f"{old.name}.lock").unlink(missing_ok=True)
        old.parent.rmdir()


def _release(lock: FileLock) -> None:
    """Remove the file while it is locked: later it may belong to another process."""
    with suppress(OSError):  # Windows does not remove open files; there the lock removes its file itself
        os.unlink(lock.lock_file)
    lock.release()

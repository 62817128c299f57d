"""Claim: a result is ours to make, and nobody else's, until we let go of it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from napari_pristine.batch.store import HIDDEN, WorkDir
from napari_pristine.errors import FileError, PristineError

_TRIES = 100
"""To lock a file in a folder that others may remove at the same moment, since it is empty."""


class LockedElsewhere(PristineError):
    """Another batch is at work on the file now."""


class OutputLock:
    """The right to make one result; the system takes it back should we die.

    Args:
        target: The result.

    Attributes:
        work: Where it grows.
        turn: Tells this claim from all others; what is done for another one is no longer wanted.

    Raises:
        Elsewhere: Another batch has it, in this process or any other.
        FileError: Nothing can be written there.
    """

    def __init__(self, target: Path) -> None:
        self.work, self.turn = WorkDir(target), secrets.token_hex(8)
        self._made = _missing(target.parent)
        try:
            self._lock = _locked(target.parent / HIDDEN / f"{target.name}.lock")
        except Timeout:
            raise LockedElsewhere(f"'{target}' is being restored by another batch right now") from None
        except OSError as error:
            self._sweep()
            raise FileError(
                f"'{target}' cannot be written: {error.strerror or error}; choose another folder"
            ) from error

    def release(self) -> None:
        """Leave it to others, without a trace if nothing of it is unfinished."""
        with suppress(OSError):  # the disk is gone, and what is not ended now ends with the next claim
            self.work.end_turn()
        _unlocked(self._lock)
        self._sweep()

    def _sweep(self) -> None:
        """Remove the folders that were made for it, as far as they are empty."""
        for folder in (self.work.folder.parent, *self._made):
            with suppress(OSError):  # something is in it, or it is gone
                folder.rmdir()


@contextmanager
def alone(folder: Path, name: str, *, timeout: float) -> Iterator[Path]:
    """Nobody else does the same in this folder meanwhile; yields its hidden folder.

    Raises:
        FileError: Others do not come to an end, or nothing can be written there.
    """
    hidden = folder / HIDDEN
    try:
        lock = _locked(hidden / f"{name}.lock", timeout)
    except Timeout:
        raise FileError(f"'{folder / name}' is being written by another batch, which does not come to an end") from None
    except OSError as error:
        raise FileError(f"'{folder / name}' cannot be written: {error.strerror or error}") from error
    try:
        yield hidden
    finally:
        _unlocked(lock)
        with suppress(OSError):
            hidden.rmdir()


def _locked(path: Path, timeout: float = 0) -> FileLock:
    """A lock that is ours; its file says nothing, and that it is there does not mean that anyone has it."""
    for left in reversed(range(_TRIES)):
        lock = FileLock(path, thread_local=False)  # who closes a batch may be another thread
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=timeout)
            return lock
        except FileNotFoundError:  # others have removed the folder, empty for a moment
            if not left:
                raise
    raise AssertionError


def _unlocked(lock: FileLock) -> None:
    """Remove the file while it is ours: later it may be that of someone else."""
    with suppress(OSError):  # Windows does not remove what is open; there the lock does it itself
        os.unlink(lock.lock_file)
    lock.release()


def _missing(folder: Path) -> list[Path]:
    """A folder and those it lies in, as far as they are not there; the innermost first."""
    return [path for path in (folder, *folder.parents) if not os.path.lexists(path)]

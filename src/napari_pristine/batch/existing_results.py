"""Standing: what there is of a result already, and what it may be replaced by."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_pristine.batch.options import BatchOptions
from napari_pristine.batch.store import WorkDir, read_sidecar
from napari_pristine.batch.tasks import Task
from napari_pristine.errors import FileError
from napari_pristine.io.atomic import check_writable, size_on_disk


def existing_result(
    task: Task, order: BatchOptions, mine: Mapping[str, Any], since: datetime
) -> tuple[str, dict[str, Any]] | None:
    """What is to be said of a result that needs nothing any more, and its sidecar; none if it is to be made.

    A result of which all is written but the name gets it now.

    Args:
        task: The file; its result is claimed.
        order: What is wanted of it.
        mine: Identity of the result that is wanted.
        since: When the batch began; what is the same and was made later is the work of another batch.

    Raises:
        FileError: There is another result, or an unfinished one, and nobody said what to do with it.
    """
    work = WorkDir(task.target)
    if order.resume and work.ripe and work.state().get("identity") == mine:
        work.appear(work.array if task.is_zarr else work.part)
    found = read_sidecar(task.target) if task.target.exists() else {}
    if found.get("identity") == mine and (order.resume or _finished(found) >= since):
        _check_whole(task.target, found)
        work.clear()
        return ("done before" if _finished(found) < since else "done by another batch meanwhile"), found
    _check_result(task, order, mine)
    _check_unfinished(task, order)
    return None


def _check_result(task: Task, order: BatchOptions, mine: Mapping[str, Any]) -> None:
    """Raise a `FileError` if there is another result that may not be replaced."""
    check_writable(task.target, overwrite=True)  # a folder that is no result is not replaced at all
    found = read_sidecar(task.target)
    if order.overwrite:
        return
    if task.target.exists():
        how = _difference(found.get("identity", {}), mine) if order.resume else ""
        advice = "--overwrite replaces it" + ("" if order.resume else ", --resume leaves what is done")
        raise FileError(f"'{task.target}' exists already{how}; {advice}")
    sidecar = WorkDir(task.target).sidecar
    if sidecar.exists() and "identity" not in found:
        raise FileError(f"'{sidecar}' is not ours, and would be replaced by what is known of the result; rename it")


def _check_unfinished(task: Task, order: BatchOptions) -> None:
    """Raise a `FileError` if there is an unfinished result that may not be thrown away, or do so."""
    work = WorkDir(task.target)
    if order.resume or not work.folder.exists():
        return
    if work.state() and not order.overwrite:
        raise FileError(
            f"'{task.target}' was begun by a batch that did not end; --resume goes on with it, --overwrite begins anew"
        )
    work.clear()


def _check_whole(target: Path, facts: Mapping[str, Any]) -> None:
    """Raise a `FileError` unless a result is as large as it was when it was written: a copy may have been cut off."""
    size, wanted = size_on_disk(target), facts.get("bytes")
    if wanted is not None and size != wanted:
        raise FileError(
            f"'{target}' is not what was written: it has {size} bytes, and had {wanted}; --overwrite restores it "
            "again, or put it back"
        )


def _finished(facts: Mapping[str, Any]) -> datetime:
    """When a result was finished, by its sidecar."""
    try:
        found = datetime.fromisoformat(str(facts.get("finished")))
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _difference(theirs: Any, mine: Mapping[str, Any]) -> str:
    """In what a result differs from the one that is wanted, in words."""
    if not isinstance(theirs, Mapping) or not theirs:
        return ", and nothing says how it was made"
    if theirs.get("checksum") != mine["checksum"]:
        return " and was made from another input of this name"
    old, new = _flat(theirs.get("recipe")), _flat(mine["recipe"])
    changed = [f"{key} {old.get(key)!r}, now {new.get(key)!r}" for key in new if old.get(key) != new[key]]
    if changed:
        return f" and was made by another recipe ({'; '.join(changed[:3])})"
    return " and was made from other files (mask, model or further pictures)"


def _flat(recipe: Any) -> dict[str, Any]:
    """A recipe with its settings beside all else."""
    if not isinstance(recipe, Mapping):
        return {}
    settings = recipe.get("settings")
    rest = {key: value for key, value in recipe.items() if key != "settings"}
    return {**rest, **(settings if isinstance(settings, Mapping) else {})}

"""Identity of a result: everything that its pixels depend on; and the search for existing results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from napari_pristine.batch.spec import BatchOptions, Task
from napari_pristine.batch.store import WorkDir, read_sidecar, sidecar_of
from napari_pristine.errors import FileError, PristineError
from napari_pristine.io.atomic import check_writable, size_on_disk
from napari_pristine.io.fingerprint import checksum, checksum_of_set
from napari_pristine.jobs.inputs import find_file
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.recipe import Recipe, map_paths
from napari_pristine.settings import make
from napari_pristine.text import counted
from napari_pristine.threads import CheckCancelled

Identity = dict[str, Any]
ALGORITHM = 2
"""Raised whenever the pixels of results change: unfinished work of another number is not resumed. 0.1 stored none."""


def identify(sources: Sequence[Path], plan: RestorationPlan, check_cancelled: CheckCancelled) -> Identity:
    """Everything that the pixels of a result depend on, as plain JSON values; results of one identity are equal.

    Files that the recipe names count by their content, not by their names. The input is read as a whole for this.

    Args:
        sources: The input, or all files of a set.
        plan: Plan of its restoration.
        check_cancelled: Called regularly; raises to cancel.

    Raises:
        FileError: The input cannot be read.
    """
    return {
        "checksum": checksum_of_set(sources, check_cancelled),
        **recipe_identity(plan.recipe),
        "shape": list(plan.output_blocks.shape),
        "axes": plan.image.axes,
        "dtype": str(plan.image.dtype),
    }


def recipe_identity(recipe: Recipe) -> Identity:
    """The part of an identity that a recipe decides, see `identify`."""
    # the axes of the image are a part of the identity, whether a recipe or the file has stated them
    values = map_paths(recipe.model_dump(mode="json", exclude={"axes", "inputs", "version"}), lambda path: "")
    values["settings"] = map_paths(values["settings"], lambda path: "")
    return {"recipe": values, "inputs": {role: file.sha256 for role, file in recipe.inputs.items()}}


def read_identity(found: object, source: Path) -> Identity:
    """An identity from a sidecar or a work folder, in the form of this version; empty if it cannot be read.

    Version 0.1 kept a list of the checksums of mask and extra images, half of the digest of the model, and nothing of
    the content of measured PSFs: for these, the files count that its recipe names, as they are now.

    Args:
        found: The identity as it is stored.
        source: The input.
    """
    if not isinstance(found, dict) or not isinstance(found.get("recipe"), dict):
        return {}
    try:
        recipe = make(Recipe, found["recipe"])  # it may lack fields of this version
        if "inputs" in found:
            return {**found, "recipe": recipe_identity(recipe)["recipe"]}
        files = dict(recipe.params.input_files)
        roles = ["mask"] if recipe.mask else []
        roles += [role for role in files if role.startswith("extra_image_") and not role.endswith("_psf")]
        digests = dict(zip(roles, (str(digest).removeprefix("sha256:") for digest in found["beside"]), strict=True))
        if recipe.model:
            digests["model"] = str(found["model"])
        for role in files.keys() - digests.keys():
            digests[role] = ""
            with suppress(FileError):
                digests[role] = checksum(find_file(files[role], source)).removeprefix("sha256:")
    except (PristineError, KeyError, ValueError, TypeError):
        return {}
    rest = {key: found.get(key) for key in ("checksum", "shape", "axes", "dtype")}
    return {**recipe_identity(recipe), "inputs": digests, **rest}


def same_identity(found: Identity, wanted: Identity) -> bool:
    """Compare two identities; digests of version 0.1 may be shorter."""
    keys = ("checksum", "shape", "axes", "dtype")
    return bool(found) and same_recipe(found, wanted) and all(found[key] == wanted[key] for key in keys)


def same_recipe(found: Identity, wanted: Identity) -> bool:
    """Compare recipe and named files of two identities."""
    ours, theirs = wanted["inputs"], found["inputs"]
    alike = ours.keys() == theirs.keys() and all(ours[role].startswith(theirs[role] or "-") for role in ours)
    return alike and bool(found["recipe"] == wanted["recipe"])


def _difference(found: Identity, wanted: Identity) -> str:
    """Describe the difference between an existing result and the requested one, whose checksum may be unknown."""
    if not found:
        return " without a record of how it was made"
    if found["checksum"] != wanted.get("checksum", found["checksum"]):
        return ", made from another input of this name"
    old, new = ({"axes": each["axes"], **each["recipe"], **each["recipe"]["settings"]} for each in (found, wanted))
    changed = [f"{key} {old.get(key)!r}, now {new[key]!r}" for key in new if old.get(key) != new[key]]
    changed = [text for text in changed if not text.startswith("settings ")]
    changed.sort(key=lambda text: not text.startswith("method "))
    if changed:
        shown = changed[:1] if changed[0].startswith("method ") else changed[:3]  # other settings follow from that
        return f", made by another recipe ({'; '.join(shown)})"
    ours, theirs = wanted["inputs"], found["inputs"]
    roles = [role for role in sorted({*ours, *theirs}) if not ours.get(role, "").startswith(theirs.get(role) or "-")]
    if not roles:
        return ", of another part or type of the image"
    return f", made with another {' and another '.join(role.replace('_', ' ') for role in roles)}"


class ResultExists(FileError):
    """Another result than the requested one already exists, and may not be replaced.

    Args:
        target: The result that exists.
        found: Its identity; empty if there is no record of it.
        wanted: Identity of the requested result.
    """

    def __init__(self, target: Path, found: Identity, wanted: Identity) -> None:
        super().__init__(
            f"'{target}' already exists{_difference(found, wanted)}; --overwrite replaces it, or give another folder"
        )


def find_existing(
    task: Task, options: BatchOptions, wanted: Identity, since: datetime
) -> tuple[str, dict[str, Any]] | None:
    """Look for a finished result, whose lock is held.

    A result of which only the renaming was interrupted is renamed now.

    Args:
        task: The file.
        options: Options of the batch.
        wanted: Identity of the result that is wanted.
        since: Start of the batch; an equal result that is younger was made by another batch at the same time.

    Returns:
        The reason for skipping the file, and the sidecar of its result; `None` if the result has to be made.

    Raises:
        ResultExists: A different result already exists, and `overwrite` is not set.
        FileError: A result is incomplete, or unfinished work exists and the options do not say what to do with it.
    """
    target, work, store = task.target, WorkDir(task.target), task.result_store
    if store:
        store.check()
    started = read_identity(work.state.get("identity"), task.source)
    if options.keeps_equal and work.is_complete and same_identity(started, wanted):
        work.publish(work.array if task.is_zarr else work.part, store, task.uncertainty)
    facts = read_sidecar(target) if target.exists() else {}
    found = read_identity(facts.get("identity"), task.source)
    finished = _finish_time(facts)
    if same_identity(found, wanted) and (options.keeps_equal or finished >= since):
        missing = _missing_part(task, facts)
        if not missing:
            work.clear()
            return ("done before" if finished < since else "done by another batch meanwhile"), facts
        if not options.overwrite:
            raise FileError(f"{missing}; --overwrite restores it again")

    check_writable(store.path if store else target, overwrite=True)  # a folder that is no result is never replaced
    if target.exists() and not options.overwrite:
        raise ResultExists(target, found, wanted)
    if task.uncertainty is not None and task.uncertainty.exists():
        if not options.overwrite:
            raise FileError(f"'{task.uncertainty}' already exists; --overwrite replaces it")
        check_writable(task.uncertainty, overwrite=True)
    sidecar = sidecar_of(target)
    if sidecar.exists() and "identity" not in read_sidecar(target):
        raise FileError(f"'{sidecar}' was made by another program and would be replaced; rename it")
    if not options.resume and work.folder.exists():
        if work.state and not options.overwrite:
            raise FileError(
                f"'{target}' is unfinished, from a batch that was interrupted; --resume continues it, --overwrite "
                "starts again"
            )
        work.clear()
    return None


def _missing_part(task: Task, facts: Mapping[str, Any]) -> str:
    """Describe what is missing of a finished result; empty if it is complete."""
    if task.uncertainty is not None and not task.uncertainty.exists():
        return f"'{task.target}' was restored before, but its uncertainty '{task.uncertainty}' is missing"
    if facts.get("bytes") not in (None, size := size_on_disk(task.target)):
        return (
            f"'{task.target}' has {counted(size, 'byte')} instead of the {facts['bytes']} that were written; its copy "
            "may be incomplete"
        )
    return ""


def _finish_time(facts: Mapping[str, Any]) -> datetime:
    """Time at which a result was finished; the earliest possible time if it is not recorded."""
    try:
        found = datetime.fromisoformat(str(facts.get("finished")))
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)

"""Finish results: write the blocks of a file in its final format, and read the facts in its sidecar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from napari_pristine.batch.identity import Identity
from napari_pristine.batch.store import WorkDir
from napari_pristine.batch.work_item import OpenedTask
from napari_pristine.device import versions
from napari_pristine.errors import FileError, ImageError
from napari_pristine.events import ItemDone, Note
from napari_pristine.io import zarr
from napari_pristine.io.atomic import files_in, flush_to_disk, size_on_disk
from napari_pristine.io.registry import write
from napari_pristine.jobs.choose import describe_choice, with_choice
from napari_pristine.jobs.summary import QualitySummary
from napari_pristine.text import counted, short_name, valid_unicode
from napari_pristine.threads import CheckCancelled

_MAX_NOTES = 1000
"""Maximum number of different notes of a result: a stack may have a million blocks, each with its own note."""


@dataclass(frozen=True)
class BlockSummary:
    """Quality, seconds, devices and notes of all blocks of a file."""

    quality: QualitySummary
    seconds: float
    devices: frozenset[str]
    notes: tuple[str, ...]

    @property
    def texts(self) -> list[str]:
        """All notes, each text once."""
        return list(dict.fromkeys([*self.notes, *(note.text for note in self.quality.notes())]))


def summarise_blocks(opened: OpenedTask, check_cancelled: CheckCancelled) -> BlockSummary:
    """Read the records of all blocks of a file, unit by unit, so that memory does not grow with their number.

    Raises:
        FileError: Some blocks are missing.
    """
    plan, work = opened.plan, WorkDir(opened.task.target)
    quality = QualitySummary(plan, opened.open_array().dtype)
    seconds, devices, notes, dropped = 0.0, set[str](), dict[str, None](), 0
    for number, unit in enumerate(plan.work_units):
        check_cancelled()
        for record in work.records(number, unit).values():
            quality.add(record.done)
            seconds += record.seconds
            devices.add(record.device)
            for note in record.done.notes:
                if note.text in notes or len(notes) < _MAX_NOTES:
                    notes[note.text] = None
                else:
                    dropped += 1
    if missing := len(plan.indices) - quality.count:
        raise FileError(
            f"'{work.target}' is incomplete: {counted(missing, 'block')} not written yet; --resume continues"
        )
    more = (
        (f"{counted(dropped, 'more note')} on single blocks {'is' if dropped == 1 else 'are'} not kept",)
        if dropped
        else ()
    )
    return BlockSummary(quality, seconds, frozenset(devices), (*notes, *more))


def finish_result(
    opened: OpenedTask, identity: Identity, started: str, check_cancelled: CheckCancelled
) -> tuple[dict[str, Any], list[Note]]:
    """Write the result of a file in its final format, and give it and its sidecar their names.

    Args:
        opened: The file; all its blocks are written.
        identity: Identity of the result.
        started: Time at which the file was started, in ISO 8601.
        check_cancelled: Called now and then.

    Returns:
        The content of the sidecar, and notes on the result as a whole.

    Raises:
        ImageError: There was nothing to restore in any block.
        FileError: It cannot be written.
    """
    task, plan, work = opened.task, opened.plan, WorkDir(opened.task.target)
    blocks = summarise_blocks(opened, check_cancelled)
    if blocks.quality.nothing_restored:
        work.clear()
        raise ImageError(blocks.quality.nothing_restored)
    reason: list[str] = []
    if (choice := plan.recipe.choice or work.choice) and plan.method.candidates:
        plan, text = describe_choice(with_choice(plan, choice), blocks.quality)
        reason = [text]
    like = opened.result_like
    facts = {
        "input": valid_unicode(short_name(task.source)),
        "checksum": identity["checksum"],
        "output": valid_unicode(short_name(task.target)),
        "axes": like.axes,
        "shape": list(like.shape),
        "dtype": opened.open_array().dtype.name,  # it may be finer than that of the image
        "recipe": plan.recipe.model_dump(mode="json"),
        "quality": blocks.quality.quality().to_dict(),
        "seconds": round(blocks.seconds, 3),
        "device": ", ".join(sorted(blocks.devices)),
        "notes": [*reason, *blocks.texts],
        "started": started,
        "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "versions": versions(),
        "identity": identity,
    }
    try:
        if task.uncertainty is not None:
            facts["uncertainty"] = valid_unicode(short_name(task.uncertainty))
            part = work.uncertainty_part(task.uncertainty)
            widths = replace(opened.uncertainty_like, data=opened.open_uncertainty())
            write(part, widths, provenance=facts, overwrite=True, check_cancelled=check_cancelled)
        if task.is_zarr:
            finished = work.array
            zarr.complete_image(finished, like, facts, check_cancelled)
            # chunks of the finest level went to disk with their blocks
            flush_to_disk(
                file
                for file in files_in(finished)
                if file.relative_to(finished).parts[0] != "0" or not file.name.isdigit()
            )
        else:
            finished = work.part
            image = replace(like, data=opened.open_array())
            write(finished, image, provenance=facts, overwrite=True, check_cancelled=check_cancelled)
        facts |= {"source": valid_unicode(str(task.source)), "bytes": size_on_disk(finished)}
        work.prepare_sidecar(facts)
        work.publish(finished, task.result_store, task.uncertainty)
    except OSError as error:
        raise FileError(f"'{task.target}' cannot be written: {error.strerror or error}; is the disk full?") from error
    return facts, blocks.quality.notes()


def was_done(item: ItemDone) -> bool:
    """True if a file was skipped because its result exists, not because it is not an image."""
    return item.status == "skipped" and bool(item.facts)


def count_outcomes(items: Sequence[ItemDone]) -> dict[str, int]:
    """Count files by outcome, with a word for each outcome."""
    before = sum(map(was_done, items))
    return {
        "restored": sum(item.status == "restored" for item in items),
        "done before": before,
        "not replaced": sum(item.status == "exists" for item in items),
        "skipped": sum(item.status == "skipped" for item in items) - before,
        "failed": sum(item.status == "failed" for item in items),
    }


@dataclass(frozen=True)
class ResultFacts:
    """Validated facts of a sidecar; empty or `None` where they are missing, since it may be old or edited by hand."""

    recipe: Mapping[str, Any]
    method: str
    preset: str
    shape: tuple[int, ...]
    axes: str
    dtype: str
    sigma: float | None
    residual: float | None
    whiteness: float | None
    structure: float | None
    invalid: float | None
    stopped: str
    seconds: float | None
    device: str
    notes: tuple[str, ...]
    checksum: str
    version: str


def result_facts(item: ItemDone) -> ResultFacts:
    """Facts of the sidecar of a file."""
    facts = item.facts
    quality, recipe = _mapping(facts.get("quality")), _mapping(facts.get("recipe"))
    image = {**_mapping(facts.get("input")), **facts}  # some sidecars have shape, axes and type under `input`
    shape = image.get("shape")
    return ResultFacts(
        recipe=recipe, method=_text(recipe.get("method")), preset=_text(recipe.get("preset")),
        shape=tuple(n for n in shape if isinstance(n, int)) if isinstance(shape, (list, tuple)) else (),
        axes=_text(image.get("axes")), dtype=_text(image.get("dtype")),
        sigma=_number(quality.get("sigma")), residual=_number(quality.get("residual")),
        whiteness=_number(quality.get("whiteness")), structure=_number(quality.get("structure")),
        invalid=_number(quality.get("invalid")), stopped=_text(quality.get("stopped")),
        seconds=_number(facts.get("seconds")), device=_text(facts.get("device")),
        notes=_texts(facts.get("notes")), checksum=_text(image.get("checksum")),
        version=_text(_mapping(facts.get("versions")).get("napari-pristine")),
    )  # fmt: skip


def source_of(facts: Mapping[str, Any]) -> str:
    """Path of the input of a result, or only its name, whichever the sidecar holds; empty if unknown."""
    return _text(facts.get("source")) or _text(facts.get("input"))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if number and -1e300 < value < 1e300 else None  # type: ignore[return-value, operator]


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        return tuple(f"{key}: {item}" for key, item in value.items())
    return tuple(str(item) for item in (value if isinstance(value, (list, tuple)) else [value]) if item is not None)


def _text(value: object) -> str:
    return "; ".join(_texts(value))

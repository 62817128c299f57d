"""Row: what happened to one file of a batch, and Figures: what its sidecar says, whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from napari_pristine.events import ItemDone

Status: TypeAlias = Literal["restored", "failed", "skipped"]


def was_done(row: ItemDone) -> bool:
    """Whether a file was left since there is a result, and not since it cannot be restored."""
    return row.status == "skipped" and bool(row.facts)


def counted(rows: Sequence[ItemDone]) -> dict[str, int]:
    """What became of all files, in words that tell: how many each."""
    before = sum(map(was_done, rows))
    return {
        "restored": sum(row.status == "restored" for row in rows),
        "done before": before,
        "left out": sum(row.status == "skipped" for row in rows) - before,
        "failed": sum(row.status == "failed" for row in rows),
    }


@dataclass(frozen=True)
class Figures:
    """What is known of a result; empty or None where nothing is, since a sidecar may be old or edited by hand."""

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


def figures(row: ItemDone) -> Figures:
    """What the facts of a row say."""
    facts, quality = row.facts, _mapping(row.facts, "quality")
    recipe = _mapping(facts, "recipe")
    shape = _about(facts, "shape")
    return Figures(
        recipe=recipe, method=_text(recipe.get("method")), preset=_text(recipe.get("preset")),
        shape=tuple(n for n in shape if isinstance(n, int)) if isinstance(shape, (list, tuple)) else (),
        axes=_text(_about(facts, "axes")), dtype=_text(_about(facts, "dtype")),
        sigma=_number(quality.get("sigma")), residual=_number(quality.get("residual")),
        whiteness=_number(quality.get("whiteness")), structure=_number(quality.get("structure")),
        invalid=_number(quality.get("invalid")), stopped=_text(quality.get("stopped")),
        seconds=_number(facts.get("seconds")), device=_text(facts.get("device")),
        notes=_texts(facts.get("notes")), checksum=_text(_about(facts, "checksum")),
        version=_text(_mapping(facts, "versions").get("napari-pristine")),
    )  # fmt: skip


def source_of(facts: Mapping[str, Any]) -> str:
    """Where the input of a result was, as far as its sidecar says."""
    return _text(facts.get("source")) or _text(facts.get("input"))


def _about(facts: Mapping[str, Any], name: str) -> Any:
    """A fact, maybe among those of the input."""
    return facts.get(name, _mapping(facts, "input").get(name))


def _mapping(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = facts.get(name)
    return found if isinstance(found, Mapping) else {}


def _number(value: Any) -> float | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if number and -1e300 < value < 1e300 else None  # neither NaN, nor infinite, nor an endless integer


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        return tuple(f"{key}: {item}" for key, item in value.items())
    return tuple(str(item) for item in (value if isinstance(value, (list, tuple)) else [value]) if item is not None)


def _text(value: Any) -> str:
    return "; ".join(_texts(value))

"""What takes part: baselines, and our methods with their presets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.baselines import BASELINES, GROUPS, check_installed
from napari_pristine.errors import SettingError
from napari_pristine.methods import METHODS, find_method


@dataclass(frozen=True)
class Entry:
    """One line of a table: a baseline, or a method with a preset and all its settings."""

    label: str
    method: str
    preset: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


def find_entries(methods: Iterable[str], presets: Iterable[str], changes: Mapping[str, str]) -> list[Entry]:
    """Entries for names such as `tv`, `gaussian`, `classical`, `inr` (with all presets) or `inr:paper`.

    Args:
        methods: Names, in any order; `noisy` always comes first.
        presets: Presets of those methods that name none.
        changes: Settings of our methods that differ from the preset; they become part of the label.

    Raises:
        SettingError: A name is unknown, or a package is missing.
    """
    entries = {"noisy": Entry("noisy", "noisy")}
    for name in methods:
        for key in GROUPS.get(name, (name,)):
            of_key = [_baseline(key)] if key in BASELINES else list(_ours(key, presets, changes))
            entries |= {entry.label: entry for entry in of_key}
    return list(entries.values())


def _baseline(key: str) -> Entry:
    check_installed(key)
    return Entry(key, key)


def _ours(name: str, presets: Iterable[str], changes: Mapping[str, str]) -> Iterable[Entry]:
    key, _, preset = name.partition(":")
    if key not in METHODS:
        known = ", ".join([*METHODS, *BASELINES, *GROUPS])
        raise SettingError(f"there is no method '{key}'; the methods are {known}")
    for chosen in [preset] if preset else presets:
        settings = find_method(key).settings(chosen, changes).model_dump(mode="json")
        yield Entry(label_of(key, chosen, changes), key, chosen, settings)


def label_of(method: str, preset: str, changes: Mapping[str, str]) -> str:
    """Name of one of our methods in tables, such as `inr:balanced steps=500`."""
    return " ".join([f"{method}:{preset}", *(f"{name}={value}" for name, value in changes.items())])

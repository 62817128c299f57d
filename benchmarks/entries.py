"""What takes part: classical methods, and ours with their presets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.baselines import BASELINES, GROUPS, check_installed
from benchmarks.cases import Case
from benchmarks.recovery import RECOVERIES
from napari_pristine.errors import SettingError
from napari_pristine.methods import METHODS, find_method

SCOPES = ("type", "suite")
"""Of what a network may learn: all noisy images of one type and level, or of the whole suite."""


@dataclass(frozen=True)
class Entry:
    """One line of a table: a classical method, or a method of ours with a preset and all its settings.

    `learns` is the scope of what a network learns from before it restores; empty for a fit of each image.
    """

    label: str
    method: str
    preset: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    learns: str = ""

    def takes(self, case: Case) -> bool:
        """Whether it can do anything with a case: only `linr` knows of more than noise."""
        if self.method in RECOVERIES:
            return RECOVERIES[self.method].task in case.tasks
        if self.method in BASELINES:
            return "denoise" in case.tasks
        return case.tasks == ("denoise",) or self.method == "linr"

    def settings_for(self, case: Case) -> Mapping[str, Any]:
        """Its settings, with those that tell it how the pictures of a case came about, and the paper's own."""
        if self.method != "linr":
            return self.settings
        return {**self.settings, **case.needs, **(case.paper if self.preset == "paper" else {})}

    def learns_with(self, case: Case) -> tuple[str, ...]:
        """What the cases have in common that one network learns from."""
        return (str(case.level), case.type) if self.learns == "type" else ()


def find_entries(
    methods: Iterable[str], presets: Iterable[str], changes: Mapping[str, str], references: Iterable[str] = ("noisy",)
) -> list[Entry]:
    """Entries for names such as `tv`, `gaussian`, `classical`, `inr` (with all presets), `inr:paper` or `iddp@suite`.

    Args:
        methods: Names, in any order.
        presets: Presets of those methods that name none.
        changes: Settings of our methods that differ from the preset; they become part of the label.
        references: Names of those that come first, whether asked for or not.

    Raises:
        SettingError: A name is unknown, or a package is missing.
    """
    entries: dict[str, Entry] = {}
    for name in [*references, *methods]:
        for key in GROUPS.get(name, (name,)) + (tuple(RECOVERIES) if name == "classical" else ()):
            of_key = [_classical(key)] if key in {*BASELINES, *RECOVERIES} else list(_ours(key, presets, changes))
            entries |= {entry.label: entry for entry in of_key}
    return list(entries.values())


def _classical(key: str) -> Entry:
    check_installed(key)
    return Entry(key, key)


def _ours(name: str, presets: Iterable[str], changes: Mapping[str, str]) -> Iterable[Entry]:
    own, _, learns = name.partition("@")
    key, _, preset = own.partition(":")
    if key not in METHODS:
        known = ", ".join([*METHODS, *BASELINES, *RECOVERIES, *GROUPS])
        raise SettingError(f"there is no method '{key}'; the methods are {known}")
    if learns and (learns not in SCOPES or find_method(key).learn is None):
        learn = ", ".join(f"{k}@{scope}" for k, method in METHODS.items() if method.learn for scope in SCOPES)
        raise SettingError(f"'{name}' cannot learn from many images; those that can are {learn or 'none'}")
    for chosen in [preset] if preset else presets:
        settings = find_method(key).settings(chosen, changes).model_dump(mode="json")
        yield Entry(label_of(key, chosen, changes, learns), key, chosen, settings, learns)


def label_of(method: str, preset: str, changes: Mapping[str, str], learns: str = "") -> str:
    """Name of one of our methods in tables, such as `inr:balanced steps=500`."""
    own = f"{method}:{preset}" + (f"@{learns}" if learns else "")
    return " ".join([own, *(f"{name}={value}" for name, value in changes.items())])

#!/usr/bin/env python3
"""Write the manifest of the napari plugin: `python tools/write_manifest.py`.

It follows from the lists of methods and formats, and from the declared preferences.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

MANIFEST = Path(__file__).resolve().parents[1] / "src" / "napari_pristine" / "napari.yaml"
GUI = "napari_pristine.gui"


_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}


def manifest(methods: Mapping[str, Any], suffixes: Iterable[str], preferences: Iterable[Any]) -> str:
    """The manifest as YAML.

    Args:
        methods: The methods by key; each has a command, a widget, and an entry in the menu Layers → Filter.
        suffixes: Suffixes of the files that napari itself cannot read. With a second reader for others, such as TIFF,
            napari would ask for one of the two.
        preferences: The declared preferences of the panels.
    """

    def command(key: str) -> str:
        return f"napari-pristine.{key}"

    titles = {key: "Restore" if key == "auto" else f"Restore with {method.title}" for key, method in methods.items()}
    commands = [(command(key), title, f"restore_panel:open_{key}") for key, title in titles.items()]
    commands += [
        (command("batch"), "Restore many files", "batch_panel:open_panel"),
        (command("compare"), "Compare results", "compare_panel:open_panel"),
        (command("timelapse"), "Simulated time-lapse", "samples:open_timelapse"),
        (command("microtubules"), "Simulated image with few photons", "samples:open_microtubules"),
        (command("blurred"), "Simulated blurred image", "samples:open_blurred"),
        (command("fmd"), "Confocal mouse brain", "samples:open_fmd"),
        (command("read"), "Read microscope files", "file_layers:get_reader"),
    ]
    widgets = [(command(key), title) for key, title in titles.items()]
    widgets[1:1] = [(command("batch"), "Batch"), (command("compare"), "Compare")]
    samples = [
        ("timelapse", "Simulated two-channel time-lapse with known truth"),
        ("microtubules", "Simulated microtubules, 8 photons, with known truth"),
        ("blurred", "Simulated blurred nuclei, with the image of a bead and known truth"),
        ("fmd", "Confocal mouse brain, one frame and the mean of 50 (downloaded once)"),
    ]
    contributions = {
        "commands": [{"id": id_, "title": title, "python_name": f"{GUI}.{name}"} for id_, title, name in commands],
        "widgets": [{"command": id_, "display_name": name} for id_, name in widgets],
        "readers": [{"command": command("read"), "filename_patterns": [f"*{suffix}" for suffix in suffixes]}],
        "sample_data": [{"key": key, "display_name": name, "command": command(key)} for key, name in samples],
        "menus": {"napari/layers/filter": [{"command": command(key)} for key in methods]},
        "configurations": {
            "restore": {"title": "Restore", "properties": {each.name: _field(each) for each in preferences}}
        },
    }
    plugin = {
        "name": "napari-pristine",
        "display_name": "Pristine",
        "categories": ["Image Processing"],
        "contributions": contributions,
    }
    text = yaml.safe_dump(plugin, sort_keys=False, allow_unicode=True, width=120)
    return f"# Written by tools/write_manifest.py from methods, formats and preferences; do not edit.\n{text}"


def _field(preference: Any) -> dict[str, Any]:
    """A preference in the words of JSON Schema."""
    field = {
        "title": preference.title,
        "description": preference.text,
        "type": _TYPES[preference.type],
        "default": preference.default,
    }
    names = {"ge": "minimum", "le": "maximum"}
    field |= {names[key]: bound for key, bound in preference.bounds.items()}
    return {**field, "enum": list(preference.choices)} if preference.choices else field


if __name__ == "__main__":
    from napari_pristine.gui.preferences import Preferences
    from napari_pristine.io.vendors import KINDS
    from napari_pristine.methods import METHODS
    from napari_pristine.settings import settings_of

    found = [suffix for kind in KINDS for suffix in kind.suffixes]
    MANIFEST.write_text(manifest(METHODS, found, settings_of(Preferences)), encoding="utf-8")

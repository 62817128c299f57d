"""Preferences of the panels: the page of this plugin in the preferences of napari, from 0.9 on."""

from __future__ import annotations

from typing import Any, Literal

from napari_pristine.errors import PristineError
from napari_pristine.resources import Device
from napari_pristine.settings import Params, make, setting

PLUGIN, PAGE = "napari-pristine", "restore"
"""Names by which napari finds the preferences; the manifest is made from what is declared here."""


class Preferences(Params):
    """Choices that a panel starts with."""

    effort: Literal["Quick", "Balanced", "Best"] = setting("Balanced", "Effort that is chosen first.")
    device: Device = setting("auto", "Processor that is chosen first.")
    ask_after: int = setting(
        60, "Ask before a restoration that takes longer, in minutes.", title="Ask after (minutes)", ge=1, le=100_000
    )


def read_preferences() -> Preferences:
    """The preferences that the user has set in napari; the defaults if it has none, as before 0.9."""
    try:
        from napari.settings import get_plugin_settings  # new in napari 0.9
    except ImportError:
        return Preferences()
    try:
        page: Any = getattr(get_plugin_settings(PLUGIN), PAGE)
        return make(Preferences, {name: getattr(page, name) for name in Preferences.model_fields})
    except (KeyError, AttributeError, PristineError):  # the plugin is not installed; a file that somebody has edited
        return Preferences()

"""Hooks of mkdocs: pages of all methods in the navigation, and tables of settings for `<!-- settings: KEY -->`."""

from __future__ import annotations

import re
from typing import Any

from napari_pristine.methods import METHODS, find_method
from napari_pristine.settings import settings_of


def settings_table(key: str) -> str:
    """All settings of a method with their values in each preset, as a Markdown table."""
    method = find_method(key)
    presets = {name: method.settings(name) for name in method.presets}
    rows = [
        f"| Setting | What it does | {' | '.join(f'`{name}`' for name in presets)} | Allowed |",
        "|" + "---|" * (len(presets) + 3),
    ]
    for setting in settings_of(method.params):
        name = f"`{setting.name}`<br>{setting.title}" + (f" ({setting.unit})" if setting.unit else "")
        higher = f" Higher: {setting.higher}." if setting.higher else ""
        condition = f" *{setting.condition[0].upper()}{setting.condition[1:]}.*" if setting.condition else ""
        values = [_text(getattr(params, setting.name), setting.none) for params in presets.values()]
        allowed = setting.allowed + (f", or none: {setting.none}" if setting.optional else "")
        rows.append(f"| {name} | {setting.text}{higher}{condition} | {' | '.join(values)} | {allowed} |")
    return "\n".join(rows)


def _text(value: Any, none: str) -> str:
    if value is None or value == ():
        return none
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def on_config(config: Any) -> Any:
    """Called by mkdocs with the configuration: fill in the navigation."""
    for section in config["nav"]:
        if "Methods" in section:
            section["Methods"] = [{method.title: f"methods/{key}.md"} for key, method in METHODS.items()]
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page; examples with methods that do not exist stay as they are."""
    return re.sub(
        r"<!-- settings: (\w+) -->",
        lambda match: settings_table(match[1]) if match[1] in METHODS else match[0],
        markdown,
    )

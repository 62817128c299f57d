"""Recipes as files: YAML that people can read and write, and that no file can misuse."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from napari_pristine.errors import FileError, PristineError, SettingError
from napari_pristine.io.atomic import appearing
from napari_pristine.methods import METHODS, find_method
from napari_pristine.model import load_model
from napari_pristine.recipe import Recipe, map_paths, newer_version_hint
from napari_pristine.settings import Setting, make, settings_of, shorten

SUFFIXES = (".yaml", ".yml", ".json")
_LARGEST = 2**17
"""Bytes; a recipe has three thousand, and YAML takes seconds to read a million."""
_LARGEST_JSON = 2**23
"""Bytes; what lies beside a result holds a thousand notes, too."""
_COLUMN = 32
"""Where the comments stand."""


def save_recipe(path: str | os.PathLike[str], recipe: Recipe, *, overwrite: bool = False) -> None:
    """Write a recipe to a YAML file, with what each of its settings means; it appears when it is complete.

    Raises:
        FileError: The file exists and `overwrite` is not set, has another suffix, or cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES[:2]:
        raise FileError(f"'{path}' has the suffix '{path.suffix}'; recipes are .yaml files: give such a name")
    with appearing(path, overwrite=overwrite) as part:
        part.write_text("\n".join(_lines(recipe)) + "\n", encoding="utf-8")


def load_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe from a YAML or JSON file, such as that beside a result of a batch.

    Files that it names relatively are those in its own folder.

    Raises:
        FileError: There is no such file, it cannot be read, or holds no recipe.
        SettingError: Something in it is unknown or out of range; the message names it.
    """
    path = Path(path)
    values = _mapping(path, _read(path))
    try:
        if "settings" in values:
            values["settings"] = _with_folder(path, values["settings"])
        return make(Recipe, _with_model_settings(_with_folder(path, values)))
    except PristineError as error:
        raise SettingError(f"'{path}': {error}{newer_version_hint(values.get('version'))}") from error


def _with_model_settings(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe with a model has the method and settings that the model learned with, but for settings of its own.

    Raises:
        PristineError: The model cannot be read, or the recipe names another method or preset.
    """
    settings, method = values.get("settings") or {}, str(values.get("method") or "")
    if not values.get("model") or not isinstance(settings, Mapping) or (method and method not in METHODS):
        return values  # for the recipe to complain of, if there is a reason
    if method and set(find_method(method).params.model_fields) <= set(settings):
        return values  # as `save_recipe` writes it
    learned = load_model(str(values["model"])).recipe
    if method not in ("", learned.method):
        raise SettingError(
            f"method '{method}' does not go with the model, which has learned by {learned.method}; "
            f"write 'method: {learned.method}', or leave method out"
        )
    if values.get("preset") not in (None, learned.preset):
        raise SettingError(
            f"preset '{values['preset']}' does not go with the model, which has learned with preset {learned.preset}; "
            "leave preset out, and change single settings if need be"
        )
    settings = {**learned.settings, **settings}
    return {**values, "method": learned.method, "preset": learned.preset, "settings": settings}


def _lines(recipe: Recipe) -> Iterator[str]:
    yield "# A recipe of napari-pristine. Restore images like this by: pristine batch RECIPE INPUT... -o FOLDER"
    inner = {setting.name: setting for setting in settings_of(find_method(recipe.method).params)}
    values = recipe.model_dump(mode="json")
    for setting in settings_of(Recipe):
        value = values[setting.name]
        if not (isinstance(value, Mapping) and value):
            yield _line("", setting.name, value, setting)
            continue
        yield _line("", setting.name, None, setting)
        for name, item in value.items():
            yield _line("  ", name, item, inner.get(name) if setting.name == "settings" else None)


def _line(indent: str, name: str, value: Any, setting: Setting | None) -> str:
    """One name and its value, and what it means; a mapping's values follow on lines of their own."""
    heads = setting is not None and setting.type not in (int, float, bool, str) and value is None
    line = f"{indent}{_scalar(name)}:" if heads else f"{indent}{_scalar(name)}: {_scalar(value)}"
    return line if setting is None else f"{line:<{_COLUMN}}  # {_comment(setting)}"


def _comment(setting: Setting) -> str:
    limited = bool(setting.choices or setting.bounds)
    facts = (
        f"in {setting.unit}" if setting.unit else "",
        f"allowed: {setting.allowed}" if limited else "",
        f"null: {setting.none}" if setting.optional else "",
    )
    said = "; ".join(fact for fact in facts if fact)
    return f"{setting.text} [{said}]" if said else setting.text


def _scalar(value: Any) -> str:
    """A value as YAML on one line, the same to readers of YAML 1.1 and 1.2."""
    if isinstance(value, str):
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", value) and yaml.safe_load(value) == value:
            return value
        text = yaml.safe_dump(value, default_style='"', width=2**31, allow_unicode=True)
        return text.removesuffix("\n")
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n...")


def _read(path: Path) -> str:
    if path.is_dir():
        raise FileError(f"'{path}' is a folder; give a recipe in it, a .yaml file")
    if path.exists() and not path.is_file():
        raise FileError(f"'{path}' is no file; give a recipe, a .yaml file")
    largest = _LARGEST_JSON if path.suffix.lower() == ".json" else _LARGEST
    try:
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except FileNotFoundError:
        raise FileError(f"'{path}' does not exist; check the name") from None
    except (OSError, ValueError) as error:  # the latter of names that no file can have
        raise FileError(f"'{path}' cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > largest:
        raise FileError(f"'{path}' is too large for a recipe (more than {largest} bytes); is it another file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FileError(f"'{path}' is no recipe: it is no text in UTF-8; give a .yaml file") from None


def _mapping(path: Path, text: str) -> dict[str, Any]:
    """What stands in a recipe, before it is checked."""
    try:
        found = _parse(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        reason = shorten(", ".join(part for part in (error.context, error.problem) if part))
        raise FileError(f"'{path}' cannot be read as a recipe: {where}{reason}; correct it there") from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else shorten(str(error))
        raise FileError(f"'{path}' cannot be read as a recipe: {reason}") from None
    if isinstance(found, dict) and "method" not in found and isinstance(found.get("recipe"), dict):
        found = found["recipe"]  # of a result, from the file beside it
    if not isinstance(found, dict) or not {"method", "model"} & found.keys():
        what = "it names no method" if isinstance(found, dict) else "it holds no names with values"
        raise FileError(f"'{path}' is no recipe: {what}; a recipe has a line such as 'method: inr'")
    return found


def _parse(text: str) -> Any:
    """JSON, and YAML without tags and references; all that is no name with values is text, or nothing.

    What a text means is the setting's business, as in the shell: YAML has its own view of `1:10` and `1e-4`.

    Raises:
        YAMLError, ValueError, OverflowError, RecursionError: It is neither, or something is there twice.
    """
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text, object_pairs_hook=_unique)
        except json.JSONDecodeError:
            pass  # YAML knows braces too
    if len(text) > _LARGEST:
        raise ValueError(f"it is too large (more than {_LARGEST} letters) for anything but JSON")
    loader = _Loader(text)
    try:
        return _plain(loader.get_single_node())
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """YAML without what a recipe has no use for: tags make objects, references make a large thing of a small file."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if event.anchor is not None:  # of an alias, too
            raise yaml.MarkedYAMLError(problem="references (& and *) have no place here", problem_mark=event.start_mark)
        if event.tag is not None:
            raise yaml.MarkedYAMLError(problem="tags (!) have no place here", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


def _plain(node: yaml.Node | None) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _unique([(_name(key), _plain(value)) for key, value in node.value])
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    if not isinstance(node, yaml.ScalarNode):
        return None  # there is nothing in the file
    return None if node.style is None and node.value.lower() in ("", "~", "null") else node.value


def _name(key: yaml.Node) -> str:
    if not isinstance(key, yaml.ScalarNode):
        raise yaml.MarkedYAMLError(problem="a name has to be a single word", problem_mark=key.start_mark)
    return str(key.value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Names with values, none of them twice: which one counts would be a guess."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"'{shorten(name)}' is there twice; keep one of them")
        found[name] = value
    return found


def _with_folder(path: Path, values: Any) -> Any:
    """Values of a recipe with the names of files that are relative to its folder."""
    if not isinstance(values, dict):
        return values  # the recipe reports it
    return map_paths(values, lambda name: _in_folder(path, name))


def _in_folder(path: Path, name: str) -> str:
    if not name or name.startswith("~"):
        return name
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute()
    return name if absolute else str(path.absolute().parent / name)

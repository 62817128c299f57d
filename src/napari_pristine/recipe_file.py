"""Recipe files: YAML that people can read and write; nothing in a file can run or take much memory."""

from __future__ import annotations

import html
import json
import os
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from napari_pristine.errors import FileError, PristineError, SettingError
from napari_pristine.io.atomic import atomic_write
from napari_pristine.methods import METHODS, find_method
from napari_pristine.model import load_model
from napari_pristine.recipe import Recipe, map_paths, newer_version_hint
from napari_pristine.settings import Setting, make, settings_of, shorten

SUFFIXES = (".yaml", ".yml", ".json", ".html")
"""Suffixes of files that hold a recipe: recipes, the sidecars of results, and reports of batches."""
_LARGEST = 2**17
"""Maximum size of a YAML file in bytes; a recipe has three thousand, and YAML takes seconds to parse a million."""
_LARGEST_JSON = 2**23
"""Maximum size of a JSON file in bytes; the sidecar of a result also holds up to a thousand notes."""
_IN_REPORT = re.compile(r'<pre id="recipe">(.*?)</pre>', re.DOTALL)
"""The recipe in the report of a batch, near its beginning."""
_COLUMN = 32
"""Column of the comments."""


def save_recipe(path: str | os.PathLike[str], recipe: Recipe, *, overwrite: bool = False) -> None:
    """Write a recipe to a YAML file, with a comment on each setting.

    Raises:
        FileError: The file exists and `overwrite` is not set, has another suffix, or cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES[:2]:
        raise FileError(f"'{path}' has the suffix '{path.suffix}'; recipes are .yaml files: give such a name")
    with atomic_write(path, overwrite=overwrite) as part:
        part.write_text("\n".join(_lines(recipe)) + "\n", encoding="utf-8")


def load_recipe(path: str | os.PathLike[str]) -> Recipe:
    """Read a recipe from a YAML or JSON file, such as that beside a result, or from the report of a batch.

    Relative names of files are relative to the folder of the recipe.

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


def recipe_of(facts: Recipe | Mapping[str, Any]) -> Recipe:
    """The recipe in the description of a result: in a sidecar, or in the metadata of a file or of a layer of napari.

    Raises:
        SettingError: There is none, or something in it is unknown or out of range.
    """
    if isinstance(facts, Recipe):
        return facts
    found = facts.get("pristine", facts)
    values = found.get("recipe") if isinstance(found, Mapping) else None
    if not isinstance(values, Mapping):
        raise SettingError("there is no recipe in these metadata; take a result of napari-pristine")
    try:
        return make(Recipe, values)
    except PristineError as error:
        raise SettingError(f"{error}{newer_version_hint(values.get('version'))}") from error


def _with_model_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Complete a recipe that names a model with the method and settings that the model was trained with.

    Raises:
        PristineError: The model cannot be read, or the recipe names another method or preset.
    """
    settings, method = values.get("settings") or {}, str(values.get("method") or "")
    if not values.get("model") or not isinstance(settings, Mapping) or (method and method not in METHODS):
        return values  # the recipe reports what is wrong
    if method and set(find_method(method).params.model_fields) <= set(settings):
        return values  # as `save_recipe` writes it
    trained = load_model(str(values["model"])).recipe
    if method not in ("", trained.method):
        raise SettingError(
            f"method '{method}' does not fit the model, which was trained with {trained.method}; "
            f"write 'method: {trained.method}', or leave method out"
        )
    if values.get("preset") not in (None, trained.preset):
        raise SettingError(
            f"preset '{values['preset']}' does not fit the model, which was trained with preset {trained.preset}; "
            "leave preset out, and change single settings if need be"
        )
    settings = {**trained.settings, **settings}
    return {**values, "method": trained.method, "preset": trained.preset, "settings": settings}


def _lines(recipe: Recipe) -> Iterator[str]:
    yield "# A recipe of napari-pristine. To restore images with it: pristine batch RECIPE INPUT... -o FOLDER"
    inner = {setting.name: setting for setting in settings_of(find_method(recipe.method).params)}
    values = recipe.model_dump(mode="json")
    for setting in settings_of(Recipe):
        value = values[setting.name]
        if not (isinstance(value, Mapping) and value):
            yield _line("", setting.name, value, setting)
            continue
        yield _line("", setting.name, None, setting)
        for name, item in value.items():
            declared = inner.get(name) if setting.name == "settings" else None
            if isinstance(item, (list, tuple)) and item:
                yield _line("  ", name, None, declared)
                listed = yaml.safe_dump(list(item), sort_keys=False, allow_unicode=True, width=2**31)
                yield from textwrap.indent(listed, "    ").splitlines()
            else:
                yield _line("  ", name, item, declared)


def _line(indent: str, name: str, value: Any, setting: Setting | None) -> str:
    """Format one name with its value and a comment; the items of a mapping follow on lines of their own."""
    heads = value is None and (setting is None or setting.type not in (int, float, bool, str))
    line = f"{indent}{_scalar(name)}:" if heads else f"{indent}{_scalar(name)}: {_scalar(value)}"
    return line if setting is None else f"{line:<{_COLUMN}}  # {_comment(setting)}"


def _comment(setting: Setting) -> str:
    limited = bool(setting.choices or setting.bounds)
    facts = (
        f"in {setting.unit}" if setting.unit else "",
        f"allowed: {setting.allowed}" if limited else "",
        f"null: {setting.none}" if setting.optional else "",
    )
    details = "; ".join(fact for fact in facts if fact)
    return f"{setting.text} [{details}]" if details else setting.text


def _scalar(value: Any) -> str:
    """Format a value as YAML on one line, with the same meaning in YAML 1.1 and 1.2."""
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
        raise FileError(f"'{path}' is not a file; give a recipe, a .yaml file")
    is_report = path.suffix.lower() == ".html"
    largest = _LARGEST if path.suffix.lower() in SUFFIXES[:2] else _LARGEST_JSON
    try:
        with path.open("rb") as file:
            data = file.read(largest + 1)
    except FileNotFoundError:
        raise FileError(f"'{path}' does not exist; check the name") from None
    except (OSError, ValueError) as error:  # ValueError: names that no file can have
        raise FileError(f"'{path}' cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if is_report:
        return _recipe_in_report(path, data.decode("utf-8", errors="replace"))
    if len(data) > largest:
        raise FileError(f"'{path}' is too large for a recipe (more than {largest} bytes); is it another file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FileError(f"'{path}' is not a recipe: it is not text in UTF-8; give a .yaml file") from None


def _recipe_in_report(path: Path, page: str) -> str:
    """The text of the recipe in the report of a batch.

    Raises:
        FileError: There is none, or there are several.
    """
    if found := _IN_REPORT.search(page):
        return html.unescape(found[1])
    raise FileError(
        f"'{path}' holds no recipe, or shows results of several; give the file NAME.json beside one of the results"
    )


def _mapping(path: Path, text: str) -> dict[str, Any]:
    """Parse the text of a recipe, before its values are checked."""
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
        found = found["recipe"]  # the sidecar of a result
    if not isinstance(found, dict) or not {"method", "model"} & found.keys():
        what = "it names no method" if isinstance(found, dict) else "it has no lines such as 'name: value'"
        raise FileError(f"'{path}' is not a recipe: {what}; a recipe has a line such as 'method: inr'")
    return found


def _parse(text: str) -> Any:
    """Parse JSON, or YAML without tags and references, into mappings, lists, texts and `None`.

    Each setting converts its text, as in the shell: YAML would read `1:10` and `1e-4` in its own way.

    Raises:
        YAMLError, ValueError, OverflowError, RecursionError: It is neither, or a name appears twice.
    """
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text, object_pairs_hook=_unique)
        except json.JSONDecodeError:
            pass  # YAML may begin with a brace, too
    if len(text) > _LARGEST:
        raise ValueError(f"it is too large (more than {_LARGEST} characters); only JSON may be larger")
    loader = _Loader(text)
    try:
        return _plain(loader.get_single_node())
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """YAML without tags (they make objects) and references (they can expand to any size)."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if event.anchor is not None:  # aliases have one, too
            raise yaml.MarkedYAMLError(
                problem="references (& and *) are not allowed in a recipe", problem_mark=event.start_mark
            )
        if event.tag is not None:
            raise yaml.MarkedYAMLError(problem="tags (!) are not allowed in a recipe", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


def _plain(node: yaml.Node | None) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _unique([(_name(key), _plain(value)) for key, value in node.value])
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    if not isinstance(node, yaml.ScalarNode):
        return None  # the file is empty
    return None if node.style is None and node.value.lower() in ("", "~", "null") else node.value


def _name(key: yaml.Node) -> str:
    if not isinstance(key, yaml.ScalarNode):
        raise yaml.MarkedYAMLError(problem="a name must be a single word", problem_mark=key.start_mark)
    return str(key.value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a mapping; raise a `ValueError` if a name appears twice, since which value counts would be a guess."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"'{shorten(name)}' appears twice; keep one of them")
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

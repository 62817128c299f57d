"""A recipe as Python code, as a shell command, and as a paragraph for the methods section of a paper."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from napari_pristine import __version__
from napari_pristine.errors import SettingError
from napari_pristine.image.image import Image
from napari_pristine.io.metadata import stem_of
from napari_pristine.io.registry import result_name
from napari_pristine.methods import find_method
from napari_pristine.methods.degradation import ExtraImage
from napari_pristine.methods.method import Method
from napari_pristine.model import load_model
from napari_pristine.recipe import Recipe, map_paths
from napari_pristine.recipe_file import recipe_of
from napari_pristine.settings import Params, Setting, settings_of

_LINE = 88
"""Maximum length of a line of Python."""
_EXTRA_IMAGES = "extra_images"
"""Setting that lists images with settings of their own."""
_RECORDS = ("inputs", "version")
"""Fields of a recipe that record how it was used, and change nothing."""
_SUFFIXES = {"same": "", "ome-tiff": ".ome.tif"}
"""Suffix of results by format; empty for that of the image. All others are OME-Zarr."""


def as_python(recipe: Recipe, source: Path | Image, *, threads: int | None = None) -> str:
    """Python code that restores an image as the recipe says; it writes the result beside a file.

    Args:
        recipe: The recipe; only what differs from the defaults and the preset is written.
        source: File of the image; or the image, if it is a layer of napari that is not in a file: then its name is
            that of the layer, and the code is for the console of napari.
        threads: Threads to compute with: results of trained networks depend on their number in the last digits.

    Raises:
        SettingError: The recipe depends on something that is not in a file.
    """
    _check_files(recipe)
    lines = ["import napari_pristine as pristine", ""]
    fields = _changed_fields(recipe, _preset_settings(recipe), source if isinstance(source, Path) else None)
    lines += _call("recipe = pristine.Recipe", (), fields)
    if isinstance(source, Path):
        given = [f"{name}=recipe.{name}" for name in ("axes", "series") if name in fields]
        lines += _call("image = pristine.read", (repr(str(source.absolute())), *given), {})
    else:
        plain = {name: getattr(source, name) for name in ("axes", "scale", "units", "name")}
        plain["scale"] = tuple(float(step) for step in source.scale)
        lines += _call("image = pristine.Image", (f"viewer.layers[{source.name!r}].data",), plain)
    extra = {} if threads is None else {"threads": threads}
    lines += _call("result = pristine.restore", ("image", "recipe=recipe"), extra)
    if isinstance(source, Path):
        target, widths = (str(path) for path in _targets(recipe, source))
        lines += _call("pristine.write", (repr(target), "result.image", "provenance=result.provenance()"), {})
        if recipe.uncertainty:
            lines += _call("pristine.write", (repr(widths), "result.uncertainty"), {})
    return "\n".join(lines) + "\n"


def as_shell(recipe: Recipe, source: Path, *, threads: int | None = None) -> str:
    """A command for bash that restores a file as the recipe says, and writes the result beside it.

    The choice of `auto` is not named: it chooses the same again.

    Args:
        recipe: The recipe; only what differs from the defaults and the preset, or from those of its model, is written.
        source: File of the image.
        threads: Threads to compute with: results of trained networks depend on their number in the last digits.

    Raises:
        PristineError: The recipe depends on something that is not in a file, or its model cannot be read.
    """
    _check_files(recipe)
    target, widths = _targets(recipe, source)
    words = ["pristine", "restore", str(source.absolute()), "-o", str(target)]
    trained = load_model(recipe.model).recipe if recipe.model else None
    fields = _changed_fields(recipe, _preset_settings(recipe) if trained is None else trained.settings, source)
    if trained is not None:
        del fields["preset"]  # a model has settings of its own
    for name, value in fields.items():
        option = f"--{name.replace('_', '-')}"
        if name in ("format", "choice"):  # the suffix of the result says the first
            continue
        if name == "uncertainty":
            words += [option, str(widths)]
        elif name == "settings":
            words += _pairs("--set", {key: _setting_text(item) for key, item in value.items()})
        elif isinstance(value, Mapping):
            words += _pairs(option, value)
        elif isinstance(value, list):
            words += [word for item in value for word in (option, str(item))]
        elif isinstance(value, bool):
            words.append(option)
        else:
            words += [option, str(value)]
    if threads is not None:
        words += ["--threads", str(threads)]
    return shlex.join(words)


def methods_paragraph(facts: Recipe | Mapping[str, Any]) -> str:
    """A paragraph on a restoration for the methods section of a paper.

    Args:
        facts: A recipe; or how a result was made, as in its sidecar, its file or the metadata of its layer, which also
            says the measured noise and the versions of the software.

    Raises:
        SettingError: There is no recipe in it.
    """
    recipe = recipe_of(facts)
    known = facts.get("pristine", facts) if isinstance(facts, Mapping) else {}
    quality, versions = known.get("quality") or {}, known.get("versions") or {}
    software = f"napari-pristine {versions.get('napari-pristine', recipe.version or __version__)}"
    method, preset = find_method(recipe.method), recipe.preset
    chosen = f"“{method.title}” (preset “{preset}”; {method.cite})"
    if recipe.choice is not None:
        method = find_method(recipe.choice.method)
        chosen = (
            f"“{method.title}” (preset “{recipe.choice.preset}”; {method.cite}), which it chose for the least error "
            "estimated from the noisy image"
        )
    sentences = [f"Noise was removed with {software} by the method {chosen}"]
    changed = list(_described_changes(recipe))
    sentences.append(f"Settings that differ from its defaults: {', '.join(changed)}" if changed else "")
    if noise := quality.get("sigma"):
        sentences.append(
            f"The noise level measured in the image was {noise:.3g} grey values, and the root mean square of what was "
            f"removed {quality.get('residual', 0):.2f} times that"
        )
    if recipe.choice is not None and recipe.choice.error is not None:
        sentences.append(
            "The root mean square error of the result, estimated without a reference, is "
            f"{recipe.choice.error**0.5:.2f} times the noise level"
        )
    others = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "napari-pristine")
    device = f"on {known['device']}" if known.get("device") else ""
    computed = " ".join(filter(None, (device, f"with {others}" if others else "")))
    sentences.append(f"It was computed {computed}" if computed else "")
    return " ".join(f"{sentence}." for sentence in sentences if sentence)


def _check_files(recipe: Recipe) -> None:
    """Raise a `SettingError` if the recipe depends on something that was given as an object."""
    if missing := [role.replace("_", " ") for role, file in recipe.inputs.items() if not file.path]:
        raise SettingError(
            f"not in a file: the {' and the '.join(missing)} of this restoration; "
            "save it to a file, and restore the image with that"
        )


def _preset_settings(recipe: Recipe) -> dict[str, Any]:
    """The settings of the preset of a recipe."""
    settings: Params = find_method(recipe.method).settings(recipe.preset)
    return settings.model_dump(mode="json")


def _changed_fields(recipe: Recipe, settings: Mapping[str, Any], source: Path | None = None) -> dict[str, Any]:
    """Fields of a recipe that differ from their defaults, with the settings that differ from others; plain values.

    Method and preset are always there.

    Args:
        recipe: The recipe.
        settings: Settings to compare its settings with.
        source: File of the image: names of files that exist, in the working folder or beside it, become absolute.
    """

    def absolute(name: str) -> str:
        folders = [] if source is None else [Path(), source.parent]
        files = [folder / Path(name).expanduser() for folder in folders if name]
        return next((str(file.absolute()) for file in files if file.exists()), name)

    values = map_paths(recipe.model_dump(mode="json", exclude=set(_RECORDS)), absolute)
    changed = {name: value for name, value in values["settings"].items() if value != settings.get(name)}
    values["settings"] = map_paths(changed, absolute)
    if _EXTRA_IMAGES in changed:
        images = [{**image, "file": absolute(image["file"])} for image in values["settings"][_EXTRA_IMAGES]]
        values["settings"][_EXTRA_IMAGES] = [_unlike_default(ExtraImage, image) for image in images]
    return {name: values[name] for name in ("method", "preset")} | _unlike_default(Recipe, values)


def _unlike_default(params: type[Params], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the values of settings that are not their defaults."""
    defaults = {setting.name: setting.default for setting in settings_of(params)}
    return {name: value for name, value in values.items() if value != defaults[name]}


def _targets(recipe: Recipe, source: Path) -> tuple[Path, Path]:
    """Names for the result of a file, and for its uncertainty, beside it."""
    stem = f"{stem_of(source)} restored"
    suffix = _SUFFIXES.get(recipe.format, ".ome.zarr")
    if not suffix:
        named = Path(result_name(source))
        suffix = named.name.removeprefix(stem_of(named))
    folder = source.absolute().parent
    return folder / f"{stem}{suffix}", folder / f"{stem}.uncertainty.ome.tif"


def _call(head: str, given: tuple[str, ...], named: Mapping[str, Any]) -> Iterator[str]:
    """Lines of a call in Python: one, or one for each argument if that is too long."""
    arguments = [*given, *(f"{name}={value!r}" for name, value in named.items())]
    line = f"{head}({', '.join(arguments)})"
    if len(line) <= _LINE:
        yield line
        return
    yield f"{head}("
    yield from (f"    {argument}," for argument in given)
    for name, value in named.items():
        if isinstance(value, dict) and len(f"    {name}={value!r},") > _LINE:
            yield f"    {name}={{"
            yield from (f"        {key!r}: {item!r}," for key, item in value.items())
            yield "    },"
        else:
            yield f"    {name}={value!r},"
    yield ")"


def _pairs(option: str, values: Mapping[str, Any]) -> list[str]:
    return [word for name, value in values.items() for word in (option, f"{name}={value}")]


def _setting_text(value: Any) -> str:
    """The value of a setting as `--set` reads it."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return "; ".join(map(_extra_image_text, value))
    return str(value)


def _extra_image_text(image: Mapping[str, Any]) -> str:
    """An extra image of a scene as `--set extra_images` reads it."""
    pairs = [f'{name}="{value}"' for name, value in image.items() if name != "file"]
    return " ".join([*([f'"{image["file"]}"'] if "file" in image else []), *pairs]) or "finer=1"


def _described_changes(recipe: Recipe) -> Iterator[str]:
    """Changed settings and fields of a recipe in words."""
    method: Method[Any, Any] = find_method(recipe.method)
    fields = _changed_fields(recipe, _preset_settings(recipe))
    declared = {field.name: field for params in (Recipe, method.params) for field in settings_of(params)}
    settings = fields.pop("settings", {})
    for name in ("method", "preset", "choice", "device", "format", "uncertainty"):  # said elsewhere, or no change
        fields.pop(name, None)
    for name, value in {**fields, **settings}.items():
        yield f"{name.replace('_', ' ')} {_described_value(value, declared[name])}"


def _described_value(value: Any, setting: Setting) -> str:
    if value is None:
        return setting.none
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        return " and ".join(f"{key} {item}" for key, item in value.items())
    if isinstance(value, list):
        return " and ".join(str(item.get("file") or item) if isinstance(item, Mapping) else str(item) for item in value)
    if isinstance(value, str) and setting.name in ("mask", "model"):
        return f"“{Path(value).name}”"
    return f"{value} {setting.unit}".rstrip()

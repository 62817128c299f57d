"""Inputs: the images named by files, folders and patterns, and what else lies among them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from napari_pristine.batch.store import HIDDEN, SIDECAR, read_sidecar
from napari_pristine.errors import FileError
from napari_pristine.io.registry import SUFFIXES, export_advice

_IMAGE_FOLDERS = (".zarr",)
"""Suffixes of folders that are one image each."""
REPORTS = ("report.csv", "report.html")
"""Files that a batch lays beside its results."""
_FOLDER_LINK = "a link to a folder, which is not followed; name that folder"
_NO_FILE = "no file that can be read, but a pipe, a socket or a device"
_EARLIER = "a result of an earlier batch; name the file itself, or a pattern, to restore it again"


@dataclass(frozen=True)
class Input:
    """A file to restore.

    Attributes:
        path: Where it is.
        inside: Its place among the results: that in the folder that was named, which is part of it where several
            were; its name alone where it was named itself.
        problem: Why it is none that can be restored, if its name says so.
    """

    path: Path
    inside: Path
    problem: str = ""


def find_inputs(names: Sequence[str]) -> list[Path]:
    """The files named; patterns such as `*.tif` are resolved where the shell has left them as they are."""
    found: list[Path] = []
    for name in names:
        matches = sorted(glob.glob(name)) if glob.has_magic(name) and not Path(name).exists() else []
        found += [Path(match) for match in matches] or [Path(name)]
    return found


def inputs_of(names: Sequence[str], output: Path | None = None) -> list[Input]:
    """All that files, folders (with all folders in them) and patterns name, each once, in order.

    What a folder holds beside images is named with its problem; hidden files, and what a batch has said of its
    results, are not looked at. Nor is what lies in
    the folder of the results, if that is in a folder that is named; and if it is that folder itself, its results.
    Results of earlier batches have a problem, too, unless there is nothing else in the folder.

    Raises:
        FileError: A name is that of nothing.
    """
    paths, found = find_inputs(names), dict[str, Input]()
    _check_there(paths)
    several = sum(_is_folder(path) for path in paths) > 1
    for path in paths:
        for one in _searched(path, output) if _is_folder(path) else [_named(path)]:
            above = Path(os.path.abspath(path)).name if several and _is_folder(path) else ""
            found.setdefault(os.path.abspath(one.path), replace(one, inside=above / one.inside))
    return list(found.values())


def _is_folder(path: Path) -> bool:
    """Whether it is a folder of images."""
    return path.is_dir() and path.suffix.lower() not in _IMAGE_FOLDERS


def _check_there(paths: Sequence[Path]) -> None:
    """Raise a `FileError` for what was misspelt. Links that lead nowhere are told of like other bad files."""
    missing = [path for path in paths if not os.path.lexists(path)]
    if not missing:
        return
    more = f" (and {len(missing) - 1} more of what was named)" if len(missing) > 1 else ""
    name = missing[0]
    what = f"nothing matches '{name}'" if glob.has_magic(str(name)) else f"'{name}' does not exist"
    raise FileError(f"{what}{more}; check the name")


def _named(path: Path) -> Input:
    odd = path.exists() and not path.is_file() and not path.is_dir()
    return Input(path, Path(path.name), _NO_FILE if odd else "")


def _searched(folder: Path, output: Path | None) -> list[Input]:
    """All files in a folder; who names one that holds results alone wants these."""
    found = list(_walk(folder, output))
    if all(one.problem == _EARLIER for one in found):
        return [replace(one, problem="") for one in found]
    return found


def _walk(folder: Path, output: Path | None) -> Iterator[Input]:
    """All files in a folder; links to folders are not followed, since they may lead in circles."""
    errors: list[OSError] = []
    for here, folders, files in os.walk(folder, onerror=errors.append):
        at = Path(here)
        images = [name for name in folders if name.lower().endswith(_IMAGE_FOLDERS)]
        links = [name for name in folders if (at / name).is_symlink() and name not in images]
        inner = [name for name in folders if name not in images + links and not name.startswith(".")]
        folders[:] = sorted(name for name in inner if not _is(at / name, output))
        results = _results(at)
        ours = {f"{name}{SIDECAR}" for name in results}.union(REPORTS)
        if _is_in(at, output):
            ours |= results | _growing(at)
        for name in sorted(files + images + links):
            path = at / name
            problem = _FOLDER_LINK if name in links else _problem(path)
            if not name.startswith(".") and name not in ours:
                yield Input(path, path.relative_to(folder), _EARLIER if name in results else problem)
    for error in errors:  # to be told when it is opened
        path = Path(os.fsdecode(error.filename))
        yield Input(path, path.relative_to(folder))


def _is(folder: Path, output: Path | None) -> bool:
    return output is not None and os.path.realpath(folder) == os.path.realpath(output)


def _is_in(folder: Path, output: Path | None) -> bool:
    """Whether a folder is that of the results, or inside of it."""
    return output is not None and Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(output))


def _results(folder: Path) -> set[str]:
    """What a batch has put into a folder, by the files that it lays beside; no other files are opened."""
    names = {name.removesuffix(SIDECAR) for name in os.listdir(folder) if name.endswith(SIDECAR)}
    return {name for name in names if _is_image(Path(name)) and "identity" in read_sidecar(folder / name)}


def _growing(folder: Path) -> set[str]:
    """What a batch was about to put there."""
    return set(os.listdir(folder / HIDDEN)) if (folder / HIDDEN).is_dir() else set()


def _is_image(path: Path) -> bool:
    """Whether it is one by its name."""
    return path.suffix.lower() in (*SUFFIXES, *_IMAGE_FOLDERS)


def _problem(path: Path) -> str:
    """Why what lies in a folder is not restored, as far as its name and kind say so."""
    suffix = path.suffix.lower()
    if not _is_image(path):
        kind = f"suffix '{suffix}'" if suffix else "no suffix"
        return f"no image that can be read ({kind}){export_advice(suffix)}"
    return _named(path).problem

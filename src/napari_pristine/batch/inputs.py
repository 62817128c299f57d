"""Inputs of a batch: the images among files, folders and patterns, and the reason for each other file."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from napari_pristine.batch.store import HIDDEN, SIDECAR, read_sidecar
from napari_pristine.errors import FileError
from napari_pristine.io.registry import SUFFIXES, export_advice

IMAGE_FOLDERS = (".zarr",)
"""Suffixes of folders that are one image each."""
REPORTS = ("report.csv", "report.html")
"""Names of the reports beside the results."""
_FOLDER_LINK = "a link to a folder, which is not followed; name that folder"
_NOT_A_FILE = "a pipe, a socket or a device, which cannot be read as an image"
_EARLIER_RESULT = "a result of an earlier batch; name the file itself, or a pattern, to restore it again"


@dataclass(frozen=True)
class Input:
    """A file to restore.

    Attributes:
        path: The file.
        inside: Path of its result inside the folder of results: that inside the folder that was named, with the name
            of this folder if several were named; the name of the file if the file itself was named.
        problem: Reason that it cannot be restored, as far as its name and kind tell; empty if it can.
    """

    path: Path
    inside: Path
    problem: str = ""


def expand_patterns(names: Sequence[str]) -> list[Path]:
    """Paths from the command line; patterns such as `*.tif` are resolved where the shell has left them as they are."""
    found: list[Path] = []
    for name in names:
        matches = sorted(glob.glob(name)) if glob.has_magic(name) and not Path(name).exists() else []
        found += [Path(match) for match in matches] or [Path(name)]
    return found


def find_inputs(names: Sequence[str], output: Path | None = None) -> list[Input]:
    """Find all files that are named, in folders and all folders inside, or match a pattern; each once, in order.

    Files in folders that are no images are listed with their problem, and so are results of earlier batches, unless
    a folder holds nothing else. Hidden files, sidecars, reports and the results in `output` are left out.

    Args:
        names: Files, folders and patterns.
        output: Folder for the results.

    Raises:
        FileError: A name does not exist, or a pattern matches nothing.
    """
    paths = expand_patterns(names)
    missing = [path for path in paths if not os.path.lexists(path)]  # a broken link is reported like a damaged file
    if missing:
        more = f" (and {len(missing) - 1} more names)" if len(missing) > 1 else ""
        pattern = glob.has_magic(str(missing[0]))
        text = f"nothing matches '{missing[0]}'" if pattern else f"'{missing[0]}' does not exist"
        raise FileError(f"{text}{more}; check the name")
    folders = {path for path in paths if path.is_dir() and path.suffix.lower() not in IMAGE_FOLDERS}
    several = sum(path in folders for path in paths) > 1
    found = dict[str, Input]()
    for path in paths:
        inputs = _search(path, output) if path in folders else [Input(path, Path(path.name), _special_file(path))]
        parent = Path(os.path.abspath(path)).name if several and path in folders else ""
        for each in inputs:
            found.setdefault(os.path.abspath(each.path), replace(each, inside=parent / each.inside))
    return list(found.values())


def _search(folder: Path, output: Path | None) -> list[Input]:
    """List all files in a folder; if these are nothing but results, they are meant to be restored."""
    found = list(_walk(folder, output))
    if all(each.problem == _EARLIER_RESULT for each in found):
        return [replace(each, problem="") for each in found]
    return found


def _walk(folder: Path, output: Path | None) -> Iterator[Input]:
    """List all files in a folder; links to folders are not followed, since they may lead in circles."""
    errors: list[OSError] = []
    real_output = None if output is None else Path(os.path.realpath(output))
    for here, folders, files in os.walk(folder, onerror=errors.append):
        at = Path(here)
        images = [name for name in folders if name.lower().endswith(IMAGE_FOLDERS)]
        links = [name for name in folders if (at / name).is_symlink() and name not in images]
        inner = [name for name in folders if name not in images + links and not name.startswith(".")]
        folders[:] = sorted(name for name in inner if Path(os.path.realpath(at / name)) != real_output)
        sidecars = [name.removesuffix(SIDECAR) for name in os.listdir(at) if name.endswith(SIDECAR)]
        results = {name for name in sidecars if _is_image(Path(name)) and "identity" in read_sidecar(at / name)}
        ignored = {f"{name}{SIDECAR}" for name in results}.union(REPORTS)
        if real_output is not None and Path(os.path.realpath(at)).is_relative_to(real_output):
            unfinished = os.listdir(at / HIDDEN) if (at / HIDDEN).is_dir() else []
            ignored |= results.union(unfinished)
        for name in sorted(files + images + links):
            if not name.startswith(".") and name not in ignored:
                path = at / name
                problem = _EARLIER_RESULT if name in results else _FOLDER_LINK if name in links else _problem(path)
                yield Input(path, path.relative_to(folder), problem)
    for error in errors:  # reported when it is opened
        path = Path(os.fsdecode(error.filename))
        yield Input(path, path.relative_to(folder))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in (*SUFFIXES, *IMAGE_FOLDERS)


def _special_file(path: Path) -> str:
    return _NOT_A_FILE if path.exists() and not path.is_file() and not path.is_dir() else ""


def _problem(path: Path) -> str:
    """Reason that a file in a folder cannot be restored, as far as its name and kind tell."""
    suffix = path.suffix.lower()
    if not _is_image(path):
        kind = f"suffix '{suffix}'" if suffix else "no suffix"
        return f"no image that can be read ({kind}){export_advice(suffix)}"
    return _special_file(path)

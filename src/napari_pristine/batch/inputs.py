"""Find the images to restore among files, folders, patterns and Zarr stores of many images."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from napari_pristine.batch.store import HIDDEN, SIDECAR, SIDECARS, SLASH, read_sidecar, sidecar_of
from napari_pristine.errors import FileError, PristineError
from napari_pristine.io.atomic import ZARR_SUFFIX, is_zarr_node
from napari_pristine.io.collection import find_store, is_level, list_images
from napari_pristine.io.lazy import translate_errors
from napari_pristine.io.metadata import check_series, stem_of
from napari_pristine.io.ome_xml import COMPANION
from napari_pristine.io.registry import COMPANION_FOLDERS, SUFFIXES, export_advice
from napari_pristine.text import counted

REPORTS = ("report.csv", "report.html")
"""Names of the reports beside the results."""
_FOLDER_LINK = "a link to a folder, which is not followed; name that folder"
_NOT_A_FILE = "a pipe, a socket or a device, which cannot be read as an image"
_COMPANION_FILE = "part of the OME-TIFF files beside it; it is read together with them"
_EARLIER_RESULT = "a result of an earlier batch; name the file itself, or a pattern, to restore it again"


@dataclass(frozen=True)
class Input:
    """A file to restore.

    Attributes:
        path: The file.
        inside: Path of its result inside the folder of results: that inside the folder that was named, with the name
            of this folder if several were named; the name of the file if the file itself was named. For an image of a
            store, this is the name of the store and the path in it, such as `plate.zarr/A/1/0`.
        problem: Reason why it cannot be restored, by its name and type; empty if there is none.
        store: The store that it is an image of; None if it is a file by itself.
    """

    path: Path
    inside: Path
    problem: str = ""
    store: Path | None = None

    @property
    def inside_store(self) -> Path:
        """Path of the image in its store."""
        return Path(os.path.abspath(self.path)).relative_to(self.store or "")


def is_zarr_name(path: Path) -> bool:
    """True if a path has the suffix of an OME-Zarr."""
    return path.suffix.lower() == ZARR_SUFFIX


def _as_zarr_name(name: str) -> str:
    """Add the suffix of an OME-Zarr to the name of a Zarr folder if it lacks it: other programs need it."""
    return name if name.lower().endswith(ZARR_SUFFIX) else name + ZARR_SUFFIX


def expand_patterns(names: Sequence[str]) -> list[Path]:
    """Paths from the command line, with patterns such as `*.tif` expanded if the shell has not done so.

    Raises:
        FileError: A name is empty, or a pattern matches nothing.
    """
    found: list[Path] = []
    for name in names:
        if not name.strip():
            raise FileError("the name of an input is empty; give a file, a folder or a pattern")
        if not glob.has_magic(name) or os.path.lexists(name):
            found.append(Path(name))
        elif matches := sorted(glob.glob(name)):
            found += map(Path, matches)
        else:
            raise FileError(f"nothing matches the pattern '{name}'; check its spelling")
    return found


def find_inputs(
    names: Sequence[str], output: Path | None = None, *, series: int | None = None, must_exist: bool = True
) -> list[Input]:
    """List all images that are named, match a pattern, or are in a named folder or its subfolders; each once, in order.

    If a file in a folder is not an image, or is a result of an earlier batch, it is listed with this problem; a folder
    that holds nothing but results is listed without problems. Hidden files, sidecars, reports and the results in
    `output` are left out. The images of a Zarr store (a plate, a well, series) are listed one by one, without being
    opened; a store whose metadata are wrong is listed as a whole, and the reason is given when it is opened.

    Args:
        names: Files, folders and patterns.
        output: Folder for the results.
        series: Number of the image to take from each store.
        must_exist: Raise an error for names that do not exist; else they are listed.

    Raises:
        FileError: A name does not exist, or a pattern matches nothing.
    """
    paths = expand_patterns(names)
    missing = [path for path in paths if not os.path.lexists(path)]  # a broken link is reported like a damaged file
    if missing and must_exist:
        more = f" (and {counted(len(missing) - 1, 'more name')})" if len(missing) > 1 else ""
        raise FileError(f"'{missing[0]}' does not exist{more}; check the name")
    folders = {path for path in paths if path.is_dir() and not is_zarr_name(path) and not is_zarr_node(path)}
    several = sum(path in folders for path in paths) > 1
    found = dict[str, Input]()
    for path in paths:
        inputs = _search(path, output, series) if path in folders else _named(path, series)
        parent = Path(os.path.abspath(path)).name if several and path in folders else ""
        for each in inputs:
            found.setdefault(os.path.abspath(each.path), replace(each, inside=parent / each.inside))
    return list(found.values())


def _named(path: Path, series: int | None) -> list[Input]:
    """The image that a user names, or the images of a store."""
    if not is_zarr_node(path):
        return [Input(path, Path(path.name), _named_problem(path))]
    here, store = Path(os.path.abspath(path)), find_store(path)
    inside = Path(_as_zarr_name(store.name), here.relative_to(store))
    parts = inside.parts[1:]
    if here != store and (is_level(here, store) or any(Path(part).suffix.lower() in SUFFIXES for part in parts)):
        return [Input(path, Path("_".join((stem_of(store), *parts)) + ZARR_SUFFIX))]
    return _expand(Input(path, inside, store=None if here == store else store), series)


def _expand(each: Input, series: int | None) -> list[Input]:
    """The images of a store; the input itself if it is an image, or cannot be listed."""
    try:
        with translate_errors(each.path, "Zarr"):
            members = list_images(each.path)
        check_series(each.path, series, max(len(members), 1))
    except PristineError:  # said again when it is opened
        return [each]
    store = each.store or Path(os.path.abspath(each.path))
    return [
        Input(each.path / member.path, each.inside / member.path, member.problem, store)
        for number, member in enumerate(members)
        if series in (None, number)
    ] or [each]


def _search(folder: Path, output: Path | None, series: int | None) -> list[Input]:
    """List all images in a folder; results are only restored if there is nothing else."""
    inputs = list(_walk(folder, output, series))
    if all(each.problem == _EARLIER_RESULT for each in inputs):
        return [replace(each, problem="") for each in inputs]
    return inputs


def _walk(folder: Path, output: Path | None, series: int | None) -> Iterator[Input]:
    """List all images in a folder; links to folders are not followed, since they may be circular."""
    errors: list[OSError] = []
    real_output = None if output is None else Path(os.path.realpath(output))
    for here, folders, files in os.walk(folder, onerror=errors.append):
        parent = Path(here)
        stores = [name for name in folders if is_zarr_name(parent / name) or _is_own_node(parent / name)]
        sidecar_folders = [f"{name}{SIDECARS}" for name in stores]
        links = [name for name in folders if (parent / name).is_symlink() and name not in stores]
        others = {*stores, *links, *sidecar_folders}
        inner = [name for name in folders if name not in others and not name.startswith(".")]
        inner = [name for name in inner if not name.lower().endswith(COMPANION_FOLDERS)]
        folders[:] = sorted(name for name in inner if Path(os.path.realpath(parent / name)) != real_output)
        sidecars = [name.removesuffix(SIDECAR) for name in os.listdir(parent) if name.endswith(SIDECAR)]
        results = {name for name in sidecars if _is_image(Path(name)) and "identity" in read_sidecar(parent / name)}
        ignored = {f"{name}{SIDECAR}" for name in results}.union(REPORTS)
        if real_output is not None and Path(os.path.realpath(parent)).is_relative_to(real_output):
            unfinished = [path.name for path in parent.glob(f"{HIDDEN}/*")]
            ignored |= results.union(name.split(SLASH)[0] for name in unfinished)
            ignored |= {name for name in stores if (parent / f"{name}{SIDECARS}").is_dir()}
        for name in sorted(files + stores + links):
            if name.startswith(".") or name in ignored:
                continue
            path = parent / name
            problem = _EARLIER_RESULT if name in results else _FOLDER_LINK if name in links else ""
            each = Input(path, path.relative_to(folder), problem)
            if name not in stores:
                yield replace(each, problem=problem or _problem(path))
            elif problem or not is_zarr_node(path):
                yield each
            else:
                for image in _expand(replace(each, inside=each.inside.with_name(_as_zarr_name(name))), series):
                    done = not image.problem and image.store is not None and sidecar_of(image.path).is_file()
                    yield replace(image, problem=_EARLIER_RESULT) if done else image
    for error in errors:  # reported when it is opened
        path = Path(os.fsdecode(error.filename))
        yield Input(path, path.relative_to(folder))


def _is_own_node(path: Path) -> bool:
    return not path.is_symlink() and is_zarr_node(path)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _named_problem(path: Path) -> str:
    """Reason why a named file cannot be restored; empty if there is none that shows before it is opened."""
    return _COMPANION_FILE if path.name.lower().endswith(COMPANION) else _special_file(path)


def _special_file(path: Path) -> str:
    return _NOT_A_FILE if path.exists() and not path.is_file() and not path.is_dir() else ""


def _problem(path: Path) -> str:
    """Reason why a file in a folder cannot be restored, by its name and type; empty if there is none."""
    suffix = path.suffix.lower()
    if path.name.lower().endswith(COMPANION):
        return _COMPANION_FILE
    if not _is_image(path):
        kind = f"suffix '{suffix}'" if suffix else "no suffix"
        return f"not an image that can be read ({kind}){export_advice(suffix)}"
    return _special_file(path)


def find_images(names: Sequence[str]) -> list[Path]:
    """Find all images among files and folders, and in Zarr stores; those of an earlier batch are left out.

    Named files that are not images are kept: a pattern may have matched them, and the training skips them.

    Raises:
        FileError: A folder holds no image, or a file does not exist or cannot be read.
    """
    found: list[Path] = []
    for path in expand_patterns(names):
        if not path.exists():
            raise FileError(f"'{path}' does not exist; check the name")
        if path.is_file() and not os.access(path, os.R_OK):
            raise FileError(f"'{path}' cannot be read: you may not read it; ask its owner, or leave it out")
        images = [each.path for each in find_inputs([str(path)]) if not each.problem or each.path == path]
        if not images:
            raise FileError(f"there are no images in the folder '{path}'; they end in {', '.join(SUFFIXES)}")
        found += images
    return found

"""Small batches for tests: files to restore, and ways to run and to kill what restores them."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from napari_pristine import read, write
from napari_pristine.batch.executors import Executor, run_in_this_process
from napari_pristine.batch.inputs import find_inputs
from napari_pristine.batch.runner import Batch
from napari_pristine.batch.spec import BatchOptions, assign_targets
from napari_pristine.events import BlockDone, Event, ItemDone, ItemEvent
from napari_pristine.image.image import Image
from napari_pristine.recipe import Recipe
from napari_pristine.recipe_file import save_recipe
from napari_pristine.settings import make

SERVER = multiprocessing.get_context("forkserver")
"""Processes that start at once: torch takes seconds to import, and is in them already."""
SERVER.set_forkserver_preload(
    ["torch._dynamo", "zarr", "napari_pristine.cli.batch", "napari_pristine.batch.report", "tests.batches"]
)


def noisy(*shape: int, seed: int = 0) -> NDArray[np.uint16]:
    """Waves with the noise of photons."""
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    scene = 60 + 40 * np.sin(x / 5 + seed) * np.cos(y / 7)
    return np.random.default_rng(seed).poisson(np.broadcast_to(scene, shape)).astype(np.uint16)


def stack(path: Path, *shape: int, seed: int = 0) -> Path:
    """A file with the axes `YX`, `TYX` or `TCYX`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, Image(noisy(*shape, seed=seed), {2: "YX", 3: "TYX", 4: "TCYX"}[len(shape)]))
    return path


def claimed(path: Path, axes: str, *shape: int, stored: Sequence[Any] = (), **options: Any) -> Path:
    """An OME-Zarr of any shape, which takes no room on the disk but for the indices that are `stored`."""
    chunks = (*(1,) * (len(shape) - 2), *(min(n, 512) for n in shape[-2:]))
    group = zarr.create_group(path)
    array = group.create_array("0", shape=shape, **{"chunks": chunks, "dtype": "uint16", **options})
    for index in stored:
        array[index] = noisy(*array[index].shape)
    kinds = [{"name": a.lower(), "type": {"T": "time", "C": "channel"}.get(a, "space")} for a in axes]
    levels = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0] * len(shape)}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": kinds, "datasets": levels}]}
    return path


@contextmanager
def peak_memory() -> Iterator[Callable[[], int]]:
    """Bytes by which the resident memory of this process grew at most while the context was open.

    Unlike `tracemalloc`, which crashes if it is stopped while other threads allocate, this counts all memory, so
    bounds should be far above what torch and imports may take.
    """
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the peak of the memory cannot be reset here")

    def peak() -> int:
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # sets the peak to what is used now
    before, grown = peak(), 0
    yield lambda: grown
    grown = peak() - before


def night(folder: Path) -> Path:
    """Two stacks and a picture, one of them in a folder of its own."""
    stack(folder / "a.tif", 3, 32, 32, seed=1)
    stack(folder / "b.ome.tif", 32, 40, seed=2)
    stack(folder / "deeper" / "c.tif", 2, 24, 32, seed=3)
    return folder


def group(path: Path, ome: dict[str, Any], version: str = "0.5") -> Path:
    """A Zarr group with attributes of OME-Zarr."""
    attributes = {"ome": {"version": version, **ome}} if version == "0.5" and ome else ome
    zarr.open_group(path, mode="a", zarr_format=3 if version == "0.5" else 2).attrs.update(attributes)
    return path


def field_of_view(path: Path, version: str = "0.5", seed: int = 0, shape: tuple[int, ...] = (24, 24)) -> None:
    """An image of OME-Zarr in a folder of any name."""
    axes = "TCZYX"[-len(shape) :] if len(shape) != 3 else "CYX"
    values = noisy(*shape, seed=seed)
    like = Image(values, axes, metadata={"format": "zarr", "version": version})
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path.with_name(f"{path.name}.zarr"), like)
    path.with_name(f"{path.name}.zarr").rename(path)


def plate(path: Path, version: str = "0.5", wells: Sequence[str] = ("A/1", "A/2", "B/1"), fields: int = 2) -> Path:
    """A plate with some fields in each well."""
    rows, columns = ([{"name": name} for name in sorted({w.split("/")[n] for w in wells})] for n in (0, 1))
    listed = [
        {"path": w, "rowIndex": rows.index({"name": w[0]}), "columnIndex": columns.index({"name": w[2:]})}
        for w in wells
    ]
    content = {"name": "screen 7", "rows": rows, "columns": columns, "wells": listed, "field_count": fields}
    old = {"version": "0.4"} if version == "0.4" else {}
    group(path, {"plate": {**content, "acquisitions": [{"id": 1}], **old}}, version)
    for number, well in enumerate(wells):
        group(path / well[0], {}, version)
        images = [{"path": str(field), "acquisition": 1} for field in range(fields)]
        group(path / well, {"well": {"images": images, **old}}, version)
        for field in range(fields):
            field_of_view(path / well / str(field), version, seed=10 * number + field)
    return path


OME_XML = (
    '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<Image ID="Image:0" Name="overview"/><Image ID="Image:1" Name="cells"/></OME>'
)


def series(path: Path, version: str = "0.5", *, listed: bool = True, count: int = 2) -> Path:
    """A store of several series, as bioformats2raw writes it."""
    group(path, {"bioformats2raw.layout": 3}, version)
    group(path / "OME", {"series": [str(n) for n in range(count)]} if listed else {}, version)
    (path / "OME" / "METADATA.ome.xml").write_text(OME_XML)
    for number in range(count):
        field_of_view(path / str(number), version, seed=number, shape=(2 + number, 24, 24))
    return path


def quick(**fields: Any) -> Recipe:
    """A recipe that takes a moment."""
    settings = {"steps": 5, **fields.pop("settings", {})}
    return make(Recipe, {"method": "inr", "preset": "fast", "settings": settings, "device": "cpu", **fields})


def saved(folder: Path, recipe: Recipe | None = None) -> Path:
    """A recipe in a file."""
    path = folder / "recipe.yaml"
    save_recipe(path, recipe or quick(), overwrite=True)
    return path


def restore(
    inputs: Path | Sequence[Path],
    output: Path,
    recipe: Recipe | None = None,
    pool: Executor = run_in_this_process,
    **order: Any,
) -> dict[str, ItemDone]:
    """Run a batch to its end; what became of each file, by its name."""
    recipe = recipe or quick()
    names = [str(path) for path in ([inputs] if isinstance(inputs, Path) else inputs)]
    batch = Batch(assign_targets(find_inputs(names, output), output, recipe), BatchOptions(recipe, **order), pool)
    told = [event for event in batch.job() if isinstance(event, ItemDone)]
    assert told == batch.rows
    return {row.source.name: row for row in told}


def block_done(event: Event) -> BlockDone | None:
    """The finished block that an event of a batch tells of, if it is one."""
    found = event.event if isinstance(event, ItemEvent) else None
    return found if isinstance(found, BlockDone) else None


def became(rows: dict[str, ItemDone]) -> dict[str, str]:
    return {name: row.status for name, row in rows.items()}


def listing(folder: Path) -> list[str]:
    """All that lies in a folder, but for what is inside of OME-Zarr."""
    found = []
    for here_, folders, files in os.walk(folder):
        zarrs = [name for name in folders if name.endswith(".zarr")]
        folders[:] = [name for name in folders if name not in zarrs]
        found += [(Path(here_) / name).relative_to(folder).as_posix() for name in files + folders + zarrs]
    return sorted(found)


def inside(folder: Path) -> list[str]:
    """All that lies in a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def pixels(folder: Path) -> dict[str, NDArray[Any]]:
    """All images in a folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.name.endswith((".tif", ".zarr"))]
    return {path.relative_to(folder).as_posix(): np.asarray(read(path).data) for path in paths}


def same(found: dict[str, NDArray[Any]], expected: dict[str, NDArray[Any]]) -> bool:
    return found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in expected)


def process(*words: object, dies_at: int = 0) -> BaseProcess:
    """The command `pristine` in a process of its own.

    Args:
        words: Of the command line.
        dies_at: Kill it just before it changes a file or folder for the so-many-th time; never if zero.
    """
    started = SERVER.Process(target=_command, args=([str(word) for word in words], dies_at))
    started.start()
    return started


def ended(started: BaseProcess, timeout: float = 250) -> int:
    """Exit code of a process; negative if a signal killed it."""
    started.join(timeout)
    code = started.exitcode
    assert code is not None, "the command hangs"
    started.close()
    return code


def _command(words: list[str], dies_at: int) -> None:
    from napari_pristine.cli.main import main

    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - as long as the process lives
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["OMP_NUM_THREADS"] = "1"
    if dies_at:
        _die_at(dies_at, words[words.index("-o") + 1])
    sys.exit(main(words))


def _die_at(number: int, folder: str) -> None:
    """Kill this process just before it changes something in a folder for the so-many-th time."""
    left = number

    def heed(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        changes = event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir") or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if changes and str(arguments[0]).startswith(folder):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(heed)

"""What goes on beside the restoration: writing behind it, and what takes its time and can be stopped."""

from __future__ import annotations

import itertools
import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from threading import Event as Flag
from typing import Any

import numpy as np
import pytest
import tifffile
from tests.batches import block_done, claimed, listing, noisy, peak_memory, quick, restore, stack

from napari_pristine import read, write
from napari_pristine.batch import estimate, spec
from napari_pristine.batch.estimate import FileEstimate, estimate_files
from napari_pristine.batch.executors import Executor, Finished, Messages, WorkerMessage
from napari_pristine.batch.inputs import find_inputs
from napari_pristine.batch.results import summarise_blocks
from napari_pristine.batch.runner import Batch
from napari_pristine.batch.spec import BatchOptions, FormatChecker, Task, assign_targets
from napari_pristine.batch.store import HIDDEN, BlockRecord, WorkDir
from napari_pristine.batch.work_item import WorkItem, open_task
from napari_pristine.errors import FileError
from napari_pristine.events import BatchProgress, BlockDone, Note
from napari_pristine.image.image import Image
from napari_pristine.io.fingerprint import checksum
from napari_pristine.io.zarr import ZarrArray, complete_image, create_image
from napari_pristine.jobs.inputs import InputCache
from napari_pristine.recipe import Recipe
from napari_pristine.threads import AsyncWriter, run_in_thread

pytestmark = pytest.mark.usefixtures("one_thread")


class Counting:
    """A method that counts its calls."""

    def __init__(self, method: Callable[[Any], None]) -> None:
        self.method, self.calls = method, 0

    def __get__(self, instance: Any, owner: Any) -> Callable[[], None]:
        def call() -> None:
            self.calls += 1
            self.method(instance)

        return call


SOON = 3.0
"""CPU seconds within which a batch that is stopped must have ended; its work would take far longer."""


def tasks_of(path: Path, recipe: Recipe) -> list[Task]:
    return assign_targets(find_inputs([str(path)]), path.parent / "out", recipe)


def sparse(path: Path, *shape: int) -> Path:
    """A stack of zeros of any size, which takes no room on the disk."""
    tifffile.memmap(path, shape=shape, dtype=np.uint16, bigtiff=True, metadata={"axes": "TYX"})
    return path


def test_what_is_given_is_done_in_order_while_the_giver_goes_on() -> None:
    may, done = Flag(), list[int]()
    with AsyncWriter() as behind:
        behind.submit(lambda: done.append(may.wait(10)))
        for number in (2, 3):
            behind.submit(partial(done.append, number))
        assert not done
        may.set()
        behind.wait()
        assert done == [True, 2, 3]
        behind.submit(lambda: time.sleep(0.05))
        behind.submit(partial(done.append, 4))
    assert done == [True, 2, 3, 4]


def test_after_a_failure_nothing_is_done_and_it_is_told() -> None:
    done: list[int] = []

    def fail() -> None:
        raise FileError("the disk is full")

    def give(*work: Callable[[], None], then: Exception | None = None) -> None:
        with AsyncWriter() as behind:
            for one in work:
                behind.submit(one)
            if then:
                raise then

    with pytest.raises(FileError, match="full"):
        give(fail, partial(done.append, 1))
    assert not done
    with pytest.raises(KeyError):  # what goes wrong here is what is told
        give(fail, then=KeyError())


@pytest.mark.parametrize("form", ["same", "ome-zarr", "ome-zarr-0.4"])
def test_what_is_recorded_or_has_its_name_is_on_disk(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the power fail: what a record tells of went to the disk before it, and so did all that has its name."""
    synced: set[int] = set()
    sync, record, promised = os.fsync, WorkDir.record, list[bool]()

    def heed(number: int) -> None:
        sync(number)
        synced.add(os.fstat(number).st_ino)

    def check(work: WorkDir, run: int, writer: str, entry: BlockRecord) -> None:
        chunks = [path for path in work.array.rglob("*") if path.is_file() and path.name.isdigit()]
        promised.append(bool(chunks) and {path.stat().st_ino for path in chunks} <= synced)
        record(work, run, writer, entry)

    monkeypatch.setattr(os, "fsync", heed)
    monkeypatch.setattr(WorkDir, "record", check)
    source = stack(tmp_path / "a.tif", 3, 24, 24)
    recipe = quick(format=form, settings={"steps": 1, "refine": False})
    assert restore(source, tmp_path / "out", recipe)["a.tif"].status == "restored"
    assert promised == [True] * 3
    assert {path.stat().st_ino for path in (tmp_path / "out").rglob("*") if path.is_file()} <= synced
    assert (tmp_path / "out").stat().st_ino in synced


EMPTY = "all pixels have the value 0; there is nothing to restore"


def planned(path: Path, recipe: Recipe | None = None, **options: Any) -> FileEstimate:
    recipe = recipe or quick()
    (found,) = filter(None, estimate_files(tasks_of(path, recipe), BatchOptions(recipe), **options))
    return found


@pytest.mark.parametrize(
    ("axes", "shape", "stored"),
    [
        ("TYX", (10**9, 64, 64), (5, 10**9 - 1)),
        ("CYX", (10**9, 64, 64), (3,)),
        ("TCZYX", (10**4, 100, 10**6, 32, 32), ((7, 5, 3),)),
        ("YX", (10**6, 10**6), (np.s_[999_000:999_100, :100],)),
        ("ZYX", (10**6, 10**4, 10**4), (np.s_[9, 100:200, 300:400],)),
    ],
)
def test_a_plan_takes_a_moment_whatever_is_claimed(
    tmp_path: Path, axes: str, shape: tuple[int, ...], stored: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(plan: Any, blocks: list[Any], *, first: bool) -> Iterator[None]:
        assert not all((plan.read(index) == 0).all() for index in blocks)
        yield
        return 8.0  # type: ignore[return-value]

    monkeypatch.setattr(estimate, "_measure_batch", measured)
    planned(claimed(tmp_path / "small.ome.zarr", "TYX", 2, 64, 64, stored=(0,)))  # imports what it needs
    with peak_memory() as peak:
        found = planned(claimed(tmp_path / "a.ome.zarr", axes, *shape, stored=stored))
    assert peak() < 200e6
    assert (found.problem, found.note) == ("", "")
    assert found.blocks >= shape[0] // 2176
    assert found.seconds is not None
    assert found.seconds > found.blocks
    assert planned(claimed(tmp_path / "b.ome.zarr", axes, *shape)).problem == EMPTY


def test_a_stack_that_claims_a_billion_frames_can_be_begun_and_stopped(tmp_path: Path) -> None:
    recipe, path = quick(), claimed(tmp_path / "a.ome.zarr", "TYX", 10**9, 32, 32, stored=(2, 5 * 10**8))
    with peak_memory() as peak:
        job = Batch(tasks_of(path, recipe), BatchOptions(recipe)).job()
        done = itertools.islice((done for event in job if (done := block_done(event))), 32)
        assert [one.index for one in done if one.quality] == [(2,)]
        job.close()
    assert peak() < 200e6
    empty = claimed(tmp_path / "b.ome.zarr", "TYX", 10**9, 32, 32)
    (row,) = restore(empty, tmp_path / "out", recipe).values()
    assert (row.status, EMPTY in row.text) == ("failed", True)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, EMPTY),
        ({"fill_value": 7}, EMPTY.replace("0", "7")),
        ({"fill_value": np.nan, "dtype": "float32"}, "100.0% of the pixels are NaN or infinite"),
        ({"shards": (8, 64, 64)}, EMPTY),
    ],
)
def test_an_empty_store_is_known_without_reading_it(
    tmp_path: Path, options: dict[str, Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Any] = []
    get = ZarrArray.__getitem__
    monkeypatch.setattr(ZarrArray, "__getitem__", lambda self, index: reads.append(index) or get(self, index))
    path = claimed(tmp_path / "a.ome.zarr", "TYX", 10**5, 64, 64, **options)
    assert problem in planned(path).problem
    assert len(reads) < 10


def test_of_an_empty_stack_that_does_not_tell_some_frames_are_looked_at(tmp_path: Path) -> None:
    found = planned(sparse(tmp_path / "a.tif", 500, 16, 16))
    assert (found.problem, found.seconds) == ("", None)
    assert found.note == "65 of 500 blocks were read: the values in each of them are all equal"
    assert planned(sparse(tmp_path / "b.tif", 60, 16, 16)).problem == EMPTY
    values = np.broadcast_to(np.arange(20, dtype=np.uint16)[:, None, None], (20, 16, 16))
    write(tmp_path / "c.tif", Image(values, "TYX"))
    assert (
        planned(tmp_path / "c.tif").problem
        == "the values in each of the 20 blocks are all equal; there is nothing to restore"
    )
    stored = claimed(tmp_path / "d.ome.zarr", "TYX", 10**5, 64, 64, stored=(99_999,))
    assert (planned(stored).problem, planned(stored, probe=False).note) == ("", "")


def test_formats_and_folders_are_tried_once_for_each_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        stack(tmp_path / "in" / f"{number}.tif", 16 + number, 24)
    stack(tmp_path / "in" / "more.tif", 3, 24, 24)
    write(tmp_path / "in" / "grey.png", Image(noisy(24, 24).astype(np.uint8), "YX"))
    tried: list[str] = []
    trial = spec._try_format
    monkeypatch.setattr(spec, "_try_format", lambda name, image: tried.append(name) or trial(name, image))
    monkeypatch.setattr("threading.Thread.start", count := Counting(threading.Thread.start))
    recipe = quick()
    found = [f for f in estimate_files(tasks_of(tmp_path / "in", recipe), BatchOptions(recipe), probe=False) if f]
    assert [f.problem for f in found] == [""] * 22
    assert len(tried) == 3
    assert count.calls == 1  # one thread for all files
    (tmp_path / "picture").mkdir()
    for name in ("a.png", "b.png"):  # of 32 bits, which PNG cannot hold
        with pytest.raises(FileError, match=f"{name}"):
            FormatChecker().check(tmp_path / name, Image(np.zeros((24, 24), np.float32), "YX"))


def test_an_image_may_claim_any_number_of_channels(tmp_path: Path) -> None:
    claims = Image(np.broadcast_to(np.uint16(0), (10**9, 64, 64)), "CYX")
    FormatChecker().check(tmp_path / "a.ome.tif", claims)
    FormatChecker().check(tmp_path / "a.ome.zarr", claims)


def test_the_files_at_work_and_what_is_done_of_each_are_told(tmp_path: Path) -> None:
    path = stack(tmp_path / "a.tif", 3, 24, 24)
    stands = [
        event
        for event in Batch(tasks_of(path, quick()), BatchOptions(quick())).job()
        if isinstance(event, BatchProgress)
    ]
    found = [stand.active for stand in stands if stand.active]
    assert {source for ((source, _),) in found} == {path}
    fractions = [fraction for ((_, fraction),) in found]
    assert (fractions, fractions[0] < 0.5, fractions[-1] > 0.5) == (sorted(fractions), True, True)
    assert (stands[-1].active, stands[-1].phase) == ((), "restoring")


def test_a_batch_can_be_stopped_while_it_reads_an_input_to_know_it_again(tmp_path: Path) -> None:
    path = sparse(tmp_path / "huge.tif", 300, 8192, 8192)
    job = Batch(tasks_of(path, quick()), BatchOptions(quick())).job()
    seen = next(event for event in job if isinstance(event, BatchProgress) and event.phase == "reading")
    assert (seen.items, seen.name) == (0, "huge.tif")
    began = time.process_time()
    job.close()
    assert time.process_time() - began < SOON
    assert not (tmp_path / "out").exists()


def pretended(recipe: Recipe) -> Executor:
    """A pool that says of all blocks that they are written."""

    def answers(shares: Iterator[WorkItem | None]) -> Messages:
        for share in shares:
            if share is not None:
                runs = open_task(share.task, recipe, InputCache()).plan.work_units
                for number in share.units:
                    for place in runs[number]:
                        WorkDir(share.task.target).record(number, "me", BlockRecord(BlockDone(place), 1.0, "cpu"))
                yield WorkerMessage(share, Finished())
            yield None

    return answers


def test_a_batch_can_be_stopped_while_it_gives_a_result_its_format(tmp_path: Path) -> None:
    path, recipe = sparse(tmp_path / "a.tif", 200, 1024, 1024), quick(settings={"warm_start": False})
    job = Batch(tasks_of(path, recipe), BatchOptions(recipe), pretended(recipe)).job()
    seen = next(event for event in job if isinstance(event, BatchProgress) and event.phase == "writing")
    assert seen.active == ((path, 1.0),)
    began = time.process_time()
    job.close()
    assert time.process_time() - began < SOON
    assert not [name for name in listing(tmp_path / "out") if "/" not in name and name != HIDDEN]
    assert not list((tmp_path / "out").rglob("*.part*"))
    assert WorkDir(tmp_path / "out" / "a.tif").has_blocks


def test_coarser_levels_can_be_begun_again(tmp_path: Path) -> None:
    image = Image(noisy(3, 1100, 1100), "TYX")
    create_image(tmp_path / "a.zarr", image)[...] = image.data
    beats = itertools.count()

    def check_cancelled() -> None:
        if next(beats) == 2:
            raise KeyError

    with pytest.raises(KeyError):
        complete_image(tmp_path / "a.zarr", image, None, check_cancelled)
    complete_image(tmp_path / "a.zarr", image)
    write(tmp_path / "b.zarr", image)
    levels = [np.asarray(read(tmp_path / name / "2").data) for name in ("a.zarr", "b.zarr")]
    assert np.array_equal(*levels)


def test_what_is_done_aside_gives_its_result_or_its_error(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert to_end(run_in_thread(partial(checksum, tmp_path / "a"))).startswith("sha256:ba7816bf")
    with pytest.raises(FileError, match="cannot be read"):
        to_end(run_in_thread(partial(checksum, tmp_path / "b")))


def to_end(waiting: Any) -> Any:
    try:
        while True:
            next(waiting)
    except StopIteration as end:
        return end.value


def test_a_plan_gives_way_and_can_be_stopped(tmp_path: Path) -> None:
    """The probe of a large picture takes seconds."""
    path, recipe = stack(tmp_path / "a.tif", 512, 512), quick(settings={"steps": 2000})
    told = estimate_files(tasks_of(path, recipe), BatchOptions(recipe))
    assert [next(told) for _ in range(5)] == [None] * 5
    began = time.process_time()
    told.close()
    assert time.process_time() - began < SOON
    assert [type(f) for f in estimate_files(tasks_of(path, recipe), BatchOptions(recipe), probe=False) if f] == [
        FileEstimate
    ]


def test_the_memory_for_the_records_does_not_grow_with_their_number(tmp_path: Path) -> None:
    path, recipe = sparse(tmp_path / "a.tif", 6000, 16, 16), quick(settings={"warm_start": False})
    (task,) = tasks_of(path, recipe)
    opened, work = open_task(task, recipe, InputCache()), WorkDir(task.target)
    for number, run in enumerate(opened.plan.work_units):
        for place in run:
            figures = (float(place[0]), 1.0, 0.5, 0.0)
            done = BlockDone(
                place,
                (figures,),
                defects=(("hot pixels", 1),),
                stops=(("it is good", 1),),
                notes=(Note(f"at {place[0]}"),),
            )
            work.record(number, "me", BlockRecord(done, 0.5, "cpu"))
    tracemalloc.start()
    try:
        found = summarise_blocks(opened, lambda: None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1e6
    quality = found.quality.quality()
    assert (found.seconds, found.devices, quality.residual) == (3000.0, {"cpu"}, 1.0)
    assert quality.sigma == pytest.approx(np.sqrt(np.mean(np.arange(6000.0) ** 2)))
    assert quality.stopped == ("6000 × it is good",)
    assert found.texts[-2:] == [
        "5000 more notes on single blocks are not kept",
        "6000 hot pixels stand out from their neighbours; they were filled from the fit (hot_pixels)",
    ]

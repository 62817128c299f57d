"""A batch on several processes gives the same pixels, also if some of them die."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.batches import became, inside, listing, night, pixels, quick, restore, same, saved, stack

from napari_pristine.batch import executors
from napari_pristine.batch.executors import SCHEDULER, Messages, dask_executor, scheduler_executor
from napari_pristine.batch.runner import Batch
from napari_pristine.batch.spec import BatchOptions, assign_targets, find_inputs
from napari_pristine.batch.store import HIDDEN, read_sidecar
from napari_pristine.batch.work_item import WorkItem
from napari_pristine.cli.main import main
from napari_pristine.errors import SettingError
from napari_pristine.events import ItemDone

distributed = pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("one_thread"),
]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A cluster of two processes on this machine."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, scheduler_kwargs=SCHEDULER, memory_limit=0
        ) as cluster,
        distributed.Client(cluster) as found,
    ):
        yield found


@pytest.mark.parametrize("form", ["same", "ome-zarr"])
def test_two_workers_give_the_same_pixels_as_one(tmp_path: Path, client: Any, form: str) -> None:
    night(tmp_path / "in")
    (tmp_path / "in" / "bad.tif").write_text("no image")
    recipe = quick(format=form, settings={"warm_start": False})
    rows = restore(tmp_path / "in", tmp_path / "out", recipe, dask_executor(client))
    assert became(rows) == {"a.tif": "restored", "b.ome.tif": "restored", "c.tif": "restored", "bad.tif": "failed"}
    restore(tmp_path / "in", tmp_path / "alone", recipe)
    assert same(pixels(tmp_path / "out"), pixels(tmp_path / "alone"))
    assert listing(tmp_path / "out") == listing(tmp_path / "alone")
    end = time.monotonic() + 60
    while any(client.run(_kept_files).values()) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(client.run(_kept_files).values())  # the last image, mask and model are not kept
    left = restore(tmp_path / "in", tmp_path / "out", recipe, dask_executor(client), resume=True)
    assert became(left) == {"a.tif": "skipped", "b.ome.tif": "skipped", "c.tif": "skipped", "bad.tif": "failed"}


def test_the_shell_uses_a_cluster_that_is_running(
    tmp_path: Path, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stack(tmp_path / "in" / "a.tif", 3, 24, 24)
    recipe, address = saved(tmp_path, quick(settings={"warm_start": False})), client.scheduler.address
    words = ["batch", recipe, tmp_path / "in", "-o", tmp_path / "out", "--scheduler", address]
    assert main([str(word) for word in words]) == 0
    assert capsys.readouterr().err == ""
    restore(tmp_path / "in", tmp_path / "alone", quick(settings={"warm_start": False}))
    assert same(pixels(tmp_path / "out"), pixels(tmp_path / "alone"))
    assert read_sidecar(tmp_path / "out" / "a.tif")["device"] == "cpu (1 thread)"  # as its workers were started


def test_a_worker_that_is_killed_costs_nothing_but_time(tmp_path: Path, client: Any) -> None:
    for n in range(4):
        stack(tmp_path / "in" / f"{n}.tif", 2, 4, 24, 24, seed=n)
    recipe = quick()
    tasks = assign_targets(find_inputs([str(tmp_path / "in")]), tmp_path / "out", recipe)
    rows = []
    before = _pids(client)
    for event in Batch(tasks, BatchOptions(recipe), dask_executor(client)).job():
        if isinstance(event, ItemDone):
            if not rows:
                os.kill(_pids(client)[0], signal.SIGKILL)
            rows.append(event)
    assert [row.status for row in rows] == ["restored"] * 4
    assert _pids(client) != before
    restore(tmp_path / "in", tmp_path / "alone", recipe)
    assert same(pixels(tmp_path / "out"), pixels(tmp_path / "alone"))
    assert listing(tmp_path / "out") == listing(tmp_path / "alone")


def test_a_batch_that_is_stopped_lets_its_workers_stop(tmp_path: Path, client: Any) -> None:
    """They may belong to others, who wait for them; what they go on writing would be in nobody's way, but for ever."""
    stack(tmp_path / "in" / "a.tif", 40, 32, 32)
    recipe = quick(settings={"steps": 400})
    tasks = assign_targets(find_inputs([str(tmp_path / "in")]), tmp_path / "out", recipe)
    work = tmp_path / "out" / HIDDEN / "a.tif"

    def stopped(shares: Iterator[WorkItem | None]) -> Messages:
        """The pool, and Ctrl-C as soon as blocks are written."""
        yield from dask_executor(client)(itertools.chain(shares, _wait_for(work / "units")))

    with pytest.raises(KeyboardInterrupt):
        list(Batch(tasks, BatchOptions(recipe), stopped).job())
    end = time.monotonic() + 120
    while any(client.run(_busy).values()) and time.monotonic() < end:
        time.sleep(0.2)
    assert time.monotonic() < end
    assert not (work / "turn.json").exists()
    found = inside(tmp_path / "out")
    time.sleep(1)
    assert inside(tmp_path / "out") == found


def test_nobody_at_the_address_of_a_scheduler_is_said_at_once() -> None:
    began = time.monotonic()
    with (
        pytest.raises(SettingError, match=r"no dask scheduler answers at 'tcp://127\.0\.0\.1:9'"),
        scheduler_executor("tcp://127.0.0.1:9"),
    ):
        pass
    assert time.monotonic() - began < 100


def _wait_for(path: Path) -> Iterator[None]:
    while not path.exists():
        time.sleep(0.05)
    raise KeyboardInterrupt
    yield


def _pids(client: Any) -> list[int]:
    return sorted(client.run(os.getpid).values())


def _kept_files() -> int:
    return executors._opened.cache_info().currsize + executors._input_cache.cache_info().currsize


def _busy(dask_worker: Any) -> bool:
    return bool(dask_worker.state.executing)

"""A batch gives what one file gives, and loses nothing when it is killed."""

from __future__ import annotations

import gc
import random
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.batches import (
    became,
    block_done,
    ended,
    inside,
    listing,
    night,
    noisy,
    pixels,
    process,
    quick,
    restore,
    same,
    saved,
    stack,
)

from napari_pristine import read, write
from napari_pristine import restore as restore_one
from napari_pristine.batch import estimate
from napari_pristine.batch.estimate import estimate_files
from napari_pristine.batch.executors import Messages, run_in_this_process
from napari_pristine.batch.inputs import find_inputs
from napari_pristine.batch.runner import Batch
from napari_pristine.batch.spec import BatchOptions, Task, assign_targets, resolve_batch
from napari_pristine.batch.store import HIDDEN, read_sidecar
from napari_pristine.batch.work_item import WorkItem
from napari_pristine.errors import ComputeError
from napari_pristine.events import ItemDone
from napari_pristine.image.axes import BlockIndex
from napari_pristine.image.image import Image
from napari_pristine.io.atomic import files_in
from napari_pristine.jobs import plan
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.jobs.restore import run_plan, wait
from napari_pristine.methods import METHODS
from napari_pristine.methods.method import Fit, NoisyBlock
from napari_pristine.model import read_weights, write_weights

pytestmark = pytest.mark.usefixtures("one_thread")

LEARNING = {"method": "blind2unblind", "settings": {"steps": 3, "side": 16, "batch": 2, "width": 4}}


@pytest.mark.parametrize("form", ["same", "ome-zarr", "ome-zarr-0.4"])
def test_a_batch_gives_the_pixels_of_a_single_restoration(tmp_path: Path, form: str) -> None:
    """With its axes, its place in the folder, and all that is known of it beside it."""
    night(tmp_path / "in")
    rows = restore(tmp_path / "in", tmp_path / "out", quick(format=form))
    assert became(rows) == dict.fromkeys(["a.tif", "b.ome.tif", "c.tif"], "restored")
    assert rows["c.tif"].target.parent == tmp_path / "out" / "deeper"
    for row in rows.values():
        image, result = read(row.source), read(row.target)
        alone = restore_one(image, "inr", preset="fast", settings={"steps": 5}, device="cpu")
        assert np.array_equal(result.data, alone.data)
        assert (result.axes, result.dtype) == (image.axes, image.dtype)
        assert read_sidecar(row.target) == row.facts
        assert row.facts["checksum"] == result.metadata["pristine"]["checksum"]
    assert not (tmp_path / "out" / HIDDEN).exists()


def test_what_learns_from_a_stack_gives_the_same_as_alone(tmp_path: Path) -> None:
    stack(tmp_path / "a.tif", 3, 32, 32)
    rows = restore(tmp_path / "a.tif", tmp_path / "out", quick(**LEARNING))
    alone = restore_one(
        read(tmp_path / "a.tif"), "blind2unblind", preset="fast", settings=LEARNING["settings"], device="cpu"
    )
    assert rows["a.tif"].status == "restored"
    assert np.array_equal(read(rows["a.tif"].target).data, alone.data)


KILLS = 4
"""For each format; 40 in the acceptance tests."""


@pytest.mark.parametrize("form", ["same", "ome-zarr"])
@pytest.mark.parametrize("most", [KILLS, pytest.param(40, marks=[pytest.mark.slow, pytest.mark.acceptance])])
def test_a_batch_that_is_killed_and_resumed_gives_the_same_pixels_and_leaves_nothing(
    tmp_path: Path, form: str, most: int
) -> None:
    """Half of the kills come at random times, half just before a random change of a file."""
    night(tmp_path / "in")
    recipe = saved(tmp_path, quick(format=form))
    for again in ([], ["--overwrite"]):  # the first one waits for imports
        began = time.monotonic()
        assert ended(process("batch", recipe, tmp_path / "in", "-o", tmp_path / "whole", *again)) == 0
        takes = time.monotonic() - began
    expected, files = pixels(tmp_path / "whole"), listing(tmp_path / "whole")
    chance, kills, batches = random.Random(form), 0, 0
    while kills < most:
        out = tmp_path / f"out{batches}"
        command = ["batch", recipe, tmp_path / "in", "-o", out, "--resume"]
        code = -9
        while code == -9:
            if kills % 2:
                started = process(*command)
                started.join(chance.uniform(0, takes))
                started.kill()
            else:
                started = process(*command, dies_at=1 + int(chance.expovariate(1 / 30)))
            code = ended(started)
            kills += code == -9
            assert all(name in files for name in listing(out) if not name.startswith(".") and HIDDEN not in name)
        assert code == 0
        assert same(pixels(out), expected)
        assert listing(out) == files
        batches += 1
    assert batches


def test_no_block_is_restored_twice(tmp_path: Path) -> None:
    """A stack whose frames stand by themselves goes on with the next frame."""
    stack(tmp_path / "a.tif", 6, 32, 32)
    recipe = quick(settings={"warm_start": False})
    tasks = assign_targets(find_inputs([str(tmp_path / "a.tif")]), tmp_path / "out", recipe)
    places = []
    for resume in (False, True):
        job = Batch(tasks, BatchOptions(recipe, resume=resume)).job()
        for event in job:
            if done := block_done(event):
                places.append(done.index)
                if len(places) == 3:
                    break
        job.close()
    assert places == [(t,) for t in range(6)]
    whole = restore(tmp_path / "a.tif", tmp_path / "whole", recipe)["a.tif"].target
    assert np.array_equal(read(tmp_path / "out" / "a.tif").data, read(whole).data)
    assert inside(tmp_path / "out") == ["a.tif", "a.tif.json"]


@pytest.mark.parametrize("warm", [True, False])
def test_frames_that_are_fitted_at_once_are_done_again_together(tmp_path: Path, warm: bool) -> None:
    """Side by side in one network, they differ in the last digits from what each would be by itself."""
    stack(tmp_path / "a.tif", 34, 16, 16)
    settings = {"warm_start": warm, "steps": 2, "refine": False}
    recipe = quick(settings=settings)
    tasks = assign_targets(find_inputs([str(tmp_path / "a.tif")]), tmp_path / "out", recipe)
    job = Batch(tasks, BatchOptions(recipe)).job()
    for _ in range(10):
        while not block_done(next(job)):
            pass
    job.close()
    events = Batch(tasks, BatchOptions(recipe, resume=True)).job()
    places = [done.index for event in events if (done := block_done(event))]
    assert (len(places), set(places)) == (34, {(t,) for t in range(34)})
    alone = restore_one(read(tmp_path / "a.tif"), "inr", preset="fast", settings=settings, device="cpu")
    assert np.array_equal(read(tmp_path / "out" / "a.tif").data, alone.data)


def test_a_machine_with_other_room_goes_on_in_the_units_that_were_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun where there is a GPU and resumed where there is none, say: nothing is done twice, all pixels are equal."""
    stack(tmp_path / "a.tif", 68, 16, 16)
    recipe = quick(settings={"steps": 2, "refine": False})
    whole = restore(tmp_path / "a.tif", tmp_path / "whole", recipe)["a.tif"].target
    tasks = assign_targets(find_inputs([str(tmp_path / "a.tif")]), tmp_path / "out", recipe)
    monkeypatch.setattr(plan, "_CPU_NETWORKS", 2)
    first = _places(Batch(tasks, BatchOptions(recipe)), 40)
    monkeypatch.setattr(plan, "_CPU_NETWORKS", 1)
    rest = _places(Batch(tasks, BatchOptions(recipe, resume=True)))
    assert len(first) == 40
    assert set(rest) == {(t,) for t in range(32, 68)}  # the first two runs were done together
    assert np.allclose(read(tmp_path / "out" / "a.tif").data, read(whole).data, atol=1)


def _places(batch: Batch, most: int = 1000) -> list[tuple[int, ...]]:
    """The blocks that a batch restores before it is stopped."""
    places: list[tuple[int, ...]] = []
    job = batch.job()
    for event in job:
        places += [done.index] if (done := block_done(event)) else []
        if len(places) == most:
            break
    job.close()
    return places


def test_what_was_learned_is_not_learned_again(tmp_path: Path) -> None:
    stack(tmp_path / "a.tif", 4, 32, 32)
    recipe = quick(**LEARNING)
    tasks = assign_targets(find_inputs([str(tmp_path / "a.tif")]), tmp_path / "out", recipe)
    job = Batch(tasks, BatchOptions(recipe)).job()
    while not block_done(next(job)):
        pass
    job.close()
    (kept,) = (tmp_path / "out" / HIDDEN / "a.tif" / "learned").iterdir()
    written = kept.stat().st_mtime_ns
    job = Batch(tasks, BatchOptions(recipe, resume=True)).job()
    for event in job:
        if block_done(event):
            assert kept.stat().st_mtime_ns == written
    whole = restore(tmp_path / "a.tif", tmp_path / "whole", recipe)["a.tif"]
    assert np.array_equal(read(tmp_path / "out" / "a.tif").data, read(whole.target).data)
    assert read_sidecar(tmp_path / "out" / "a.tif")["quality"] == whole.facts["quality"]


@pytest.mark.parametrize("damage", ["missing", "shape"])
def test_a_stored_network_that_does_not_fit_is_left_alone(tmp_path: Path, damage: str) -> None:
    image, recipe = Image(noisy(32, 32), "YX"), quick(**LEARNING)
    fresh = wait(run_plan(plan.make_plan(image, recipe), checkpoint_dir=tmp_path)).data
    (kept,) = tmp_path.iterdir()
    weights = {name: torch.zeros_like(weight) for name, weight in read_weights(kept).items()}
    last = list(weights)[-1]
    lost = weights.pop(last)
    if damage == "shape":
        weights[last] = torch.zeros(*lost.shape, 2)
    write_weights(kept, weights, {}, overwrite=True)
    again = wait(run_plan(plan.make_plan(image, recipe), checkpoint_dir=tmp_path)).data
    assert np.array_equal(again, fresh)


def test_results_are_left_replaced_or_refused(tmp_path: Path) -> None:
    stack(tmp_path / "in" / "a.tif", 24, 24)
    out = tmp_path / "out"
    assert restore(tmp_path / "in", out)["a.tif"].status == "restored"
    first = (out / "a.tif").read_bytes()

    for resume in (False, True):
        left = restore(tmp_path / "in", out, resume=resume)["a.tif"]
        assert (left.status, left.text, left.facts["output"]) == ("skipped", "done before", "a.tif")
        assert restore(tmp_path / "in", out, quick(axes="YX"), resume=resume)["a.tif"].text == "done before"

    for resume in (False, True):
        other = restore(tmp_path / "in", out, quick(seed=1), resume=resume)["a.tif"]
        assert (other.status, other.is_error, other.facts) == ("exists", True, {})
        assert "by another recipe (seed 0, now 1); --overwrite replaces it, or give another folder" in other.text
    assert (out / "a.tif").read_bytes() == first
    assert restore(tmp_path / "in", out, quick(seed=1), overwrite=True)["a.tif"].status == "restored"
    assert (out / "a.tif").read_bytes() != first

    write(tmp_path / "in" / "a.tif", Image(noisy(24, 24, seed=5), "YX"), overwrite=True)
    other = restore(tmp_path / "in", out, quick(seed=1), resume=True)["a.tif"]
    assert (other.status, "from another input" in other.text) == ("exists", True)
    assert inside(out) == ["a.tif", "a.tif.json"]


def test_folders_that_hold_the_same_names_have_folders_of_their_own(tmp_path: Path) -> None:
    for name in ("mon/a.tif", "tue/a.tif", "mon/deeper/a.tif"):
        stack(tmp_path / name, 24, 24)
    rows = Batch(assigned(tmp_path, "mon", "tue"), BatchOptions(quick())).job()
    assert sum(isinstance(event, ItemDone) and event.status == "restored" for event in rows) == 3
    found = [name for name in listing(tmp_path / "out") if name.endswith(".tif")]
    assert found == ["mon/a.tif", "mon/deeper/a.tif", "tue/a.tif"]
    alone = [task.target for task in assigned(tmp_path, "mon", "tue/a.tif")]
    assert alone[1] == tmp_path / "out" / "deeper" / "a.tif"


def test_a_clash_of_names_costs_those_files_alone(tmp_path: Path) -> None:
    for name in ("fish.tif", "good.tif"):
        stack(tmp_path / "in" / name, 24, 24)
    write(tmp_path / "in" / "fish.png", Image(noisy(24, 24).astype(np.uint8), "YX"))
    rows = restore(tmp_path / "in", tmp_path / "out", quick(format="ome-zarr"))
    assert became(rows) == {"fish.png": "failed", "fish.tif": "failed", "good.tif": "restored"}
    assert "'fish.tif' would both" in rows["fish.png"].text.replace(f"{tmp_path / 'in'}/", "")
    assert "into different folders" in rows["fish.tif"].text
    tasks = assign_targets(find_inputs([str(tmp_path / "in")]), tmp_path / "planned", quick(format="ome-zarr"))
    found = list(filter(None, estimate_files(tasks, BatchOptions(quick()), probe=False)))
    assert [bool(forecast.problem) for forecast in found] == [True, True, False]


def test_the_plan_measures_a_file_of_each_kind_that_can_be_measured(tmp_path: Path) -> None:
    black = np.zeros((3, 24, 24), np.uint16)
    for name, axes, values in (("a.tif", "TYX", black), ("b.tif", "YX", black[0])):
        write(tmp_path / name, Image(values, axes))
    stack(tmp_path / "c.tif", 24, 24)
    told = estimate_files(assigned(tmp_path, "a.tif", "b.tif", "c.tif"), BatchOptions(quick()))
    constant, picture, good = filter(None, told)
    assert "all pixels have the value 0; there is nothing to restore" in constant.problem
    assert "all pixels have the value 0; there is nothing to restore" in picture.problem
    assert (good.problem, good.seconds is not None) == ("", True)


def assigned(folder: Path, *names: str) -> list[Task]:
    return assign_targets(find_inputs([str(folder / name) for name in names]), folder / "out", quick())


def test_files_that_are_not_ours_are_not_replaced(tmp_path: Path) -> None:
    stack(tmp_path / "in" / "a.tif", 24, 24)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.tif.json").write_text('{"mine": 1}')
    for overwrite in (False, True):
        row = restore(tmp_path / "in", tmp_path / "out", overwrite=overwrite)["a.tif"]
        assert (row.status, "was made by another program" in row.text) == ("failed", True)
    assert (tmp_path / "out" / "a.tif.json").read_text() == '{"mine": 1}'
    (tmp_path / "out2" / "a.ome.zarr" / "thesis").mkdir(parents=True)
    row = restore(tmp_path / "in", tmp_path / "out2", quick(format="ome-zarr"), overwrite=True)["a.tif"]
    assert (row.status, "is a folder" in row.text) == ("failed", True)
    assert inside(tmp_path / "out2") == ["a.ome.zarr", "a.ome.zarr/thesis"]


@pytest.mark.parametrize("form", ["same", "ome-zarr"])
def test_results_inside_the_folder_of_the_inputs_are_no_inputs(tmp_path: Path, form: str) -> None:
    night(tmp_path)
    out = tmp_path / "deeper" / "out"
    expected = {"a.tif": "restored", "b.ome.tif": "restored", "c.tif": "restored"}
    assert became(restore(tmp_path, out, quick(format=form))) == expected
    assert became(restore(tmp_path, out, quick(format=form), resume=True)) == dict.fromkeys(expected, "skipped")


def test_results_in_the_folder_of_the_inputs_itself_are_no_inputs(tmp_path: Path) -> None:
    stack(tmp_path / "a.tif", 24, 24)
    recipe = quick(format="ome-zarr")
    assert became(restore(tmp_path, tmp_path, recipe)) == {"a.tif": "restored"}
    assert became(restore(tmp_path, tmp_path, recipe, resume=True)) == {"a.tif": "skipped"}
    assert inside(tmp_path)[:3] == ["a.ome.zarr", "a.ome.zarr.json", "a.ome.zarr/0"]


def test_a_result_can_be_restored_by_another_recipe(tmp_path: Path) -> None:
    """A chain of batches: results are inputs like others where they are asked for."""
    stack(tmp_path / "in" / "a.tif", 24, 24)
    restore(tmp_path / "in", tmp_path / "first")
    rows = restore(tmp_path / "first", tmp_path / "second")
    assert became(rows) == {"a.tif": "restored"}


def test_samples_of_a_picture_that_share_chunks_are_restored_by_one_process(tmp_path: Path) -> None:
    write(tmp_path / "rgb.tif", Image(np.stack([noisy(24, 24, seed=s) for s in range(3)], -1).astype(np.uint8), "YXS"))
    recipe = quick(together="YX")
    shares: list[WorkItem] = []

    def watching(found: Iterator[WorkItem | None]) -> Messages:
        return run_in_this_process(share if share is None else (shares.append(share) or share) for share in found)

    row = restore(tmp_path / "rgb.tif", tmp_path / "out", recipe, watching)["rgb.tif"]
    assert (row.status, len(shares)) == ("restored", 1)
    alone = restore_one(
        read(tmp_path / "rgb.tif"), "inr", preset="fast", settings={"steps": 5}, together="YX", device="cpu"
    )
    assert np.array_equal(read(row.target).data, alone.data)
    # three pictures of three samples: eight of the nine are fitted at once
    colours = np.stack([noisy(3, 24, 24, seed=s) for s in range(3)], -1).astype(np.uint8)
    write(tmp_path / "rgbs.tif", Image(colours, "TYXS"))
    shares.clear()
    assert restore(tmp_path / "rgbs.tif", tmp_path / "out", recipe, watching)["rgbs.tif"].status == "restored"
    assert len(shares) == 1


@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr"])
def test_resume_finds_out_that_a_result_is_not_whole(tmp_path: Path, suffix: str) -> None:
    """A copy may have been cut off, or chunks been lost."""
    write(tmp_path / f"a{suffix}", Image(noisy(64, 64), "YX"))
    rows = restore(tmp_path / f"a{suffix}", tmp_path / "out", quick())
    result = rows[f"a{suffix}"].target
    largest = max((file for file in files_in(result)), key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-7])
    tasks = assign_targets(find_inputs([str(tmp_path / f"a{suffix}")]), tmp_path / "out", quick())
    (row,) = [event for event in Batch(tasks, BatchOptions(quick(), resume=True)).job() if isinstance(event, ItemDone)]
    assert row.status == "failed"
    assert "that were written" in row.text
    (row,) = [
        event for event in Batch(tasks, BatchOptions(quick(), overwrite=True)).job() if isinstance(event, ItemDone)
    ]
    assert row.status == "restored"


def test_the_plan_knows_what_is_done(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif"):
        stack(tmp_path / "in" / name, 64, 64)
    tasks = assign_targets(find_inputs([str(tmp_path / "in")]), tmp_path / "out", quick())
    list(Batch(tasks[:1], BatchOptions(quick())).job())
    plans = [found for found in estimate_files(tasks, BatchOptions(quick(), resume=True), probe=False) if found]
    assert [(found.task.source.name, found.done) for found in plans] == [("a.tif", True), ("b.tif", False)]
    other = quick(seed=1)
    assert not any(
        found.done for found in estimate_files(tasks[1:], BatchOptions(other, resume=True), probe=False) if found
    )


def test_a_file_that_the_recipe_names_is_known_by_its_content(tmp_path: Path) -> None:
    """A changed mask or PSF is noticed; one that has only been renamed is the same."""
    stack(tmp_path / "in" / "a.tif", 24, 24)
    np.save(tmp_path / "psf.npy", np.outer(*[np.hanning(9)[1:-1]] * 2))
    write(tmp_path / "mask.tif", Image(np.eye(24, dtype=np.uint8), "YX"))
    settings = {"blur": "file", "psf_file": str(tmp_path / "psf.npy"), "steps": 2, "rough_steps": 2, "rounds": 1}
    recipe = quick(method="linr", settings=settings, mask=str(tmp_path / "mask.tif"))
    first = restore(tmp_path / "in", tmp_path / "out", recipe)["a.tif"]
    assert (first.status, set(first.facts["identity"]["inputs"])) == ("restored", {"mask", "psf"})
    assert restore(tmp_path / "in", tmp_path / "out", recipe, resume=True)["a.tif"].text == "done before"

    (tmp_path / "psf.npy").rename(tmp_path / "renamed.npy")
    renamed = quick(
        method="linr", settings={**settings, "psf_file": str(tmp_path / "renamed.npy")}, mask=str(tmp_path / "mask.tif")
    )
    assert restore(tmp_path / "in", tmp_path / "out", renamed, resume=True)["a.tif"].text == "done before"

    np.save(tmp_path / "renamed.npy", np.outer(*[np.hanning(13)[1:-1]] * 2))
    row = restore(tmp_path / "in", tmp_path / "out", renamed, resume=True)["a.tif"]
    assert (row.status, "made with another psf;" in row.text) == ("exists", True)
    write(tmp_path / "mask.tif", Image(np.eye(24, k=1, dtype=np.uint8), "YX"), overwrite=True)
    row = restore(tmp_path / "in", tmp_path / "out", renamed, resume=True)["a.tif"]
    assert (row.status, "made with another mask and another psf;" in row.text) == ("exists", True)


@pytest.mark.parametrize("warm_steps", [0.25, 1.0])
def test_the_plan_knows_how_many_steps_a_warm_start_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_steps: float
) -> None:
    def measured(plan: RestorationPlan, blocks: list[BlockIndex], *, first: bool) -> Iterator[None]:
        yield
        return 8.0  # type: ignore[return-value]

    monkeypatch.setattr(estimate, "_measure_batch", measured)
    stack(tmp_path / "a.tif", 18, 16, 16)  # runs of 16 and of 2 frames
    recipe = quick(settings={"warm_steps": warm_steps})
    (found,) = filter(None, estimate_files(assigned(tmp_path, "a.tif"), BatchOptions(recipe)))
    assert found.seconds == 8.0 * (2 + 16 * warm_steps)


def test_threads_and_workers_share_the_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_pristine.resources.cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    stack(tmp_path / "a.tif", 24, 24)

    def threads(**options: int | None) -> int | None:
        spec = resolve_batch(saved(tmp_path), [str(tmp_path / "a.tif")], tmp_path / "out", **options)  # type: ignore[arg-type]
        return spec.options.threads

    assert [threads(workers=workers) for workers in (1, 3, 8, 20)] == [8, 2, 1, 1]
    assert threads(workers=2, threads=6) == 6
    assert threads(workers=None) is None  # workers of a cluster have as many threads as they were started with


def test_nothing_of_a_batch_stays_in_memory(tmp_path: Path) -> None:
    stack(tmp_path / "a.tif", 2, 24, 24)
    plans = []

    def watched(items: Iterator[WorkItem | None]) -> Messages:
        for item in items:
            plans.extend([weakref.ref(item.opened.plan)] if item and item.opened else [])
            yield from run_in_this_process(iter([item]))

    restore(tmp_path / "a.tif", tmp_path / "out", quick(), watched)
    gc.collect()
    assert plans
    assert not any(plan() for plan in plans)


def test_a_file_that_fails_leaves_nothing_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[Any]] = []

    def fit(net: Any, block: NoisyBlock, params: Any, warm: bool) -> Fit:
        held.append(weakref.ref(block.pixels))
        raise ComputeError("the fit diverged")
        yield

    monkeypatch.setitem(METHODS, "inr", replace(METHODS["inr"], fit=fit))
    stack(tmp_path / "a.tif", 24, 24)
    errors = []
    batch = Batch(assigned(tmp_path, "a.tif"), BatchOptions(quick()), on_error=lambda task, error: errors.append(error))
    list(batch.job())
    assert [str(error) for error in errors] == [row.text for row in batch.rows] == ["the fit diverged"]
    errors.clear()
    gc.collect()
    assert [pixels() for pixels in held] == [None]


def test_the_plan_counts_the_training_of_each_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(plan: RestorationPlan, blocks: list[BlockIndex], *, first: bool) -> Iterator[None]:
        yield
        return 8.0  # type: ignore[return-value]

    monkeypatch.setattr(estimate, "_measure_batch", measured)
    write(tmp_path / "a.tif", Image(noisy(3, 4, 24, 24), "CTYX"))
    options = BatchOptions(quick(method="blind2unblind"))
    (found,) = filter(None, estimate_files(assigned(tmp_path, "a.tif"), options))
    assert found.seconds == 3 * 8.0

"""Blocks that are fitted at once: each comes out as it would alone."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from napari_pristine import Image, Recipe, run
from napari_pristine.errors import ImageError, OutOfMemory
from napari_pristine.events import BlockDone, Command, Preview, Progress
from napari_pristine.jobs import plan as planning
from napari_pristine.jobs.plan import make_plan
from napari_pristine.jobs.restore import Restored, run_plan, wait
from napari_pristine.methods import METHODS
from napari_pristine.methods.method import Fit, NoisyBlock

QUICK = {"steps": 40, "width": 16, "patch": 48, "batch": 128}


def stack(*loop_axes: int, side: int = 40, axes: str = "TYX") -> Image:
    """Noisy frames, each of another scene."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    scenes = [np.sin(9 * x + n) * np.cos(7 * y) for n in range(int(np.prod(loop_axes)))]
    clean = np.stack(scenes).reshape(*loop_axes, side, side) * 50 + 200
    return Image((clean + rng.normal(0, 8, clean.shape)).astype(np.float32), axes)


def recipe(**changes: Any) -> Recipe:
    return Recipe(method="inr", settings={**QUICK, **changes}, device="cpu")


def finished(image: Image, wanted: Recipe) -> Restored:
    return wait(run(image, wanted))


def one_by_one(monkeypatch: pytest.MonkeyPatch, image: Image, wanted: Recipe) -> Restored:
    with monkeypatch.context() as patch:
        patch.setattr(planning, "_CPU_NETWORKS", 1)
        return finished(image, wanted)


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize(("axes", "loop_axes"), [("CYX", (3,)), ("CTYX", (2, 3))])
def test_blocks_fitted_at_once_come_out_as_alone(
    monkeypatch: pytest.MonkeyPatch, axes: str, loop_axes: tuple[int, ...], warm: bool
) -> None:
    image = stack(*loop_axes, axes=axes)
    wanted = recipe(warm_start=warm)
    assert make_plan(image, wanted).batch_size == 8
    together, alone = finished(image, wanted), one_by_one(monkeypatch, image, wanted)
    np.testing.assert_allclose(together.data, alone.data, atol=0.05)  # the noise is 8
    assert together.quality.stopped == alone.quality.stopped
    assert np.std(together.data - image.data) > 4  # it did remove noise


def test_a_frame_with_hidden_pixels_does_not_harm_those_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    image = stack(3, axes="CYX")
    image.data[1, :15, :20] = np.nan
    together, alone = finished(image, recipe()), one_by_one(monkeypatch, image, recipe())
    np.testing.assert_allclose(together.data[[0, 2]], alone.data[[0, 2]], atol=0.05)
    assert np.isfinite(together.data).all()


def test_an_empty_frame_is_left_and_the_others_are_restored() -> None:
    image = stack(3, axes="CYX")
    image.data[1] = 7
    restored = finished(image, recipe())
    assert (restored.data[1] == 7).all()
    assert any("left unchanged at C = 1" in note.text for note in restored.notes)
    assert all(np.std(restored.data[c] - image.data[c]) > 4 for c in (0, 2))


@pytest.mark.parametrize("settings", [{"stop_at": 1.0}, {"holdout": 0.1}, {"patch": None}, {"tile": 64, "patch": 32}])
def test_blocks_that_may_stop_at_different_steps_or_are_large_are_fitted_alone(settings: dict[str, Any]) -> None:
    image = stack(3, side=128 if "tile" in settings else 40, axes="CYX")
    assert make_plan(image, recipe(**settings)).batch_size == 1


def test_units_hold_all_blocks_once_and_runs_stay_whole() -> None:
    resolved = make_plan(stack(3, 37, side=24, axes="CTYX"), recipe())
    units = resolved.work_units
    assert sorted(place for unit in units for place in unit) == list(resolved.indices)
    for run_ in resolved.blocks.runs(planning.RUN_LENGTH):
        assert sum(set(run_) <= set(unit) for unit in units) == 1
    # 9 runs, 8 side by side; a rank is one block of each of them
    assert [len(unit) for unit in units] == [106, 5]
    assert [len(rank) for rank in resolved.batches(units[0])][:6] == [8] * 5 + [6]


@pytest.mark.parametrize("loops", [(3,), (16,), (17,), (40,), (2, 5), (3, 17), (5, 33), (9, 1)])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_units_and_batches_are_counted_without_making_them(loops: tuple[int, ...], size: int) -> None:
    axes = "CTYX" if len(loops) == 2 else "TYX"
    plan = make_plan(Image(np.zeros((*loops, 16, 16), np.float32), axes), recipe(), batch_size=size)
    units = list(plan.work_units)
    assert plan.batch_count == sum(len(plan.batches(unit)) for unit in units)
    assert plan.batches([index for unit in units for index in unit]) == [
        b for unit in units for b in plan.batches(unit)
    ]
    assert plan.count_blocks(range(len(units))) == len(plan.indices) == sum(map(len, units))
    assert plan.cold_starts == sum(not plan.starts_warm(index) for index in plan.indices)
    for number, unit in enumerate(units):
        assert {plan.unit_of(index) for index in unit} == {number}
        assert all(index in plan.batch_of(index) for index in unit)


def test_empty_frames_are_told_of_once() -> None:
    image = stack(12, side=24)
    data = np.array(image.data)
    data[[1, 4, 5]] = 7
    restored = finished(replace(image, data=data), recipe(steps=5))
    (note,) = (note.text for note in restored.notes if "unchanged" in note.text)
    reason = "all pixels have the value 7; there is nothing to restore"
    assert note == f"3 of 12 blocks were left unchanged, the first at T = 1: {reason}"
    assert (restored.data[[1, 4, 5]] == 7).all()
    assert np.isfinite(restored.quality.sigma)
    data[:] = np.arange(12)[:, None, None]  # another value in each
    with pytest.raises(ImageError, match="all pixels have the value 0; there is nothing to restore"):
        finished(replace(image, data=data), recipe(steps=5))


def test_blocks_fitted_at_once_are_shown_told_and_kept() -> None:
    image = stack(4, axes="CYX")
    job = run(image, recipe(steps=5000))
    places, wish, told = set(), None, 0
    try:
        while True:
            event = job.send(wish) if wish else next(job)
            wish = None
            told += isinstance(event, Progress)
            if isinstance(event, Preview):
                places.add(event.index[0])
                wish = Command.KEEP
    except StopIteration as end:
        restored: Restored = end.value
    assert told
    assert places == {0, 1, 2, 3}
    assert any(note.text.startswith("kept after") for note in restored.notes)
    assert not any("only" in note.text for note in restored.notes)
    assert all(np.std(restored.data[c] - image.data[c]) > 1 for c in range(4))


def test_what_does_not_fit_into_memory_together_is_fitted_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    image, wanted = stack(3, axes="CYX"), recipe()
    alone = one_by_one(monkeypatch, image, wanted)

    def full(nets: Sequence[Any], noisies: Sequence[NoisyBlock], params: Any, warm: bool) -> Fit:
        raise OutOfMemory("the memory ran out")
        yield

    monkeypatch.setitem(METHODS, "inr", replace(METHODS["inr"], fit_batch=full))
    restored = finished(image, wanted)
    np.testing.assert_array_equal(restored.data, alone.data)
    assert any("one block after the other" in note.text for note in restored.notes)


def test_each_block_says_that_it_is_done_with_its_own_figures() -> None:
    done = [event for event in run(stack(3, axes="CYX"), recipe()) if isinstance(event, BlockDone)]
    assert [event.index for event in done] == [(0,), (1,), (2,)]
    assert not any(event.stops for event in done)  # all steps were taken, which needs no words
    assert len({event.quality for event in done}) == 3


def test_how_many_are_fitted_at_once_is_the_same_wherever_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that was made for a machine with room is restored alike by one without: warm starts and all."""
    image, wanted = stack(37, side=24), recipe(steps=20)
    resolved = make_plan(image, wanted)
    (unit,) = resolved.work_units
    here = np.zeros(image.shape, np.float32)
    wait(run_plan(resolved, into=here, units=[unit]))
    with monkeypatch.context() as patch:
        patch.setattr(planning, "_CPU_NETWORKS", 1)
        there = np.zeros(image.shape, np.float32)
        wait(run_plan(make_plan(image, wanted, batch_size=8), into=there, units=[unit]))
    np.testing.assert_array_equal(here, there)


def test_frames_beside_one_of_which_most_is_hidden_come_out_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    image = stack(3, axes="CYX")
    image.data[1, :30] = np.nan
    together, alone = finished(image, recipe()), one_by_one(monkeypatch, image, recipe())
    np.testing.assert_allclose(together.data, alone.data, atol=0.05)


def test_what_did_not_fit_into_memory_is_gone_before_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[Any]] = []

    def full(nets: Sequence[Any], noisies: Sequence[NoisyBlock], params: Any, warm: bool) -> Fit:
        large = torch.zeros(1000)
        held.append(weakref.ref(large))
        if large.sum() == 0:
            raise OutOfMemory("the memory ran out")
        yield

    def fit(net: Any, noisy: NoisyBlock, params: Any, warm: bool) -> Fit:
        assert [left() for left in held] == [None]
        return (yield from inr.fit(net, noisy, params, warm))

    inr = METHODS["inr"]
    monkeypatch.setitem(METHODS, "inr", replace(inr, fit_batch=full, fit=fit))
    finished(stack(2, axes="CYX"), recipe(steps=2))
    assert held


def test_networks_of_larger_tiles_are_not_started_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second channel runs out of memory after the first was fitted as a whole."""
    inr, full = METHODS["inr"], [True, False, True]  # both at once, the first, the second by itself

    def out_of_memory(largest: int) -> None:
        if full and largest > 128 and full.pop(0):
            raise OutOfMemory("the memory ran out")

    def fit_batch(nets: Sequence[Any], noisies: Sequence[NoisyBlock], params: Any, warm: bool) -> Fit:
        out_of_memory(max(noisies[0].pixels.shape))
        assert inr.fit_batch is not None
        return (yield from inr.fit_batch(nets, noisies, params, warm))

    def fit(net: Any, noisy: NoisyBlock, params: Any, warm: bool) -> Fit:
        out_of_memory(max(noisy.pixels.shape))
        return (yield from inr.fit(net, noisy, params, warm))

    monkeypatch.setitem(METHODS, "inr", replace(inr, fit_batch=fit_batch, fit=fit))
    image = stack(2, 2, side=200, axes="CTYX")
    restored = finished(image, recipe(steps=10, patch=200))
    assert not full
    assert any("tiles of 128" in note.text for note in restored.notes)
    assert np.std(restored.data - image.data, axis=(2, 3)).min() > 4

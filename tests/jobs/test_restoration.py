"""The life of one image: checks before work, progress, previews, keep, cancel, memory, tiles, warm starts."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import elsewhere
from napari_pristine.device import seeded
from napari_pristine.errors import AxesError, ComputeError, ImageError, OutOfMemory, PristineError, SettingError
from napari_pristine.events import Command, Event, Note, Preview, Progress
from napari_pristine.image.image import Image
from napari_pristine.jobs.plan import RestorationPlan, make_plan
from napari_pristine.jobs.restore import Restored, restore, run, wait
from napari_pristine.methods import METHODS
from napari_pristine.methods.method import Fit, NoisyBlock, Step, StopReason
from napari_pristine.recipe import Recipe
from napari_pristine.samples import simulate_image
from tiny import TINY

INR = METHODS["inr"]
FEW = {"steps": 40}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y = np.linspace(0, 6, shape[-2])[:, None]
    x = np.linspace(0, 6, shape[-1])
    return rng.poisson(20 + 10 * np.sin(y) * np.sin(x), shape).astype(np.uint16)


def events_of(image: np.ndarray, axes: str = "YX", **recipe: Any) -> tuple[list[Event], Any]:
    heard: list[Event] = []
    result = wait(run(Image(image, axes), Recipe(**recipe)), heard.append)
    return heard, result


@pytest.fixture
def instead(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Put a stand-in in the place of the method for one test; it fits one block after the other."""

    def put(**parts: Any) -> None:
        monkeypatch.setitem(METHODS, "inr", replace(INR, **{"fit_batch": None, **parts}))

    return put


def test_progress_rises_to_the_end_and_tells_the_time_left() -> None:
    heard, _ = events_of(noise(3, 64, 64), "TYX", method="inr", settings={"steps": 150})
    progress = [event for event in heard if isinstance(event, Progress)]
    fractions = [event.fraction for event in progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert {event.block for event in progress} == {0, 1, 2}
    assert all(event.blocks == 3 for event in progress)


def test_previews_are_blocks_in_the_units_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_pristine.jobs.context._PREVIEW_SECONDS", 0.0)
    monkeypatch.setattr("napari_pristine.jobs.context._PREVIEW_PAUSE", 0.0)
    image = noise(2, 48, 40)
    heard, result = events_of(image, "CYX", method="inr", settings=FEW)
    previews = [event for event in heard if isinstance(event, Preview)]
    assert {preview.index[0] for preview in previews} == {0, 1}
    last = [preview for preview in previews if preview.index[0] == 1][-1]
    assert last.data.shape == (48, 40)
    assert last.data.dtype == image.dtype
    assert abs(last.data.mean() - result.data[1].mean()) < 3


def test_keep_stops_early_and_leaves_the_rest_of_a_stack_as_it_was() -> None:
    image = noise(3, 48, 48)

    def keep_in_the_second(event: Event) -> Command | None:
        return Command.KEEP if isinstance(event, Progress) and event.block == 1 else None

    result = wait(run(Image(image, "TYX"), Recipe(method="inr", settings={"steps": 400})), keep_in_the_second)
    assert not np.array_equal(result.data[1], image[1])
    np.testing.assert_array_equal(result.data[2], image[2])
    assert any(note.warning and "2 of 3" in note.text for note in result.notes)


def test_a_closed_job_leaves_nothing_behind(instead: Any) -> None:
    nets: list[weakref.ref[nn.Module]] = []

    def network(params: Any, channels: int, space: tuple[int, ...]) -> nn.Module:
        net: nn.Module = INR.network(params, channels, space)
        nets.append(weakref.ref(net))
        return net

    instead(network=network)
    job = run(Image(noise(48, 48), "YX"), Recipe(method="inr", settings=FEW))
    next(job)
    job.close()
    del job
    gc.collect()
    assert len(nets) == 1
    assert nets[0]() is None


@pytest.mark.parametrize(
    ("image", "arguments", "error", "words"),
    [
        (np.zeros((2, 3, 32, 32)), {}, AxesError, "axes='TCYX'"),
        (np.zeros((3, 32, 32)), {"axes": "YX"}, AxesError, "2 dimensions but the image has 3"),
        (np.zeros((32, 32)), {"axes": "YZ"}, AxesError, "Y or X"),
        (np.zeros((32, 32), complex), {}, ImageError, "complex"),
        (np.zeros((32, 32), bool), {}, ImageError, "boolean"),
        (np.full((32, 32), 7), {}, ImageError, "value 7"),
        (np.full((32, 32), np.nan), {}, ImageError, "NaN"),
        (np.zeros((0, 32)), {}, ImageError, "empty"),
        (np.zeros((8, 32)), {}, ImageError, "at least 16"),
        (noise(32, 32), {"method": "magic"}, SettingError, "the methods are auto"),
        (noise(32, 32), {"preset": "finest"}, SettingError, "balanced"),
        (noise(32, 32), {"settings": {"steps": 0}}, SettingError, "'steps'"),
        (noise(32, 32), {"settings": {"stepz": 1}}, SettingError, "stepz"),
        (noise(32, 32), {"device": "tpu"}, SettingError, "device"),
        (noise(32, 32), {"together": "ZYX"}, AxesError, "ZYX"),
        (noise(32, 32), {"select": {"T": "0"}}, SettingError, "'T'"),
        (noise(32, 32), {"select": {"Y": "5:5"}}, SettingError, "empty"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_first_fit(
    image: np.ndarray, arguments: dict[str, Any], error: type[PristineError], words: str, instead: Any
) -> None:
    def never(*_: Any) -> Fit:
        raise AssertionError("a fit was begun")
        yield

    if arguments.get("method") is None:
        instead(fit=never)
    with pytest.raises(error, match=r"(?s).*") as caught:
        restore(image, **arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_constant_frame_of_a_stack_is_left_and_reported() -> None:
    image = noise(3, 40, 40)
    image[1] = 5
    _, result = events_of(image, "TYX", method="inr", settings=FEW)
    np.testing.assert_array_equal(result.data[1], image[1])
    assert not np.array_equal(result.data[2], image[2])
    assert any("T = 1" in note.text for note in result.notes)


def fit_that_runs_out_of_memory(limit: int) -> Any:
    def fit(net: nn.Module, noisy: NoisyBlock, params: Any, warm: bool) -> Fit:
        yield Step(1, 2, torch.tensor(1.0))
        if noisy.pixels.shape[-1] > limit:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        yield Step(2, 2, torch.tensor(1.0))
        return StopReason("done")

    return fit


def give_back(net: nn.Module, noisy: NoisyBlock, params: Any) -> Tensor:
    return noisy.pixels


def test_work_is_halved_when_the_memory_runs_out(instead: Any) -> None:
    instead(fit=fit_that_runs_out_of_memory(150), restore=give_back)
    image = noise(300, 300)
    heard, result = events_of(image, method="inr", settings={"refine": False})
    texts = [note.text for note in heard if isinstance(note, Note)]
    assert texts[0] == "the memory ran out; continuing with tiles of 150 pixels"
    assert "further from the truth than a light blur" in texts[1]  # nothing was removed
    assert np.abs(result.data.astype(int) - image).max() <= 1  # photons there and back: unbiased, not the identity


def test_memory_that_never_suffices_is_an_error_of_ours(instead: Any) -> None:
    instead(fit=fit_that_runs_out_of_memory(0))
    with pytest.raises(OutOfMemory, match="tile"):
        restore(noise(300, 300), "inr")


def test_an_error_of_torch_becomes_one_of_ours(instead: Any) -> None:
    def fit(*_: Any) -> Fit:
        raise RuntimeError("CUDA error: the GPU fell off")
        yield

    instead(fit=fit)
    with pytest.raises(ComputeError, match="fell off"):
        restore(noise(48, 48), "inr")


def test_tiles_leave_no_seams() -> None:
    rng = np.random.default_rng(0)
    truth = 30 + 20 * np.sin(np.arange(200)[:, None] / 15) * np.cos(np.arange(220) / 20)
    noisy = rng.poisson(truth).astype(np.float32)
    tiled = restore(noisy, method="inr", settings={"steps": 150, "tile": 96}).data
    jumps = np.abs(np.diff(tiled - truth, axis=1)).mean(axis=0)
    assert np.sqrt(np.mean((tiled - truth) ** 2)) < 0.5 * np.sqrt(np.mean((noisy - truth) ** 2))
    assert jumps.max() < 4 * np.median(jumps)


def test_a_fit_ends_after_its_last_step_and_warm_ones_in_proportion() -> None:
    frames = np.random.default_rng(0).poisson(20, (2, 32, 32)).astype(np.float32)
    events: list[Any] = []
    settings = {
        "steps": 30,
        "warm_steps": 0.5,
        "last_step": 10,
        "fits": 1,
        "patch": None,
        "width": 8,
        "batch": 128,
        "holdout": 0.1,
    }
    restored = restore(frames, "inr", axes="TYX", settings=settings, on_event=events.append)
    reached = [(event.block, event.step, event.steps) for event in events if isinstance(event, Progress)]
    assert max(reached, key=lambda each: (each[0], each[1])) == (1, 5, 15)
    assert [max(step for block, step, _ in reached if block == number) for number in (0, 1)] == [10, 5]
    assert restored.quality.stopped == (
        "ended after 10 of 30 steps (last_step)", "ended after 5 of 15 steps (last_step)",
    )  # fmt: skip
    settings["last_step"] = 30  # no more than all steps
    assert restore(frames[0], "inr", settings=settings).quality.stopped == ()


def test_neighbours_in_time_start_warm_and_channels_do_not(instead: Any) -> None:
    warm: list[bool] = []

    def fit(net: nn.Module, noisy: NoisyBlock, params: Any, is_warm: bool) -> Fit:
        warm.append(is_warm)
        return (yield from INR.fit(net, noisy, params, is_warm))

    instead(fit=fit)
    restore(noise(3, 2, 32, 32), axes="TCYX", method="inr", settings=FEW)
    assert warm == [False, True, True, False, True, True]


def test_select_restores_a_part_and_knows_where_it_was() -> None:
    image = Image(noise(6, 40, 40), "TYX", scale=(2.0, 0.5, 0.5), units=("second", "micrometer", "micrometer"))
    result = wait(run(image, Recipe(method="inr", settings=FEW, select={"T": "2:4", "X": "4:36"})))
    assert result.data.shape == (2, 40, 32)
    assert result.image.translate == (4.0, 0.0, 2.0)
    assert result.image.scale == image.scale
    assert result.image.units == image.units


def test_the_cpu_takes_over_when_the_memory_of_a_device_runs_out(instead: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(net: nn.Module, noisy: NoisyBlock, params: Any, warm: bool) -> Fit:
        yield Step(1, 2, torch.tensor(1.0))
        if noisy.pixels.device == elsewhere.DEVICE:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        yield Step(2, 2, torch.tensor(1.0))
        return StopReason("done")

    instead(fit=fit, restore=give_back)
    image = noise(2, 160, 160)
    expected = restore(image, "inr", axes="TYX", settings={"refine": False}, device="cpu")
    monkeypatch.setattr("napari_pristine.jobs.plan.pick_device", lambda wanted: (elsewhere.DEVICE, None))
    with elsewhere.elsewhere():
        result = restore(image, "inr", axes="TYX", settings={"refine": False})
    assert [note.text for note in result.notes if "memory" in note.text] == [
        "the memory ran out; continuing with tiles of 128 pixels",
        "the memory ran out; continuing on the CPU",
    ]
    np.testing.assert_array_equal(result.data, expected.data)


def test_a_given_noise_level_rules() -> None:
    image = noise(64, 64).astype(np.float32)
    little, much = (restore(image, method="inr", settings={"steps": 150, "sigma": s}).data for s in (0.5, 20.0))
    assert np.std(image - little) < np.std(image - much)


def test_a_device_that_is_not_there_is_replaced_and_that_is_said() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    result = restore(noise(32, 32), method="inr", settings=FEW, device="cuda")
    assert any("no cuda device" in note.text for note in result.notes)
    assert result.device.startswith("cpu")


def test_the_paper_preset_stops_at_the_noise_level() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:80, :80] / 80
    truth = 120 + 60 * np.sin(4 * y + 2 * x) + 40 * np.exp(-((y - 0.5) ** 2 + (x - 0.4) ** 2) / 0.02)
    noisy = truth + rng.normal(0, 10, truth.shape)
    result = restore(noisy, method="inr", preset="paper")
    assert "reached the noise level" in result.quality.stopped[0]
    assert 0.85 < result.quality.residual < 1.05
    assert np.sqrt(np.mean((result.data - truth) ** 2)) < 5


@pytest.mark.parametrize("photons", [0.01, 0.02, 0.1, 5])
def test_the_noise_of_few_photons_is_removed(photons: float) -> None:
    counts = np.random.default_rng(0).poisson(photons, (96, 96)).astype(np.uint16)
    result = restore(counts, preset="fast")
    texts = [note.text for note in result.notes]
    assert 0.9 < result.quality.residual < 1.1
    assert result.data.std() < 0.2 * photons**0.5
    below = int((result.data < -1e-3 * result.quality.sigma).sum())
    assert any(text.startswith(f"{below} value") for text in texts) == (below > 0)
    assert abs(result.data.mean() - counts.mean()) < 0.2 * counts.mean()  # values below zero keep the mean


def test_values_below_zero_are_told_only_where_the_image_has_none() -> None:
    y, x = np.mgrid[:64, :64]
    spot = 40 * np.exp(-((y - 32) ** 2 + (x - 30) ** 2) / 8)
    signed = (spot + np.random.default_rng(0).normal(0, 1, spot.shape)).astype(np.float32)
    told = "although the image has no negative values"
    assert not any(told in note.text for note in restore(signed, method="inr", settings=FEW).notes)  # it has some
    offset = restore(signed + 100, method="inr", settings=FEW)
    assert not any(told in note.text for note in offset.notes)
    whole = restore(np.clip(signed, 0, None).astype(np.uint8), method="inr", settings=FEW, value_type="same")
    assert not any(told in note.text for note in whole.notes)  # they cannot be


@pytest.mark.parametrize("method", ["inr", "linr", "iddp"])
def test_a_fit_that_does_not_reach_the_noise_level_says_what_to_do(method: str) -> None:
    image = noise(32, 32)
    few = FEW if method != "iddp" else {"steps": 2}
    assert restore(image, method, settings={**few, "stop_at": 0}).quality.stopped == ()  # as it was meant to be
    (said,) = restore(image, method, settings={**few, "stop_at": 0.01}).quality.stopped
    assert "did not reach the noise level within" in said


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_thin_volumes_get_better_too(depth: int) -> None:
    y, x = np.mgrid[:64, :64]
    truth = np.repeat((20 + 15 * np.sin(y / 9) * np.cos(x / 11))[None], depth, axis=0)
    noisy = np.random.default_rng(0).poisson(truth).astype(np.float32)
    result = restore(noisy, axes="ZYX", together="ZYX", method="inr", settings={"steps": 150})
    assert np.sqrt(np.mean((result.data - truth) ** 2)) < 0.5 * np.sqrt(np.mean((noisy - truth) ** 2))


def test_the_order_of_the_axes_does_not_matter() -> None:
    volume = noise(6, 40, 44)
    first = restore(volume, axes="ZYX", together="ZYX", method="inr", settings=FEW)
    other = restore(volume.transpose(1, 2, 0), axes="YXZ", together="YXZ", method="inr", settings=FEW)
    np.testing.assert_array_equal(other.data.transpose(2, 0, 1), first.data)
    assert other.quality.sigma == first.quality.sigma


def test_a_margin_without_a_picture_does_not_spoil_the_noise_level() -> None:
    image = noise(96, 96).astype(np.float32)
    framed = image.copy()
    framed[:14] = 0
    whole, part = (restore(i, method="inr", settings=FEW).quality.sigma for i in (image, framed))
    assert part == pytest.approx(whole, rel=0.15)


def test_each_tile_of_the_paper_preset_has_its_own_noise_level(instead: Any) -> None:
    seen: list[float] = []

    def fit(net: nn.Module, noisy: NoisyBlock, params: Any, warm: bool) -> Fit:
        seen.append(float(noisy.sigma[0]))
        return StopReason("done")
        yield

    instead(fit=fit)
    rng = np.random.default_rng(0)
    image = np.hstack([rng.poisson(4, (96, 96)), rng.poisson(200, (96, 96))]).astype(np.float32)
    restore(image, method="inr", preset="paper", settings={"tile": 96})
    assert seen[0] < 0.3 * seen[-1]


def test_a_channel_never_starts_from_another_channels_network(instead: Any) -> None:
    warm: list[bool] = []

    def fit(net: nn.Module, noisy: NoisyBlock, params: Any, is_warm: bool) -> Fit:
        warm.append(is_warm)
        return (yield from INR.fit(net, noisy, params, is_warm))

    instead(fit=fit)
    image = noise(2, 2, 32, 32)
    image[0, 1] = 7  # the first frame of the second channel holds nothing
    restore(image, axes="TCYX", method="inr", settings=FEW)
    assert warm == [False, True, False]


def test_only_what_is_restored_is_read() -> None:
    class Lazy:
        """An array that remembers what was read of it."""

        def __init__(self, data: np.ndarray) -> None:
            self.data, self.shape, self.dtype, self.ndim = data, data.shape, data.dtype, data.ndim
            self.largest = 0

        def __getitem__(self, index: Any) -> np.ndarray:
            part = self.data[index]
            self.largest = max(self.largest, part.size)
            return part

    lazy = Lazy(noise(4, 40, 40))
    wait(run(Image(lazy, "TYX"), Recipe(method="inr", settings=FEW)))
    assert lazy.largest <= 40 * 40


def test_a_given_noise_level_keeps_the_brightness() -> None:
    image = 100 + noise(64, 64).astype(np.float32)
    for sigma in (5.0, 60.0, 1e6):
        assert restore(image, method="inr", settings={**FEW, "sigma": sigma}).data.mean() == pytest.approx(
            image.mean(), rel=0.02
        )


def test_transparency_is_no_colour() -> None:
    image = np.stack([noise(40, 40, seed=i) for i in range(4)], axis=-1).astype(np.uint8)
    result = restore(image, axes="YXS", method="inr", settings=FEW)
    np.testing.assert_array_equal(result.data[..., 3], image[..., 3])
    assert not np.array_equal(result.data[..., :3], image[..., :3])


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.kron(np.arange(16).reshape(4, 4), np.ones((12, 12), int)).astype(np.uint16), "label image"),
        (noise(32, 32).astype(np.int64) + 2**60, "too large"),
        (noise(32, 32) * 1e200, "out of the range"),
        (np.ma.MaskedArray(noise(32, 32), mask=False), "NaN"),
    ],
)
def test_numbers_that_are_no_intensities_are_refused(image: np.ndarray, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        restore(image, method="inr", settings=FEW)


@pytest.mark.parametrize("name", ["image", "mask", "also"])
@pytest.mark.parametrize("kind", [str, Path])
def test_the_name_of_a_file_is_no_image(name: str, kind: type) -> None:
    path = kind("cell.tif")
    given: dict[str, Any] = {"image": noise(32, 32)} | {name: [path] if name == "also" else path}
    with pytest.raises(ImageError, match=r"'cell.tif'.*read it first"):
        restore(**given, method="inr", settings=FEW)


def test_sparse_photons_are_no_labels() -> None:
    sparse = np.random.default_rng(0).poisson(0.03, (96, 96)).astype(np.uint8)
    assert restore(sparse, method="inr", settings=FEW).data.shape == (96, 96)


def test_a_job_listens_within_long_steps_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_pristine.nets.field._CHUNK", 1 << 14)
    monkeypatch.setattr("napari_pristine.jobs.context._PROGRESS_SECONDS", 0.0)
    job = run(Image(noise(96, 96), "YX"), Recipe(method="inr", preset="paper"))
    started = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: started + 5)  # there is no time left to tell before the first step
    done = [event.step for event in (next(job) for _ in range(12)) if isinstance(event, Progress)]
    job.close()
    assert done.count(0) > 5


LINR = METHODS["linr"]
ROUGH = {"steps": 3, "rough_steps": 3, "patch": 32, "width": 8, "rounds": 4, "blur": "gaussian", "blur_width": 1.0}
NO_MEMORY = "CUDA out of memory. Tried to allocate 2.00 GiB"


def rounds_that(end: Callable[[], None], after: int = 2) -> Any:
    """Rounds of refinement that each make the scene brighter, until `end` is called in place of the next."""

    def refine(params: Any, scene: Tensor, noisy: NoisyBlock) -> Iterator[Tensor]:
        for done in range(params.rounds):
            if done == after:
                end()
            yield scene + (done + 1) * 0.1

    return refine


def out_of_memory(*_: Any) -> Any:
    raise torch.OutOfMemoryError(NO_MEMORY)


def test_the_last_round_is_kept_when_the_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise(32, 32).astype(np.float32)

    def refined(**parts: Any) -> Any:
        monkeypatch.setitem(METHODS, "linr", replace(LINR, **parts))
        return restore(image, "linr", settings=ROUGH)

    rough = refined(refine=rounds_that(out_of_memory, after=0))
    broken = refined(refine=rounds_that(out_of_memory, after=2))
    two = restore(image, "linr", settings={**ROUGH, "rounds": 2})
    assert not np.array_equal(broken.data, rough.data)
    np.testing.assert_array_equal(broken.data, two.data)
    warnings = [note.text for note in broken.notes if note.warning]
    assert warnings == ["the memory ran out after 2 of 4 rounds of refinement"]


def test_a_fit_is_not_lost_when_there_is_no_memory_to_refine_or_to_judge_it(
    monkeypatch: pytest.MonkeyPatch, instead: Any
) -> None:
    monkeypatch.setattr("napari_pristine.jobs.block.Block.refine", out_of_memory)
    result = restore(noise(48, 48), method="inr", settings=FEW)
    assert "the memory ran out; the fit is not refined" in [note.text for note in result.notes]
    monkeypatch.setitem(METHODS, "linr", replace(LINR, forward_model=out_of_memory))
    result = restore(noise(32, 32), "linr", settings=ROUGH)
    assert any("not measured" in note.text for note in result.notes)


def test_an_error_in_the_rounds_that_is_not_of_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("the GPU fell off")

    monkeypatch.setitem(METHODS, "linr", replace(LINR, refine=rounds_that(fail)))
    with pytest.raises(ComputeError, match="fell off"):
        restore(noise(32, 32), "linr", settings=ROUGH)


def test_progress_goes_on_through_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_pristine.jobs.context._PROGRESS_SECONDS", 0.0)
    heard, _ = events_of(noise(2, 32, 32), "TYX", method="linr", settings=ROUGH)
    progress = [event for event in heard if isinstance(event, Progress)]
    fractions = [event.fraction for event in progress]
    assert fractions == sorted(fractions)
    assert [(e.block, e.step, e.steps) for e in progress if e.steps == 4] == [
        (place, done, 4) for place in (1, 3) for done in (1, 2, 3, 4)
    ]
    assert fractions[-1] == 1
    assert all(event.fraction < 1 for event in progress[:-1])


def test_rounds_that_are_cut_short_are_noted() -> None:
    job = run(Image(noise(32, 32), "YX"), Recipe(method="linr", settings=ROUGH))
    result = wait(job, lambda e: Command.KEEP if isinstance(e, Progress) and (e.block, e.step) == (1, 2) else None)
    assert result.notes[0].text == "kept after 2 of 4 rounds of refinement"


def test_a_wish_that_comes_with_a_preview_in_the_rounds_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("napari_pristine.jobs.context._PREVIEW_SECONDS", 0.0)
    monkeypatch.setattr("napari_pristine.jobs.context._PREVIEW_PAUSE", 0.0)
    rounds = 0

    def keep_at_the_first_preview_of_the_rounds(event: Event) -> Command | None:
        nonlocal rounds
        rounds += isinstance(event, Progress) and event.steps == ROUGH["rounds"]
        return Command.KEEP if rounds and isinstance(event, Preview) else None

    job = run(Image(noise(32, 32), "YX"), Recipe(method="linr", settings=ROUGH))
    wait(job, keep_at_the_first_preview_of_the_rounds)
    assert rounds == 1


def test_a_wish_before_the_first_step_does_not_give_an_untrained_network(instead: Any) -> None:
    taken = []

    def fit(net: nn.Module, noisy: NoisyBlock, params: Any, warm: bool) -> Fit:
        for step in range(1, 6):
            yield Step(step - 1, 5, torch.tensor(1.0))  # within the step
            taken.append(step)
            yield Step(step, 5, torch.tensor(1.0))
        return StopReason("done")

    instead(fit=fit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_pristine.jobs.context._PROGRESS_SECONDS", 0.0)
        result = wait(run(Image(noise(48, 48), "YX"), Recipe(method="inr")), lambda event: Command.KEEP)
    assert taken == [1]
    assert "kept after 1 of 5 steps" in result.provenance()["notes"]


ALSO = {**ROUGH, "also": "finer=1", "rounds": 1}


def joined(image: np.ndarray, axes: str, other: np.ndarray, others: str, **recipe: Any) -> Any:
    asked = Recipe(method="linr", settings=ALSO, **recipe)
    return wait(run(Image(image, axes), asked, extra_images=[Image(other, others, name="other")]))


@pytest.mark.parametrize(
    ("other", "axes", "words"),
    [
        (noise(2, 32, 32), "TYX", "'other' has 2 elements along T, the image 3;"),
        (noise(4, 32, 32), "TYX", "'other' has 4 elements along T, the image 3"),
        (noise(2, 32, 32), "ZYX", "'other' has 2 elements along Z, the image 1;"),
    ],
)
def test_pictures_with_other_frames_are_refused_before_the_first_fit(other: np.ndarray, axes: str, words: str) -> None:
    with pytest.raises(AxesError, match=words):
        make_plan(
            Image(noise(3, 32, 32), "TYX"),
            Recipe(method="linr", settings=ALSO),
            extra_images=[Image(other, axes, name="other")],
        )


def test_a_picture_of_one_frame_goes_with_all_frames() -> None:
    image, other = noise(2, 32, 32), noise(32, 32, seed=1)
    without = joined(image, "TYX", other, "YX")
    single = joined(image, "TYX", other[None], "TYX")
    np.testing.assert_array_equal(single.data, without.data)
    part = joined(image, "TYX", other[None], "TYX", select={"T": "1"})
    assert part.data.shape == (1, 32, 32)


def test_places_are_not_gone_through_for_each_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "tiny", replace(TINY, restore=give_back))
    asked: list[tuple[int, ...]] = []
    alike = RestorationPlan.channel_indices
    note = lambda self, channel: asked.append(channel) or alike(self, channel)  # noqa: E731
    monkeypatch.setattr(RestorationPlan, "channel_indices", note)
    heard, result = events_of(noise(6, 2, 32, 32), "TCYX", method="tiny", settings={"steps": 2})
    assert result.data.shape == (6, 2, 32, 32)
    assert len(asked) <= 2 * 2  # for the noise of each channel, and for learning from it
    fractions = [event.fraction for event in heard if isinstance(event, Progress)]
    assert fractions == sorted(fractions)


def test_work_that_smaller_tiles_do_not_ease_is_not_begun_again(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    def fit(*_: Any) -> Fit:
        begun.append(1)
        yield Step(0, 2, torch.tensor(1.0))
        out_of_memory()
        return StopReason("done")

    monkeypatch.setitem(METHODS, "tiny", replace(TINY, learn=fit))
    monkeypatch.setitem(METHODS, "linr", replace(LINR, fit=fit))
    with pytest.raises(OutOfMemory):
        restore(noise(300, 300), "tiny")
    with pytest.raises(OutOfMemory):
        restore(noise(300, 300), "linr", settings=ALSO, also=[noise(300, 300)])
    assert len(begun) == 2


def test_what_has_learned_restores_in_smaller_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def reluctant(net: nn.Module, noisy: NoisyBlock, params: Any) -> Tensor:
        return noisy.pixels if noisy.pixels.shape[-1] <= 150 else out_of_memory()

    monkeypatch.setitem(METHODS, "tiny", replace(TINY, restore=reluctant))
    result = restore(noise(300, 300), "tiny", settings={"steps": 2})
    assert "the memory ran out; continuing with tiles of 150 pixels" in [note.text for note in result.notes]


def test_a_fit_that_diverged_is_an_error_and_no_picture(instead: Any) -> None:
    def diverged(net: nn.Module, noisy: NoisyBlock, params: Any) -> Tensor:
        return torch.where(torch.rand_like(noisy.pixels) > 0.5, torch.nan, noisy.pixels)

    instead(restore=diverged)
    with pytest.raises(ComputeError, match=r"diverged: \d+ of 2304 .* another seed, or a lower learning_rate"):
        restore(noise(48, 48), method="inr", settings=FEW)


def test_rounds_that_diverge_are_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "linr", replace(LINR, refine=lambda _, scene, __: iter([scene * torch.nan])))
    with pytest.raises(ComputeError, match="diverged"):
        restore(noise(32, 32), "linr", settings=ROUGH)


def test_adapt_needs_a_model() -> None:
    with pytest.raises(SettingError, match="no model is given"):
        restore(noise(32, 32), method="inr", settings=FEW, adapt=True)
    with pytest.raises(SettingError, match="no model is given"):
        wait(run(Image(noise(32, 32), "YX"), Recipe(method="inr", settings=FEW, adapt=True)))


def test_networks_that_threads_draw_side_by_side_are_those_of_their_seeds() -> None:
    def draw(seed: int) -> torch.Tensor:
        with seeded(seed):
            return torch.rand(2000)

    alone = {seed: draw(seed) for seed in range(4)}
    before = torch.random.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(draw, [n % 4 for n in range(400)]))
    assert all(torch.equal(values, alone[n % 4]) for n, values in enumerate(drawn))
    assert torch.equal(torch.random.get_rng_state(), before)


def orientations_of(image: np.ndarray, keep_after: int = 9) -> tuple[Restored, list[Event]]:
    """Restore an image in eight orientations, or keep it after some of them; also returns all events."""
    events: list[Event] = []

    def reply(event: Event) -> Command | None:
        events.append(event)
        return Command.KEEP if isinstance(event, Progress) and event.step >= keep_after else None

    job = run(Image(image, "YX"), Recipe(method="pretrained", preset="balanced"))
    return wait(job, reply), events


def test_the_first_orientation_is_shown_while_the_others_are_restored() -> None:
    noisy = np.asarray(simulate_image((96, 96), seed=1)[0].data)
    _, events = orientations_of(noisy)
    steps = [event.step for event in events if isinstance(event, Progress)]
    assert steps[:7] == [1, 2, 3, 4, 5, 6, 7]
    shown = next(number for number, event in enumerate(events) if isinstance(event, Preview))
    assert [event.step for event in events[:shown] if isinstance(event, Progress)] == [1]


def test_keep_takes_the_orientations_so_far() -> None:
    noisy, truth = (np.asarray(image.data, np.float64) for image in simulate_image((96, 96), seed=1))
    kept, _ = orientations_of(noisy.astype(np.uint16), keep_after=2)
    assert any("kept after 2 of 8 orientations" in note.text for note in kept.notes)
    assert np.square(kept.data - truth).mean() < 0.5 * np.square(noisy - truth).mean()

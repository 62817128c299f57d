"""Learning: from many images of any kind, in memory or on disk, to a model that restores others."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import psutil
import pytest
import tifffile
import torch

from napari_pristine import read, restore, write
from napari_pristine.errors import (
    AxesError,
    ComputeError,
    FileError,
    ImageError,
    ModelError,
    OutOfMemory,
    PristineError,
    SettingError,
)
from napari_pristine.events import Command, Event, Note, Progress
from napari_pristine.image.image import Image, LazySequence
from napari_pristine.jobs import crops
from napari_pristine.jobs.crops import CropSampler
from napari_pristine.jobs.train import learn, training_job
from napari_pristine.methods import METHODS
from napari_pristine.methods.method import Fit, NoisyBlock, Step, StopReason
from napari_pristine.model import Model, load_model, save_model
from napari_pristine.recipe import Recipe
from napari_pristine.samples import simulate_image
from tiny import TINY, clean, noisy

SHORT = {"steps": 4}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "tiny", TINY)


def tiny_model(images: Any, **options: Any) -> Model:
    return learn(images, "tiny", **{"settings": SHORT, **options})


def drive(job: Iterator[Event]) -> tuple[list[Event], Model]:
    """All events of a job, and its result."""
    events = []
    while True:
        try:
            events.append(next(job))
        except StopIteration as end:
            return events, end.value


def distance(one: Any, other: np.ndarray) -> float:
    return float(np.sqrt(np.mean((np.asarray(one, float) - other) ** 2)))


def test_what_was_learned_from_some_images_restores_another() -> None:
    model = learn([noisy((48, 56), seed) for seed in range(3)], "tiny", settings={"steps": 200})
    image = noisy((40, 64), seed=9)
    restored = restore(image, model=model)
    assert distance(restored.data, clean((40, 64))) < 0.8 * distance(image, clean((40, 64)))
    assert model.facts.count == model.facts.blocks == 3
    assert model.facts.stopped == ""
    assert 0.5 < (model.facts.residual or 0) < 3
    assert model.facts.device.startswith(("cpu", "cuda", "mps"))


def test_the_seed_decides_the_model_and_nothing_else() -> None:
    images = [noisy((32, 32), seed) for seed in range(3)]
    assert tiny_model(images).fingerprint == tiny_model(images).fingerprint != tiny_model(images, seed=1).fingerprint


def test_an_image_is_the_same_in_whatever_way_it_is_given(tmp_path: Path) -> None:
    stack = noisy((3, 32, 40))
    write(tmp_path / "plain.tif", Image(stack, "TYX"))
    tifffile.imwrite(tmp_path / "packed.ome.tif", stack, metadata={"axes": "TYX"}, compression="zlib")
    tifffile.imwrite(tmp_path / "imagej.tif", stack, imagej=True, metadata={"axes": "TYX"})
    np.save(tmp_path / "stack.npy", stack)
    ways: list[Any] = [
        stack, [stack], Image(stack, "TYX"), dask.array.from_array(stack, chunks=(1, 32, 40)),
        np.load(tmp_path / "stack.npy", mmap_mode="r"), tmp_path / "plain.tif", str(tmp_path / "packed.ome.tif"),
        [tmp_path / "imagej.tif"],
    ]  # fmt: skip
    assert len({tiny_model(way, axes="TYX").fingerprint for way in ways}) == 1


def test_pictures_are_read_when_needed(tmp_path: Path) -> None:
    names = [tmp_path / f"{seed}.png" for seed in range(3)]
    for seed, name in enumerate(names):
        write(name, Image(noisy((32, 32), seed), "YX"))
    assert tiny_model(names).fingerprint == tiny_model([noisy((32, 32), seed) for seed in range(3)]).fingerprint
    assert not isinstance(read(names[0], lazy=True).data, np.ndarray)


@pytest.mark.parametrize(
    ("shape", "axes", "together", "channels", "space", "blocks"),
    [
        ((4, 3, 32, 32), "TCYX", "", 1, "YX", 12),
        ((4, 3, 32, 32), "TCYX", "CYX", 3, "YX", 4),
        ((3, 5, 32, 32), "CZYX", "ZYX", 1, "ZYX", 3),
        ((3, 5, 32, 32), "CTYX", "CTYX", 3, "TYX", 1),
        ((32, 36, 3), "YXS", "", 3, "YX", 1),
        ((32, 4, 36), "YCX", "", 1, "YX", 4),
    ],
)
def test_axes_that_are_looped_over_are_examples(
    shape: tuple[int, ...], axes: str, together: str, channels: int, space: str, blocks: int
) -> None:
    image = np.random.default_rng(0).poisson(40, shape).astype(np.uint16)
    model = tiny_model(image, axes=axes.lower(), together=together.lower())
    assert (model.channels, model.axes, model.facts.blocks) == (channels, space, blocks)
    assert len(model.facts.sigma) == channels
    assert restore(image, model=model, axes=axes, together=together).data.shape == shape


def test_images_of_different_sizes_are_learned_from_together() -> None:
    model = tiny_model([noisy((17, 40)), noisy((64, 20)), noisy((32, 32))], settings={"side": 64})
    assert model.facts.count == 3


def test_axes_that_differ_are_named() -> None:
    images = [Image(noisy((5, 32, 32)), f"{axis}YX", name=f"{axis}.tif") for axis in "TZ"]
    assert tiny_model(images).facts.blocks == 10
    with pytest.raises(AxesError, match=r"'Z.tif': cannot fit the axes 'TYX' together"):
        tiny_model(images, together="TYX")


def test_channels_that_differ_are_named() -> None:
    images = [Image(noisy((n, 32, 32)), "CYX", name=f"{n}.tif") for n in (2, 3)]
    with pytest.raises(AxesError, match=r"'3.tif' is cut into blocks YX of 3 channels, '2.tif' into .* of 2 channels"):
        tiny_model(images, together="CYX")


def test_axes_that_fit_no_file_name_it(tmp_path: Path) -> None:
    write(tmp_path / "flat.tif", Image(noisy((32, 32)), "YX"))
    with pytest.raises(AxesError, match=r"flat\.tif"):
        tiny_model(tmp_path / "flat.tif", axes="TYX")


def test_what_cannot_be_learned_from_is_left_out_and_told(tmp_path: Path) -> None:
    (tmp_path / "broken.tif").write_bytes(b"no picture at all")
    stack = noisy((4, 32, 32))
    stack[1:3] = 7
    samples = [
        tmp_path / "broken.tif", tmp_path / "nowhere.tif", Image(np.zeros((32, 32), bool), "YX", name="mask"),
        Image(stack, "TYX", name="stack"), noisy((32, 32)),
    ]  # fmt: skip
    events, model = drive(training_job(samples, Recipe(method="tiny", settings=SHORT)))
    notes = [event for event in events if isinstance(event, Note)]
    assert all(note.warning for note in notes)
    said = "\n".join(note.text for note in notes)
    assert [word in said for word in ("broken.tif", "nowhere.tif", "'mask' is boolean", "value 7")] == [True] * 4
    assert "stack: 2 blocks are left out" in said
    assert (model.facts.count, model.facts.blocks, len(model.facts.notes)) == (2, 3, 4)


@pytest.mark.parametrize(
    ("samples", "error", "said"),
    [
        ([], ImageError, "no images"),
        (["nowhere.tif"], FileError, "'nowhere.tif' does not exist"),
        ([np.full((32, 32), 7)], ImageError, "nothing to learn from: all pixels have the value 7"),
        ([np.zeros((4, 4))], ImageError, "too few"),
        ([noisy((3, 32, 32))], AxesError, "needs axes"),
    ],
)
def test_nothing_to_learn_from_is_an_error(samples: list[Any], error: type[PristineError], said: str) -> None:
    with pytest.raises(error, match=said):
        tiny_model(samples)


def test_methods_that_fit_each_image_have_nothing_to_learn() -> None:
    with pytest.raises(SettingError, match=r"inr is fitted to each image by itself; .* train another method .*tiny"):
        learn(noisy((32, 32)), "inr")


def test_a_job_that_is_to_keep_gives_what_it_has_learned() -> None:
    wishes = iter([None, Command.KEEP])
    model = learn(noisy((32, 32)), "tiny", settings={"steps": 10**7}, on_event=lambda _: next(wishes, None))
    assert model.facts.stopped.startswith("kept after ")
    assert restore(noisy((32, 32)), model=model).data.shape == (32, 32)


def test_a_job_that_is_closed_leaves_nothing_running() -> None:
    closed = threading.Event()

    def endless(net: torch.nn.Module, source: Any, params: Any, warm: bool) -> Fit:
        try:
            while True:
                yield Step(1, 1, torch.ones(()))
        finally:
            closed.set()

    METHODS["tiny"] = replace(TINY, learn=endless)
    job = training_job([noisy((32, 32))], Recipe(method="tiny"))
    assert isinstance(next(job), Progress)
    job.close()
    assert closed.is_set()


def fails(error: Exception) -> Callable[..., Fit]:
    def learn(net: Any, source: Any, params: Any, warm: bool) -> Fit:
        yield from ()
        raise error

    return learn


def diverge(net: torch.nn.Module, source: Any, params: Any, warm: bool) -> Fit:
    yield Step(1, 1, torch.tensor(torch.inf))
    with torch.no_grad():
        next(net.parameters()).fill_(torch.nan)
    return StopReason()


@pytest.mark.parametrize(
    ("learns", "error", "said"),
    [
        (fails(RuntimeError("CUDA out of memory")), OutOfMemory, "batch, side"),
        (fails(MemoryError()), OutOfMemory, "memory ran out"),
        (fails(RuntimeError("odd")), ComputeError, "odd"),
        (diverge, ComputeError, "diverged.*learning_rate"),
    ],
)
def test_what_fails_while_learning_is_told(
    monkeypatch: pytest.MonkeyPatch, learns: Any, error: type[PristineError], said: str
) -> None:
    monkeypatch.setitem(METHODS, "tiny", replace(TINY, learn=learns))
    with pytest.raises(error, match=said):
        tiny_model(noisy((32, 32)))


@pytest.mark.parametrize("preset", ["fast", "balanced"])
def test_a_preset_does_not_go_with_a_model(preset: str) -> None:
    with pytest.raises(SettingError, match=f"preset '{preset}' cannot be used with a model"):
        restore(noisy((32, 32)), model=tiny_model([noisy((32, 32))]), preset=preset)


def test_a_model_learns_on_from_other_images(tmp_path: Path) -> None:
    first = tiny_model(noisy((32, 32)))
    save_model(tmp_path / "first.safetensors", first)
    second = tiny_model(noisy((32, 32), seed=1), start=first)
    assert second.facts.stopped == ""
    assert second.facts.start == first.fingerprint != second.fingerprint
    from_file = tiny_model(noisy((32, 32), seed=1), start=tmp_path / "first.safetensors")
    assert from_file.fingerprint == second.fingerprint
    assert load_model(tmp_path / "first.safetensors").fingerprint == first.fingerprint


@pytest.mark.parametrize(
    ("image", "options", "said"),
    [
        (noisy((2, 32, 32)), {"axes": "CYX", "together": "CYX"}, "1 channel, .* 2 channels"),
        (noisy((5, 32, 32)), {"axes": "ZYX", "together": "ZYX"}, "axes YX, .* blocks ZYX"),
        (noisy((32, 32)), {"settings": {"kernel": 7}}, r"kernel 7 \(model: 5\)"),
    ],
)
def test_a_model_that_does_not_fit_learns_nothing(image: np.ndarray, options: dict[str, Any], said: str) -> None:
    start = tiny_model(noisy((32, 32)))
    with pytest.raises(ModelError, match=said):
        tiny_model(image, start=start, **options)


# the stream


def block(value: float, side: int = 8) -> NoisyBlock:
    pixels = torch.full((1, side, side), value)
    return NoisyBlock(pixels, torch.tensor([value]), torch.ones((side, side), dtype=torch.bool))


def loaders(count: int, log: list[int], side: int = 8) -> list[Callable[[], NoisyBlock]]:
    def load(number: int) -> NoisyBlock:
        log.append(number)
        return block(float(number), side)

    return [lambda number=number: load(number) for number in range(count)]


def seen(stream: CropSampler, draws: int, generator: torch.Generator) -> list[float]:
    return torch.cat([stream.crops(4, 8, generator) for _ in range(draws)])[:, 0, 0, 0].tolist()


def test_all_blocks_come_by_though_few_are_at_hand() -> None:
    log: list[int] = []
    stream = CropSampler(loaders(10, log), seed=0, max_bytes=3 * 8 * 8 * 5)
    drawn = seen(stream, 60, torch.Generator().manual_seed(0))
    assert set(drawn) == set(map(float, range(10)))
    assert len(log) > 20
    assert max(len(set(drawn[i : i + 4])) for i in range(0, 200, 4)) <= 3


def test_blocks_for_which_there_is_room_are_read_once() -> None:
    log: list[int] = []
    seen(CropSampler(loaders(10, log), seed=0), 100, torch.Generator().manual_seed(0))
    assert sorted(log) == list(range(10))


def test_the_seed_decides_what_is_drawn() -> None:
    one, same, other = (
        seen(CropSampler(loaders(10, []), seed, max_bytes=1000), 40, torch.Generator().manual_seed(0))
        for seed in (0, 0, 1)
    )
    assert one == same != other


def test_large_blocks_are_drawn_from_more_often_and_the_smallest_decides_the_side() -> None:
    stream = CropSampler([lambda: block(0.0, 8), lambda: block(1.0, 24)], seed=0)
    crops = stream.crops(400, 16, torch.Generator().manual_seed(0))
    assert crops.shape == (400, 1, 8, 8)
    assert 0.85 < float(crops[:, 0, 0, 0].mean()) < 0.95


def test_blocks_that_fail_are_left_out_for_good() -> None:
    def fail() -> NoisyBlock:
        raise ImageError("constant")

    log: list[int] = []
    stream = CropSampler([fail, *loaders(4, log), fail], seed=0, max_bytes=500)
    assert set(seen(stream, 100, torch.Generator().manual_seed(0))) == {0.0, 1.0, 2.0, 3.0}
    assert {number: str(error) for number, error in stream.skipped.items()} == {0: "constant", 5: "constant"}
    with pytest.raises(ImageError, match="nothing to learn from: constant"):
        CropSampler([fail, fail], seed=0).sigma  # noqa: B018


def test_of_very_many_blocks_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops, "_MAX_SHUFFLED", 8)
    monkeypatch.setattr(crops, "_MAX_SKIPPED", 50)

    def load(number: int) -> NoisyBlock:
        if number % 3:
            raise ImageError("constant")
        return block(float(number % 7), 8)

    claimed = LazySequence(range(10**9), lambda number: partial(load, number))
    stream = CropSampler(claimed, seed=0, max_bytes=1000)
    assert len(set(seen(stream, 100, torch.Generator().manual_seed(0)))) > 3
    empty = CropSampler(LazySequence(range(10**9), lambda number: partial(load, 1)), seed=0)
    with pytest.raises(ImageError, match=r"nothing to learn from \(50 of 1000000000 blocks were read\): constant"):
        empty.sigma  # noqa: B018


def test_a_stack_larger_than_the_room_leaves_the_memory_flat(tmp_path: Path) -> None:
    """Memory that is not mapped from the file grows by what a step needs; by over 100 MiB if all blocks were kept."""
    path = tmp_path / "stack.npy"
    planes = np.lib.format.open_memmap(path, "w+", np.uint16, (128, 256, 256))
    for number, plane in enumerate(planes):
        plane[:] = noisy((256, 256), number)
    planes.flush()
    del planes
    process, peak = psutil.Process(), 0

    def used() -> int:
        info = process.memory_info()
        return info.rss - getattr(info, "shared", 0)

    recipe = Recipe(method="tiny", axes="TYX", settings={"steps": 60, "side": 128, "batch": 32})
    job = training_job([np.load(path, mmap_mode="r")], recipe, max_bytes=2 * 2**20)
    next(job)
    gc.collect()
    before = used()
    for _ in job:
        peak = max(peak, used() - before)
    assert peak < 45 * 2**20, f"{peak / 2**20:.1f} MiB"


LEARNERS = [method for method in METHODS.values() if method.learn]


@pytest.mark.parametrize("method", LEARNERS, ids=lambda method: method.key)
def test_each_method_that_learns_can_be_saved_and_used(method: Any, tmp_path: Path) -> None:
    images = [noisy((48, 40), seed) for seed in range(2)]
    model = learn(images, method.key, preset="fast", settings={"steps": 3})
    save_model(tmp_path / "model.safetensors", model)
    loaded = load_model(tmp_path / "model.safetensors")
    image = noisy((40, 56), 5)
    assert np.array_equal(restore(image, model=loaded).data, restore(image, model=model).data)
    more = learn(images, method.key, preset="fast", settings={"steps": 3}, start=loaded)
    assert (more.facts.start, more.recipe.inputs["model"].sha256) == (model.fingerprint, model.sha256)


@pytest.mark.parametrize("method", ["blind2unblind", "iddp"])
def test_a_method_starts_from_the_pretrained_network_and_its_model_can_be_kept(method: str, tmp_path: Path) -> None:
    image, truth = (each.data.astype(float) for each in simulate_image((64, 64), photons=20.0))
    few = {"steps": 3, "batch": 1, "side": 32, "refine": False}
    first = restore(image, method, model="pretrained", settings=few)
    assert first.recipe.params.unet == "pretrained"
    assert first.recipe.model == ""
    scratch = restore(image, method, settings=few)
    assert np.std(first.data - truth) < 0.5 * np.std(scratch.data - truth)
    assert np.std(first.data - truth) < 0.5 * np.std(image - truth)
    save_model(tmp_path / "m.safetensors", learn(image, method, start="pretrained", settings=few))
    again = restore(image, model=load_model(tmp_path / "m.safetensors"))
    np.testing.assert_allclose(again.data, first.data, atol=0.2 * np.std(image - truth))


def test_other_methods_cannot_start_from_the_pretrained_network() -> None:
    with pytest.raises(SettingError, match="inr cannot start from the pretrained network; use one of"):
        restore(np.zeros((32, 32)), "inr", model="pretrained")


def test_a_recipe_can_be_changed_to_start_from_the_pretrained_network() -> None:
    image = simulate_image((48, 48))[0].data
    few = {"steps": 2, "batch": 1, "side": 32, "refine": False}
    changed = restore(image, recipe=Recipe(method="iddp"), model="pretrained", settings=few)
    assert changed.recipe.params.unet == "pretrained"
    assert changed.recipe.params.steps == 2

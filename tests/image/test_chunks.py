"""Planes larger than memory are restored in chunks: nobody can tell from the result where they were cut."""

from __future__ import annotations

import gc
import math
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from numpy.typing import NDArray
from scipy import ndimage
from tests.batches import became, block_done, quick
from tests.batches import restore as restore_batch

from napari_pristine import learn, read, restore, write
from napari_pristine.batch.inputs import find_inputs
from napari_pristine.batch.runner import Batch
from napari_pristine.batch.spec import BatchOptions, Task, assign_targets
from napari_pristine.batch.work_item import DummyArray, open_task
from napari_pristine.errors import FileError, ImageError
from napari_pristine.events import BlockDone, ItemDone
from napari_pristine.image import axes as axes_module
from napari_pristine.image.axes import CHUNK_SIDE, AxesPlan, ChunkGrid, plan_axes, sample_squares
from napari_pristine.image.image import Image, ranges
from napari_pristine.io import planes
from napari_pristine.io.lazy import WholeFile
from napari_pristine.io.zarr import complete_image, create_image
from napari_pristine.jobs.inputs import InputCache
from napari_pristine.jobs.lazy import lazy_restore
from napari_pristine.jobs.plan import make_plan
from napari_pristine.jobs.restore import Restored, run, wait
from napari_pristine.methods import METHODS
from napari_pristine.model import Facts, Model, untrained
from napari_pristine.recipe import Recipe
from tiny import TINY, clean, noisy


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Panes with cores of 64 pixels and margins of 12."""
    cut_at(monkeypatch, 64**2, 96, 16)


def cut_at(monkeypatch: pytest.MonkeyPatch, whole: int, side: int, margin: int) -> None:
    monkeypatch.setattr(axes_module, "MAX_BLOCK_VALUES", whole)
    monkeypatch.setattr(axes_module, "CHUNK_SIDE", side)
    monkeypatch.setattr(axes_module, "HALO", margin)


def model(monkeypatch: pytest.MonkeyPatch, channels: int = 1, axes: str = "YX") -> Model:
    """A network that says the same of a pixel wherever tiles and chunks end, if it sees two pixels around it."""
    monkeypatch.setitem(METHODS, "tiny", TINY)
    torch.manual_seed(3)
    recipe = Recipe(method="tiny", device="cpu")
    return Model(recipe, channels, axes, untrained(TINY, recipe.params, channels, axes).state_dict(), Facts())


def scene(height: int, width: int, seed: int = 0) -> NDArray[np.float64]:
    """Points of light on soft background, dark at the left and bright at the right."""
    rng = np.random.default_rng(seed)
    spots = np.zeros((height, width))
    count = height * width // 900
    spots[rng.integers(0, height, count), rng.integers(0, width, count)] = rng.uniform(400, 7000, count)
    soft = 60 * ndimage.gaussian_filter(rng.normal(size=(height, width)), 12)
    light = np.maximum(ndimage.gaussian_filter(spots, 2) + soft, 0)
    return np.asarray(light * np.linspace(0.1, 1, width) + 8)


def photons(scene: NDArray[np.float64], seed: int = 1) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).poisson(scene).astype(np.uint16)


def rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


@st.composite
def cuts(draw: st.DrawFn) -> ChunkGrid:
    """Any way of cutting a picture or a volume."""
    shape = tuple(draw(st.lists(st.integers(1, 16), min_size=2, max_size=3)))
    core = tuple(draw(st.integers(min(3, n), n)) for n in shape)
    margins = (draw(st.integers(0, c // 3)) if c < n else 0 for c, n in zip(core, shape, strict=True))
    return ChunkGrid(shape, core, tuple(margins))


@given(cuts())
def test_cores_cover_a_block_once_and_lie_in_what_is_seen(cut: ChunkGrid) -> None:
    written = np.zeros(cut.shape, int)
    block = np.arange(written.size).reshape(cut.shape)
    for number in range(len(cut)):
        written[cut.interior_slices(number)] += 1
        seen = block[cut.outer_slices(number)]
        assert np.array_equal(seen[cut.local_slices(number)], block[cut.interior_slices(number)])
        assert all(n <= most for n, most in zip(seen.shape, cut.max_shape, strict=True))
        for axis, (core, seen_) in enumerate(zip(cut.interior_slices(number), cut.outer_slices(number), strict=True)):
            assert seen_.start <= max(core.start - cut.halo[axis], 0)
            assert seen_.stop >= min(core.stop + cut.halo[axis], cut.shape[axis])
            assert seen_.stop - seen_.start >= min(4 * cut.halo[axis], cut.shape[axis])  # none is a sliver
    assert (written == 1).all()


@given(cuts(), st.data())
def test_panes_on_a_finer_grid_are_the_same_parts(cut: ChunkGrid, data: st.DataObject) -> None:
    factors = tuple(data.draw(st.integers(1, 3)) for _ in cut.shape)
    finer = cut.upscaled(factors)
    for number in range(len(cut)):
        for coarse, fine in (
            (cut.interior_slices, finer.interior_slices),
            (cut.outer_slices, finer.outer_slices),
            (cut.local_slices, finer.local_slices),
        ):
            expected = [slice(p.start * f, p.stop * f) for p, f in zip(coarse(number), factors, strict=True)]
            assert list(fine(number)) == expected


@st.composite
def plans(draw: st.DrawFn) -> tuple[Image, AxesPlan]:
    """An image with axes in any order, and a way of cutting it into chunks."""
    extra = draw(st.lists(st.sampled_from("TZC"), unique=True, max_size=3))
    axes = "".join(draw(st.permutations([*extra, "Y", "X"])))
    shape = tuple(draw(st.integers(4, 9) if axis in "YX" else st.integers(1, 3)) for axis in axes)
    together = "YX" + "".join(axis for axis in axes if axis in "CZ" and draw(st.booleans()))
    image = Image(np.arange(math.prod(shape)).reshape(shape), axes)
    cut = plan_axes(image, together)
    space = tuple(image.size(axis) for axis in cut.space)
    core = tuple(draw(st.integers(min(3, n), n)) for n in space)
    margin = tuple(int(3 <= c < n) for c, n in zip(core, space, strict=True))
    return image, replace(cut, chunks=ChunkGrid(space, core, margin))


@given(plans())
def test_what_is_read_and_put_back_is_the_image(planned: tuple[Image, AxesPlan]) -> None:
    image, cut = planned
    result = np.full(image.shape, -1)
    for place in cut.indices:
        block = cut.read(image.data, place)
        assert all(n <= most for n, most in zip(block.shape, cut.block_shape, strict=True))
        assert (result[cut.region(place)] == -1).all()  # no pixel belongs to two blocks
        assert np.array_equal(cut.unfold(block, place), image.data[cut.region(place)])
        result[cut.region(place)] = cut.unfold(block, place)
    assert np.array_equal(result, image.data)


@given(plans())
def test_places_are_channel_by_channel_and_found_by_their_parts(planned: tuple[Image, AxesPlan]) -> None:
    _, cut = planned
    assert list(cut.indices) == sorted(
        cut.indices, key=lambda place: (cut.channel(place), cut.chunk_number(place), place)
    )
    found = set()
    for numbers in np.ndindex(*(len(cut.partition(axis)) for axis in cut.axes)):
        at = dict(zip(cut.axes, numbers, strict=True))
        place = cut.index_of(at)
        parts = [cut.partition(axis)[n] for axis, n in at.items()]
        index = [slice(i, i + 1) if isinstance(i, int) else i for i in cut.region(place)]
        sizes = [slice(*i.indices(n)) for i, n in zip(index, cut.shape, strict=True)]
        assert sizes == [slice(*i.indices(n)) for i, n in zip(parts, cut.shape, strict=True)]
        found.add(place)
    assert found == set(cut.indices)


def test_neighbours_in_time_are_those_of_the_same_pane(small: None) -> None:
    cut = plan_axes(Image(np.zeros((3, 97, 64)), "TYX")).in_chunks()
    assert list(map(list, cut.runs(16))) == [[(0, 0), (0, 1), (0, 2)], [(1, 0), (1, 1), (1, 2)]]
    assert [place for place in cut.indices if cut.run_position(place, 2) == 0] == [(0, 0), (0, 2), (1, 0), (1, 2)]
    assert cut.describe() == "restores 3 planes of Y 97 × X 64 one by one (T 3), in 2 overlapping chunks"


def test_what_was_restored_as_one_still_is() -> None:
    image = Image(DummyArray((5, 4096, 4096), np.dtype("uint16")), "TYX")
    assert plan_axes(image).in_chunks() == plan_axes(image)
    assert ChunkGrid.of((4096, 4096), 1) is None
    assert ChunkGrid.of((16, 1024, 1024), 1) is None


@pytest.mark.parametrize(
    ("shape", "values", "core"),
    [((20_000, 20_000), 1, (2048, 2048)), ((1000, 90_000), 1, (1000, 2048)), ((4097, 4096), 1, (2048, 2048))],
)
def test_panes_of_planes(shape: tuple[int, ...], values: int, core: tuple[int, ...]) -> None:
    found = ChunkGrid.of(shape, values)
    assert found is not None
    assert found.interior == core
    assert found.halo == tuple(64 if c < n else 0 for c, n in zip(core, shape, strict=True))


@given(st.lists(st.integers(1, 30_000), min_size=2, max_size=3).map(tuple), st.integers(1, 64))
def test_no_pane_is_larger_than_a_fixed_size(shape: tuple[int, ...], values: int) -> None:
    found = ChunkGrid.of(shape, values)
    if found is not None:
        assert values * math.prod(n - 1 for n in found.max_shape) <= CHUNK_SIDE**2 * 1.05
        assert all(c % 32 == 0 or c == n for c, n in zip(found.interior[-2:], shape[-2:], strict=True))
        assert math.prod(found.max_shape) < 4 * math.prod(found.interior)  # no more is computed for nothing


@given(st.lists(st.integers(1, 5000), min_size=2, max_size=3).map(tuple), st.integers(1, 150))
def test_squares_are_spread_over_a_block(shape: tuple[int, ...], most: int) -> None:
    found = sample_squares(shape, most)
    assert 1 <= len(found) <= 2 * most
    assert len({tuple((p.start, p.stop) for p in part) for part in found}) == len(found)
    for part in found:
        assert all(0 <= p.start < p.stop <= n for p, n in zip(part, shape, strict=True))


def seams(height: int, width: int, core: int, band: int = 8) -> NDArray[np.bool_]:
    """Where pixels are near the line between two chunks."""
    near = [np.abs((np.arange(n) + core / 2) % core - core / 2) < band for n in (height, width)]
    for line in near:
        line[:band] = line[-band:] = False  # the edge of the image
    return near[0][:, None] | near[1][None, :]


@pytest.mark.parametrize("method", ["inr", "blind2unblind"])
def test_no_seam_is_seen(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = scene(256, 448)
    image = Image(photons(truth), "YX")
    settings = {"steps": 120} if method == "inr" else {"steps": 60, "side": 32}
    net = learn(image, method, preset="fast", settings=settings, device="cpu") if method == "blind2unblind" else None
    recipe = net.recipe if net else Recipe(method=method, preset="fast", settings=settings, device="cpu")
    whole = np.asarray(wait(run(image, recipe, model=net)).data, float)
    cut_at(monkeypatch, 256**2, 352, 64)
    resolved = make_plan(image, recipe, model=net)
    assert len(resolved.indices) == 2
    found = np.asarray(wait(run(image, recipe, model=net)).data, float)
    near = seams(256, 448, 256)
    assert rms((found - truth)[near]) <= 1.1 * max(rms((found - truth)[~near]), rms((whole - truth)[near]))
    assert rms(found - whole) < 0.15 * rms(image.data - truth)
    assert rms((found - whole)[near]) < 0.15 * rms(image.data - truth)


def test_all_panes_are_normalised_alike(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    # a network with an offset says something else of dark chunks than of bright ones, if each has a mean of its own
    image = Image(photons(scene(150, 200)), "YX")
    net = model(monkeypatch)
    found = wait(run(image, net.recipe, model=net)).data.astype(float)
    monkeypatch.setattr(axes_module, "MAX_BLOCK_VALUES", 10**9)
    expected = wait(run(image, net.recipe, model=net)).data.astype(float)
    scale, offset = np.polyfit(expected.ravel(), found.ravel(), 1)
    assert rms(found - scale * expected - offset) < 0.5  # whole numbers; one line for all chunks
    assert scale == pytest.approx(1, abs=0.1)


def sparse(shape: tuple[int, int], seed: int = 0) -> NDArray[np.uint16]:
    """A plane that is empty but for one corner."""
    values = np.zeros(shape, np.uint16)
    values[64:128, 128:192] = photons(scene(64, 64, seed))
    return values


def test_empty_panes_are_left_as_they_are_and_one_note_tells(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    image, net = Image(sparse((256, 256)), "YX"), model(monkeypatch)
    said: list[BlockDone] = []
    job = run(image, net.recipe, model=net)
    try:
        while True:
            event = next(job)
            said += [event] if isinstance(event, BlockDone) else []
    except StopIteration as end:
        restored: Restored = end.value
    assert [note.text for note in restored.notes if "unchanged" in note.text] == [
        "7 of 16 chunks were left unchanged: all pixels have the value 0; there is nothing to restore"
    ]
    assert len(said) == 16
    assert np.array_equal(restored.data[192:], image.data[192:])
    assert not restored.data[:60].any()  # nor is there a step where a pane begins that is not all empty
    assert not np.array_equal(restored.data[64:128, 128:192], image.data[64:128, 128:192])


def test_a_plane_of_empty_panes_alone_is_an_error_as_an_empty_block_is(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, net = Image(np.full((130, 130), 7, np.uint16), "YX"), model(monkeypatch)
    with pytest.raises(ImageError, match="all pixels have the value 7"):
        wait(run(image, net.recipe, model=net))


def test_an_empty_large_plane_fails_in_a_batch_and_leaves_nothing(tmp_path: Path, small: None) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "empty.tif", Image(np.full((130, 130), 7, np.uint16), "YX"))
    rows = restore_batch(tmp_path / "in", tmp_path / "out")
    assert became(rows) == {"empty.tif": "failed"}
    assert list((tmp_path / "out").rglob("*")) == []


def test_chunks_are_as_large_as_ever_along_an_axis_that_is_not_cut(small: None) -> None:
    cut = plan_axes(Image(np.zeros((61, 400), np.uint16), "YX")).in_chunks()  # a prime number of rows
    assert cut.chunks is not None
    assert "Y" not in cut.chunk_sides


def test_the_mask_of_a_picture_is_counted_once_for_all_frames(tmp_path: Path) -> None:
    write(tmp_path / "mask.tif", Image(np.ones((64, 64), np.uint8), "YX"))
    needed = []
    for frames in (2, 64):
        write(tmp_path / f"{frames}.tif", Image(np.ones((frames, 64, 64), np.uint16), "TYX"))
        recipe = quick(mask=str(tmp_path / "mask.tif"))
        task = Task(tmp_path / f"{frames}.tif", tmp_path / "out.tif")
        needed.append(open_task(task, recipe, InputCache()).plan.memory)
    assert needed[1] - needed[0] < 64 * 64 * 64


def test_what_is_filled_in_is_counted_once(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    values = photons(scene(128, 128)).astype(np.float32)
    values[60:68, 60:68] = np.nan  # all four chunks see it
    net = model(monkeypatch)
    restored = wait(run(Image(values, "YX"), net.recipe, model=net))
    assert np.isfinite(restored.data).all()
    assert [note.text for note in restored.notes if "without a value" in note.text] == [
        "64 pixels without a value (NaN, infinite or masked) were filled from the fit"
    ]


def test_holes_are_filled_in_and_not_taken_for_empty(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    values = photons(scene(128, 128)).astype(np.float32)
    values[20:50, 20:50] = np.nan
    net = model(monkeypatch)
    resolved = make_plan(Image(values, "YX"), net.recipe, model=net)
    block = resolved.block(resolved.indices[0])
    assert block.empty is not None
    assert not block.empty[20:50, 20:50].any()


def test_masks_are_cut_as_the_image_is(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    values, mask = photons(scene(128, 128)), np.zeros((128, 128), bool)
    mask[60:68, 10:14] = True
    values[mask] = 60_000
    net = model(monkeypatch)
    restored = wait(run(Image(values, "YX"), net.recipe, mask=Image(mask, "YX"), model=net))
    assert restored.data.max() < 30_000
    assert any(note.text.startswith("32 pixels") for note in restored.notes)


@pytest.mark.parametrize(("axes", "together"), [("YXS", ""), ("YXS", "YX"), ("SYX", "")])
def test_transparency_stays(axes: str, together: str, small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.stack([photons(scene(100, 130), seed) for seed in range(4)], axis=-1).clip(0, 255).astype(np.uint8)
    values = np.moveaxis(values, -1, axes.index("S"))
    net = model(monkeypatch, 1 if together else 4)
    recipe = net.recipe.model_copy(update={"together": together})
    restored = wait(run(Image(values, axes), recipe, model=net))
    samples = axes.index("S")
    assert np.array_equal(restored.data.take(3, samples), values.take(3, samples))
    assert not np.array_equal(restored.data.take(0, samples), values.take(0, samples))


def test_volumes_and_stacks_are_cut_too(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.stack([photons(scene(80, 90), seed) for seed in range(12)])
    net = model(monkeypatch, axes="ZYX")
    recipe = net.recipe.model_copy(update={"together": "ZYX"})
    resolved = make_plan(Image(values, "ZYX"), recipe, model=net)
    assert len(resolved.indices) > 4
    restored = wait(run(resolved.image, recipe, model=net))
    monkeypatch.setattr(axes_module, "MAX_BLOCK_VALUES", 10**9)
    whole = wait(run(resolved.image, recipe, model=net))
    assert rms(restored.data.astype(float) - whole.data) < 0.1 * rms(values.astype(float) - whole.data)


def test_several_pictures_of_a_scene_are_restored_as_one(small: None) -> None:
    values = photons(scene(120, 80))
    recipe = Recipe(method="linr", preset="fast", settings={"also": "b.tif"}, device="cpu")
    assert make_plan(Image(values, "YX"), recipe, extra_images=[Image(values, "YX")]).blocks.chunks is None
    alone = Recipe(method="linr", preset="fast", device="cpu")
    assert make_plan(Image(values, "YX"), alone).blocks.chunks is not None


def test_finer_grids_are_cut_into_smaller_panes(small: None) -> None:
    image = Image(photons(scene(80, 70)), "YX")
    settings = {"steps": 4, "rounds": 1, "width": 16, "patch": 32, "finer": 2}
    recipe = Recipe(method="linr", preset="fast", settings=settings, device="cpu")
    resolved = make_plan(image, recipe)
    assert resolved.blocks.chunks
    assert resolved.blocks.chunks.interior == (32, 32)
    found = np.full(resolved.output_blocks.shape, -1.0)
    for place in resolved.indices:
        found[resolved.output_blocks.region(place)] += 1
    assert (found == 0).all()
    restored = wait(run(image, recipe))
    assert restored.data.shape == (160, 140)
    assert rms(restored.data[::2, ::2] - image.data.astype(float)) < 2 * image.data.std()


class Watched:
    """An array that remembers how much was read of it."""

    def __init__(self, data: NDArray[Any]) -> None:
        self.data, self.shape, self.dtype, self.ndim = data, data.shape, data.dtype, data.ndim
        self.most = self.all = 0

    def __getitem__(self, index: Any) -> Any:
        size = math.prod(len(item) for item in ranges(index, self.shape) if isinstance(item, range))
        self.most, self.all = max(self.most, size), self.all + size
        return self.data[index]


def test_no_more_than_a_pane_is_read_at_once(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(axes_module, "SAMPLE_SIDE", 16)
    watched, net = Watched(photons(scene(512, 512))), model(monkeypatch)
    resolved = make_plan(Image(watched, "YX"), net.recipe, model=net)
    resolved.block(resolved.indices[9])
    assert watched.most <= 88**2
    assert watched.all <= 88**2 + 2 * 256 * 16**2  # and what brightness and noise are measured from


@pytest.mark.parametrize("samples", [1, 3])
def test_of_a_tiled_tiff_only_a_pane_is_decoded(samples: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.zeros((3072, 4096, samples), np.uint8)
    values[:1024, :1024] = photons(scene(1024, 1024))[..., None].clip(0, 255)
    slide = values if samples > 1 else values[..., 0]
    tifffile.imwrite(tmp_path / "slide.tif", slide, tile=(512, 512), compression="zlib")
    with tifffile.TiffFile(tmp_path / "slide.tif") as file, (tmp_path / "slide.tif").open("r+b") as stored:
        for number, start in enumerate(file.pages.first.dataoffsets):
            if number % 8 > 3 or number // 8 > 2:  # far from the first two panes
                stored.seek(start)
                stored.write(b"damaged")
    cut_at(monkeypatch, 1024**2, 704, 64)
    image = read(tmp_path / "slide.tif", lazy=True)
    cut = plan_axes(image).in_chunks()
    for index in cut.indices[:2]:
        block = cut.read(image.data, index)
        assert np.array_equal(cut.unfold(block, index), slide[cut.region(index)])
    with pytest.raises(FileError):
        cut.read(image.data, cut.indices[-1])


def test_what_can_only_be_read_as_a_whole_is_read_once() -> None:
    values = photons(scene(64, 64)).clip(0, 255).astype(np.uint8)
    times: list[int] = []

    def again() -> NDArray[Any]:
        times.append(1)
        return values.copy()

    picture, other = WholeFile(values, again), WholeFile(values, again)
    assert [int(picture[i, i]) for i in range(9)] == [int(values[i, i]) for i in range(9)]
    assert len(times) == 1
    assert np.array_equal(other[3:5], values[3:5])
    assert np.array_equal(picture[...], values)
    assert len(times) == 3  # one is kept, not all
    kept = weakref.ref(picture[...].base)
    del picture
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize(("axes", "shape"), [("YX", (130, 70)), ("TYX", (2, 130, 70)), ("YXS", (130, 70, 3))])
def test_large_planes_of_imagej_are_written_band_by_band(
    axes: str, shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planes, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(planes, "CHUNK_SIDE", 32)
    kind = np.uint8 if "S" in axes else np.uint16
    values = np.random.default_rng(0).integers(0, 200, shape).astype(kind)
    write(tmp_path / "a.tif", Image(values, axes, metadata={"format": "imagej"}))
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_imagej
    found = read(tmp_path / "a.tif")
    assert found.axes == axes
    assert np.array_equal(found.data, values)


@pytest.mark.filterwarnings("ignore::UserWarning")  # the network has learned next to nothing
def test_a_slide_is_restored_where_it_is_looked_at(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    image, net = Image(photons(scene(150, 200)), "YX"), model(monkeypatch)
    expected = wait(run(image, net.recipe, model=net)).data
    lazy = lazy_restore(make_plan(image, net.recipe, model=net)).data
    assert lazy.chunks == ((64, 64, 22), (64, 64, 64, 8))
    assert np.array_equal(lazy[70:90, 130:150].compute(), expected[70:90, 130:150])
    assert np.array_equal(lazy.compute(), expected)


def test_networks_learn_from_large_planes(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "tiny", TINY)
    values, truth = noisy((150, 200)), clean((150, 200))
    learned = learn(Image(values, "YX"), "tiny", device="cpu")
    assert learned.facts.blocks == 12
    restored = restore(values, "tiny", settings={"steps": 200}, device="cpu")
    assert rms(restored.data - truth) < 0.7 * rms(values - truth)


def test_chunks_belong_to_one_pane_each(tmp_path: Path) -> None:
    like = Image(DummyArray((4, 3000, 2400), np.dtype("uint16")), "TYX")
    for side, chunk in ((2048, 1024), (1120, 560), (224, 224), (3 * 1120, 840)):
        out = create_image(tmp_path / f"{side}", like, block_sides={"Y": side, "X": side})
        assert out.chunks == (1, chunk, chunk)
    assert create_image(tmp_path / "whole", like).chunks == (1, 1024, 1024)


@pytest.mark.parametrize("suffix", [".zarr", ".tif"])
def test_a_batch_goes_on_at_the_next_pane(suffix: str, tmp_path: Path, small: None) -> None:
    source = tmp_path / "in" / f"slide{suffix}"
    source.parent.mkdir()
    write(source, Image(photons(scene(100, 170)), "YX", scale=(0.5, 0.5), units=("micrometer",) * 2))
    expected = wait(run(read(source), quick())).data
    tasks = assign_targets(find_inputs([str(source)], tmp_path / "out"), tmp_path / "out", quick())
    job = Batch(tasks, BatchOptions(quick())).job()
    done = 0
    while done < 2:
        done += block_done(next(job)) is not None
    job.close()
    again = Batch(tasks, BatchOptions(quick(), resume=True))
    events = list(again.job())
    assert sum(block_done(event) is not None for event in events) == 4
    assert [row.status for row in events if isinstance(row, ItemDone)] == ["restored"]
    assert np.array_equal(read(tmp_path / "out" / source.name).data, expected)


def test_memory_does_not_grow_with_a_plane(tmp_path: Path) -> None:
    found = []
    for side in (5000, 60_000):
        like = Image(DummyArray((side, side), np.dtype("uint16")), "YX")
        write_empty(tmp_path / f"{side}.zarr", like)
        (task,) = assign_targets(find_inputs([str(tmp_path / f"{side}.zarr")], tmp_path), tmp_path / "out", quick())
        found.append(open_task(task, quick(), InputCache()).plan.memory)
    assert found[0] == found[1] < 2e9


def write_empty(path: Path, like: Image) -> None:
    """An OME-Zarr of which no chunk is written."""
    create_image(path, like)
    complete_image(path, like)


def test_batches_tell_of_empty_panes_once(tmp_path: Path, small: None) -> None:
    source = tmp_path / "in" / "slide.zarr"
    source.parent.mkdir()
    write(source, Image(sparse((256, 256)), "YX"))
    rows = restore_batch(source.parent, tmp_path / "out")
    assert became(rows) == {"slide.zarr": "restored"}
    (note,) = [text for text in rows["slide.zarr"].facts["notes"] if "chunks" in text]
    assert note.startswith("7 of 16 chunks were left unchanged: all pixels have the value 0")

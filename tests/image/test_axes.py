"""Any image is cut into blocks and put together again; what does not fit is said plainly."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from napari_pristine.errors import AxesError, SettingError
from napari_pristine.image.axes import AxesPlan, plan_axes
from napari_pristine.image.image import Image, check_axes, guess_axes


@st.composite
def images(draw: st.DrawFn) -> Image:
    """Images whose values are all different, axes in any order."""
    extra = draw(st.lists(st.sampled_from("TZCSQ"), unique=True, max_size=4))
    axes = "".join(draw(st.permutations([*extra, "Y", "X"])))
    shape = tuple(draw(st.integers(3, 4) if axis == "S" else st.integers(1, 4)) for axis in axes)
    return Image(np.arange(np.prod(shape)).reshape(shape), axes)


@st.composite
def plans(draw: st.DrawFn) -> tuple[Image, AxesPlan]:
    """An image and any way of cutting it, with at most three axes of space together."""
    image = draw(images())
    colour = draw(st.lists(st.sampled_from([a for a in image.axes if a in "CS"] or ["Y"]), unique=True))
    depth = draw(st.lists(st.sampled_from([a for a in image.axes if a in "TZQ"] or ["X"]), unique=True, max_size=1))
    together = "".join(draw(st.permutations(sorted({*colour, *depth, "Y", "X"}))))
    return image, plan_axes(image, together)


def of_shape(axes: str, *shape: int) -> Image:
    return Image(np.arange(np.prod(shape)).reshape(shape), axes)


@given(plans())
def test_what_is_read_and_put_back_is_the_image(planned: tuple[Image, AxesPlan]) -> None:
    image, cut = planned
    result = np.full(image.shape, -1)
    for place in cut.indices:
        block = cut.read(image.data, place)
        assert block.shape == cut.block_shape
        part = result[cut.region(place)]
        assert (part == -1).all()  # no pixel belongs to two blocks
        assert np.array_equal(cut.unfold(block, place), image.data[cut.region(place)])
        result[cut.region(place)] = cut.unfold(block, place)
    assert np.array_equal(result, image.data)


@given(plans())
def test_every_axis_is_either_looped_over_or_in_the_block(planned: tuple[Image, AxesPlan]) -> None:
    image, cut = planned
    assert sorted(cut.loop_axes + cut.colour + cut.space) == sorted(image.axes)
    assert not set(cut.space) & set("CS")
    assert all(axis in cut.describe() for axis in image.axes if image.size(axis) > 1 or axis in cut.joint_axes)


def test_a_block_has_its_colours_first_and_the_picture_last() -> None:
    image = of_shape("YTXCZ", 2, 3, 4, 2, 5)
    cut = plan_axes(image, "CXYZ")
    block = cut.read(image.data, (1,))
    assert block.shape == (2, 5, 2, 4)
    assert block[1, 2, 0, 3] == image.data[0, 1, 3, 1, 2]


def test_colours_and_channels_are_merged() -> None:
    image = of_shape("CYXS", 2, 4, 5, 3)
    block = plan_axes(image, "CYXS").read(image.data, ())
    assert block.shape == (6, 4, 5)
    assert block[4, 2, 3] == image.data[1, 2, 3, 1]


def test_neighbours_in_time_or_depth_follow_each_other_within_a_channel() -> None:
    cut = plan_axes(of_shape("TCZYX", 2, 2, 3, 4, 4))
    assert cut.loop_axes == "CTZ"
    assert list(cut.indices) == [(c, t, z) for c in range(2) for t in range(2) for z in range(3)]
    # neighbours along Z alone: from one time to the next, both T and Z move
    assert list(map(list, cut.runs(16))) == [[(c, t, z) for z in range(3)] for c in range(2) for t in range(2)]
    assert list(map(list, cut.runs(2)[:2])) == [[(0, 0, 0), (0, 0, 1)], [(0, 0, 2)]]
    assert [place for place in cut.indices if cut.run_position(place, 2) == 0] == [run[0] for run in cut.runs(2)]


@given(plans(), st.integers(1, 3))
def test_blocks_and_runs_are_numbered_in_order(planned: tuple[Image, AxesPlan], length: int) -> None:
    _, cut = planned
    loops = [range(cut.sizes[axis]) for axis in cut.loop_axes]
    indices = list(itertools.product(*loops))
    assert list(cut.indices) == [cut.indices[n] for n in range(len(indices))] == indices
    assert [cut.number(index) for index in indices] == list(range(len(indices)))
    runs = list(map(list, cut.runs(length)))
    assert [index for run in runs for index in run] == indices
    assert [cut.run_number(index, length) for index in indices] == [n for n, run in enumerate(runs) for _ in run]
    assert [cut.run_position(index, length) for index in indices] == [n for run in runs for n in range(len(run))]
    channels = {cut.channel(index) for index in indices}
    assert len(channels) == cut.channel_count
    for channel in channels:
        found = cut.indices_within(cut.part_of(channel))
        assert list(found) == [index for index in indices if cut.channel(index) == channel]


@pytest.mark.parametrize("shape", [(10**9, 64, 64), (64, 10**9, 10**6), (10**12, 16, 16)])
def test_an_image_may_claim_any_number_of_blocks(shape: tuple[int, ...]) -> None:
    cut = plan_axes(Image(np.broadcast_to(np.uint8(0), shape), "TYX")).in_chunks()
    count = len(cut.indices)
    assert count >= shape[0]
    for number in (0, 12345, count - 1):
        index = cut.indices[number]
        assert cut.number(index) == number
        runs = cut.runs(16)
        assert index in runs[cut.run_number(index, 16)]
    assert cut.indices[count - 1] == cut.indices[-1]
    assert len(runs[-1]) <= 16
    assert cut.region(cut.indices[-1])[0] == shape[0] - 1


def test_another_channel_is_no_neighbour() -> None:
    assert list(map(list, plan_axes(of_shape("CYX", 2, 4, 4)).runs(16))) == [[(0,)], [(1,)]]
    assert list(map(list, plan_axes(of_shape("TYX", 2, 4, 4)).runs(16))) == [[(0,), (1,)]]
    assert list(map(list, plan_axes(of_shape("YX", 4, 4)).runs(16))) == [[()]]


@pytest.mark.parametrize(
    ("axes", "shape", "together", "expected"),
    [
        ("YX", (4, 4), "", "YX"),
        ("YXS", (4, 4, 3), "", "YXS"),
        ("TCYX", (2, 2, 4, 4), "", "YX"),
        ("ZYX", (2, 4, 4), "XYZ", "ZYX"),
    ],
)
def test_y_and_x_are_fitted_together_with_the_samples_of_rgb(
    axes: str, shape: tuple[int, ...], together: str, expected: str
) -> None:
    assert plan_axes(of_shape(axes, *shape), together).joint_axes == expected


def test_a_plan_tells_what_it_does() -> None:
    text = plan_axes(of_shape("TZYX", 5, 2, 4, 6), "ZYX").describe()
    assert text == "restores 5 volumes of Z 2 × Y 4 × X 6 one by one (T 5)"


@pytest.mark.parametrize("together", ["ZYX", "Y", "CYX", "yx"])
def test_axes_that_are_not_there_cannot_be_fitted_together(together: str) -> None:
    with pytest.raises(AxesError, match="TYX") as caught:
        plan_axes(of_shape("TYX", 2, 4, 4), together)
    assert f"'{together}'" in str(caught.value)


def test_more_axes_than_any_method_can_fit_together_are_refused_now() -> None:
    with pytest.raises(AxesError, match="TZYX"):
        plan_axes(of_shape("TZYX", 2, 2, 4, 4), "TZYX")


@pytest.mark.parametrize(
    ("axes", "shape", "words"),
    [
        ("TYX", (5, 2, 64, 64), ["'TYX'", "3 dimensions", "has 4", "(5, 2, 64, 64)", "'TCYX'"]),
        ("YX", (64, 64, 3), ["2 dimensions", "'YXS'"]),
        ("tyx", (2, 64, 64), ["'tyx'", "capital"]),
        ("T1X", (2, 64, 64), ["'T1X'", "capital"]),
        ("YYX", (2, 64, 64), ["'YYX'", "distinct capital"]),
        ("TZX", (2, 64, 64), ["'TZX'", "Y", "X"]),
        ("YXS", (64, 64, 5), ["S", "3 or 4", "has 5", "C or T"]),
    ],
)
def test_axes_that_do_not_fit_say_what_would(axes: str, shape: tuple[int, ...], words: list[str]) -> None:
    with pytest.raises(AxesError) as caught:
        check_axes(axes, shape)
    text = str(caught.value)
    assert "\n" not in text
    assert [word for word in words if word not in text] == []


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((64, 64), "YX"), ((5, 64, 64), "TYX"), ((64, 64, 3), "YXS"), ((64, 64, 4), "YXS"), ((3, 64, 64), "TYX"),
        ((2, 64, 64, 3), "TYXS"), ((5, 2, 64, 64), "TCYX"), ((5, 9, 2, 64, 64), "TZCYX"), ((4, 3, 3), "TYX"),
        ((2, 5, 9, 2, 64, 64), "QTZCYX"), ((5, 9, 2, 64, 64, 3), "TZCYXS"),
    ],
)  # fmt: skip
def test_axes_are_guessed_as_people_mean_them(shape: tuple[int, ...], axes: str) -> None:
    assert guess_axes(shape) == axes


@given(st.lists(st.integers(1, 9), min_size=2, max_size=9))
def test_guessed_axes_always_fit(shape: list[int]) -> None:
    check_axes(guess_axes(tuple(shape)), tuple(shape))


@given(
    size=st.integers(1, 12),
    start=st.none() | st.integers(-12, 12),
    stop=st.none() | st.integers(-12, 12),
    step=st.none() | st.integers(1, 4),
    scale=st.floats(0.1, 10),
    origin=st.floats(-100, 100),
)
def test_what_is_selected_stays_where_it_was(
    size: int, start: int | None, stop: int | None, step: int | None, scale: float, origin: float
) -> None:
    frames = np.broadcast_to(np.arange(size)[:, None, None], (size, 2, 2))
    image = Image(frames, "TYX", (scale, 0.5, 0.5), ("second", "micrometer", "micrometer"), (origin, 1.0, 2.0))
    wanted = np.arange(size)[start:stop:step]
    text = ":".join("" if part is None else str(part) for part in (start, stop, step))
    if not len(wanted):
        with pytest.raises(SettingError, match=f"'{text}' along T is empty.* {size}\\b"):
            image.select({"T": text})
        return
    part = image.select({"T": text})
    assert part.data[:, 0, 0].tolist() == wanted.tolist()
    at = part.translate[0] + part.scale[0] * np.arange(len(wanted))
    assert np.allclose(at, origin + scale * wanted)
    assert (part.axes, part.units, part.scale[1:], part.translate[1:]) == ("TYX", image.units, (0.5, 0.5), (1.0, 2.0))


@pytest.mark.parametrize(("text", "index"), [("1", 1), ("-1", 2), (" 0 ", 0)])
def test_one_number_selects_one_and_keeps_the_axis(text: str, index: int) -> None:
    image = Image(np.arange(48).reshape(3, 4, 4), "CYX", channels=("red", "green", "blue"))
    part = image.select({"C": text})
    assert part.shape == (1, 4, 4)
    assert np.array_equal(part.data[0], image.data[index])
    assert part.channels == image.channels[index : index + 1]


def test_several_axes_are_selected_at_once() -> None:
    image = of_shape("TCYX", 3, 2, 4, 5)
    part = image.select({"T": "1:", "X": "::2", "C": "0"})
    assert np.array_equal(part.data, image.data[1:, :1, :, ::2])
    assert image.select({}).data is not None
    assert image.shape == (3, 2, 4, 5)


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ({"Z": "1"}, ["'Z'", "TYX"]),
        ({"TY": "1"}, ["'TY'", "TYX"]),
        ({"T": "3"}, ["T = 3", " 3 "]),
        ({"T": "-4"}, ["T = -4", " 3 "]),
        ({"T": "2:1"}, ["'2:1'", "along T", "empty", " 3"]),
        ({"T": "a"}, ["'a'", "start:stop"]),
        ({"T": "1:2:0"}, ["'1:2:0'", "start:stop:step"]),
        ({"T": "::-1"}, ["'::-1'", "start:stop:step"]),
        ({"T": "1:2:3:4"}, ["'1:2:3:4'", "start:stop:step"]),
        ({"T": "1.5"}, ["'1.5'", "start:stop"]),
    ],
    ids=str,
)
def test_a_range_that_does_not_fit_is_refused(ranges: dict[str, str], words: list[str]) -> None:
    with pytest.raises(SettingError) as caught:
        of_shape("TYX", 3, 4, 4).select(ranges)
    assert [word for word in words if word not in str(caught.value)] == []

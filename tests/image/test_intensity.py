"""Values are converted to pixels and back without loss, clipping, wrapping or bias."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy import ndimage

from napari_pristine.errors import ImageError
from napari_pristine.image.intensity import (
    AnscombeTransform,
    cast,
    fill_invalid,
    find_padding,
    find_valid,
    measure_intensity,
)
from napari_pristine.image.noise import Noise, measure_noise
from napari_pristine.image.outliers import find_outliers

WHITE = Noise(1.0, 0.0, 1.0)
INTEGERS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"]
DRAWS = 100_000


def photon_noise(gain: float, offset: float, read: float) -> Noise:
    """The noise of photons (`gain` grey values each) on a camera's offset, with read noise in photons."""
    return Noise(1.0, gain, gain**2 * read**2 - gain * offset)


def captured(photons: float, gain: float, offset: float, read: float) -> np.ndarray:
    rng = np.random.default_rng(round(photons))
    return gain * (rng.poisson(photons, DRAWS) + rng.normal(0, read, DRAWS)) + offset


CAMERAS = [(1.0, 0.0, 0.0), (2.5, 0.0, 0.0), (2.0, 100.0, 0.0), (2.0, 0.0, 2.0), (0.01, 0.0, 0.0)]
PHOTONS = [1, 2, 3, 5, 10, 30, 100]


@pytest.mark.parametrize(("gain", "offset", "read"), CAMERAS)
def test_photon_noise_is_stabilised_and_comes_back_unbiased(gain: float, offset: float, read: float) -> None:
    transform = AnscombeTransform(photon_noise(gain, offset, read), largest=gain * 200 + offset)
    for photons in PHOTONS:
        stable = transform.forward(captured(photons, gain, offset, read))
        # no square root makes the noise of one single photon quite even, nor that of read noise beside a few
        assert stable.var() == pytest.approx(1, abs=0.3 if photons == 1 else 0.12 if read else 0.1)
        back = float(transform.inverse(np.array([stable.mean()]))[0])
        assert (back - offset) / gain == pytest.approx(photons, rel=0.01, abs=0.01)


@pytest.mark.parametrize(("gain", "offset", "read"), CAMERAS)
def test_the_inverse_differs_from_the_algebraic_inverse_by_a_quarter_of_a_photon(
    gain: float, offset: float, read: float
) -> None:
    photons = np.concatenate([np.linspace(0, 20, 201), np.geomspace(20, 2000, 100)])
    signal = gain * photons + offset
    transform = AnscombeTransform(photon_noise(gain, offset, read), float(signal.max()))
    back = transform.inverse(transform.forward(signal))
    assert np.abs(back - signal).max() <= 0.45 * gain  # more below one photon
    assert back[-100:] - signal[-100:] == pytest.approx(0.25 * gain, abs=0.05 * gain)
    assert (np.diff(back) >= 0).all()


def test_signal_below_zero_comes_back() -> None:
    """Of an image from which a background was subtracted: variance = signal + 20."""
    transform = AnscombeTransform(Noise(5.0, 1.0, 20.0), largest=100.0)
    signals = np.array([-15.0, -5.0, 0.0, 30.0])
    values = np.asarray(np.random.default_rng(0).poisson(signals + 20, (DRAWS, 4)) - 20, np.float64)
    assert transform.inverse(transform.forward(values).mean(axis=0)) == pytest.approx(signals, abs=0.3)


@pytest.mark.parametrize("shift", [0.0, 1000.0, -30.0])
def test_the_zero_and_unit_of_the_values_do_not_matter(shift: float) -> None:
    rough = np.random.default_rng(3).normal(size=(128, 128))
    smooth = ndimage.gaussian_filter(rough, 8)
    truth = 5 + 55 * (smooth - smooth.min()) / np.ptp(smooth)
    noisy = 0.01 * (np.random.default_rng(4).poisson(truth) + shift)
    intensity = measure_intensity(noisy, measure_noise(noisy), stabilise=True)
    back = intensity.denormalise(intensity.normalise(0.01 * (truth + shift))) / 0.01 - shift
    # the unbiased inverse differs by a quarter of a photon from the algebraic one
    assert np.abs(back - truth).max() < 1


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(t) for t in ("u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4")]),
        (3, 4),
        elements={"allow_nan": False, "allow_infinity": False},
    )
)
def test_without_stabilising_the_values_come_back_exactly(values: np.ndarray) -> None:
    intensity = measure_intensity(values, WHITE, stabilise=False)
    pixels = intensity.normalise(values)
    back = cast(intensity.denormalise(pixels), values.dtype)
    if values.dtype.kind == "f":
        assert np.allclose(back, values, rtol=1e-6, atol=1e-9 * intensity.std)
    else:
        assert np.array_equal(back, values)


@pytest.mark.parametrize("stabilise", [False, True])
def test_pixels_have_zero_mean_and_unit_spread(stabilise: bool) -> None:
    values = np.random.default_rng(0).poisson(np.linspace(5, 500, 4096)) * 3.0
    intensity = measure_intensity(values, Noise(20.0, 3.0, 0.0), stabilise=stabilise)
    pixels = intensity.normalise(values)
    assert pixels.mean() == pytest.approx(0, abs=1e-9)
    assert pixels.std() == pytest.approx(1)
    flat = intensity.normalise(3.0 * np.random.default_rng(1).poisson(250, 10_000))
    if stabilise:  # the noise level is the same at any brightness
        assert intensity.sigma == pytest.approx(flat.std(), rel=0.03)
    else:
        assert intensity.sigma == pytest.approx(20.0 / values.std())


def test_noise_that_does_not_grow_is_not_stabilised() -> None:
    assert measure_intensity(np.arange(9.0), WHITE, stabilise=True).anscombe is None


def test_a_constant_channel_comes_back() -> None:
    values = np.full((4, 4), 7.0)
    intensity = measure_intensity(values, Noise(0.0, 0.0, 0.0), stabilise=True)
    assert np.array_equal(intensity.denormalise(intensity.normalise(values)), values)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_rounded_and_clipped_and_never_wrap(dtype: str) -> None:
    kind = np.dtype(dtype)
    low, high = int(np.iinfo(kind).min), int(np.iinfo(kind).max)
    values = [-1e300, -1e30, 1.25 * low - 10, -1.5, -0.5, 0.4, 0.6, 1.5, 2.5, 100.0, 1.25 * high, 1e30, 1e300]
    result = cast(np.array(values), kind)
    assert result.dtype == kind
    expected = [min(max(round(value), low), high) for value in values]
    assert [int(value) for value in result] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_the_limits_of_a_type_are_exact(dtype: str) -> None:
    limits = np.iinfo(dtype)
    around = np.array([limits.min - 0.6, limits.min, limits.min + 1.0, limits.max - 1.0, limits.max, limits.max + 0.6])
    expected = [limits.min, limits.min, limits.min + 1, limits.max - 1, limits.max, limits.max]
    assert cast(around, np.dtype(dtype)).tolist() == expected


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_floats_stay_finite_and_are_not_rounded(dtype: str) -> None:
    result = cast(np.array([-1e300, -0.5, 0.25, 1e300]), np.dtype(dtype))
    assert result.dtype == np.dtype(dtype)
    assert np.isfinite(result).all()
    assert result[1:3].tolist() == [-0.5, 0.25]


def test_float16_ends_at_its_largest() -> None:
    assert cast(np.array([1e6, -1e6, 65504.0]), np.dtype("f2")).tolist() == [65504.0, -65504.0, 65504.0]


def test_a_pixel_is_valid_where_all_channels_have_a_value() -> None:
    block = np.ones((2, 4, 4))
    block[0, 0, 0], block[1, 1, 2], block[1, 3, 3] = np.nan, np.inf, -np.inf
    assert np.argwhere(~find_valid(block)).tolist() == [[0, 0], [1, 2], [3, 3]]


def test_integers_are_valid_everywhere() -> None:
    assert find_valid(np.zeros((1, 4, 4), np.uint16)).all()


@pytest.mark.parametrize(("invalid", "text"), [(1000, r"100\.0%"), (995, r"99\.5%")])
def test_a_block_almost_without_values_is_refused(invalid: int, text: str) -> None:
    block = np.ones(1000)
    block[:invalid] = np.nan
    with pytest.raises(ImageError, match=rf"{text} of the pixels are NaN or infinite; at least 1% must"):
        find_valid(block.reshape(1, 10, 100))


def test_invalid_pixels_take_the_nearest_valid_value() -> None:
    block = np.stack([np.arange(25.0).reshape(5, 5), np.arange(25.0).reshape(5, 5) + 100])
    block[0, 0, 0], block[1, 4, 4] = np.nan, np.inf
    kept = block.copy()
    valid = find_valid(block)
    filled = fill_invalid(block, valid)
    assert np.isfinite(filled).all()
    assert np.array_equal(filled[:, valid], block[:, valid])
    assert filled[0, 0, 0] in (1.0, 5.0)
    assert filled[1, 4, 4] in (123.0, 119.0)
    assert np.array_equal(block, kept, equal_nan=True)  # the image itself is left as it is


def test_single_bright_pixels_are_hot_and_points_of_light_are_not() -> None:
    values = np.random.default_rng(0).poisson(50.0, (2, 64, 64)).astype(float)
    values[0, 20, 30] = 4000
    spot = np.zeros((64, 64))
    spot[40, 40] = 5000
    values[1] += ndimage.gaussian_filter(spot, 1.0)
    assert np.argwhere(find_outliers(values)).tolist() == [[0, 20, 30]]


def test_single_photons_in_the_dark_are_not_hot() -> None:
    values = np.random.default_rng(0).poisson(0.002, (128, 128)).astype(float)
    assert values.max() == 1
    assert not find_outliers(values[None]).any()


def rotated(degrees: float, shape: tuple[int, int] = (120, 150)) -> np.ndarray:
    """Where something was recorded in an image that is rotated within a frame."""
    return np.asarray(ndimage.rotate(np.ones(shape), degrees, order=1) > 0.999)


def side(columns: int, side: str) -> np.ndarray:
    inside = np.ones((120, 150), bool)
    inside[{"left": np.s_[:, :columns], "right": np.s_[:, -columns:], "top": np.s_[:columns]}[side]] = False
    return inside


def without_tile() -> np.ndarray:
    inside = np.ones((150, 150), bool)
    inside[50:100, :50] = False
    return inside


RECORDED = {
    "left": side(60, "left"),
    "right": side(3, "right"),
    "top": side(11, "top"),
    "a missing tile": without_tile(),
    **{f"{degrees} degrees": rotated(degrees) for degrees in (2, 20, 45, 71)},
}


@pytest.mark.parametrize(
    ("where", "offset", "value"),
    [
        *((where, offset, 0) for where in RECORDED for offset in (0, 100)),
        # bright areas that do not reach a corner may be saturated
        *((where, 100, 65535) for where in RECORDED if where != "a missing tile"),
    ],
)
def test_padding_is_found_exactly(where: str, offset: float, value: int) -> None:
    inside, rng = RECORDED[where], np.random.default_rng(0)
    image = (rng.poisson(30, inside.shape) + rng.normal(offset, 5, inside.shape)).round().clip(0).astype(np.uint16)
    image[~inside] = value
    np.testing.assert_array_equal(find_padding(image[None]), ~inside)
    np.testing.assert_array_equal(find_padding(np.stack([image, image]).astype(np.float32)), ~inside)
    np.testing.assert_array_equal(find_padding(np.stack([image, np.full_like(image, 7)])[:, None])[0], ~inside)


@pytest.mark.parametrize("photons", [1e-3, 0.02, 0.1, 0.3, 1, 30])
def test_dark_areas_are_no_padding(photons: float) -> None:
    rng = np.random.default_rng(0)
    assert not find_padding(rng.poisson(photons, (1, 192, 192))).any()
    spots = ndimage.gaussian_filter((rng.random((192, 192)) < 1e-3).astype(float), 6) * 300 * photons
    assert not find_padding(rng.poisson(spots)[None]).any()
    column = rng.poisson(30, (1, 192, 192))
    column[..., :2] = 0
    assert not find_padding(column).any()  # but dead columns
    column[..., :-1, :] = 0
    assert not find_padding(column).any()  # too little would be left

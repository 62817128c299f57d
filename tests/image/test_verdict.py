"""A verdict tells what a result lost, kept or added, and is silent where only noise was removed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from napari_pristine.errors import AxesError, ImageError
from napari_pristine.image.image import Image
from napari_pristine.image.noise import correlate
from napari_pristine.image.removed import Kind
from napari_pristine.image.verdict import judge_channel
from napari_pristine.samples import simulate_timelapse
from napari_pristine.verdict import judge

Array = NDArray[np.float64]
SIDE = 192


def scene(seed: int, side: int = SIDE) -> Array:
    """Spots and smooth bodies, from 0 to about 1."""
    rng = np.random.default_rng(seed)
    spots = np.zeros((side, side))
    spots[tuple(rng.integers(8, side - 8, (2, 40)))] = rng.uniform(0.5, 1, 40)
    bodies = ndimage.gaussian_filter(rng.normal(size=(side, side)), 12)
    return np.asarray(ndimage.gaussian_filter(spots, 1.5) * 14 + np.clip(bodies / bodies.std(), 0, 2) / 4)


def photographed(seed: int, photons: float = 60.0, side: int = SIDE) -> tuple[Array, Array]:
    """A picture with photon noise, and the truth."""
    truth = 5 + photons * scene(seed, side)
    return np.random.default_rng(seed + 1).poisson(truth).astype(np.float64), truth


def disc(y: int, x: int, radius: float) -> NDArray[np.bool_]:
    rows, columns = np.ogrid[:SIDE, :SIDE]
    return np.asarray(np.hypot(rows - y, columns - x) < radius)


@pytest.mark.parametrize("seed", range(6))
def test_the_truth_is_a_result_from_which_only_noise_was_removed(seed: int) -> None:
    noisy, truth = photographed(seed, photons=10 ** (0.5 + 0.4 * seed))
    verdict = judge_channel(noisy, truth)
    assert (verdict.kind, verdict.sentence, verdict.place) == (Kind.GOOD, "Only noise was removed.", None)
    assert verdict.good
    assert verdict.findings == ()
    assert verdict.evidence.residual == pytest.approx(1, abs=0.15)
    assert abs(verdict.evidence.whiteness) < 0.05
    assert abs(verdict.evidence.brightness) < 0.01


@pytest.mark.parametrize("length", [1.0, 1.6, 2.2])
def test_correlated_noise_is_no_structure(length: int) -> None:
    truth = 200 + 300 * scene(3)
    white = np.random.default_rng(0).normal(0, 20, truth.shape)
    verdict = judge_channel(truth + correlate(white, length), truth)
    assert verdict.good, verdict.sentence
    assert abs(verdict.evidence.whiteness) < 0.15


@pytest.mark.parametrize("level", [0.2, 3.0, 100.0])
def test_an_empty_image_of_any_brightness_is_no_fault(level: float) -> None:
    noisy = np.random.default_rng(0).poisson(level, (SIDE, SIDE)).astype(np.uint16)
    assert judge_channel(noisy, np.full(noisy.shape, noisy.mean())).good


def test_simulated_cells_are_judged_channel_by_channel() -> None:
    noisy, truth = simulate_timelapse((SIDE, SIDE), frames=2)
    verdicts = judge(noisy, truth)
    assert [verdict.name for verdict in verdicts] == ["nuclei", "microtubules"]
    assert [verdict.kind for verdict in verdicts] == [Kind.GOOD] * 2, [verdict.sentence for verdict in verdicts]


FAULTS: dict[str, tuple[Callable[[Array, Array], Array], Kind]] = {
    "smoothed": (lambda truth, noisy: ndimage.gaussian_filter(truth, 3), Kind.REMOVED),
    "brighter": (lambda truth, noisy: 1.04 * truth, Kind.BRIGHTNESS),
    "darker": (lambda truth, noisy: truth - 0.04 * truth.mean(), Kind.BRIGHTNESS),
    "less contrast": (lambda truth, noisy: 0.9 * truth + 0.1 * truth.mean(), Kind.BRIGHTNESS),
    "noisy": (lambda truth, noisy: truth + 0.4 * (noisy - truth), Kind.REMAINS),
    "untouched": (lambda truth, noisy: noisy.copy(), Kind.REMAINS),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("seed", [0, 1])
def test_faults_of_the_whole_image_are_found(fault: str, seed: int) -> None:
    noisy, truth = photographed(seed)
    plant, kind = FAULTS[fault]
    verdict = judge_channel(noisy, plant(truth, noisy))
    assert verdict.kind == kind, verdict.sentence


def test_the_sentence_has_the_figure() -> None:
    noisy, truth = photographed(2)
    assert judge_channel(noisy, truth + 0.4 * (noisy - truth)).sentence == (
        "Noise remains: 40% of it is still in the result."
    )
    sentence = judge_channel(noisy, 1.05 * truth).sentence
    assert sentence.startswith("Brightness was changed by +")
    assert float(sentence.split("+")[1].split("%")[0]) == pytest.approx(5, abs=1)


@pytest.mark.parametrize("seed", range(4))
def test_a_spot_that_was_erased_is_found_where_it_was(seed: int) -> None:
    noisy, truth = photographed(seed)
    rng = np.random.default_rng(seed)
    y, x = rng.integers(24, SIDE - 24, 2)
    spot = 20 * np.exp(-(np.hypot(*(np.indices(truth.shape) - [[[y]], [[x]]])) ** 2) / (2 * 1.5**2))
    noisy = noisy + rng.poisson(spot)
    verdict = judge_channel(noisy, truth)
    assert verdict.kind == Kind.REMOVED
    assert verdict.place == pytest.approx((y, x), abs=3)
    assert f"x = {verdict.place[1]}, y = {verdict.place[0]}" in verdict.sentence
    assert judge_channel(noisy, truth + spot).good


@pytest.mark.parametrize("seed", range(4))
def test_spots_and_texture_that_were_invented_are_found(seed: int) -> None:
    noisy, truth = photographed(seed)
    rng = np.random.default_rng(seed)
    y, x = rng.integers(40, SIDE - 40, 2)
    level = np.sqrt(truth)
    grain = ndimage.gaussian_filter(rng.normal(size=truth.shape), 1.2)
    for added, reach in (
        (4.5 * level * np.exp(-(np.hypot(*(np.indices(truth.shape) - [[[y]], [[x]]])) ** 2) / (2 * 1.5**2)), 3),
        (1.2 * level * grain / grain.std() * disc(y, x, 30), 45),
    ):
        verdict = judge_channel(noisy, truth + added)
        assert verdict.kind == Kind.ADDED, verdict.sentence
        assert verdict.place == pytest.approx((y, x), abs=reach)


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 1000),
    factor=st.floats(1e-3, 1e4),
    offset=st.floats(-100, 1000),
    turns=st.integers(0, 3),
)
def test_a_verdict_depends_neither_on_units_nor_on_orientation(
    seed: int, factor: float, offset: float, turns: int
) -> None:
    noisy, truth = photographed(seed % 3, side=96)
    noisy = noisy + np.random.default_rng(seed).normal(0, 3, noisy.shape)
    for result in (truth, ndimage.gaussian_filter(truth, 3)):
        first = judge_channel(noisy, result)
        second = judge_channel(*(np.rot90(factor * a + offset * factor, turns).copy() for a in (noisy, result)))
        assert second.kind == first.kind


def test_the_place_in_a_stack_is_that_of_the_plane() -> None:
    pairs = [photographed(seed, side=96) for seed in range(5)]
    noisy, result = (np.stack([pair[n] for pair in pairs]) for n in (0, 1))
    assert judge_channel(noisy, result).good
    result[3] = ndimage.gaussian_filter(result[3], 3)
    verdict = judge_channel(noisy, result, axes="ZYX")
    assert verdict.kind == Kind.REMOVED
    assert verdict.place is not None
    assert verdict.place[0] == 3
    assert ", z = 3" in verdict.sentence


def test_large_images_are_judged_in_tiles_and_long_stacks_in_part() -> None:
    rng = np.random.default_rng(0)
    truth = np.full((1100, 160), 50.0)
    truth[1060:1064, 100:104] += 40
    noisy = rng.poisson(truth).astype(np.uint16)
    assert judge_channel(noisy, truth).good
    assert judge_channel(noisy, np.full(truth.shape, 50.0)).place == pytest.approx((1061, 101), abs=3)
    long = rng.poisson(50.0, (40, 64, 64)).astype(np.float32)
    assert judge_channel(long, np.full(long.shape, 50.0)).evidence.judged == pytest.approx(8 / 40)


def test_hot_pixels_missing_values_and_saturation_are_no_faults() -> None:
    noisy, truth = photographed(4)
    noisy[tuple(np.random.default_rng(0).integers(0, SIDE, (2, 30)))] += 500
    noisy[20:30, 40:60] = np.nan
    assert judge_channel(noisy, truth).good


def test_values_rounded_to_the_type_of_the_image_are_no_fault() -> None:
    truth = 1.5 + 60 * scene(5)
    noisy = np.random.default_rng(0).normal(truth, 1.5).round().clip(0).astype(np.uint8)
    assert judge_channel(noisy, truth.round().astype(np.uint8)).good


def test_what_cannot_be_judged_is_said() -> None:
    flat = np.full((64, 64), 7.0)
    assert judge_channel(flat, flat).sentence == "No noise was found in the image, and nothing was removed."
    assert judge_channel(flat, flat).kind == Kind.UNKNOWN
    assert "too small" in judge_channel(flat[:20], flat[:20]).sentence
    with pytest.raises(ImageError, match=r"\(64, 64\).*\(32, 64\)"):
        judge_channel(flat, flat[:32])
    with pytest.raises(AxesError, match="same axes"):
        judge(Image(np.zeros((2, 64, 64)), "TYX"), Image(flat, "YX"))


def test_the_order_of_axes_does_not_matter() -> None:
    noisy, truth = photographed(0, side=96)
    pairs = [np.stack([a, a]) for a in (noisy, truth)]
    (verdict,) = judge(Image(pairs[0], "ZYX"), Image(pairs[1].transpose(1, 2, 0), "YXZ"))
    assert verdict.good

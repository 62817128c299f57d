"""Simulated images: axes, noise and truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_pristine.errors import SettingError
from napari_pristine.samples import GAIN, OFFSET, READ, simulate_blurred, simulate_image, simulate_timelapse


def test_metadata_of_a_timelapse() -> None:
    noisy, truth = simulate_timelapse((48, 64), frames=3)
    assert noisy.shape == truth.shape == (3, 2, 48, 64)
    assert noisy.axes == truth.axes == "TCYX"
    assert (noisy.dtype, truth.dtype) == (np.dtype("uint16"), np.dtype("float32"))
    assert noisy.units == ("second", "pixel", "micrometer", "micrometer")
    assert noisy.scale == truth.scale
    assert len(noisy.channels) == 2
    assert noisy.name != truth.name


def test_the_blurred_image_is_the_truth_seen_through_its_psf() -> None:
    blurred, psf, truth = simulate_blurred((96, 96))
    assert blurred.shape == truth.shape == (96, 96)
    assert psf.data.max() == psf.data[psf.shape[0] // 2, psf.shape[1] // 2] == 1
    expected = ndimage.convolve(truth.data.astype(float), psf.data / psf.data.sum(), mode="reflect")
    deviation = (blurred.data - expected) / np.sqrt(GAIN * np.maximum(expected - OFFSET, 0) + READ**2)
    assert abs(deviation.mean()) < 0.05
    assert abs(deviation.std() - 1) < 0.05


def test_noise_of_photons_and_camera() -> None:
    noisy, truth = simulate_timelapse((192, 192), frames=2)
    expected = truth.data.astype(float)
    removed = noisy.data - expected
    variance = GAIN * (expected - OFFSET) + READ**2 + 1 / 12
    assert abs(removed.mean()) < 0.05
    # in units of what it should be, in the dark and in the light alike
    for part in (expected < 105, expected > 125):
        assert np.mean(removed[part] ** 2 / variance[part]) == pytest.approx(1, abs=0.05)
    assert np.corrcoef(removed[..., 1:].ravel(), removed[..., :-1].ravel())[0, 1] == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("photons", [5.0, 30.0])
def test_the_brightest_structures_have_the_photons_asked_for(photons: float) -> None:
    _, truth = simulate_timelapse((128, 128), frames=1, photons=photons)
    brightest = (np.quantile(truth.data[0], 0.998, axis=(-2, -1)) - OFFSET) / GAIN
    assert brightest == pytest.approx(photons, rel=0.01)


def test_the_seed_decides_everything() -> None:
    first, again, other = (simulate_timelapse((32, 32), frames=2, seed=seed)[0].data for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_longer_timelapse_begins_like_a_shorter_one() -> None:
    short, long = (simulate_timelapse((32, 32), frames=frames)[0].data for frames in (2, 4))
    assert np.array_equal(short, long[:2])


def test_cells_move_and_bleach() -> None:
    _, truth = simulate_timelapse((128, 128), frames=8)
    light = truth.data - OFFSET
    assert light[-1].sum() < 0.95 * light[0].sum()
    assert np.corrcoef(light[0, 0].ravel(), light[1, 0].ravel())[0, 1] > 0.97
    assert np.corrcoef(light[0, 0].ravel(), light[-1, 0].ravel())[0, 1] < 0.97


@pytest.mark.parametrize("shape", [(16, 16), (17, 90)])
def test_any_size_will_do(shape: tuple[int, int]) -> None:
    noisy, truth = simulate_timelapse(shape, frames=1)
    assert noisy.shape[2:] == shape
    assert np.isfinite(truth.data).all()
    assert truth.data.max() > truth.data.min()


@pytest.mark.parametrize(("number", "channel"), [(0, "nuclei"), (1, "microtubules")])
def test_an_image_is_a_frame_of_a_channel(number: int, channel: str) -> None:
    for image, whole in zip(
        simulate_image((40, 48), channel=channel), simulate_timelapse((40, 48), frames=1), strict=True
    ):
        assert np.array_equal(image.data, whole.data[0, number])
        assert image.axes == "YX"
        assert image.units == ("micrometer", "micrometer")
        assert channel in image.name


def test_an_unknown_channel_is_refused() -> None:
    with pytest.raises(SettingError, match="no channel 'actin'; the channels are nuclei"):
        simulate_image(channel="actin")

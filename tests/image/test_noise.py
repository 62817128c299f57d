"""Level, gain, offset and correlation of the noise are measured correctly."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from scipy import ndimage

from napari_pristine.errors import ImageError
from napari_pristine.image.noise import Noise, estimate_sigma, is_correlated, measure_noise, noise_autocorrelation

SEEDS = [0, 1, 2]
WHITE = [
    "Confocal_FISH", "Confocal_MICE", "Confocal_BPAE_R", "Confocal_BPAE_G", "Confocal_BPAE_B", "TwoPhoton_MICE",
]  # fmt: skip


def smooth(low: float, high: float, seed: int = 0, size: int = 256) -> np.ndarray:
    """A smooth picture between two brightnesses."""
    blobs = ndimage.gaussian_filter(np.random.default_rng(100 + seed).normal(size=(size, size)), 12)
    return np.asarray(low + (high - low) * (blobs - blobs.min()) / np.ptp(blobs))


def gaussian(sigma: float, seed: int = 0, blur: float = 0, size: int = 256) -> np.ndarray:
    """Noise of this level, blurred or not."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), blur)
    return np.asarray(noise * sigma / noise.std())


def rms(noisy: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((noisy - truth) ** 2)))


def captured(truth: np.ndarray, gain: float, offset: float, read: float, seed: int) -> np.ndarray:
    """A camera's picture of `truth` (grey values above the offset), in whole grey values."""
    rng = np.random.default_rng(seed)
    return np.rint(gain * rng.poisson(truth / gain) + offset + rng.normal(0, read, truth.shape))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("sigma", [5, 10, 25])
def test_estimate_sigma_is_right_for_gaussian_noise(sigma: float, seed: int) -> None:
    assert estimate_sigma((smooth(20, 200, seed) + gaussian(sigma, seed))[None]) == pytest.approx(sigma, rel=0.03)


@pytest.mark.parametrize("seed", SEEDS)
def test_estimate_sigma_is_the_rms_of_photon_noise(seed: int) -> None:
    truth = smooth(1, 10, seed, size=512)
    noisy = np.random.default_rng(seed).poisson(truth)
    assert estimate_sigma(noisy[None]) == pytest.approx(rms(noisy, truth), rel=0.03)


def test_estimate_sigma_takes_channels_and_planes_together() -> None:
    truth = np.stack([smooth(20, 200, seed) for seed in range(6)])
    noisy = truth + np.stack([gaussian(8, seed) for seed in range(6)])
    assert estimate_sigma(noisy[:3]) == pytest.approx(8, rel=0.05)  # few patches for so long a vector
    assert estimate_sigma(noisy.reshape(2, 3, 256, 256)) == pytest.approx(8, rel=0.03)


@pytest.mark.parametrize("shape", [(1, 24, 24), (1, 7, 200), (3, 40, 40), (1, 4, 4)])
def test_too_few_patches_say_so(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match=r"\d+ patches.*sigma"):
        estimate_sigma(np.random.default_rng(0).normal(size=shape))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("gain", "offset", "read"), [(1, 0, 0), (5, 100, 0), (2, 500, 10), (0.2, 0, 0.3)])
def test_gain_level_and_offset_of_a_camera_are_found(gain: float, offset: float, read: float, seed: int) -> None:
    truth = smooth(5 * gain, 300 * gain, seed)
    noisy = captured(truth, gain, offset, read, seed)
    noise = measure_noise(noisy)
    assert noise.signal_dependent
    assert noise.gain == pytest.approx(gain, rel=0.3)
    assert noise.sigma == pytest.approx(rms(noisy, truth + offset), rel=0.10)
    # read noise lowers the signal at which the variance would vanish
    assert noise.offset == pytest.approx(max(offset - read**2 / gain, 0), abs=40 * gain)
    assert noise.correlation_length == 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("sigma", [0.01, 5, 25])
def test_gaussian_noise_is_neither_signal_dependent_nor_correlated(sigma: float, seed: int) -> None:
    noise = measure_noise(smooth(4 * sigma, 40 * sigma, seed) + gaussian(sigma, seed))
    assert noise.sigma == pytest.approx(sigma, rel=0.10)
    assert noise.gain * 36 * sigma < 0.2 * sigma**2
    assert (noise.correlation_length, noise.correlation) == (1, 0)


@pytest.mark.parametrize("seed", SEEDS)
def test_blurred_noise_is_correlated_and_its_level_is_right(seed: int) -> None:
    blurred = gaussian(10, seed, blur=0.7)
    noise = measure_noise(smooth(20, 200, seed) + blurred)
    assert noise.correlation_length > 1.4
    assert noise.correlation == pytest.approx(np.mean(blurred[:, 1:] * blurred[:, :-1]) / 100, abs=0.2)
    assert noise.sigma == pytest.approx(10, rel=0.15)


def test_a_stack_is_measured_like_its_planes() -> None:
    truth = np.stack([smooth(5, 300, seed, 128) for seed in range(12)])
    noisy = np.random.default_rng(0).poisson(truth)
    noise = measure_noise(noisy.reshape(3, 4, 128, 128))
    assert noise.gain == pytest.approx(1, rel=0.15)
    assert noise.sigma == pytest.approx(rms(noisy, truth), rel=0.10)


@pytest.mark.parametrize("sigma", [0.4, 5.0])
def test_an_image_without_structure_is_all_noise(sigma: float) -> None:
    noise = measure_noise(100 + gaussian(sigma))
    assert noise.sigma == pytest.approx(sigma, rel=0.05)
    assert noise.correlation_length == 1


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_a_constant_image_has_no_noise(value: int) -> None:
    assert measure_noise(np.full((64, 64), value, np.uint16)) == Noise(0.0, 0.0, 0.0)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3])
def test_saturated_pixels_do_not_spoil_it(share: float) -> None:
    noisy = np.random.default_rng(0).poisson(smooth(10, 300))
    clipped = np.minimum(noisy, np.quantile(noisy, 1 - share))
    assert measure_noise(clipped).gain == pytest.approx(1, rel=0.25)


def test_hot_pixels_do_not_spoil_it() -> None:
    noisy = np.random.default_rng(0).poisson(smooth(10, 300))
    clean = measure_noise(noisy)
    noisy[np.random.default_rng(1).random(noisy.shape) < 5e-4] = 4095
    hot = measure_noise(noisy)
    assert hot.gain == pytest.approx(clean.gain, rel=0.15)
    assert hot.sigma == pytest.approx(clean.sigma, rel=0.10)


def test_filled_pixels_do_not_count() -> None:
    noisy = smooth(20, 200) + gaussian(10)
    valid = np.ones(noisy.shape, bool)
    valid[:, :100] = False
    noisy[:, :100] = 500.0
    assert measure_noise(noisy, valid).sigma == pytest.approx(10, rel=0.10)


@pytest.mark.parametrize("sigma", [0.4, 0.7, 1.5])
def test_noise_of_about_one_grey_value_includes_that_of_rounding(sigma: float) -> None:
    truth = smooth(2, 8)
    noisy = np.rint(truth + gaussian(sigma))
    assert measure_noise(noisy).sigma == pytest.approx(rms(noisy, truth), rel=0.10)


@pytest.mark.parametrize("brightest", [0.1, 0.3, 1.0, 5.0])
def test_single_photons_are_counted(brightest: float) -> None:
    truth = smooth(brightest / 10, brightest)
    noisy = np.random.default_rng(0).poisson(truth)
    assert measure_noise(noisy).sigma == pytest.approx(rms(noisy, truth), rel=0.20)


def test_read_noise_and_offset_exclude_each_other() -> None:
    assert (Noise(1.0, 2.0, 16.0).read, Noise(1.0, 2.0, 16.0).offset) == (4.0, 0.0)
    assert (Noise(1.0, 2.0, -16.0).read, Noise(1.0, 2.0, -16.0).offset) == (0.0, 8.0)
    assert Noise(1.0, 0.0, -16.0).offset == 0.0


@pytest.mark.parametrize("blur", [0.4, 0.7, 1.0])
def test_the_correlation_length_is_the_sum_of_the_autocorrelation(blur: float) -> None:
    lags = np.arange(-8, 9)
    blurred = np.exp(-((lags / blur) ** 2) / 4)
    assert noise_autocorrelation(lags, blurred.sum()) == pytest.approx(blurred, abs=0.01)
    assert noise_autocorrelation(lags, 1.0).tolist() == (lags == 0).tolist()


def test_white_noise_is_not_correlated_and_blurred_noise_is() -> None:
    assert not is_correlated(1.0)
    assert not is_correlated(1.1)
    assert is_correlated(1.11)


@pytest.mark.parametrize("photons", [0.005, 0.01, 0.02, 0.05])
@pytest.mark.parametrize("size", [64, 256])
def test_the_noise_of_single_photons_is_measured(size: int, photons: float) -> None:
    counts = np.random.default_rng(size).poisson(photons, (size, size))
    assert measure_noise(counts).sigma == pytest.approx(photons**0.5, rel=0.25)
    assert measure_noise(100 + 4 * counts).sigma == pytest.approx(4 * photons**0.5, rel=0.25)


@pytest.mark.data
@pytest.mark.parametrize("capture", [1, 2])
@pytest.mark.parametrize(("kind", "within"), [*((kind, 0.20) for kind in WHITE), ("WideField_BPAE_G", 0.25)])
def test_real_noise_is_as_strong_as_measured(data_folder: Path, kind: str, capture: int, within: float) -> None:
    pair = data_folder / "fmd_test_mix"
    noisy, truth = (
        imageio.imread(pair / part / f"{kind}_{capture}.png").astype(float) for part in ("noisy_avg1", "gt")
    )
    noise = measure_noise(noisy)
    assert noise.sigma == pytest.approx(rms(noisy, truth), rel=within)
    assert is_correlated(noise.correlation_length) == kind.startswith("WideField")


def test_the_few_pixels_that_count_in_a_large_plane_are_measured() -> None:
    noisy = np.random.default_rng(0).normal(100, 5, (2048, 2048))
    good = np.zeros(noisy.shape, bool)
    good[10:240, 270:500] = True
    assert measure_noise(noisy, good).sigma == pytest.approx(5, rel=0.1)
    assert measure_noise(noisy, np.zeros_like(good)).sigma == 0


def test_a_lone_dark_pixel_is_no_sign_of_few_photons() -> None:
    noisy = np.rint(np.random.default_rng(0).normal(3000, 50, (96, 96)))
    noisy[4, 5] = noisy[50, 60] = 2500
    assert measure_noise(noisy).sigma == pytest.approx(50, rel=0.1)
    counts = np.random.default_rng(0).poisson(0.005, (512, 512))
    counts[7, 8] = 4000
    assert measure_noise(counts).sigma == pytest.approx(0.0707, rel=0.25)

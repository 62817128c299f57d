"""Figures with a reference equal those of scikit-image; figures of the residual show what was removed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

from napari_pristine.errors import ImageError
from napari_pristine.image.quality import compare, measure_residual


def picture(shape: tuple[int, ...] = (128, 128)) -> np.ndarray:
    """A smooth picture from 0 to 255."""
    rough = np.random.default_rng(0).normal(size=shape)
    smooth = ndimage.gaussian_filter(rough, [0] * (len(shape) - 2) + [4, 4])
    return np.asarray(255 * (smooth - smooth.min()) / np.ptp(smooth))


def noise(shape: tuple[int, ...] = (128, 128), sigma: float = 10.0) -> np.ndarray:
    return np.random.default_rng(1).normal(0, sigma, shape)


def test_figures_are_those_of_scikit_image() -> None:
    reference = picture()
    image = reference + noise()
    found = compare(image, reference, 255)
    assert found.data_range == 255
    assert found.psnr == pytest.approx(peak_signal_noise_ratio(reference, image, data_range=255))
    assert found.ssim == pytest.approx(structural_similarity(reference, image, data_range=255))
    wang = {"gaussian_weights": True, "use_sample_covariance": False, "sigma": 1.5}
    assert found.ssim_gaussian == pytest.approx(structural_similarity(reference, image, data_range=255, **wang))
    assert found.nrmse == pytest.approx(normalized_root_mse(reference, image))


def test_psnr_by_hand() -> None:
    assert compare(np.full((16, 16), 10), np.zeros((16, 16)), 100).psnr == pytest.approx(20)


def test_whole_numbers_do_not_wrap() -> None:
    dark, bright = np.zeros((16, 16), np.uint8), np.full((16, 16), 255, np.uint8)
    assert compare(dark, bright, 255).psnr == pytest.approx(0)
    assert compare(bright, dark, 255).psnr == pytest.approx(0)


def test_an_image_is_equal_to_itself() -> None:
    found = compare(picture(), picture(), 255)
    assert (found.psnr, found.nrmse) == (float("inf"), 0)
    assert found.ssim == pytest.approx(1)


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 40.0), (0.5, 0.0), (3.0, -100.0), (-1.0, 255.0)])
def test_affine_psnr_does_not_mind_gain_and_offset(gain: float, offset: float) -> None:
    reference = picture()
    image = reference + noise()
    plain, changed = compare(image, reference, 255), compare(gain * image + offset, reference, 255)
    assert changed.psnr_affine == pytest.approx(plain.psnr_affine)
    assert changed.psnr < plain.psnr
    assert plain.psnr_affine >= plain.psnr


def test_stacks_are_compared_plane_by_plane() -> None:
    reference = picture((3, 40, 50))
    image = reference + noise(reference.shape)
    planes = [structural_similarity(a, b, data_range=255) for a, b in zip(image, reference, strict=True)]
    assert compare(image, reference, 255).ssim == pytest.approx(np.mean(planes))


def test_colours_are_compared_one_by_one() -> None:
    reference = picture((3, 40, 50))
    image = reference + noise(reference.shape)
    last = compare(np.moveaxis(image, 0, -1), np.moveaxis(reference, 0, -1), 255, samples=-1)
    assert last.ssim == pytest.approx(compare(image, reference, 255).ssim)
    assert last.psnr == pytest.approx(compare(image, reference, 255).psnr)


@pytest.mark.parametrize(
    ("image", "reference", "data_range", "words"),
    [
        (np.zeros((16, 16)), np.zeros((16, 17)), 1, r"\(16, 16\).*\(16, 17\)"),
        (np.zeros((16, 16)), np.zeros((16, 16)), 0, "data range must be above 0 but is 0"),
        (np.zeros((16, 16)), np.zeros((16, 16)), float("nan"), "data range must be above 0 but is nan"),
        (np.full((16, 16), np.nan), np.zeros((16, 16)), 1, "NaN or infinite"),
        (np.zeros((5, 5)), np.zeros((5, 5)), 1, "5"),
    ],
    ids=["shape", "no range", "nan range", "nan", "smaller than the window"],
)
def test_images_that_cannot_be_compared_are_refused(
    image: np.ndarray, reference: np.ndarray, data_range: float, words: str
) -> None:
    with pytest.raises(ImageError, match=words):
        compare(image, reference, data_range)


EVERYWHERE = np.ones((128, 128), bool)


def test_removed_noise_is_as_strong_as_the_noise_and_white() -> None:
    level, whiteness, structure = measure_residual(picture() + noise(), picture(), EVERYWHERE, 10.0)
    assert level == pytest.approx(1, abs=0.03)
    assert whiteness == pytest.approx(0, abs=0.03)
    assert structure == pytest.approx(0, abs=0.1)


def test_noise_that_was_left_is_seen() -> None:
    found = measure_residual(picture() + noise(), picture() + 0.5 * noise(), EVERYWHERE, 10.0)
    assert found.residual == pytest.approx(0.5, abs=0.02)


def test_structure_that_was_lost_is_seen() -> None:
    clean = picture() + 40 * (np.indices((128, 128)).sum(axis=0) // 4 % 2)
    blurred = ndimage.gaussian_filter(clean, 2)
    assert measure_residual(clean, blurred, EVERYWHERE, 10.0)[2] > 0.2


@pytest.mark.parametrize("axis", [0, 1])
def test_correlation_of_the_residual_is_seen_in_any_direction(axis: int) -> None:
    stripes = ndimage.gaussian_filter1d(noise(), 1.0, axis=axis)
    assert measure_residual(picture() + stripes, picture(), EVERYWHERE, float(stripes.std()))[1] > 0.3


def test_pixels_without_a_value_do_not_count() -> None:
    valid = EVERYWHERE.copy()
    valid[:20] = False
    noisy = picture() + noise()
    noisy[~valid] = np.nan
    level, whiteness, _ = measure_residual(noisy, picture(), valid, 10.0)
    assert level == pytest.approx(1, abs=0.03)
    assert whiteness == pytest.approx(0, abs=0.03)


def test_nothing_removed_is_no_residual() -> None:
    assert measure_residual(picture(), picture(), EVERYWHERE, 10.0) == (0, 0, 0)
    assert measure_residual(picture() + noise(), picture(), EVERYWHERE, 0.0) == (0, 0, 0)

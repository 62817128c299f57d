"""Measured figures and advice fit images with known noise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from napari_pristine.diagnosis import ChannelNoise, advise, diagnose, recommend
from napari_pristine.errors import AxesError, ImageError
from napari_pristine.image.image import Image
from napari_pristine.io.registry import read
from napari_pristine.methods import METHODS
from napari_pristine.samples import GAIN, simulate_timelapse

QUIET = ChannelNoise("", 5.0, 5.0, 2.0, 100.0, 0.0, 10.0, 1.0, 0.0, 10.0, 0.0, 0.0)


def scene(*shape: int) -> np.ndarray:
    y, x = np.indices(shape) / 20
    return 100 + 50 * np.sin(y) * np.sin(x)


def test_the_noise_of_a_simulated_timelapse_is_found_channel_by_channel() -> None:
    noisy, truth = simulate_timelapse((192, 192), frames=2)
    found = diagnose(noisy)
    assert (found.axes, found.shape, found.dtype) == ("TCYX", (2, 2, 192, 192), "uint16")
    for index, channel in enumerate(found.channels):
        removed = (noisy.data[:, index] - truth.data[:, index]).std()
        assert channel.name == noisy.channels[index]
        assert channel.sigma == pytest.approx(removed, rel=0.1)
        assert channel.sigma_fit == pytest.approx(removed, rel=0.1)
        assert channel.gain == pytest.approx(GAIN, rel=0.25)
        assert channel.correlation == 0
        assert channel.saturated == channel.invalid == 0
    assert 1 <= len(found.advice) <= 4
    assert "photon noise" in found.advice[0]
    assert found.recommendation.method == "auto"
    assert 0 < found.recommendation.errors["pretrained, balanced"] < found.recommendation.errors["light blur"] < 1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_noise_that_is_equal_everywhere_is_not_that_of_photons(seed: int) -> None:
    found = diagnose(scene(96, 96) + np.random.default_rng(seed).normal(0, 8, (96, 96)))
    [channel] = found.channels
    assert not channel.photon_noise
    assert "equally strong" in found.advice[0]
    assert channel.sigma_fit == pytest.approx(8, rel=0.1)


def test_correlated_noise_is_told_from_independent() -> None:
    white = np.random.default_rng(0).normal(0, 20, (128, 128))
    blurred = diagnose(scene(128, 128) + ndimage.gaussian_filter(white, 0.8))
    assert blurred.channels[0].correlation > 0.2
    assert "correlated" in blurred.advice[0]
    assert "independent" in diagnose(scene(128, 128) + white).advice[0]


def test_saturated_and_invalid_pixels_are_counted() -> None:
    values = scene(64, 64) + np.random.default_rng(0).normal(0, 8, (64, 64))
    full = np.minimum(values, 130).astype(np.float32)
    full[:4] = np.nan
    found = diagnose(full)
    [channel] = found.channels
    assert channel.invalid == pytest.approx(4 / 64)
    assert channel.saturated == pytest.approx(np.mean(full[4:] == 130))
    assert any("saturated" in sentence for sentence in found.advice)
    assert any("no value" in sentence for sentence in found.advice)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_the_end_of_a_converter_is_saturation(bits: int) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:128, :128]
    bright = 2**bits * (0.2 + np.exp(-((y - 64) ** 2 + (x - 64) ** 2) / 500))
    values = np.clip(rng.poisson(bright), 0, 2**bits - 1).astype(np.uint16)
    assert diagnose(values).channels[0].saturated == np.mean(values == 2**bits - 1) > 0.01


def test_the_end_of_the_type_is_saturation_even_if_few_pixels_reach_it() -> None:
    values = (scene(64, 64) + np.random.default_rng(0).normal(0, 8, (64, 64))).astype(np.uint8)
    values[3, 5] = 255
    assert diagnose(values).channels[0].saturated == pytest.approx(1 / 64**2)


@pytest.mark.parametrize("mean", [0.02, 0.2, 0.7, 3.0])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_counts_of_few_photons_are_not_saturated(mean: float, dtype: str) -> None:
    for truth in (np.full((128, 128), mean), mean * scene(128, 128) / 100):
        found = diagnose(np.random.default_rng(0).poisson(truth).astype(dtype))
        assert found.channels[0].saturated == 0
        assert "saturated" not in " ".join(found.advice)


@pytest.mark.parametrize(
    ("gain", "limit", "unit", "dtype"),
    [
        (2, 255, 1, "uint8"),
        (2, 255, 1, "uint16"),
        (30, 4095, 1, "uint16"),
        (30, 4095, 16, "uint16"),  # in the upper bits
        (500, 65535, 1, "uint16"),
        (30, 3500, 1, "uint16"),  # a full well below the limit of the converter
        (1, 120.5, 1, "float32"),
        (60, 4095, 1, "int32"),  # most pixels
    ],
)
def test_saturation_is_found_at_any_level(gain: float, limit: float, unit: float, dtype: str) -> None:
    values = gain * np.random.default_rng(0).normal(scene(128, 128), 5)
    full = (unit * np.clip(np.rint(values) if dtype != "float32" else values, 0, limit)).astype(dtype)
    expected = np.mean(full == full.max())
    assert expected > 0.01
    assert diagnose(full).channels[0].saturated == pytest.approx(expected)


@pytest.mark.parametrize("share", [0.002, 0.008])
def test_hot_pixels_do_not_make_the_estimates_disagree(share: float) -> None:
    rng = np.random.default_rng(0)
    noisy = rng.poisson(scene(128, 128)).astype(np.uint16)
    hot = rng.random(noisy.shape) < share
    noisy[hot] += rng.integers(300, 4000, hot.sum()).astype(np.uint16)
    noisy[:, 40] = 3000
    found = diagnose(noisy)
    [channel] = found.channels
    assert channel.sigma == pytest.approx(10, rel=0.1)
    assert channel.sigma_fit == pytest.approx(10, rel=0.1)
    assert "hot pixels and 1 column stand out" in " ".join(found.advice)
    assert "disagree" not in " ".join(found.advice)


@pytest.mark.parametrize(("value", "dtype"), [(0, "uint8"), (255, "uint8"), (7, "uint16"), (0.5, "float32")])
def test_a_constant_image_is_constant(value: float, dtype: str) -> None:
    found = diagnose(np.full((3, 64, 64), value, dtype), axes="TYX")
    assert found.channels[0].constant == value
    assert found.channels[0].saturated == 0
    assert found.recommendation.method is None
    assert found.advice == (f"The image is constant (value {value:g}): nothing to restore.",)


def test_a_constant_channel_is_named() -> None:
    values = np.full((3, 64, 64), 65535, np.uint16)
    values[0] = np.random.default_rng(0).poisson(100, (64, 64))
    values[1] = 0
    found = diagnose(Image(values, "CYX", channels=("DAPI", "GFP", "RFP")))
    assert found.recommendation.method == "auto"
    assert "Constant, nothing to restore: GFP (value 0) and RFP (value 65535)." in found.advice
    assert "saturated" not in " ".join(found.advice)


def test_white_padding_is_not_saturated() -> None:
    values = np.random.default_rng(0).poisson(100, (96, 96)).astype(np.uint8)
    values[:, :30] = 255
    assert diagnose(values).channels[0].saturated == 0
    values[50, 50] = 255
    assert diagnose(values).channels[0].saturated == pytest.approx(1 / 96 / 66)


def test_hot_pixels_add_no_contrast() -> None:
    rng = np.random.default_rng(0)
    noisy = rng.poisson(scene(128, 128)).astype(np.uint16)
    expected = diagnose(noisy).channels[0].contrast
    noisy[rng.random(noisy.shape) < 0.008] += 4000
    assert diagnose(noisy).channels[0].contrast == pytest.approx(expected, rel=0.05)


def test_an_image_without_noise_is_left_alone() -> None:
    found = diagnose(scene(96, 96))
    assert "gains nothing" in found.advice[0]
    assert found.recommendation.method is None


def test_colours_are_channels() -> None:
    rng = np.random.default_rng(0)
    rgb = np.stack([rng.normal(100, sigma, (64, 64)) for sigma in (2, 4, 8)], axis=-1).astype(np.uint8)
    found = diagnose(Image(rgb, "YXS"))
    assert [channel.name for channel in found.channels] == ["red", "green", "blue"]
    assert [channel.sigma_fit for channel in found.channels] == pytest.approx([2, 4, 8], rel=0.15)


def test_too_small_for_one_estimator_is_not_too_small_for_the_other() -> None:
    [channel] = diagnose(np.random.default_rng(0).normal(100, 5, (21, 21))).channels
    assert channel.sigma is None
    assert channel.sigma_fit == pytest.approx(5, rel=0.4)


def test_a_stack_needs_axes_and_a_mask_is_refused() -> None:
    with pytest.raises(AxesError, match="axes='TYX'"):
        diagnose(np.zeros((4, 32, 32)))
    with pytest.raises(ImageError, match="boolean"):
        diagnose(np.zeros((32, 32), bool))


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        (QUIET, "photon noise"),
        (replace(QUIET, gain=0.0), "equally strong"),
        (replace(QUIET, correlation_length=1.8, correlation=0.4), "correlated between neighbouring pixels (0.40)"),
        (replace(QUIET, saturated=0.02), "2.0% of the pixels are saturated"),
        (replace(QUIET, invalid=0.01), "1.00% of the pixels have no value"),
        (replace(QUIET, contrast=2.0), "hardly stronger than the noise"),
        (replace(QUIET, contrast=50.0), "The noise is weak"),
        (replace(QUIET, sigma=12.0), "disagree"),
        (replace(QUIET, sigma_fit=0.0), "gains nothing"),
        (replace(QUIET, sigma=0.01), "gains nothing"),
    ],
)
def test_each_finding_has_its_advice(channel: ChannelNoise, words: str) -> None:
    assert words in " ".join(advise([channel]))


@pytest.mark.parametrize("channel", [QUIET, replace(QUIET, gain=0.0), replace(QUIET, correlation_length=1.8)])
def test_the_recommended_method_and_preset_exist(channel: ChannelNoise) -> None:
    found = recommend([channel])
    assert found.preset in METHODS[str(found.method)].presets


def test_advice_is_short_and_names_what_exists() -> None:
    worst = replace(QUIET, saturated=0.1, invalid=0.1, contrast=1.0, sigma=20.0, correlation_length=2.1)
    assert len(advise([worst])) == 4
    known = {word for m in METHODS.values() for word in (m.key, *m.presets, *m.params.model_fields)}
    for channel in (QUIET, worst, replace(QUIET, contrast=50.0), replace(QUIET, gain=0.0)):
        quoted = set(" ".join(advise([channel])).split("'")[1::2])
        assert quoted <= known


@pytest.mark.parametrize("channel", [QUIET, replace(QUIET, contrast=50.0), replace(QUIET, contrast=1.0)])
def test_advice_names_the_recommended_preset_alone(channel: ChannelNoise) -> None:
    assert recommend([channel]).preset == "balanced"
    assert "'fast'" not in " ".join(advise([channel]))


@pytest.mark.data
def test_a_confocal_frame_has_photon_noise_and_a_widefield_one_is_correlated(data_folder: Path) -> None:
    folder = data_folder / "fmd_test_mix" / "noisy_avg1"
    if not folder.is_dir():
        pytest.skip(f"no images in {folder}")
    confocal, widefield = (diagnose(read(folder / f"{name}_BPAE_G_1.png")) for name in ("Confocal", "WideField"))
    assert confocal.channels[0].gain > 1
    assert confocal.channels[0].correlation < 0.1
    assert widefield.channels[0].correlation > 0.2

"""The uncertainty of each pixel, as a second result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from training.calibration import Sample, _factor, _write_scales

from napari_pristine import Command, Image, PristineError, Recipe, restore
from napari_pristine.events import BlockDone
from napari_pristine.fits import pretrained
from napari_pristine.methods import METHODS
from napari_pristine.samples import simulate_image

KNOWN = [key for key, method in METHODS.items() if method.restore_with_error is not None]
FAST = {"preset": "fast", "uncertainty": True}


def photons(truth: np.ndarray, gain: float = 1.0, seed: int = 0) -> np.ndarray:
    return (gain * np.random.default_rng(seed).poisson(truth / gain)).astype(np.float32)


def scene(side: int = 128) -> np.ndarray:
    """A smooth image of blobs in photons, 8 to 80."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:side, :side]
    truth = np.full((side, side), 8.0)
    for _ in range(30):
        row, column, width = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(2, 9)
        truth += rng.uniform(5, 40) * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * width**2))
    return truth


@pytest.mark.parametrize("preset", ["fast", "balanced"])
@pytest.mark.parametrize("noise", ["photons", "the same everywhere", "correlated"])
def test_the_interval_holds_most_of_the_truth_and_is_no_wider_than_the_noise(preset: str, noise: str) -> None:
    truth, rng = scene(), np.random.default_rng(1)
    image = photons(truth)
    if noise != "photons":
        white = rng.normal(0, 6, (130, 130))
        correlated = (white[1:-1, 1:-1] + 0.5 * (white[2:, 1:-1] + white[1:-1, 2:])) / 1.2
        image = (truth + (correlated if noise == "correlated" else white[:128, :128])).astype(np.float32)
    result = restore(image, "pretrained", preset=preset, uncertainty=True)
    assert result.uncertainty is not None
    covered = np.abs(result.data - truth) <= result.uncertainty.data
    assert 0.8 < covered.mean() < 1
    assert np.median(result.uncertainty.data) < 1.645 * (image - truth).std()


def test_its_units_are_those_of_the_image() -> None:
    truth = scene()
    one, four = (restore(4**n * photons(truth) + 50 * n, "pretrained", **FAST) for n in (0, 1))
    assert one.uncertainty is not None
    assert four.uncertainty is not None
    np.testing.assert_allclose(four.uncertainty.data, 4 * one.uncertainty.data, rtol=0.05)


def test_bright_pixels_are_less_certain_than_dark_ones_in_photon_noise() -> None:
    truth = np.where(np.arange(128) < 64, 10.0, 1000.0) * np.ones((128, 1))
    result = restore(photons(truth), "pretrained", **FAST)
    assert result.uncertainty is not None
    assert np.median(result.uncertainty.data[:, 80:]) > 3 * np.median(result.uncertainty.data[:, :48])


@pytest.mark.parametrize(
    ("axes", "shape", "together"), [("TCYX", (2, 2, 32, 40), ""), ("YXS", (32, 40, 3), ""), ("CYX", (2, 32, 40), "CYX")]
)
def test_it_has_axes_scale_and_place_of_the_result(axes: str, shape: tuple[int, ...], together: str) -> None:
    image = Image(
        np.random.default_rng(0).poisson(30, shape).astype(np.uint8), axes, scale=tuple(range(1, len(axes) + 1))
    )
    result = restore(image, "pretrained", together=together, **FAST)
    assert result.uncertainty is not None
    assert result.uncertainty.data.dtype == np.float32
    assert (result.uncertainty.axes, result.uncertainty.shape) == (axes, shape)
    assert result.uncertainty.scale == result.image.scale
    assert np.isfinite(result.uncertainty.data).all()
    assert (result.uncertainty.data > 0).all()
    assert result.recipe.uncertainty


@pytest.mark.parametrize("together", ["", "YX"])
def test_transparency_is_certain(together: str) -> None:
    image = Image(np.random.default_rng(0).poisson(30, (32, 40, 4)).astype(np.uint8), "YXS")
    result = restore(image, "pretrained", together=together, **FAST)
    assert result.uncertainty is not None
    assert (result.uncertainty.data[..., 3] == 0).all()
    assert (result.uncertainty.data[..., :3] > 0).all()


def test_nothing_is_known_of_pixels_without_a_value_and_of_frames_that_are_not_restored() -> None:
    stack = photons(np.broadcast_to(scene(64), (3, 64, 64)))
    stack[1] = 7.0
    stack[0, 10:14, 20:25] = np.nan
    result = restore(stack, "pretrained", axes="TYX", **FAST)
    assert result.uncertainty is not None
    unknown = np.isnan(result.uncertainty.data)
    assert unknown[0].sum() == 20
    assert unknown[1].all()
    assert not unknown[2].any()

    seen: list[BlockDone] = []

    def keep_after_one(event: object) -> Command | None:
        seen.extend([event] if isinstance(event, BlockDone) else [])
        return Command.KEEP if seen else None

    kept = restore(photons(np.broadcast_to(scene(64), (3, 64, 64))), "pretrained", axes="TYX", on_event=keep_after_one,
                   **FAST)  # fmt: skip
    assert kept.uncertainty is not None
    assert np.isnan(kept.uncertainty.data[-1]).all()


def test_tiles_are_blended_as_the_result_is() -> None:
    image = photons(scene())
    whole, tiled = (restore(image, "pretrained", settings={"tile": tile}, **FAST).uncertainty for tile in (1024, 64))
    assert whole is not None
    assert tiled is not None
    assert np.median(np.abs(whole.data / tiled.data - 1)) < 0.1


def test_it_is_none_unless_it_is_wanted_and_does_not_change_the_result() -> None:
    image = photons(scene(64))
    with_it, without = (restore(image, "pretrained", preset="fast", uncertainty=wanted) for wanted in (True, False))
    assert without.uncertainty is None
    np.testing.assert_array_equal(with_it.data, without.data)
    assert restore(image, recipe=Recipe(method="pretrained", preset="fast", uncertainty=True)).uncertainty is not None


@pytest.mark.parametrize("method", sorted(METHODS.keys() - set(KNOWN)))
def test_other_methods_say_which_one_knows_it(method: str) -> None:
    with pytest.raises(PristineError, match=f"{method} does not know .*; use {', '.join(KNOWN)}"):
        restore(simulate_image((32, 32))[0], method, uncertainty=True)


def test_the_factors_come_from_the_file_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "denoiser.safetensors"
    weights.write_bytes(pretrained.WEIGHTS.read_bytes())
    before = load_file(weights)
    _write_scales(weights, {"independent": 3.0, "correlated": 2.0, "few_photons": 1.0})
    monkeypatch.setattr(pretrained, "WEIGHTS", weights)
    pretrained.error_scales.cache_clear()
    try:
        assert pretrained.error_scales() == {"independent": 3.0, "correlated": 2.0, "few_photons": 1.0}
        assert all((before[name] == weight).all() for name, weight in load_file(weights).items())
    finally:
        monkeypatch.undo()
        pretrained.error_scales.cache_clear()


def test_the_calibration_finds_the_factor_that_covers_nine_tenths() -> None:
    rng = np.random.default_rng(0)
    expected = rng.uniform(0.5, 2, 100_000)
    wrong = np.abs(rng.laplace(0, expected))
    sample = Sample("independent", 1.0, wrong, expected, np.zeros_like(wrong), np.ones_like(wrong))
    assert _factor([sample]) == pytest.approx(np.log(10), rel=0.02)
    assert sample.covered(np.log(10)) == pytest.approx(0.9, abs=0.005)


def test_structure_far_stronger_than_the_noise_gives_finite_values() -> None:
    random = np.random.default_rng(0)
    squares = np.kron(random.integers(0, 2, (16, 16)), np.ones((8, 8))) * 20_000
    noisy = (squares + random.normal(100, 0.5, squares.shape)).astype(np.float32)
    result = restore(noisy, "pretrained", preset="fast", uncertainty=True)
    assert result.uncertainty is not None
    assert np.isfinite(result.data).all()
    assert np.isfinite(result.uncertainty.data).all()
    assert np.abs(result.data - noisy).max() < 0.0025 * 20_000


def test_what_is_restored_is_kept_though_some_tiles_are_not() -> None:
    noisy = photons(np.hstack([scene(128)] * 3))
    settings = {"tile": 64, "steps": 2, "orientations": 1, "batch": 1, "side": 32}
    kept = restore(noisy, "pretrained", settings=settings, uncertainty=True, on_event=lambda _: Command.KEEP)
    assert any("tiles are restored" in note.text for note in kept.notes)
    assert np.isfinite(kept.data).all()
    assert kept.uncertainty is not None
    assert 0 < np.isnan(kept.uncertainty.data).mean() < 1

"""`auto` takes the method with the least estimated error, says why, and repeats its choice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from napari_pristine.errors import SettingError
from napari_pristine.events import Progress
from napari_pristine.image.image import Image
from napari_pristine.jobs.choose import _compare as compare
from napari_pristine.jobs.lazy import lazy_restore
from napari_pristine.jobs.plan import make_plan
from napari_pristine.jobs.restore import Restored, restore, run_plan
from napari_pristine.methods import METHODS
from napari_pristine.methods.method import Estimate
from napari_pristine.recipe import Choice, Recipe


def truth(shape: tuple[int, int] = (96, 96), seed: int = 0) -> NDArray[np.float64]:
    """Round cells of different brightness with a few spots, on a background, 5 to 60 photons."""
    rng = np.random.default_rng(seed)
    image = np.zeros(shape)
    y, x = np.indices(shape)
    for _ in range(8):
        centre, radius = rng.uniform(0, shape), rng.uniform(6, 20)
        image[np.hypot(y - centre[0], x - centre[1]) < radius] = rng.uniform(0.2, 0.6)
    image[tuple(rng.integers(0, shape, (15, 2)).T)] += 3
    image = ndimage.gaussian_filter(image, 0.8)
    return np.asarray(5 + 55 * image / image.max())


def photons(image: NDArray[np.float64], seed: int = 1) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).poisson(image).astype(np.uint16)


def error(image: NDArray[np.generic], clean: NDArray[np.float64]) -> float:
    return float(np.mean((np.asarray(image, float) - clean) ** 2))


def sentence(result: Restored) -> str:
    (text,) = [note.text for note in result.notes if "estimated error" in note.text]
    return text


@pytest.mark.parametrize("preset", ["fast", "balanced"])
def test_it_is_the_default_and_better_than_the_input_and_any_blur(preset: str) -> None:
    clean = truth()
    noisy = photons(clean)
    result = restore(noisy, preset=preset)
    assert result.recipe.method == "auto"
    blurs = [error(ndimage.gaussian_filter(noisy.astype(float), sigma), clean) for sigma in (0, 0.5, 0.7, 1, 1.4, 2)]
    assert error(result.data, clean) < min(blurs)


def test_the_comparison_of_methods_can_be_cancelled_and_is_no_progress_of_the_job() -> None:
    plan = make_plan(Image(photons(truth()), "YX"), Recipe(method="auto", preset="best"))
    job, events = run_plan(plan), list[Progress]()
    while len(events) < 5:
        if isinstance(event := next(job), Progress):
            events.append(event)
            assert plan.is_choosing
    job.close()
    assert all(event.fraction == 0 and event.remaining is None and np.isnan(event.residual) for event in events)


def test_it_says_what_it_chose_and_how_good_it_is() -> None:
    clean = truth((256, 256))
    result = restore(photons(clean), preset="fast")
    assert sentence(result).startswith("Pretrained (fast): the noise is photon noise, independent from pixel")
    choice = result.recipe.choice
    assert choice is not None
    assert (choice.method, choice.preset) == ("pretrained", "fast")
    assert choice.error is not None
    true_error = error(result.data, clean) / float(clean.mean())  # in variances of the photon noise
    assert abs(choice.error - true_error) < 0.1  # as wrong as the measured variance of the noise is


def test_correlated_noise_is_named() -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(128, 128)), 0.8)
    noisy = 100 + 20 * ndimage.gaussian_filter(truth((128, 128)), 1) / 60 + 5 * noise / noise.std()
    assert "equally strong everywhere, correlated between pixels" in sentence(restore(noisy, preset="fast"))


def test_the_weights_of_all_channels_are_in_the_recipe_and_repeat_the_result() -> None:
    image = np.stack([photons(truth(seed=n), n) * (n + 1) for n in range(2)])
    first = restore(image, axes="CYX", preset="balanced", value_type="float32")
    choice = first.recipe.choice
    assert choice is not None
    assert len(choice.weights) == 2
    again = restore(image, recipe=first.recipe, axes="CYX")
    np.testing.assert_allclose(again.data, first.data, atol=1e-4)
    other = first.recipe.model_copy(update={"choice": choice.model_copy(update={"weights": [1.0, 1.0]})})
    if choice.weights != [1.0, 1.0]:
        assert not np.array_equal(restore(image, recipe=other, axes="CYX").data, first.data)


def test_frames_of_a_stack_are_treated_alike() -> None:
    """The decision is made once; a frame of the stack alone, with that decision, comes out the same."""
    frames = np.stack([photons(truth(), seed) for seed in range(3)])
    stack = restore(frames, axes="TYX", preset="balanced", value_type="float32")
    choice = stack.recipe.choice
    assert choice is not None
    assert len(choice.weights) == 1
    one = restore(frames, recipe=stack.recipe, axes="TYX", select={"T": "1:2"})
    assert error(one.data[0] - stack.data[1], np.zeros(frames.shape[1:])) < 0.05 * error(stack.data[1], truth())


def test_the_least_error_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that returns the noisy pixels, only darker, loses against the network."""
    worse = replace(
        METHODS["pretrained"],
        key="worse",
        restore_with_error=lambda net, block, params: iter(
            [Estimate(1, 1, 0.5 * block.pixels, torch.ones_like(block.pixels))]
        ),
        noise_kept=lambda net, block, params, half_widths: torch.full_like(half_widths, 0.5),
    )
    monkeypatch.setitem(METHODS, "worse", worse)
    monkeypatch.setitem(METHODS["auto"].candidates, "fast", (("worse", "fast"), ("pretrained", "fast")))  # type: ignore[arg-type]
    result = restore(photons(truth()), preset="fast", settings={"stripes": False})
    choice = result.recipe.choice
    assert choice is not None
    assert choice.method == "pretrained"
    assert choice.error is not None


def test_settings_of_all_methods_are_handed_on() -> None:
    noisy = photons(truth()).astype(np.float32)
    noisy[10, 10] = 5000
    assert any("hot pixel" in note.text for note in restore(noisy, preset="fast").notes)
    assert not any(
        "hot pixel" in note.text for note in restore(noisy, preset="fast", settings={"hot_pixels": False}).notes
    )


def test_an_image_without_anything_in_the_middle_is_restored() -> None:
    frames = np.zeros((3, 300, 300), np.uint16)
    frames[:, :40, :40] = photons(truth((40, 40)))
    assert np.isfinite(restore(Image(frames, "TYX"), preset="balanced").data).all()


def test_a_choice_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingError, match="there is no method 'magic'"):
        restore(photons(truth()), recipe=Recipe(method="auto", choice=Choice(method="magic")))


def test_slices_restored_while_scrolling_share_one_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []
    monkeypatch.setattr(
        "napari_pristine.jobs.choose._compare",
        lambda plan, candidates, *rest: (compared.append(candidates), (yield from compare(plan, candidates, *rest)))[1],
    )
    frames = np.stack([photons(truth(), seed) for seed in range(3)])
    lazy = lazy_restore(make_plan(Image(frames, "TYX"), Recipe(preset="balanced", value_type="float32")))
    whole = restore(frames, axes="TYX", preset="balanced", value_type="float32")
    compared.clear()
    for number in (2, 0):
        np.testing.assert_allclose(np.asarray(lazy.data[number]), whole.data[number], atol=1e-4)
    assert len(compared) == 1

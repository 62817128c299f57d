"""Implicit neural sampling: visible pixels, the filling of gaps, and no leak of noise round the mask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.methods.test_methods import photons, scene
from torch import Tensor

from napari_pristine.fits.sampling import MaskedBlock, SamplingNet, accumulate_field_gradients
from napari_pristine.methods.method import NoisyBlock
from napari_pristine.methods.sampling import SAMPLING, SamplingParams

SMALL = {"steps": 3, "batch": 1, "side": 32, "width": 4, "levels": 1, "refresh": 1}


def noisy_block(correlation_length: float = 1.0) -> NoisyBlock:
    pixels = torch.from_numpy(photons(scene((40, 48))).astype("float32"))[None]
    pixels = (pixels - pixels.mean()) / pixels.std()
    return NoisyBlock(
        pixels, torch.tensor([0.4]), torch.ones(40, 48, dtype=torch.bool), correlation_length=correlation_length
    )


def fitted(noisy: NoisyBlock, params: SamplingParams) -> SamplingNet:
    torch.manual_seed(0)
    net = SAMPLING.network(params, len(noisy.pixels), tuple(noisy.valid.shape))
    for _ in SAMPLING.fit(net, noisy, params, False):
        pass
    net.eval()
    return net


def weights(net: SamplingNet) -> list[Tensor]:
    return [weight.detach().clone() for weight in net.field.siren.model.parameters()]


@pytest.mark.parametrize("preset", ["paper", "balanced"])
def test_the_function_is_trained_too(preset: str) -> None:
    """The released demonstration of the paper never takes a step with its optimiser."""
    small = SMALL if preset == "balanced" else {"steps": 2, "width": 4, "levels": 2}
    params = SAMPLING.settings(preset, small)
    noisy = noisy_block()
    torch.manual_seed(0)
    before = weights(SAMPLING.network(params, 1, (40, 48)))
    after = weights(fitted(noisy, params))
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_fewer_pixels_are_visible_for_correlated_noise() -> None:
    independent, correlated = (
        MaskedBlock.of(noisy_block(correlation_length), SAMPLING.settings()) for correlation_length in (1.0, 1.8)
    )
    assert correlated.visible < 0.5 < independent.visible
    assert correlated.margin > independent.margin
    assert correlated.passes > 0


def test_settings_take_precedence_over_the_noise() -> None:
    task = MaskedBlock.of(noisy_block(1.8), SAMPLING.settings("balanced", {"visible": 0.5, "margin": 0, "passes": 3}))
    assert (task.visible, task.margin, task.passes) == (0.5, 0, 3)


def filled_in(folds: int) -> list[Tensor]:
    """What fills a pixel as it was recorded, and where its own noise is another."""
    params = SAMPLING.settings("balanced", {**SMALL, "folds": folds})
    noisy = noisy_block()
    other = noisy.pixels.clone()
    other[0, 17, 23] += 50
    return [
        MaskedBlock.of(n, params).fill(fitted(n, params).field)[0, 17, 23]
        for n in (noisy, replace(noisy, pixels=other))
    ]


def test_with_folds_the_filling_of_a_pixel_does_not_depend_on_it() -> None:
    assert torch.equal(*filled_in(2))


def test_with_one_function_it_depends_on_it() -> None:
    """So that the test above can fail."""
    assert not torch.equal(*filled_in(1))


@pytest.mark.parametrize("changes", [{"consistency": 1.0}, {"loss": "absolute"}, {"passes": 3, "answers": "all"}])
def test_every_option_of_the_paper_works(changes: dict[str, Any]) -> None:
    noisy = noisy_block()
    params = SAMPLING.settings("balanced", {**SMALL, **changes})
    net = fitted(noisy, params)
    with torch.no_grad():
        restored = SAMPLING.restore(net, noisy, params)
    assert restored.shape == noisy.pixels.shape
    assert torch.isfinite(restored).all()


def test_the_paper_preset_has_the_published_networks() -> None:
    params = SAMPLING.settings("paper")
    net = SAMPLING.network(params, 3, (64, 64))
    assert sum(weight.numel() for weight in net.denoiser.model.parameters()) == 991_203  # section 4.1: 1.0 M
    assert net.field.siren.model.networks == 1
    assert [tuple(weight.shape[1:]) for weight in net.field.siren.model.weights] == [(2, 32), *[(32, 32)] * 5, (32, 3)]
    assert (params.steps, params.visible, params.margin, params.function_rate, params.learning_rate) == (
        1200, 0.1, 1, 1e-4, 4e-4,
    )  # fmt: skip


def passes_of(net: SamplingNet, noisy: NoisyBlock, params: SamplingParams) -> list[int]:
    """Images that pass through the U-Net in each step."""
    shown: list[int] = []
    net.denoiser.model.register_forward_hook(lambda _, values, __: shown.append(len(values[0])))
    net.denoiser.ema.register_forward_hook(lambda _, values, __: shown.append(len(values[0])))
    counts = []
    for _ in SAMPLING.fit(net, noisy, params, False):
        counts.append(sum(shown))
        shown.clear()
    return counts


def test_the_consistency_loss_of_the_paper_takes_one_pass_per_step() -> None:
    params = SAMPLING.settings("paper", {"steps": 3, "width": 4, "levels": 2})
    assert passes_of(SAMPLING.network(params, 1, (40, 48)), noisy_block(), params) == [2, 2, 2]


@pytest.mark.parametrize("changes", [{}, {"consistency": 1.0}, {"function_batch": None}])
def test_the_function_is_fitted_where_the_pixels_are(changes: dict[str, Any]) -> None:
    """On no device at all, which minds tensors of another as any GPU does."""
    noisy = noisy_block()
    noisy = replace(noisy, **{name: getattr(noisy, name).to("meta") for name in ("pixels", "sigma", "valid")})
    params = SAMPLING.settings("balanced", {**SMALL, "smoothness": 0, **changes})
    net = SAMPLING.network(params, 1, (40, 48)).to("meta")
    field = net.field
    places: list[Tensor] = []
    field.register_forward_pre_hook(lambda _, values: places.append(values[0]))
    task = MaskedBlock.of(noisy, params)
    for _ in accumulate_field_gradients(field, task, task.draw_visible(), noisy.pixels):
        pass
    assert places
    assert {place.device.type for place in places} == {"meta"}
    assert {part.device.type for part in task.blind_loss(net.denoiser, noisy.pixels, task.draw_visible())} == {"meta"}


def test_a_channel_without_noise_does_not_count_in_the_residual() -> None:
    noisy = noisy_block()
    both = replace(noisy, pixels=torch.cat([noisy.pixels, 0 * noisy.pixels]), sigma=torch.tensor([0.4, 1e-6]))
    params = SAMPLING.settings("balanced", SMALL)
    residuals = [step.residual for step in SAMPLING.fit(SAMPLING.network(params, 2, (40, 48)), both, params, False)]
    assert 0.1 < float(residuals[-1]) < 1000

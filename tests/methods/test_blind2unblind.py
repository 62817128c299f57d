"""Blind2Unblind: the published loss, and blind predictions that do not depend on the pixel itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from napari_pristine.fits.blind2unblind import (
    Blind2UnblindNet,
    blind_residuals,
    draw_masks,
    fit,
    network,
    predict_blind,
    restore,
    revisible_loss,
    visible_residual,
)
from napari_pristine.fits.unets import augment, match_mean
from napari_pristine.methods.blind2unblind import BLIND2UNBLIND
from napari_pristine.methods.method import NoisyBlock, StopReason
from napari_pristine.nets.masks import cell_masks, fill_hidden, gather_hidden
from napari_pristine.nets.unet import UNet, small_config


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def noisy_of(space: tuple[int, ...] = (40, 48), correlation_length: float = 1.0) -> NoisyBlock:
    truth = torch.sin(torch.arange(space[-1]) / 4).expand(1, *space)
    pixels = truth + 0.5 * torch.randn(1, *space)
    return NoisyBlock(
        pixels, torch.tensor([0.5]), torch.ones(space, dtype=torch.bool), correlation_length=correlation_length
    )


def tiny() -> UNet:
    return UNet(small_config(6, 2), 1)


def run(net: Blind2UnblindNet, noisy: NoisyBlock, **changes: object) -> StopReason:
    steps = fit(net, noisy, BLIND2UNBLIND.settings("fast", changes), False)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            stop: StopReason = end.value
            return stop


def predict_one_by_one(net: UNet, crops: Tensor, masks: Tensor) -> Tensor:
    """Blind predictions of all pixels, one masked copy after the other."""
    return torch.stack([gather_hidden(net(fill_hidden(crops, mask))[:, None], mask[None]) for mask in masks]).sum(dim=0)


def test_without_the_visible_error_the_loss_is_the_blind_error() -> None:
    net, crops, masks = tiny(), torch.randn(2, 1, 16, 16), cell_masks((16, 16), 4)
    blind = blind_residuals(net, crops, masks)
    predicted = predict_one_by_one(net, crops, masks)
    expected = (predicted - crops).square().mean()
    for eta in (0.0, 1.0, 2.5):
        loss = revisible_loss(blind, visible_residual(net, crops)[:, None], masks, 0.0, eta)
        assert torch.isclose(loss, (1 + eta) * expected, rtol=1e-4)


def test_the_loss_is_that_of_equation_12() -> None:
    net, crops, masks = tiny(), torch.randn(2, 1, 16, 16), cell_masks((16, 16), 4)
    predicted = predict_one_by_one(net, crops, masks)
    expected = (predicted + 7 * net(crops) - 8 * crops).square().mean() + (predicted - crops).square().mean()
    assert torch.isclose(
        revisible_loss(blind_residuals(net, crops, masks), visible_residual(net, crops)[:, None], masks, 7, 1), expected
    )


def test_the_visible_error_has_no_gradient() -> None:
    net, crops = tiny(), torch.randn(2, 1, 16, 16)
    visible = visible_residual(net, crops)
    assert visible.any()
    assert not visible.requires_grad


def test_some_copies_give_the_mean_of_all() -> None:
    net, crops, masks = tiny(), torch.randn(2, 1, 16, 16), cell_masks((16, 16), 2)
    visible = visible_residual(net, crops)[:, None]

    def loss(some: Tensor) -> float:
        return float(revisible_loss(blind_residuals(net, crops, some), visible, some, 2.0, 1.0).detach())

    assert np.mean([loss(mask[None]) for mask in masks]) == pytest.approx(loss(masks), rel=1e-4)


def test_masked_copies_are_drawn_at_random_and_none_is_empty() -> None:
    params = BLIND2UNBLIND.settings("balanced", {"copies": 2, "cell": 4})
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([draw_masks(torch.zeros(1, 1, 8, 8), params, generator) for _ in range(60)])
    assert drawn.shape == (60, 2, 8, 8)
    assert drawn.flatten(0, 1).any(dim=0).all()
    for space in ((2, 8), (1, 3)):
        assert draw_masks(torch.zeros(1, 1, *space), params, generator).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("space", [(13, 18), (3, 9, 10)])
def test_blind_predictions_do_not_depend_on_the_pixel_itself(space: tuple[int, ...]) -> None:
    net, pixels = UNet(small_config(6, 2), 1, len(space)), torch.randn(1, 1, *space)
    place = (0, 0, *(n // 2 for n in space))
    changed = pixels.clone()
    changed[place] += 10
    with torch.no_grad():
        assert torch.isclose(predict_blind(net, pixels, 3)[place], predict_blind(net, changed, 3)[place], atol=1e-5)
        assert not torch.isclose(net(pixels)[place], net(changed)[place], atol=1e-3)


def test_the_weight_of_the_visible_error_follows_the_released_code() -> None:
    paper = BLIND2UNBLIND.settings("paper")
    assert [paper.visible_weight(t) for t in (0, 0.2, 0.4, 0.7, 1)] == pytest.approx([2, 2, 2, 11, 20])


def test_the_mix_follows_the_weight_that_was_reached() -> None:
    noisy, params = noisy_of(), BLIND2UNBLIND.settings("fast", {"brightness": False, "width": 6})
    net = network(params, 1, (40, 48))
    steps = fit(net, noisy, params, False)
    for _ in range(10):
        next(steps)
    steps.close()
    assert float(net.reached) == 2
    with torch.no_grad():
        blind, visible, mixed = (
            restore(net, noisy, params.model_copy(update={"output": output}))
            for output in ("blind", "visible", "mixed")
        )
    assert torch.allclose(mixed, (blind + 2 * visible) / 3, atol=1e-5)
    loaded = network(params, 1, (8, 8))
    loaded.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(restore(loaded, noisy, params), restore(net, noisy, params))


def test_correlated_noise_gives_a_warning() -> None:
    params = {"steps": 2, "width": 6}
    net = network(BLIND2UNBLIND.settings("fast", params), 1, (40, 48))
    assert not run(net, noisy_of(), **params).warning
    stop = run(net, noisy_of(correlation_length=1.8), **params)
    assert stop.warning
    assert "correlated" in stop.text


def test_long_steps_yield_while_they_last() -> None:
    params = BLIND2UNBLIND.settings("fast", {"copies": None, "steps": 1, "side": 128, "batch": 4, "width": 3})
    done = [step.done for step in fit(network(params, 1, (128, 128)), noisy_of((128, 128)), params, False)]
    assert done == [0] * 8 + [1]  # nine copies, one at a time


def test_a_step_in_parts_gives_the_result_of_a_whole_step(monkeypatch: pytest.MonkeyPatch) -> None:
    params = BLIND2UNBLIND.settings("fast", {"copies": None, "steps": 2, "side": 16, "width": 6, "cell": 2})
    weights = []
    for room in (1, 1 << 20):
        monkeypatch.setattr("napari_pristine.fits.blind2unblind._PART", room)
        torch.manual_seed(0)
        net = network(params, 1, (40, 48))
        for _ in fit(net, noisy_of(), params, False):
            pass
        weights.append(torch.cat([p.flatten() for p in net.ema.parameters()]))
    assert torch.allclose(*weights, atol=1e-4)


def test_the_paper_preset_is_the_published_network() -> None:
    net = network(BLIND2UNBLIND.settings("paper"), 1, (64, 64))
    assert sum(p.numel() for p in net.model.parameters()) == 1_099_585


def test_crops_are_flipped_and_rotated_in_all_eight_ways() -> None:
    crop = torch.arange(9.0).reshape(1, 1, 3, 3).expand(200, 1, 3, 3)
    square = augment(crop, torch.Generator().manual_seed(0))
    assert len({tuple(c.flatten().tolist()) for c in square}) == 8
    wide = augment(torch.arange(6.0).reshape(1, 1, 2, 3).expand(200, 1, 2, 3), torch.Generator().manual_seed(0))
    assert wide.shape == (200, 1, 2, 3)
    assert len({tuple(c.flatten().tolist()) for c in wide}) == 4


def test_brightness_is_that_of_the_valid_noisy_pixels() -> None:
    noisy, restored = torch.randn(2, 8, 8) + 3, torch.randn(2, 8, 8)
    valid = torch.rand(8, 8) > 0.3
    bright = match_mean(restored, noisy, valid)
    assert torch.allclose(bright[:, valid].mean(dim=1), noisy[:, valid].mean(dim=1), atol=1e-5)
    assert torch.allclose(bright - restored, (bright - restored)[:, :1, :1].expand(2, 8, 8), atol=1e-5)

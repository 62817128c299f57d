"""IDDP: the published loss, and the choice of the best network without any truth."""

from __future__ import annotations

import pytest
import torch

from napari_pristine.fits.iddp import BestNetwork, box_blur, fit, losses, network, random_signs, restore
from napari_pristine.methods.iddp import IDDP, IddpParams
from napari_pristine.methods.method import NoisyBlock, StopReason
from napari_pristine.nets.unet import UNet, small_config


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def noisy_of(correlation_length: float = 1.0, sigma: float = 0.5) -> NoisyBlock:
    truth = torch.sin(torch.arange(48) / 4).expand(1, 40, 48)
    pixels = truth + sigma * torch.randn(1, 40, 48)
    return NoisyBlock(
        pixels, torch.tensor([sigma]), torch.ones(40, 48, dtype=torch.bool), correlation_length=correlation_length
    )


def few(**changes: object) -> IddpParams:
    return IDDP.settings("fast", {"width": 6, "steps": 40, **changes})


def end_of(noisy: NoisyBlock, params: IddpParams) -> tuple[int, StopReason]:
    """The last step of a fit, and why it ended."""
    steps, done = fit(network(params, 1, (40, 48)), noisy, params, False), 0
    while True:
        try:
            done = next(steps).done
        except StopIteration as end:
            return done, end.value


def gradients(net: UNet) -> torch.Tensor:
    return torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in net.parameters()])


def test_the_first_pass_learns_from_the_blurred_image_alone() -> None:
    net, crops = UNet(small_config(6, 2), 1), torch.randn(2, 1, 16, 16)
    flips = random_signs(crops, torch.Generator().manual_seed(0))
    _, again, _ = losses(net, crops, flips, few())
    torch.autograd.backward(again)
    ours = gradients(net)
    net.zero_grad(set_to_none=True)
    with torch.no_grad():
        first = net(crops)
    torch.autograd.backward((net(first + flips * (crops - first)) - first).square().mean())
    assert ours.any()
    assert torch.allclose(ours, gradients(net), atol=1e-6)


def test_without_stopping_the_gradient_there_is_more() -> None:
    net, crops = UNet(small_config(6, 2), 1), torch.randn(2, 1, 16, 16)
    flips = random_signs(crops, torch.Generator().manual_seed(0))
    found = []
    for stop in (True, False):
        net.zero_grad(set_to_none=True)
        torch.autograd.backward(losses(net, crops, flips, few(stop_gradient=stop))[1])
        found.append(gradients(net))
    assert not torch.allclose(*found)


def test_signs_are_fair_and_drawn_for_each_element() -> None:
    flips = random_signs(torch.zeros(4, 3, 100, 100), torch.Generator().manual_seed(0))
    assert set(flips.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(flips.mean())) < 0.01
    assert abs(float((flips[:, 0] * flips[:, 1]).mean())) < 0.02
    again = random_signs(torch.zeros(4, 3, 100, 100), torch.Generator().manual_seed(0))
    assert torch.equal(flips, again)


def test_the_residual_is_that_of_the_noisy_image() -> None:
    net, crops = UNet(small_config(6, 2), 1), torch.randn(2, 1, 16, 16)
    residual = losses(net, crops, random_signs(crops, torch.Generator()), few())[2]
    assert torch.allclose(residual, crops - net(crops), atol=1e-6)
    assert not residual.requires_grad


def test_clamping_keeps_the_renoised_image_within_the_range() -> None:
    inputs: list[torch.Tensor] = []
    net, crops = UNet(small_config(6, 2), 1), torch.rand(2, 1, 16, 16)
    net.register_forward_pre_hook(lambda _, values: inputs.append(values[0]))
    flips = random_signs(crops, torch.Generator().manual_seed(0))
    for clamp in (False, True):
        losses(net, crops, flips, few(clamp=clamp))
    free, kept = inputs[1], inputs[3]
    assert float(free.min()) < float(crops.min())
    assert float(kept.min()) >= float(crops.min())
    assert float(kept.max()) <= float(crops.max())


@pytest.mark.parametrize("space", [(12, 9), (2, 1), (3, 7, 8)])
def test_the_blur_keeps_what_is_constant_and_the_mean_of_noise(space: tuple[int, ...]) -> None:
    assert torch.allclose(box_blur(torch.full((2, 1, *space), 3.0), 5), torch.tensor(3.0))
    point = torch.zeros(1, 1, 11, 11)
    point[..., 5, 5] = 1
    assert torch.allclose(box_blur(point, 5)[..., 3:8, 3:8], torch.tensor(1 / 25))
    assert float(box_blur(point, 5).sum()) == pytest.approx(1)


def test_a_residual_at_the_noise_level_stops_the_fit() -> None:
    done, stop = end_of(noisy_of(), few(stop_at=3.0, steps=500))
    assert "noise level" in stop.text
    assert done < 400


def test_the_best_network_comes_back_when_the_fit_leaves_it() -> None:
    params = few()
    net = network(params, 1, (40, 48))
    best = BestNetwork(net)
    for step, residual in ((50, 1.3), (51, 1.0), (52, 1.0)):
        best.update(step, torch.tensor(residual))
    for step in range(53, 150):
        best.update(step, torch.tensor(1.02))
    kept = torch.cat([p.flatten().clone() for p in net.ema.parameters()])
    with torch.no_grad():
        for weight in net.ema.parameters():
            weight.add_(1)
    best.load_best()  # hardly worse: the last is kept
    assert not torch.equal(kept, torch.cat([p.flatten() for p in net.ema.parameters()]))
    for step in range(150, 250):
        best.update(step, torch.tensor(1.5))
    best.load_best()
    assert torch.equal(kept, torch.cat([p.flatten() for p in net.ema.parameters()]))


def test_noise_is_removed_and_brightness_kept() -> None:
    noisy, params = noisy_of(), few(steps=100, width=12)
    net = network(params, 1, (40, 48))
    for _ in fit(net, noisy, params, False):
        pass
    with torch.no_grad():
        restored = restore(net, noisy, params)
    truth = torch.sin(torch.arange(48) / 4).expand(1, 40, 48)
    assert float((restored - truth).square().mean().sqrt()) < 0.5 * 0.5
    assert float(restored.mean()) == pytest.approx(float(noisy.pixels.mean()), abs=1e-5)


def test_correlated_noise_gives_a_warning() -> None:
    assert not end_of(noisy_of(), few(steps=1))[1].warning
    stop = end_of(noisy_of(correlation_length=1.8), few(steps=1))[1]
    assert stop.warning
    assert "correlated" in stop.text


def test_the_paper_preset_is_the_published_network() -> None:
    params = IDDP.settings("paper")
    net = network(params, 1, (64, 64))
    assert sum(p.numel() for p in net.model.parameters()) == 840_193
    assert (params.blur_weight, params.renoised_weight, params.steps, params.batch) == (0.001, 1.0, 2_000_000, 1)


def test_a_fit_that_diverges_returns_to_the_best_network() -> None:
    net = network(few(), 1, (40, 48))
    best = BestNetwork(net)
    best.update(50, torch.tensor(1.0))
    kept = torch.cat([p.flatten().clone() for p in net.ema.parameters()])
    with torch.no_grad():
        for weight in net.ema.parameters():
            weight.fill_(torch.nan)
    best.update(51, torch.tensor(torch.nan))
    best.load_best()
    assert torch.equal(kept, torch.cat([p.flatten() for p in net.ema.parameters()]))

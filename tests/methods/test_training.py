"""Pieces of all fits of U-Nets: residuals in noise variances, devices, and the warnings at the end."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch

from napari_pristine.fits.unets import check_source, noise_variances
from napari_pristine.methods.blind2unblind import BLIND2UNBLIND
from napari_pristine.methods.iddp import IDDP
from napari_pristine.methods.inr import INR
from napari_pristine.methods.method import Method, NoisyBlock, StopReason

SMALL = {"steps": 2, "side": 16, "batch": 2, "width": 6, "levels": 1}
LEARNERS = pytest.mark.parametrize("method", [BLIND2UNBLIND, IDDP], ids=lambda method: method.key)


def noise(channels: int, space: tuple[int, ...], sigma: tuple[float, ...]) -> NoisyBlock:
    generator = torch.Generator().manual_seed(0)
    level = torch.tensor(sigma)
    pixels = torch.randn((channels, *space), generator=generator) * level.reshape(-1, *[1] * len(space))
    return NoisyBlock(pixels, level, torch.ones(space, dtype=torch.bool), axes="ZYX"[-len(space) :])


def residuals(method: Method[Any, Any], noisy: NoisyBlock, changes: dict[str, Any]) -> list[float]:
    params = method.settings("fast", changes)
    torch.manual_seed(0)
    net = method.network(params, len(noisy.pixels), tuple(noisy.valid.shape))
    return [float(step.residual) for step in method.fit(net, noisy, params, False)]


@LEARNERS
@pytest.mark.parametrize("planes", [3, 5])
def test_channels_of_stacks_have_noise_levels_of_their_own(method: Method[Any, Any], planes: int) -> None:
    """As many planes as channels, and not."""
    noisy = noise(3, (planes, 20, 24), (1.0, 1.0, 100.0))
    params = method.settings("fast", {**SMALL, "steps": 1})
    net = method.network(params, 3, noisy.valid.shape)
    with torch.no_grad():
        for weight in net.parameters():
            weight.zero_()  # says 0, so that the residual is the noise
    *_, step = method.fit(net, noisy, params, False)
    assert float(step.residual) == pytest.approx(1, abs=0.5)


def test_the_residual_is_measured_channel_by_channel() -> None:
    for space in ((3, 20, 24), (20, 24)):
        noisy = noise(3, space, (0.5, 1.0, 4.0))
        square = (noisy.pixels[None] ** 2 / noise_variances(noisy, len(space))).mean(dim=[0, *range(2, len(space) + 2)])
        assert square.tolist() == pytest.approx([1, 1, 1], abs=0.2)


@LEARNERS
def test_all_tensors_are_where_the_pixels_are(method: Method[Any, Any]) -> None:
    """On no device at all, which minds tensors of another as any GPU does."""
    noisy = noise(2, (40, 48), (1.0, 1.0))
    noisy = replace(noisy, **{name: getattr(noisy, name).to("meta") for name in ("pixels", "sigma", "valid")})
    params = method.settings("fast", SMALL | ({"keep_best": False} if method is IDDP else {}))
    net = method.network(params, 2, (40, 48)).to("meta")
    steps = islice(method.fit(net, noisy, params, False), 2)  # the end asks for numbers, and there are none
    assert {step.residual.device.type for step in steps} == {"meta"}
    net.eval()
    with torch.no_grad():
        assert method.restore(net, noisy, params).device.type == "meta"


@pytest.mark.parametrize("method", [BLIND2UNBLIND, IDDP, INR], ids=lambda method: method.key)
def test_channels_without_noise_do_not_spoil_the_residual(method: Method[Any, Any]) -> None:
    rgba = noise(4, (40, 48), (1.0, 1.0, 1.0, 1e-6))
    changes = {"steps": 2, "patch": 48, "batch": 64} if method is INR else SMALL
    assert all(0.1 < residual < 100 for residual in residuals(method, rgba, changes))


def test_channels_without_noise_do_not_change_the_mean() -> None:
    rgb = noise(3, (40, 48), (0.5, 1.0, 2.0))
    rgba = replace(rgb, pixels=torch.cat([rgb.pixels, torch.zeros(1, 40, 48)]), sigma=torch.tensor([0.5, 1, 2, 1e-6]))
    means = [float((noisy.pixels.square() / noise_variances(noisy, 2)).mean()) for noisy in (rgb, rgba)]
    assert means[0] == pytest.approx(means[1])
    quiet = noise(1, (8, 8), (1e-6,))
    assert noise_variances(quiet, 2).isfinite().all()


def test_gaps_give_a_warning() -> None:
    noisy = noise(1, (40, 50), (1.0,))

    def end(missing: int, correlation_length: float = 1.0) -> StopReason | None:
        valid = noisy.valid.clone()
        valid.view(-1)[:missing] = False
        return check_source("IDDP", replace(noisy, valid=valid, correlation_length=correlation_length))

    assert end(0) is end(1) is None
    assert end(100).warning
    assert "5.0% of the pixels are without a value" in end(100).text
    assert "use inr or linr" in end(100).text
    assert "correlated" in end(100, 1.8).text
    assert "without a value" in end(100, 1.8).text

"""The U-Nets have the published layers, and work for any size in two and three dimensions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from napari_pristine.nets.unet import (
    UNet,
    UNetConfig,
    blind2unblind_config,
    noise2grad_config,
    noise2noise_config,
    small_config,
)

CONFIGS = {
    "noise2noise": noise2noise_config(1),
    "blind2unblind": blind2unblind_config(),
    "noise2grad": noise2grad_config(),
    "small": small_config(),
}
ALL = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("config", "channels", "count"),
    [
        (noise2noise_config(3), 3, 991_203),
        (noise2noise_config(1), 1, 988_609),
        (noise2noise_config(1, dropout=0.5, dilation=2), 1, 988_609),
        (blind2unblind_config(), 1, 1_099_585),
        (noise2grad_config(), 1, 840_193),
        (noise2grad_config(), 3, 841_347),
    ],
)
def test_they_have_the_size_of_the_papers(config: UNetConfig, channels: int, count: int) -> None:
    assert sum(p.numel() for p in UNet(config, channels).parameters()) == count


@ALL
@pytest.mark.parametrize("space", [(1, 1), (3, 50), (33, 64), (1, 5, 7), (4, 17, 16)])
def test_any_size_is_kept(config: UNetConfig, space: tuple[int, ...]) -> None:
    net = UNet(config, 2, len(space))
    with torch.no_grad():
        values = net(torch.randn(2, 2, *space))
    assert values.shape == (2, 2, *space)
    assert torch.isfinite(values).all()


@ALL
@pytest.mark.parametrize("space", [(21, 64), (30, 3), (3, 40, 9)])
def test_borders_are_mirrored(config: UNetConfig, space: tuple[int, ...]) -> None:
    net, pixels = UNet(config, 1, len(space)), np.random.default_rng(0).normal(size=space).astype(np.float32)
    padding = [(0, -n % 2 ** len(config.down)) for n in space[-2:]]
    wide = np.pad(pixels, [(0, 0)] * (len(space) - 2) + padding, "reflect")
    with torch.no_grad():
        part, whole = (net(torch.from_numpy(p)[None, None]) for p in (pixels, wide))
    assert torch.allclose(part, whole[..., : space[-2], : space[-1]], atol=1e-5)


@ALL
def test_nothing_is_pooled_along_thin_stacks(config: UNetConfig) -> None:
    net = UNet(config, 1, 3)
    with torch.no_grad():
        assert net(torch.randn(1, 1, 3, 32, 32)).shape == (1, 1, 3, 32, 32)
    shapes = {tuple(layer.kernel_size) for layer in net.modules() if isinstance(layer, nn.Conv3d)}
    assert shapes <= {(3, 3, 3), (1, 1, 1)}


def test_weights_start_as_published() -> None:
    configs = (noise2noise_config(1), noise2grad_config(), blind2unblind_config())
    he, paper, small = (UNet(config, 1) for config in configs)
    inner = he.up[0][0]
    assert float(inner.weight.detach().std()) == pytest.approx((2 / (96 * 9)) ** 0.5, rel=0.02)
    assert float(he.last.weight.detach().std()) == pytest.approx((1 / (32 * 9)) ** 0.5, rel=0.1)
    assert float(paper.up[0][0].weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    for net in (he, paper):
        assert all(not p.any() for name, p in net.named_parameters() if name.endswith("bias"))
    assert any(p.any() for name, p in small.named_parameters() if name.endswith("bias"))


def test_all_convolutions_but_the_last_are_dilated() -> None:
    net = UNet(noise2noise_config(1, dilation=2), 1)
    *rest, last = (layer for layer in net.modules() if isinstance(layer, nn.Conv2d))
    assert last is net.last
    assert last.dilation == (1, 1)
    assert {layer.dilation for layer in rest} == {(2, 2)}


def test_dropout_depends_on_the_generator_alone() -> None:
    net, pixels = UNet(noise2noise_config(1, dropout=0.3), 1), torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        first, again, other = (net(pixels, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        plain = net(pixels)
        assert torch.equal(plain, net(pixels))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, plain)

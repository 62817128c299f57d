"""The optimiser step that all methods share: learning rates, averaged weights, clipping, precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from napari_pristine.fits.optimisation import Optimisation, cosine_decay, ema_decay, halvings, linear_decay
from napari_pristine.methods import METHODS
from napari_pristine.methods.method import Method, NoisyBlock
from napari_pristine.nets.ema import EmaModel
from napari_pristine.nets.optimiser import Adam


def optimisation_of(net: EmaModel[Any], **changes: Any) -> Optimisation:
    options: dict[str, Any] = {"schedule": lambda _: 1.0, "averaging": 0.9, **changes}
    return Optimisation(net, torch.optim.SGD(net.model.parameters(), lr=1.0), **options)


def net_with_gradients(value: float) -> EmaModel[nn.Linear]:
    net = EmaModel(nn.Linear(3, 1, bias=False))
    net.model.weight.grad = torch.full((1, 3), value)
    return net


def test_schedules() -> None:
    linear, halved, to_zero = linear_decay(0.5), halvings(4), linear_decay(0.5, final=0)
    assert [linear(t) for t in (0, 0.5, 0.75, 1)] == pytest.approx([1, 1, 0.51, 0.02])
    assert [to_zero(t) for t in (0, 0.5, 0.75, 1)] == pytest.approx([1, 1, 0.5, 0])
    assert [linear_decay(0)(t) for t in (0, 0.5, 1)] == [1, 1, 1]
    assert [halved(t) for t in (0, 0.19, 0.21, 0.5, 0.81, 1)] == pytest.approx([1, 1, 1 / 2, 1 / 4, 1 / 16, 1 / 16])
    assert [cosine_decay(t) for t in (0, 0.25, 0.5, 1)] == pytest.approx([1, 0.8536, 0.5, 0], abs=1e-4)


def test_the_schedule_multiplies_the_rate_of_each_group_and_optimiser() -> None:
    net = EmaModel(nn.Linear(3, 1))
    first = torch.optim.Adam([{"params": [net.model.weight], "lr": 0.2}])
    second = torch.optim.SGD([net.model.bias], lr=0.4)
    net.model(torch.ones(3)).sum().backward()
    optimisation = Optimisation(net, [first, second], schedule=linear_decay(1.0, final=0), averaging=0)
    for progress in (0.25, 0.5):  # not of each other's result
        optimisation.step(progress)
    assert [o.param_groups[0]["lr"] for o in (first, second)] == pytest.approx([0.1, 0.2])
    optimisation.zero_grad()
    assert all(p.grad is None for p in net.model.parameters())


def test_the_average_is_short_at_first_and_counts_its_own_steps() -> None:
    assert [ema_decay(0.99, step) for step in (1, 10, 100, 10_000)] == pytest.approx([1 / 11, 1 / 2, 10 / 11, 0.99])
    net = net_with_gradients(1.0)
    expected, optimisation = net.ema.weight.clone(), optimisation_of(net, averaging=0.99)
    for step in (1, 2, 3):
        optimisation.step(0.0)
        expected = expected.lerp(net.model.weight.detach(), 1 - step / (step + 10))
    assert torch.allclose(net.ema.weight, expected)


def test_gradients_are_clipped_if_asked_for() -> None:
    for limit, length in ((None, 3.0), (0.5, 0.5), (10.0, 3.0)):
        net = net_with_gradients(3 / 3**0.5)
        before = net.model.weight.detach().clone()
        optimisation_of(net, max_norm=limit).step(0.0)
        assert float((net.model.weight.detach() - before).norm()) == pytest.approx(length, rel=1e-4)


def test_precision_is_mixed_on_cuda_alone_and_only_if_asked_for() -> None:
    net = EmaModel(nn.Linear(3, 1))
    with optimisation_of(net, mixed_precision=True).autocast():
        assert net.model(torch.ones(3)).dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_precision_on_cuda() -> None:
    net = EmaModel(nn.Linear(3, 1)).cuda()
    for mixed, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        with optimisation_of(net, mixed_precision=mixed).autocast():
            assert net.model(torch.ones(3, device="cuda")).dtype == dtype


def learning_rates(method: Method[Any, Any], monkeypatch: pytest.MonkeyPatch, **settings: Any) -> list[list[float]]:
    """Learning rates of each of the optimisers in a fit, as fractions of the first."""
    found: dict[int, list[float]] = {}
    step = Adam.step

    def recorded(adam: Adam, *args: Any) -> Any:
        found.setdefault(id(adam), []).append(float(adam.param_groups[0]["lr"]) / adam.defaults["lr"])
        return step(adam, *args)

    monkeypatch.setattr(Adam, "step", recorded)
    generator = torch.Generator().manual_seed(0)
    block = NoisyBlock(torch.randn(1, 32, 32, generator=generator), torch.ones(1), torch.ones(32, 32, dtype=torch.bool))
    params = method.settings("paper", settings)
    for _ in method.fit(method.network(params, 1, (32, 32)), block, params, False):
        pass
    return list(found.values())


SMALL = {"steps": 4, "width": 4, "levels": 1}


@pytest.mark.parametrize(
    ("key", "settings", "expected"),
    [
        ("inr", {"steps": 4, "stop_at": 0, "width": 8}, [[1, 1, 1, 1]]),
        ("sampling", SMALL, [[1, 1, 1, 1], [0.8536, 0.5, 0.1464, 0]]),  # the cosine is the network's alone
        ("iddp", {**SMALL, "side": 16}, [[1, 1, 1, 0.5]]),  # half the steps, then linearly to 0 after the last
        ("blind2unblind", {**SMALL, "steps": 5, "side": 16}, [[1, 1 / 2, 1 / 4, 1 / 8, 1 / 16]]),
        ("linr", {"steps": 4, "width": 8}, [[1, 1, 1, 1]]),
    ],
)
def test_learning_rates_of_the_papers(
    key: str, settings: Mapping[str, Any], expected: list[list[float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = learning_rates(METHODS[key], monkeypatch, **settings)
    assert len(found) == len(expected)
    for rates, right in zip(found, expected, strict=True):
        assert rates == pytest.approx(right, abs=1e-4)


def test_the_rate_of_iddp_falls_to_zero_as_published() -> None:
    params = METHODS["iddp"].settings("paper")
    schedule = linear_decay(params.cooling, params.final_rate)
    assert [schedule(t) for t in (0, 0.5, 0.75, 1)] == pytest.approx([1, 1, 0.5, 0])

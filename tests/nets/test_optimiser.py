"""Adam takes the steps of torch's, and neither loads the compiler nor loses its state."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from napari_pristine.methods import METHODS
from napari_pristine.nets.muon import Muon
from napari_pristine.nets.optimiser import Adam, Optimiser

LOADS = """
import sys
import numpy as np
from napari_pristine import restore
restore(np.random.default_rng(0).poisson(20, (48, 48)).astype("u2"), sys.argv[1], preset="fast", settings={"steps": 2})
print("torch._dynamo" in sys.modules, "triton" in sys.modules)
"""


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 2))


def train(model: nn.Module, optimiser: Optimiser | torch.optim.Optimizer, steps: int) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimiser.zero_grad()
        model(torch.randn(16, 4, generator=generator)).square().mean().backward()
        optimiser.step()


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_takes_the_steps_of_torch(decay: float) -> None:
    ours, theirs = net(), net()
    groups = [[{"params": part.parameters(), "lr": rate} for part, rate in zip((m[0], m[2]), (1e-2, 1e-3), strict=True)]
              for m in (ours, theirs)]  # fmt: skip
    train(ours, Adam(groups[0], betas=(0.9, 0.99), weight_decay=decay), 30)
    train(theirs, torch.optim.Adam(groups[1], betas=(0.9, 0.99), weight_decay=decay), 30)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_parameters_without_gradients_stay() -> None:
    model = net()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    train(model, Adam(model.parameters()), 3)
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_training_goes_on_from_a_saved_state(kind: str) -> None:
    def make(model: nn.Module) -> Optimiser:
        weights = [weight for weight in model.parameters() if weight.ndim == 2]
        return Adam(model.parameters(), 1e-2) if kind == "adam" else Muon(weights, 1e-2)

    first, second = net(), net()
    one, two = make(first), make(second)
    train(first, one, 5)
    train(second, two, 5)
    other = make(second)
    other.load_state_dict(two.state_dict())
    train(first, one, 5)
    train(second, other, 5)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("method", [key for key, method in METHODS.items() if not method.candidates])
def test_no_fit_loads_the_compiler(method: str) -> None:
    said = subprocess.run([sys.executable, "-c", LOADS, method], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["False", "False"]

"""SIRENs, averaged weights, Muon and fields: as published, and side by side as each would be alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_pristine.image.tiling import Tiling
from napari_pristine.nets.ema import EmaModel
from napari_pristine.nets.field import Field, blend, combine_fields
from napari_pristine.nets.muon import Muon
from napari_pristine.nets.siren import OMEGA, Siren


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def grid(side: int) -> Tensor:
    """All points of a square, `(side², 2)`."""
    line = torch.linspace(-1, 1, side)
    return torch.cartesian_prod(line, line)


def size(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def largest(values: Tensor) -> float:
    return float(values.detach().abs().max())


@pytest.mark.parametrize(
    ("width", "layers", "channels", "count"), [(256, 6, 1, 329_985), (64, 6, 1, 21_057), (256, 7, 3, 396_291)]
)
def test_siren_has_the_size_of_the_papers(width: int, layers: int, channels: int, count: int) -> None:
    assert size(Siren(2, channels, width, layers)) == count
    assert size(Siren(2, channels, width, layers, networks=3)) == 3 * count


def test_siren_starts_as_published() -> None:
    siren = Siren(ndim=2, channels=1, width=256, layers=6)
    first, *rest = siren.weights
    assert largest(first) == pytest.approx(1 / 2, rel=0.02)
    for weight in rest:
        assert largest(weight) == pytest.approx(math.sqrt(6 / 256) / OMEGA, rel=0.02)
        assert float(weight.detach().mean()) == pytest.approx(0, abs=0.1 * largest(weight))
    for weight, bias in zip(siren.weights, siren.biases, strict=True):
        fan_in = weight.shape[1]
        assert largest(bias) <= 1 / math.sqrt(fan_in)
    assert largest(siren.biases[1]) == pytest.approx(1 / 16, rel=0.05)


def test_inputs_of_each_sine_have_unit_standard_deviation() -> None:
    siren = Siren(ndim=2, channels=1, width=256, layers=6)
    values = grid(48)
    for layer, (weight, bias) in enumerate(list(zip(siren.weights, siren.biases, strict=True))[:-1]):
        entering = OMEGA * values @ weight[0]
        if layer:  # theorem 1.8 of the paper
            assert float(entering.detach().square().mean()) ** 0.5 == pytest.approx(1, abs=0.15)
        else:
            assert largest(entering) <= OMEGA
        values = torch.sin(entering + OMEGA * bias[0])


@pytest.mark.parametrize("frequency", [3.0, 40.0])
def test_frequency_bounds_the_first_layer_and_phases_are_random(frequency: float) -> None:
    siren = Siren(ndim=3, channels=1, width=512, layers=2, frequency=frequency, random_phase=True)
    assert OMEGA * largest(siren.weights[0]) == pytest.approx(frequency, rel=0.02)
    phases = OMEGA * siren.biases[0].detach()
    assert largest(phases) == pytest.approx(math.pi, rel=0.02)
    assert float(phases.abs().mean()) == pytest.approx(math.pi / 2, rel=0.1)


@pytest.mark.parametrize(("ndim", "channels", "copies"), [(2, 1, 1), (2, 3, 4), (3, 2, 2)])
def test_siren_equals_a_plain_loop_of_layers_and_sines(ndim: int, channels: int, copies: int) -> None:
    siren = Siren(ndim, channels, width=32, layers=3, networks=copies)
    at = torch.rand(50, ndim) * 2 - 1
    found = siren(at)
    assert found.shape == (copies, 50, channels)
    layers = list(zip(siren.weights, siren.biases, strict=True))
    for copy in range(copies):
        values = at
        for weight, bias in layers[:-1]:
            values = torch.sin(OMEGA * nn.functional.linear(values, weight[copy].T, bias[copy, 0]))
        weight, bias = layers[-1]
        expected = nn.functional.linear(values, weight[copy].T, bias[copy, 0])
        assert torch.allclose(found[copy], expected, atol=1e-4)


def test_networks_side_by_side_are_independent() -> None:
    siren = Siren(2, 1, width=16, layers=3, networks=3)
    values = siren(grid(5))
    assert not torch.allclose(values[0], values[1])
    values[1].square().sum().backward()
    for parameter in siren.parameters():
        assert parameter.grad is not None
        assert parameter.grad[1].abs().sum() > 0
        assert parameter.grad[[0, 2]].abs().sum() == 0


def test_the_seed_alone_decides_the_weights() -> None:
    torch.manual_seed(5)
    one = Siren(2, 1, 8, 2)
    torch.manual_seed(5)
    other = Siren(2, 1, 8, 2)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_the_average_follows_the_trained_weights() -> None:
    averaged = EmaModel(nn.Linear(2, 1))
    before = averaged.ema.weight.clone()
    with torch.no_grad():
        averaged.model.weight.add_(1)
    model = averaged.model.weight.clone()
    averaged.update(0.9)
    assert torch.allclose(averaged.ema.weight, 0.9 * before + 0.1 * model)
    assert torch.equal(averaged.model.weight, model)
    averaged.update(0.0)
    assert torch.equal(averaged.ema.weight, model)
    averaged.model.weight.data.add_(1)  # a copy, not the same memory
    assert torch.equal(averaged.ema.weight, model)


def test_training_uses_the_model_and_evaluation_its_average() -> None:
    averaged = EmaModel(nn.Linear(2, 1))
    averaged.model.weight.data.add_(1)
    at = torch.ones(1, 2)
    assert torch.equal(averaged.train()(at), averaged.model(at))
    assert torch.equal(averaged.eval()(at), averaged.ema(at))
    averaged.train()(at).sum().backward()
    assert averaged.model.weight.grad is not None
    assert not any(p.requires_grad for p in averaged.ema.parameters())


@pytest.mark.parametrize("shape", [(24, 48), (48, 24), (8, 64)])
@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
def test_muon_moves_as_far_in_every_direction(shape: tuple[int, int], scale: float) -> None:
    weight = nn.Parameter(torch.zeros(3, *shape))
    weight.grad = scale * torch.randn(3, *shape)
    Muon([weight], lr=0.1).step()
    step = -weight.detach() / 0.1
    std = torch.linalg.svdvals(step)
    assert std.min() > 0.5
    assert std.max() < 1.5
    left, _, right = torch.linalg.svd(weight.grad, full_matrices=False)
    nearest = left @ right
    alike = (step * nearest).sum((1, 2)) / (step.norm(dim=(1, 2)) * nearest.norm(dim=(1, 2)))
    assert alike.min() > 0.95


def test_muon_updates_each_matrix_as_if_it_were_alone() -> None:
    together = nn.Parameter(torch.randn(2, 8, 8))
    alone = nn.Parameter(together.detach()[:1].clone())
    optimisers = [Muon([together], lr=0.1), Muon([alone], lr=0.1)]
    for _ in range(3):
        together.grad = torch.randn(2, 8, 8) * torch.tensor([1.0, 100.0])[:, None, None]
        alone.grad = together.grad[:1].clone()
        for optimiser in optimisers:
            optimiser.step()
    assert torch.allclose(together[:1], alone, atol=1e-5)


def test_muon_has_momentum() -> None:
    weight = nn.Parameter(torch.zeros(1, 6, 6))
    muon = Muon([weight], lr=1.0, momentum=0.95)
    gradient = torch.randn(1, 6, 6)
    for _ in range(20):
        weight.grad = gradient.clone()
        muon.step()
    before = weight.detach().clone()
    weight.grad = torch.zeros_like(gradient)
    muon.step()
    assert (-(weight.detach() - before) * gradient).sum() > 0


def test_muon_does_nothing_without_gradients() -> None:
    weight = nn.Parameter(torch.ones(2, 4, 4))
    weight.grad = torch.zeros_like(weight)
    Muon([weight], lr=1.0).step()
    assert torch.equal(weight, torch.ones(2, 4, 4))


@pytest.mark.parametrize("shape", [(20, 33), (4, 18, 25)])
def test_a_field_renders_its_values_at_the_pixels(shape: tuple[int, ...]) -> None:
    patches = Tiling.of(shape, 12, 4)
    field = Field(patches, channels=2, width=8, layers=2, frequency=0.3, fits=3).eval()
    with torch.no_grad():
        values = field(field.positions)  # (networks, *side, C)
    fits = values.reshape(3, len(patches.corners), *patches.side, 2).mean(dim=0)
    expected = patches.blend(list(fits.movedim(-1, 1).numpy()))
    assert torch.allclose(field.render(), torch.from_numpy(expected), atol=1e-5)
    assert field.render().shape == (2, *shape)


@pytest.mark.parametrize("upsampling", [(2, 3), (1, 1)])
def test_a_finer_grid_has_the_same_borders(upsampling: tuple[int, int]) -> None:
    field = Field(Tiling.of((20, 33), 12, 4), channels=1, width=8, layers=2, frequency=0.3).eval()
    fine = field.render(upsampling)
    assert fine.shape == (1, 20 * upsampling[0], 33 * upsampling[1])
    # a slowly varying function is about linear within a pixel
    coarse = fine.reshape(1, 20, upsampling[0], 33, upsampling[1]).mean(dim=(2, 4))
    assert torch.allclose(coarse, field.render(), atol=0.05)


@pytest.mark.parametrize("shape", [(20, 33), (6, 18, 25)])
@pytest.mark.parametrize("factor", [1, 2])
def test_blending_tensors_is_blending_arrays_to_the_last_bit(shape: tuple[int, ...], factor: int) -> None:
    tiling = Tiling.of(shape, 12, 4)
    tiles = [torch.randn(2, *(factor * n for n in tiling.side)) for _ in tiling.slices]
    blended = blend(tiling, tiles)
    assert blended.dtype == torch.float32
    np.testing.assert_array_equal(blended.numpy(), tiling.blend([tile.numpy() for tile in tiles]))
    assert torch.equal(blend(tiling, [torch.stack([tile, -tile]) for tile in tiles]), torch.stack([blended, -blended]))


def test_rendering_stays_on_the_device() -> None:
    """On torch's device without data, which refuses tensors of others as any GPU does."""
    field = Field(Tiling.of((20, 33), 12, 4), channels=1, width=8, layers=2, frequency=0.3).to("meta")
    assert field.render((2, 2)).device.type == "meta"


def test_a_combined_field_trains_the_fields_that_it_is_made_of() -> None:
    fields = [Field(Tiling.of((20, 20), 12, 4), 1, width=8, layers=2, frequency=0.3) for _ in range(2)]
    alone = [field(field.positions[None]) for field in fields]
    combined = combine_fields(fields)
    assert torch.allclose(combined(combined.positions[None]), torch.cat(alone), atol=1e-5)
    with torch.no_grad():
        for weight in combined.parameters():
            weight.zero_()
    assert not any(weight.any() for field in fields for weight in field.parameters())

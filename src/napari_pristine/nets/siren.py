"""SIREN: a function of position with sine activations (Sitzmann et al. 2020); one network, or many side by side."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

OMEGA = 30.0
"""Factor inside the sines (SIREN, section 3.2)."""


class Siren(nn.Module):
    """Independent functions from `ndim` coordinates to `channels` values.

    All networks are evaluated at the same coordinates in one batched product.
    The weights of one layer are one tensor `(networks, fan_in, fan_out)`.

    Args:
        ndim: Number of coordinates.
        channels: Number of values.
        width: Units of each sine layer.
        layers: Number of sine layers; a linear layer follows.
        networks: Number of functions.
        frequency: Highest initial angular frequency along each coordinate, in radians per unit of the coordinate.
        random_phase: Draw the first phases from the whole circle; else from ±omega/√ndim, as SIREN does.
    """

    def __init__(
        self,
        ndim: int,
        channels: int,
        width: int,
        layers: int,
        networks: int = 1,
        frequency: float = OMEGA / 2,
        *,
        random_phase: bool = False,
    ) -> None:
        super().__init__()
        fans = [ndim, *[width] * layers, channels]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(networks, fan_in, fan_out)) for fan_in, fan_out in pairwise(fans)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.empty(networks, 1, fan_out)) for fan_out in fans[1:])
        with torch.no_grad():
            for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
                fan_in = weight.shape[1]
                # hidden layers: U(±√(6/n)/ω) gives pre-activations a standard deviation of 1 (theorem 1.8)
                weight.uniform_(-1, 1).mul_(math.sqrt(6 / fan_in) / OMEGA if layer else frequency / OMEGA)
                bias.uniform_(-1, 1).mul_(math.pi / OMEGA if random_phase and not layer else 1 / math.sqrt(fan_in))

    @property
    def networks(self) -> int:
        """Number of functions side by side."""
        return int(self.weights[0].shape[0])

    def forward(self, coordinates: Tensor) -> Tensor:
        """Values `(networks, points, channels)` at coordinates `(points, ndim)`."""
        values = coordinates.expand(self.networks, *coordinates.shape)
        for weight, bias in list(zip(self.weights, self.biases, strict=True))[:-1]:
            # omega is multiplied into the small tensors: one pass less over the large ones
            values = torch.sin(torch.baddbmm(OMEGA * bias, values, OMEGA * weight))
        return torch.baddbmm(self.biases[-1], values, self.weights[-1])

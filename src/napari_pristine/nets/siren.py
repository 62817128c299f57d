"""SIREN: a function of position with sines for activations (Sitzmann et al. 2020), one or many side by side."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

OMEGA = 30.0
"""Factor inside the sines (SIREN, section 3.2)."""


class Siren(nn.Module):
    """`copies` independent functions from `ndim` coordinates to `channels` values.

    All copies are evaluated at the same coordinates in one batched product.
    The weights of one layer are one tensor `(copies, fan_in, fan_out)`.

    Args:
        ndim: Number of coordinates.
        channels: Number of values.
        width: Units of each sine layer.
        layers: Number of sine layers; a linear layer follows.
        copies: Number of functions.
        frequency: Highest initial angular frequency along each coordinate, in radians per unit of the coordinate.
        scatter: Draw the first phases from the whole circle; else from ±1/√ndim times omega, as SIREN does.
    """

    def __init__(
        self,
        ndim: int,
        channels: int,
        width: int,
        layers: int,
        copies: int = 1,
        frequency: float = OMEGA / 2,
        *,
        scatter: bool = False,
    ) -> None:
        super().__init__()
        fans = [ndim, *[width] * layers, channels]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(copies, fan_in, fan_out)) for fan_in, fan_out in pairwise(fans)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.empty(copies, 1, fan_out)) for fan_out in fans[1:])
        self._initialise(frequency, scatter)

    @torch.no_grad()
    def _initialise(self, frequency: float, scatter: bool) -> None:
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            fan_in = weight.shape[1]
            # hidden layers: U(±√(6/n)/ω) keeps the pre-activations at unit spread (theorem 1.8 of the paper)
            weight.uniform_(-1, 1).mul_(math.sqrt(6 / fan_in) / OMEGA if layer else frequency / OMEGA)
            bias.uniform_(-1, 1).mul_(math.pi / OMEGA if scatter and not layer else 1 / math.sqrt(fan_in))

    @property
    def copies(self) -> int:
        """Number of functions side by side."""
        return int(self.weights[0].shape[0])

    def forward(self, at: Tensor) -> Tensor:
        """Values `(copies, points, channels)` at coordinates `(points, ndim)`."""
        values = at.expand(self.copies, *at.shape)
        for weight, bias in list(zip(self.weights, self.biases, strict=True))[:-1]:
            # omega goes into the small tensors: one pass less over the large ones
            values = torch.sin(torch.baddbmm(OMEGA * bias, values, OMEGA * weight))
        return torch.baddbmm(self.biases[-1], values, self.weights[-1])

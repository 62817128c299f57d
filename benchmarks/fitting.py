"""One fit, driven step by step: what `run` does with a picture, open to a look at any step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_pristine.image.noise import Noise, measure_noise
from napari_pristine.jobs.block import Block, make_block
from napari_pristine.methods.method import Fit, Method, MethodParams, NoisyBlock

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trial:
    """A picture that is ready to be fitted; it must fit into one tile."""

    method: Method[Any, Any]
    params: MethodParams
    block: Block
    noisy: NoisyBlock
    seed: int

    @classmethod
    def of(
        cls,
        method: Method[Any, Any],
        params: MethodParams,
        picture: Array,
        noise: Noise,
        device: torch.device,
        seed: int,
    ) -> Trial:
        """Normalise a picture `(Y, X)` with this noise; NaN where there is no value."""
        block = make_block(picture[None], [noise], params)
        return cls(method, params, block, block.noisy(device, seed), seed)

    def network(self) -> nn.Module:
        """An untrained network."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            net: nn.Module = self.method.network(self.params, 1, self.block.space)
        return net.to(self.noisy.pixels.device)

    def fit(self, net: nn.Module, *, warm: bool = False) -> Fit:
        """Train a network in place."""
        return self.method.fit(net, self.noisy, self.params, warm)

    def render(self, net: nn.Module) -> Array:
        """The restored picture `(Y, X)`, as it is at this step."""
        with torch.no_grad():
            pixels = self.method.restore(net, self.noisy, self.params).cpu().numpy()
        if self.params.refine:
            pixels = self.block.refine(pixels, (slice(None), slice(None)))
        values: Array = self.block.denormalise(pixels)[0]
        return values


def noise_of(frames: Sequence[Array]) -> Noise:
    """The noise of frames `(Y, X)` of one camera; values that are NaN are left out."""
    stack = np.stack(frames)
    valid = np.isfinite(stack)
    return measure_noise(np.where(valid, stack, np.nanmean(stack)), valid)

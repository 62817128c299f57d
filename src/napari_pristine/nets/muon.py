"""Muon: momentum with orthogonalised updates (Jordan et al. 2024), for stacks of matrices.

torch's own implementation takes single matrices only; small networks side by side need it for all of them at once.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from napari_pristine.nets.optimiser import Optimiser

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


class Muon(Optimiser):
    """Each step moves a matrix by `lr` along the orthogonal matrix nearest to its momentum.

    Args:
        params: Tensors `(networks, fan_in, fan_out)`, or kernels of convolutions `(out, in, *space)`.
        lr: Length of a step along every singular vector.
        momentum: Decay of the running mean of the gradients.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters by their gradients."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                mean = self.state[weight].setdefault("mean", torch.zeros_like(weight))
                mean.lerp_(weight.grad, 1 - group["momentum"])
                nesterov = weight.grad.lerp(mean, group["momentum"])
                matrices = nesterov if nesterov.ndim == 3 else nesterov.flatten(1)[None]
                weight.add_(_orthogonalise(matrices).reshape(weight.shape), alpha=-group["lr"])


def _orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The orthogonal factor of each matrix, with the error of up to 30 % that five Newton-Schulz iterations leave."""
    a, b, c = _NEWTON_SCHULZ
    x: Tensor = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-12)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x

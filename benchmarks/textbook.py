"""INR denoising as anyone would write it down from the paper (Kim, Lee & Shin 2022): one SIREN, all pixels, plain Adam.

Independent of our engine, to compare with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

_OMEGA = 30.0
_LAYERS = 6
_LEARNING_RATE = 1e-4
_DECAY = 1e-3


class _Sine(nn.Module):
    def __init__(self, fan_in: int, fan_out: int, bound: float) -> None:
        super().__init__()
        self.linear = nn.Linear(fan_in, fan_out)
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(_OMEGA * self.linear(x))


def make_siren(width: int) -> nn.Sequential:
    """Six sine layers and a linear one, from `(points, 2)` to `(points, 1)`; weights as in SIREN, section 3.2."""
    hidden = (6 / width) ** 0.5 / _OMEGA
    sines = [_Sine(2, width, 1 / 2), *(_Sine(width, width, hidden) for _ in range(_LAYERS - 1))]
    head = nn.Linear(width, 1)
    nn.init.uniform_(head.weight, -hidden, hidden)
    return nn.Sequential(*sines, head)


def width_of(pixels: int) -> int:
    """256 · pixels / 512² (section 4.1); at least 64, below which the noise level is never reached."""
    return max(64, round(256 * pixels / 512**2))


def textbook_fit(picture: Tensor, steps: int, seed: int) -> Iterator[tuple[float, Tensor]]:
    """Fit to a picture `(Y, X)` between -1 and 1; mean squared residual and prediction at each step."""
    torch.manual_seed(seed)
    height, width = picture.shape
    net = make_siren(width_of(picture.numel())).to(picture.device)
    rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    at = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2).to(picture.device)
    decayed = [weight for sine in list(net)[-3:-1] for weight in sine.parameters()]
    others = [weight for part in [*list(net)[:-3], net[-1]] for weight in part.parameters()]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": decayed, "weight_decay": _DECAY}]
    adam = torch.optim.Adam(groups, lr=_LEARNING_RATE)
    for _ in range(steps):
        values = net(at).reshape(picture.shape)
        loss = nn.functional.mse_loss(values, picture)
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        yield loss.item(), values.detach()

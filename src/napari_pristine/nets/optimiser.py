"""Optimisers: Adam, and the base that it shares with Muon.

Not those of torch: the first of these loads torch's compiler and Triton, which takes a second, and crashes Python in a
window that Mesa draws, since both bring an LLVM of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

Group = dict[str, Any]
"""Parameters (`params`) with settings of their own, such as the learning rate (`lr`)."""


class Optimiser:
    """Base of optimisers, with the groups, the gradients and the state of all parameters.

    Args:
        params: Parameters, or groups of them.
        defaults: Settings of groups that do not have their own.
    """

    def __init__(self, params: Iterable[Tensor] | Iterable[Group], defaults: Mapping[str, Any]) -> None:
        given, self.defaults = list(params), dict(defaults)
        groups: list[Any] = given if given and isinstance(given[0], dict) else [{"params": given}]
        self.param_groups: list[Group] = [{**defaults, **group, "params": list(group["params"])} for group in groups]
        self.state: dict[Tensor, dict[str, Any]] = {p: {} for group in self.param_groups for p in group["params"]}

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for param in self.state:
            param.grad = None

    def step(self) -> None:
        """Update all parameters by their gradients."""
        raise NotImplementedError

    def state_dict(self) -> dict[str, Any]:
        """The state by the numbers of the parameters, and the groups, as torch's optimisers save them."""
        numbers = {param: number for number, param in enumerate(self.state)}
        groups = [{**group, "params": [numbers[param] for param in group["params"]]} for group in self.param_groups]
        return {"state": {numbers[p]: state for p, state in self.state.items() if state}, "param_groups": groups}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for number, param in enumerate(self.state):
            known = saved["state"].get(number, {})
            self.state[param] = {
                name: value.to(param) if isinstance(value, Tensor) and value.ndim else value
                for name, value in known.items()
            }
        for group, other in zip(self.param_groups, saved["param_groups"], strict=True):
            group.update({name: value for name, value in other.items() if name != "params"})


class Adam(Optimiser):
    """Adam (Kingma & Ba 2015), all parameters of a group at once.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        betas: Decay of the running means of the gradients and of their squares.
        weight_decay: Factor of the weights that are added to their gradients.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Group],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """Update all parameters by their gradients."""
        for group in self.param_groups:
            params = [param for param in group["params"] if param.grad is not None]
            if not params:
                continue
            grads: list[Tensor] = [param.grad for param in params]
            if group["weight_decay"]:
                grads = list(torch._foreach_add(grads, params, alpha=group["weight_decay"]))
            states = [self.state[param] for param in params]
            for param, state in zip(params, states, strict=True):
                if not state:
                    state |= {"step": 0, "mean": torch.zeros_like(param), "square": torch.zeros_like(param)}
                state["step"] += 1
            step, (first, second) = states[0]["step"], group["betas"]
            means, squares = ([state[name] for state in states] for name in ("mean", "square"))
            torch._foreach_lerp_(means, grads, 1 - first)
            torch._foreach_mul_(squares, second)
            torch._foreach_addcmul_(squares, grads, grads, 1 - second)
            roots = torch._foreach_sqrt(squares)
            torch._foreach_div_(roots, math.sqrt(1 - second**step))
            torch._foreach_add_(roots, 1e-8)
            torch._foreach_addcdiv_(params, means, roots, -group["lr"] / (1 - first**step))

"""The contract between a method and the rest: its settings, three functions, one declaration."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from torch import Tensor, nn

from napari_pristine.errors import SettingError
from napari_pristine.settings import Params, make

P = TypeVar("P", bound=Params)
N = TypeVar("N", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Noisy:
    """What a method sees of a block.

    Attributes:
        pixels: `(C, *space)`, float32, zero mean and unit spread.
        sigma: Noise level of each channel in the units of `pixels`, `(C,)`: root mean square over the block.
        valid: `(*space)`, false where there is no value (NaN, infinite); `pixels` holds a neighbour's value there.
        correlation: How far the noise reaches: the ratio of its standard deviation at low frequencies to that of
            white noise of the same level. 1 for independent pixels.
        weights: `(C, *space)`, one over the local noise variance in units of its mean; all ones where the noise is
            the same everywhere, as after variance stabilisation.
    """

    pixels: Tensor
    sigma: Tensor
    valid: Tensor
    correlation: float = 1.0


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a fit: `done` of at most `total`, and the mean squared residual in noise variances (0-dim)."""

    done: int
    total: int
    residual: Tensor


Fit = Generator[Step, None, str]
"""A fit under way: yields each step, returns in words which rule ended it."""


@dataclass(frozen=True)
class Method(Generic[P, N]):
    """One way of restoring.

    Attributes:
        key: Name in recipes and in the shell.
        title: Name for people.
        summary: One sentence: what it does and what it is for.
        cite: The publication.
        learns_from: Whether a network is trained on each image by itself or on a stack of them.
        params: Class of its settings.
        presets: Name → settings that differ from the defaults; `balanced` is the default, `paper` the publication.
        network: `(params, channels, space) -> net`, untrained; `space` is the shape of the block in pixels.
        fit: `(net, noisy, params, warm) -> Fit` trains the network in place; `warm` says that it comes from a
            neighbouring block and needs less. Stopping it at any step leaves a usable network.
        restore: `(net, noisy, params) -> (C, *space)`; called without gradients.
        stabilises: `(params) -> bool`, whether it wants pixels whose noise is the same everywhere.
        caution: `(noisy, params) -> text`, empty where there is nothing to warn of.
    """

    key: str
    title: str
    summary: str
    cite: str
    learns_from: Literal["image", "stack"]
    params: type[P]
    presets: Mapping[str, Mapping[str, Any]]
    network: Callable[[P, int, tuple[int, ...]], N]
    fit: Callable[[N, Noisy, P, bool], Fit]
    restore: Callable[[N, Noisy, P], Tensor]
    stabilises: Callable[[P], bool] = field(default=lambda _: False)

    def settings(self, preset: str = "balanced", changes: Mapping[str, Any] | None = None) -> P:
        """The settings of a preset with `changes` on top.

        Raises:
            SettingError: The preset or a setting is unknown, or a value is out of range.
        """
        if preset not in self.presets:
            raise SettingError(f"{self.key} has no preset '{preset}'; the presets are {', '.join(self.presets)}")
        return make(self.params, {**self.presets[preset], **(changes or {})})

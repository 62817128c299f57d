"""The contract between a method and the rest: its settings, three functions, one declaration."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from napari_pristine.errors import SettingError
from napari_pristine.image.tiling import Tiling
from napari_pristine.settings import Params, make, setting

N = TypeVar("N", bound=nn.Module)


class MethodParams(Params):
    """The settings that every method has; `run` acts on them before the method sees a pixel."""

    sigma: float | None = setting(
        None, "Noise level, in the units of the image.", none="measured", unit="grey values", gt=0
    )
    stabilise: bool = setting(False, "Make the noise of photons equally strong everywhere before fitting.")
    hot_pixels: bool = setting(False, "Take single pixels that outshine all around them for faults, and fill them.")
    refine: bool = setting(False, "Return to the result what the noisy image holds of the structures found.")
    warm_start: bool = setting(True, "Start each frame of a stack from its neighbour's network.", advanced=True)
    tile: int = setting(
        1024, "Side of the largest square that is restored at once.", unit="pixels", ge=64, le=16384, advanced=True
    )

    def finer_by(self, axes: str) -> tuple[int, ...]:
        """How many times finer the grid of the result is, along each of the axes of space, such as `"ZYX"`."""
        return (1,) * len(axes)

    @property
    def degraded(self) -> bool:
        """Whether the image is taken for more than noisy: blurred, too coarse, one of several pictures."""
        return False

    @property
    def refinements(self) -> int:
        """How many rounds `refine` of the method takes; 0 where nothing is refined in rounds."""
        return 0

    @property
    def input_files(self) -> dict[str, str]:
        """Files that the settings name, by role (`psf`, `extra_image_1`, `extra_image_1_psf`, …)."""
        return {}

    def check(self, axes: str, others: int) -> None:
        """Raise a `SettingError` unless the settings suit blocks with these axes of space and so many more pictures."""
        if others:
            raise SettingError(f"this method restores one picture, not {others + 1} of the same scene together")


P = TypeVar("P", bound=MethodParams)


class CropSource(Protocol):
    """Where a network finds noisy pixels to learn from: one block, or many images of any size."""

    @property
    def sigma(self) -> Tensor:
        """Noise level of each channel in the units of the pixels, `(C,)`."""

    @property
    def correlation_length(self) -> float:
        """Reach of the noise, see `Noisy`."""

    @property
    def seed(self) -> int:
        """Seed of whatever is drawn at random."""

    def crops(self, count: int, side: int, generator: torch.Generator) -> Tensor:
        """Random crops `(count, C, *sides)`: squares of at most `side` pixels, boxes of as many pixels in 3D."""


@dataclass(frozen=True, eq=False)
class NoisyBlock:
    """What a method sees of a block.

    Attributes:
        pixels: `(C, *space)`, float32, zero mean and unit spread.
        sigma: Noise level of each channel in the units of `pixels`, `(C,)`: root mean square over the block.
        valid: `(*space)`, false where there is no value (NaN, infinite, masked); `pixels` holds a neighbour's value
            there.
        correlation_length: Standard deviation of the noise at low frequencies over that of white noise of the same
            level; 1 for independent pixels.
        seed: Seed of whatever is drawn at random.
        axes: Letters of the axes of space, such as `"YX"` or `"ZYX"`.
        spacing: Distance of neighbours along each of them, in µm where the image says so, else in pixels.
        others: More pictures of the same scene, in the units of these pixels.
        variance: Of the noise of each pixel, `(C, *space)`, where it is that of photons and was not stabilised; none
            if it is the same everywhere.
    """

    pixels: Tensor
    sigma: Tensor
    valid: Tensor
    correlation_length: float = 1.0
    seed: int = 0
    axes: str = "YX"
    spacing: tuple[float, ...] = (1.0, 1.0)
    others: tuple[NoisyBlock, ...] = ()
    variance: Tensor | None = None
    psf: Any = None

    def crops(self, count: int, side: int, generator: torch.Generator) -> Tensor:
        """Random crops `(count, C, *sides)`: squares of at most `side` pixels, boxes of as many pixels in 3D."""
        return random_crops(self.pixels, count, Tiling.of(tuple(self.pixels.shape[1:]), side, 0).side, generator)


def random_crops(pixels: Tensor, count: int, sides: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """`count` crops `(count, C, *sides)` of pixels `(C, *space)`, anywhere inside."""
    room = torch.tensor([n - side + 1 for n, side in zip(pixels.shape[1:], sides, strict=True)])
    corners = (torch.rand((count, len(sides)), generator=generator, dtype=torch.float64) * room).long().tolist()
    return torch.stack(
        [pixels[(slice(None), *(slice(a, a + n) for a, n in zip(corner, sides, strict=True)))] for corner in corners]
    )


@dataclass(frozen=True, eq=False)
class Step:
    """Where a fit is: `done` of at most `total` steps, and the mean squared residual in noise variances (0-dim).

    A fit yields one after each step, and within steps that take longer than a moment.
    """

    done: int
    total: int
    residual: Tensor


@dataclass(frozen=True)
class StopReason:
    """Which rule ended a fit, in words; a `warning` if the user should look at the result with care."""

    text: str
    warning: bool = False


Fit: TypeAlias = Generator[Step, None, StopReason]
"""A fit under way: yields each step, returns which rule ended it."""


@dataclass(frozen=True)
class Method(Generic[P, N]):
    """One way of restoring.

    Attributes:
        key: Name in recipes and in the shell.
        title: Name for people.
        summary: One sentence: what it does and what it is for.
        cite: The publication.
        params: Class of its settings.
        presets: Name → settings that differ from the defaults; `balanced` is the default, `paper` the publication.
        network: `(params, channels, space) -> net`, untrained; `space` is the shape of the block in pixels.
        fit: `(net, noisy, params, warm) -> Fit` trains the network in place; `warm` says that it comes from a
            neighbouring block and needs less. Stopping it at any step leaves a usable network.
        restore: `(net, noisy, params) -> (C, *space)`, on the finer grid if there is one; called without gradients.
        learn: `fit` for any number of blocks and images at once; none for methods that fit each block by itself.
            A network that has learned can be saved, and restores other images.
        forward_model: `(params, restored, noisy) -> (C, *space)`: the image that would be recorded of the
            restored pixels as the noisy one was; the pixels themselves for methods that model noise alone.
        refine: `(params, restored, noisy) -> Iterator[(C, *space)]`: better and better versions of the restored
            pixels of a picture that is `degraded`, `params.refinements` of them; none for methods that know of noise
            alone.
        abreast: `(nets, noisies, params, warm) -> Fit`: `fit` for several blocks of one shape at once, each of which
            comes out as it would alone, but for rounding; none for methods that fit one block after the other.
        networks_per_block: `(params, space) -> int`: number of small networks that are fitted to a block of this shape;
            0 where the settings do not allow to fit several blocks at once.
        memory: Bytes for each value of a tile while it is fitted, at most, as measured.
    """

    key: str
    title: str
    summary: str
    cite: str
    params: type[P]
    presets: Mapping[str, Mapping[str, Any]]
    network: Callable[[P, int, tuple[int, ...]], N]
    fit: Callable[[N, NoisyBlock, P, bool], Fit]
    restore: Callable[[N, NoisyBlock, P], Tensor]
    learn: Callable[[N, CropSource, P, bool], Fit] | None = None
    forward_model: Callable[[P, Tensor, NoisyBlock], Tensor] = lambda _, pixels, __: pixels
    refine: Callable[[P, Tensor, NoisyBlock], Iterator[Tensor]] | None = None
    fit_batch: Callable[[Sequence[N], Sequence[NoisyBlock], P, bool], Fit] | None = None
    networks_per_block: Callable[[P, tuple[int, ...]], int] = lambda _, __: 0
    memory: int = 700

    @property
    def learns_from(self) -> str:
        """Whether a network is fitted to each `image` by itself or learns from a `stack` of them."""
        return "stack" if self.learn else "image"

    def settings(self, preset: str = "balanced", changes: Mapping[str, Any] | None = None) -> P:
        """The settings of a preset with `changes` on top.

        Raises:
            SettingError: The preset or a setting is unknown, or a value is out of range.
        """
        if preset not in self.presets:
            raise SettingError(f"{self.key} has no preset '{preset}'; the presets are {', '.join(self.presets)}")
        return make(self.params, {**self.presets[preset], **(changes or {})})

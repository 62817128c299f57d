"""The contract between a method and the rest of the package: settings, three functions, one declaration.

A method is declared without importing torch, so that forms, lists and help texts open at once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from napari_pristine.errors import SettingError
from napari_pristine.settings import Params, make, setting

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from napari_pristine.image.intensity import Intensity
    from napari_pristine.physics.psf import MeasuredPSF

N = TypeVar("N", bound="nn.Module")


def last_step_setting(unless: tuple[Any, ...] = ()) -> Any:
    """Declare the end of a fit at one of its steps; a new declaration for each class."""
    return setting(
        None,
        "Step after which a fit is ended, as it is then; its rates are still those of a fit that takes all steps.",
        title="End after step",
        none="all steps",
        higher="finer structure is fitted, and at last noise as well",
        unless=unless,
        ge=1,
        le=10_000_000,
        advanced=True,
    )


class MethodParams(Params):
    """Settings that every method has; the jobs apply them, a method can ignore them."""

    sigma: float | None = setting(
        None,
        "Strength of the noise: its standard deviation, in the units of the image.",
        title="Noise level",
        none="measured",
        unit="grey values",
        higher="more is removed as noise; too high, and faint structure goes with it",
        gt=0,
    )
    stabilise: bool = setting(
        True,
        "Transform the values so that photon noise is equally strong in bright and in dark parts.",
        title="Even out noise",
    )
    hot_pixels: bool = setting(
        True, "Detect hot and cold pixels, leave them out of the fit, and fill them in.", title="Fill hot pixels"
    )
    stripes: bool = setting(True, "Remove the measured offsets of rows and columns.", title="Remove stripes")
    refine: bool = setting(
        True,
        "Bring back contrast and fine structure from the noisy image, guided by the fit.",
        title="Bring back detail",
    )
    safeguard: bool = setting(
        True, "Mix in a light blur, or the noisy image, where it is estimated to be closer to the truth than the fit."
    )
    warm_start: bool = setting(
        True,
        "Start each frame of a stack from the network of the frame before.",
        title="Reuse last frame",
        advanced=True,
    )
    last_step: int | None = last_step_setting()
    tile: int = setting(
        1024,
        "Side of the largest square that is restored in one piece.",
        title="Largest tile",
        unit="pixels",
        higher="more memory at once",
        ge=64,
        le=16384,
        advanced=True,
    )

    def finer_by(self, axes: str) -> tuple[int, ...]:
        """Upsampling of the grid of the result, along each of the axes of space, such as `"ZYX"`."""
        return (1,) * len(axes)

    def last_of(self, warm: bool) -> int | None:
        """Step after which the jobs end a fit; for one that starts from a fitted network, in proportion."""
        if self.last_step is None or not warm:
            return self.last_step
        return max(1, round(self.last_step * getattr(self, "warm_steps", 1.0)))  # not a setting of all methods

    @property
    def degraded(self) -> bool:
        """True if the image is degraded by more than noise: blurred, coarse, or one of several images of a scene."""
        return False

    @property
    def refinements(self) -> int:
        """Rounds that `Method.refine` takes; 0 for methods without."""
        return 0

    @property
    def input_files(self) -> dict[str, str]:
        """Files that the settings name, by role: `psf`, `extra_image_1`, `extra_image_1_psf`, and so on."""
        return {}

    def check(self, axes: str, others: int) -> None:
        """Raise a `SettingError` unless the settings suit blocks with these axes and that many extra images."""
        if others:
            raise SettingError(
                f"this method restores a single image, and {others + 1} images of one scene are given; leave out the "
                "extra images, or use linr"
            )


P = TypeVar("P", bound=MethodParams)


class CropSource(Protocol):
    """Noisy pixels to train on: a single block, or many images of any size."""

    @property
    def sigma(self) -> Tensor:
        """Noise level of each channel in the units of the pixels, `(C,)`."""

    @property
    def correlation_length(self) -> float:
        """Correlation length of the noise, see `NoisyBlock`."""

    @property
    def seed(self) -> int:
        """Seed of all random numbers."""

    def crops(self, count: int, side: int, generator: torch.Generator) -> Tensor:
        """Random crops `(count, C, *sides)`: squares of at most `side` pixels, boxes of as many pixels in 3D."""


@dataclass(frozen=True, eq=False)
class NoisyBlock:
    """A block as a method sees it.

    Attributes:
        pixels: `(C, *space)`, float32, with a mean of 0 and a standard deviation of 1.
        sigma: Noise level of each channel in the units of `pixels`, `(C,)`: root mean square over the block.
        valid: `(*space)`, false where there is no value (NaN, infinite, masked); `pixels` holds that of a neighbour
            there.
        correlation_length: Correlation length of the noise in pixels, 1 if it is independent; see `image.noise.Noise`.
        seed: Seed of all random numbers.
        axes: Letters of the axes of space, such as `"YX"` or `"ZYX"`.
        spacing: Distance between neighbours along each axis, in µm if the image states it, else in pixels.
        others: Extra images of the same scene, in the units of these pixels.
        variance: Noise variance of each pixel, `(C, *space)`, for photon noise that was not stabilised; none if the
            noise is the same everywhere.
        psf: Measured point spread function of this image, if the settings name one.
        intensities: Conversion of each channel between the values of the image and these pixels, if known.
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
    psf: MeasuredPSF | None = None
    intensities: tuple[Intensity, ...] = ()

    def crops(self, count: int, side: int, generator: torch.Generator) -> Tensor:
        """Random crops `(count, C, *sides)`: squares of at most `side` pixels, boxes of as many pixels in 3D."""
        from napari_pristine.image.tiling import Tiling  # here, as it imports numpy

        return random_crops(self.pixels, count, Tiling.of(tuple(self.pixels.shape[1:]), side, 0).side, generator)


def random_crops(pixels: Tensor, count: int, sides: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Cut `count` crops `(count, C, *sides)` out of pixels `(C, *space)`, at random positions."""
    import torch

    room = torch.tensor([n - side + 1 for n, side in zip(pixels.shape[1:], sides, strict=True)])
    corners = (torch.rand((count, len(sides)), generator=generator, dtype=torch.float64) * room).long().tolist()
    return torch.stack(
        [pixels[(slice(None), *(slice(a, a + n) for a, n in zip(corner, sides, strict=True)))] for corner in corners]
    )


@dataclass(frozen=True, eq=False)
class Step:
    """State of a fit after a step, or within a step that takes long.

    Attributes:
        done: Steps done.
        total: Maximum number of steps.
        residual: Mean squared residual, in noise variances; a tensor without axes, on the device.
    """

    done: int
    total: int
    residual: Tensor


@dataclass(frozen=True, eq=False)
class Estimate:
    """A version of restored pixels whose error is known.

    Attributes:
        done: Number of this version.
        total: Number of versions; the last one is the best.
        pixels: `(C, *space)`.
        half_widths: Half the width of the interval that holds the truth of each pixel with a probability of 90 %, in
            the units of the pixels, `(C, *space)`.
    """

    done: int
    total: int
    pixels: Tensor
    half_widths: Tensor


@dataclass(frozen=True)
class StopReason:
    """Reason why a fit ended, as text for users; a `warning` if the result needs to be checked.

    The text is empty if the fit took all its steps and there is nothing to report.
    """

    text: str = ""
    warning: bool = False


Fit: TypeAlias = Generator[Step, None, StopReason]
"""A running fit: yields a `Step` after each step, and within steps that take long; returns why it ended."""


class LazyModule:
    """A module with the functions of a method; it is imported when one of them is first called.

    Args:
        name: Its full name.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, function: str) -> Callable[..., Any]:
        if function.startswith("_"):  # looked for by copy, pickle, doctest …
            raise AttributeError(function)

        def call(*args: Any) -> Any:
            return getattr(import_module(self._name), function)(*args)

        call.__module__, call.__qualname__ = self._name, function
        return call


@dataclass(frozen=True)
class Method(Generic[P, N]):
    """A method of restoration.

    Attributes:
        key: Name in recipes, in Python and on the command line.
        title: Name in panels and reports.
        summary: One sentence: what it does and for which images.
        cite: The publication.
        params: Class of its settings.
        presets: Name → settings that differ from the defaults; `balanced` is the default, `fast` for a first look,
            `paper` follows the publication.
        network: `(params, channels, space) -> net`, untrained; `space` is the shape of the block in pixels.
        fit: `(net, block, params, warm) -> Fit` trains the network in place; `warm` says that it was fitted to a
            neighbouring block before, and needs fewer steps. A fit that is closed at any step leaves a usable network.
        restore: `(net, block, params) -> (C, *space)`, on the finer grid if there is one, on the device of the block;
            called without gradients.
        learn: `fit` for many blocks and images at once; none for methods that fit a network to each block. A network
            that has learned can be saved and restores other images.
        needs_independent_noise: Noise that is correlated between neighbouring pixels stays in the result.
        forward_model: `(params, restored, block) -> (C, *space)`: the restored pixels, degraded like the noisy image;
            unchanged for methods that only remove noise.
        refine: `(params, restored, block) -> Iterator[(C, *space)]`: better and better versions of the restored pixels
            of a `degraded` image, `params.refinements` of them; none for methods that only remove noise.
        fit_batch: `(nets, blocks, params, warm) -> Fit`: `fit` for several blocks of one shape at once; each comes out
            as it would alone, but for rounding. None for methods that fit one block after the other.
        networks_per_block: `(params, space) -> int`: how many small networks a fit to a block of this shape trains
            side by side; 0 where the settings do not allow to fit several blocks at once.
        noise_kept: `(net, block, params, half_widths) -> (C, *space)`: covariance of the noise and the restored pixels
            in noise variances; lets the job choose between the result and its refinement. For methods with
            `restore_with_error` only, whose second result it takes; none where it is not known.
        from_pretrained: Settings with which its network is the pretrained one, trained further; none for methods whose
            network is another.
        candidates: For a method that chooses another one: the methods, with a preset each, from which it does, by its
            own presets; the quickest first.
        restore_with_error: `(net, block, params) -> Iterator[Estimate]`: better and better versions of what `restore`
            returns, with their errors; none for methods that do not know their error.
        seconds: CPU seconds that presets take for 512 × 512 pixels on one core of a machine on which `pretrained` with
            `fast` takes 0.9; measured. Presets that take hours have no entry.
        memory: Peak memory while a tile is fitted, in bytes per value; measured.
        test_settings: Settings with which a small image is fitted within a second or two, for tests that do not
            need a good result; those of the preset `fast` if empty.
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
    needs_independent_noise: bool = False
    forward_model: Callable[[P, Tensor, NoisyBlock], Tensor] = lambda _, pixels, __: pixels
    refine: Callable[[P, Tensor, NoisyBlock], Iterator[Tensor]] | None = None
    fit_batch: Callable[[Sequence[N], Sequence[NoisyBlock], P, bool], Fit] | None = None
    networks_per_block: Callable[[P, tuple[int, ...]], int] = lambda _, __: 0
    noise_kept: Callable[[N, NoisyBlock, P, Tensor], Tensor] | None = None
    from_pretrained: Mapping[str, Any] = field(default_factory=dict)
    candidates: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)
    restore_with_error: Callable[[N, NoisyBlock, P], Iterator[Estimate]] | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    memory: int = 700
    test_settings: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, preset: str = "balanced", changes: Mapping[str, Any] | None = None) -> P:
        """The settings of a preset with `changes` on top.

        Raises:
            SettingError: The preset or a setting is unknown, or a value is out of range.
        """
        if preset not in self.presets:
            raise SettingError(f"{self.key} has no preset '{preset}'; the presets are {', '.join(self.presets)}")
        return make(self.params, {**self.presets[preset], **(changes or {})})

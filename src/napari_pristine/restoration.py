"""The life of one image: read a block, fit, restore, write it back; say how it goes, listen for wishes."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_pristine import __version__
from napari_pristine.block import Block, check_numbers, prepare
from napari_pristine.device import describe_device, is_out_of_memory, pick_device
from napari_pristine.errors import AxesError, ComputeError, ImageError, OutOfMemory
from napari_pristine.events import Event, Note, Preview, Progress, Wish
from napari_pristine.image.axes import AxesPlan, plan
from napari_pristine.image.image import COLOUR, Image, check_axes, check_restorable, guess_axes
from napari_pristine.image.intensity import cast, fill_invalid
from napari_pristine.image.noise import Noise, measure_noise
from napari_pristine.image.quality import Quality
from napari_pristine.image.tiles import Tiling
from napari_pristine.methods import find_method
from napari_pristine.methods.method import Method, MethodParams, Noisy, Step, Stop
from napari_pristine.recipe import Recipe
from napari_pristine.settings import make

_SPEAK = 0.1
"""Seconds between two reports of progress."""
_SHOW = 2.0
"""Seconds between two previews; more where a preview takes long."""
_PATIENCE = 10.0
"""How many times longer than a preview took the next one waits, so that previews cost little."""
_OVERLAP = 32
"""Least overlap of neighbouring tiles, in pixels."""
_SMALLEST_TILE = 128
_REFINED = 512
"""Side of the tiles in which a fit is refined, in pixels."""
_SAMPLES = 8
"""Planes of a stack from which the noise is measured."""


@dataclass(frozen=True, eq=False)
class Restored:
    """A result with all that is known about it."""

    image: Image
    recipe: Recipe
    quality: Quality
    seconds: float
    device: str
    notes: tuple[Note, ...] = ()

    @property
    def data(self) -> Any:
        """The restored values, with shape and dtype of the input."""
        return self.image.data

    def provenance(self) -> dict[str, Any]:
        """How the result came about, as plain JSON values."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "quality": {**asdict(self.quality), "stopped": list(self.quality.stopped)},
            "seconds": round(self.seconds, 3),
            "device": self.device,
            "notes": [note.text for note in self.notes],
            "versions": {"napari-pristine": __version__, "torch": torch.__version__, "numpy": np.__version__},
        }


T = TypeVar("T")
_Part: TypeAlias = Generator[Event, "Wish | None", T]
_Pixels: TypeAlias = NDArray[np.float32]
Job: TypeAlias = Generator[Event, "Wish | None", Restored]
"""A job under way: yields events, takes wishes, returns the result. Closing it cancels it."""


def run(image: Image, recipe: Recipe) -> Job:
    """Restore an image.

    Everything is checked before the first event. A job that is told `Wish.KEEP` stops fitting and returns what there
    is: blocks that it has not come to are left as they were, and a note says so.

    Raises:
        PristineError: Axes, settings, image or device do not allow it; the message says what to do.
    """
    try:
        return (yield from _Run(image, recipe).job())
    except (RuntimeError, MemoryError) as error:  # torch has no class of its own; generator workers swallow this one
        if is_out_of_memory(error):
            raise OutOfMemory(f"the memory ran out: {error}; restore less at once (tile, together, select)") from error
        raise ComputeError(f"the computation failed: {error}") from error


def restore(
    image: NDArray[Any] | Image,
    method: str = "inr",
    *,
    axes: str = "",
    preset: str = "balanced",
    settings: Mapping[str, Any] | None = None,
    together: str = "",
    select: Mapping[str, str] | None = None,
    device: str = "auto",
    seed: int = 0,
    on_event: Callable[[Event], Wish | None] | None = None,
) -> Restored:
    """Restore an image and wait for the result.

    Args:
        image: An array, or an `Image`, whose axes and spacing the result keeps.
        method: Name of the method.
        axes: One letter per dimension, such as `"TZCYX"`; needed for arrays with more than two dimensions.
        preset: Named settings, `fast`, `balanced` or `paper`.
        settings: Settings that differ from the preset.
        together: Axes that are fitted together, such as `"ZYX"`; Y and X if empty. All others are looped over.
        select: Ranges to restore, such as `{"T": "0:10"}`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        seed: Seed of all random numbers: the same seed gives the same pixels on one device.
        on_event: Called with each event; may return `Wish.KEEP` to stop early and keep what there is.

    Raises:
        PristineError: Something does not fit; the message says what to do.
    """
    if isinstance(image, np.ma.MaskedArray):
        raise ImageError("masks of arrays are not seen; set what is masked to NaN: image.astype(float).filled(np.nan)")
    axes, together = axes.upper(), together.upper()
    if not isinstance(image, Image):
        image = Image(np.asarray(image), axes or ("YX" if np.ndim(image) == 2 else _ask_for_axes(np.shape(image))))
    recipe = make(
        Recipe,
        {
            "method": method, "preset": preset, "settings": dict(settings or {}), "axes": axes, "together": together,
            "select": dict(select or {}), "device": device, "seed": seed,
        },
    )  # fmt: skip
    return wait(run(image, recipe), on_event)


def wait(job: Job, on_event: Callable[[Event], Wish | None] | None = None) -> Restored:
    """Run a job to its end, handing each event to `on_event` and what that returns back to the job."""
    wish: Wish | None = None
    try:
        while True:
            event = job.send(wish)
            wish = on_event(event) if on_event else None
    except StopIteration as end:
        restored: Restored = end.value
        return restored
    finally:
        job.close()


def _ask_for_axes(shape: tuple[int, ...]) -> str:
    raise AxesError(
        f"an array with {len(shape)} dimensions (shape {shape}) needs axes; "
        f"give one letter per dimension, e.g. axes='{guess_axes(shape)}'"
    )


def check(image: Image, recipe: Recipe) -> None:
    """Check all that can be checked of a job without reading the pixels.

    Raises:
        PristineError: Axes, settings or image do not allow it; the message says what to do.
    """
    _Run(image, recipe)


class _Run:
    """One job: what was resolved before it started, and how far it is."""

    def __init__(self, image: Image, recipe: Recipe) -> None:
        if recipe.axes:
            check_axes(recipe.axes, image.shape)
            image = replace(image, axes=recipe.axes)
        check_restorable(image)
        self.image = image.select(recipe.select)
        check_restorable(self.image)
        self.cut: AxesPlan = plan(self.image, recipe.together)
        self.recipe = recipe
        self.params: MethodParams = recipe.params
        self.method: Method[Any, Any] = find_method(recipe.method)
        self.device, self.device_note = pick_device(recipe.device)
        self.tile = self.params.tile
        self.noise: dict[tuple[int, ...], list[Noise]] = {}
        self.notes: list[Note] = []
        self.stops: Counter[str] = Counter()
        self.judged: list[tuple[float, float, float, float]] = []
        self.invalid = self.hot = 0
        self.keep = False
        self.last: Progress | None = None
        self.clock = _Clock()

    def job(self) -> Job:
        """All blocks, one after the other."""
        if self.device_note:
            yield from self.note(self.device_note)
        result = np.empty(self.image.shape, self.image.dtype)
        nets: list[nn.Module] = []
        for number, place in enumerate(self.cut.places):
            if self.keep:
                yield from self.note(
                    Note(f"kept early: only {number} of {len(self.cut.places)} blocks are restored", warning=True)
                )
                for rest in self.cut.places[number:]:
                    result[self.cut.index(rest)] = self.image.data[self.cut.index(rest)]
                break
            block = self.prepare(place)
            if isinstance(block, Note):
                yield from self.note(block)
                result[self.cut.index(place)] = self.image.data[self.cut.index(place)]
                nets = []
                continue
            warm = nets if self.params.warm_start and self.cut.follows(number) else []
            pixels, nets = yield from self.block(number, place, block, warm)
            values = yield from self.values(block, pixels)
            done = cast(values, self.image.dtype)
            self.cut.write(result, place, done)
            yield from self.say(Preview(self.cut.index(place), self.cut.unfold(done)))
            self.judged += block.judge(values)
            self.hot += block.hot
            self.invalid += int((~block.valid).sum()) - block.hot
        return (yield from self.finish(result))

    def values(self, block: Block, pixels: _Pixels) -> _Part[NDArray[np.float64]]:
        """The values of a fitted block; not refined if there is no memory for it, so that the fit is not lost."""
        if self.params.refine:
            try:
                pixels = yield from self.refined(block, pixels)
            except MemoryError:
                yield from self.note(Note("the memory ran out; the fit is not refined", warning=True))
        return block.values(pixels)

    def refined(self, block: Block, pixels: _Pixels) -> _Part[_Pixels]:
        """The pixels of a fitted block refined tile by tile, so that someone may stop it."""
        tiling = Tiling.of(block.space, _REFINED, _OVERLAP)
        parts = []
        for part in tiling.slices:
            parts.append(block.refined(pixels, part))
            if self.last is not None:
                yield from self.say(self.last)
        return tiling.blend(parts)

    def prepare(self, place: tuple[int, ...]) -> Block | Note:
        """The block at a place, or in a stack the reason for leaving it as it is."""
        try:
            return prepare(self.cut.read(self.image.data, place), self.noise_at(place), self.params)
        except ImageError as error:
            if len(self.cut.places) == 1:
                raise
            at = ", ".join(f"{axis} = {i}" for axis, i in zip(self.cut.looped, place, strict=True))
            return Note(f"left unchanged at {at}: {error}", warning=True)

    def noise_at(self, place: tuple[int, ...]) -> list[Noise]:
        """The noise of each channel of a block, measured once for all blocks of the same channels."""
        key = tuple(i for axis, i in zip(self.cut.looped, place, strict=True) if axis in COLOUR)
        if key not in self.noise:
            alike = [p for p in self.cut.places if p[: len(key)] == key]
            samples = min(len(alike), max(1, _SAMPLES // math.prod(self.cut.block_shape[1:-2])))
            some = [alike[i] for i in np.linspace(0, len(alike) - 1, samples).astype(int)]
            blocks = [self.cut.read(self.image.data, p) for p in some]
            for block in blocks:
                check_numbers(block)
            valid = [np.isfinite(block).all(axis=0) for block in blocks]
            filled = [fill_invalid(b, v) for b, v in zip(blocks, valid, strict=True) if v.any()]
            good = np.stack([v for v in valid if v.any()]) if filled else np.ones((1, 1), bool)
            channels = np.stack(filled, axis=1) if filled else np.zeros((len(blocks[0]), 1, 1))
            self.noise[key] = [measure_noise(channel, good) for channel in channels]
        return self.noise[key]

    def block(
        self, number: int, place: tuple[int, ...], block: Block, warm: list[nn.Module]
    ) -> _Part[tuple[_Pixels, list[nn.Module]]]:
        """One block; with smaller tiles where the memory does not suffice."""
        while True:
            try:
                return (yield from self.tiles(number, place, block, warm))
            except (RuntimeError, MemoryError) as error:
                largest = min(self.tile, round(math.prod(block.space) ** 0.5))
                if not is_out_of_memory(error) or largest <= _SMALLEST_TILE:
                    raise
                self.tile, warm = max(largest // 2, _SMALLEST_TILE), []
            yield from self.note(Note(f"the memory ran out; going on with tiles of {self.tile} pixels", warning=True))

    def tiles(
        self, number: int, place: tuple[int, ...], block: Block, warm: list[nn.Module]
    ) -> _Part[tuple[_Pixels, list[nn.Module]]]:
        """Fit and restore each tile of a block, and blend them."""
        tiling = Tiling.of(block.space, self.tile, _OVERLAP)
        parts = [block.pixels[(slice(None), *part)] for part in tiling.slices]
        nets: list[nn.Module] = []
        for index, part in enumerate(tiling.slices):
            if self.keep:
                yield from self.note(Note(f"kept early: only {index} of {len(parts)} tiles are restored", warning=True))
                break
            noisy = block.noisy(part, self.device, self.recipe.seed)
            start = warm[index] if index < len(warm) else None
            net = self.network(noisy) if start is None else start
            fit = self.method.fit(net, noisy, self.params, start is not None)
            self.clock.begin(number * len(parts) + index, len(self.cut.places) * len(parts))
            while not self.keep:
                try:
                    step = next(fit)
                except StopIteration as end:
                    yield from self.stopped(end.value)
                    break
                yield from self.progress(step)
                if self.clock.shows():
                    shown = [*parts[:index], self.render(net, noisy), *parts[index + 1 :]]
                    yield from self.say(self.preview(place, block, tiling.blend(shown)))
                    self.clock.showed()
            fit.close()
            parts[index] = self.render(net, noisy)
            nets.append(net)
        return tiling.blend(parts), nets

    def network(self, noisy: Noisy) -> nn.Module:
        """An untrained network for a tile; the seed alone decides its weights."""
        with torch.random.fork_rng():
            torch.manual_seed(self.recipe.seed)
            net: nn.Module = self.method.network(self.params, len(noisy.pixels), tuple(noisy.pixels.shape[1:]))
        return net.to(self.device)

    def render(self, net: nn.Module, noisy: Noisy) -> _Pixels:
        """What the network makes of a tile, `(C, *space)`."""
        with torch.no_grad():
            pixels: _Pixels = self.method.restore(net, noisy, self.params).cpu().numpy()
        return pixels

    def preview(self, place: tuple[int, ...], block: Block, pixels: _Pixels) -> Preview:
        """The block as it is now; not refined, which would take longer than a live view may."""
        values = cast(block.values(pixels), self.image.dtype)
        return Preview(self.cut.index(place), self.cut.unfold(values))

    def say(self, event: Event) -> _Part[None]:
        """Say something, and listen: a wish is answered at whichever event comes next."""
        wish = yield event
        self.keep = self.keep or wish is Wish.KEEP

    def progress(self, step: Step) -> _Part[None]:
        """Say how far the fit is, if it is time to."""
        if self.clock.speaks() or step.done == step.total:
            self.last = self.clock.progress(step)
            yield from self.say(self.last)

    def stopped(self, stop: Stop) -> _Part[None]:
        """Remember which rule ended a fit, and say so where it matters."""
        self.stops[stop.text] += 1
        if stop.warning:
            yield from self.note(Note(stop.text, warning=True))

    def note(self, note: Note) -> _Part[None]:
        """Say something, and keep it with the result."""
        self.notes.append(note)
        yield from self.say(note)

    def finish(self, result: NDArray[Any]) -> Job:
        """The result with all that is known about it."""
        if self.image.size("S") == 4:  # transparency is no colour
            alpha = tuple(slice(3, 4) if axis == "S" else slice(None) for axis in self.image.axes)
            result[alpha] = self.image.data[alpha]
        if self.hot:
            yield from self.note(Note(f"{self.hot} hot pixels were filled from the fit (hot_pixels)"))
        if self.invalid:
            yield from self.note(
                Note(f"{self.invalid} pixels without a value (NaN or infinite) were filled from the fit")
            )
        sigma, residual, whiteness, structure = np.mean(self.judged or [(0.0,) * 4], axis=0).tolist()
        stopped = tuple(f"{count} × {text}" if count > 1 else text for text, count in self.stops.items())
        return Restored(
            image=replace(self.image, data=result),
            recipe=self.recipe,
            quality=Quality(sigma, residual, whiteness, structure, self.invalid, stopped),
            seconds=self.clock.seconds,
            device=describe_device(self.device),
            notes=tuple(self.notes),
        )


class _Clock:
    """When to speak, when to show, and how long it will take. The clock never decides when to stop."""

    def __init__(self) -> None:
        self.started = self.spoke = self.shown = time.monotonic()
        self.asked = self.started
        self.pause = _SHOW
        self.piece, self.pieces = 0, 1

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def begin(self, piece: int, pieces: int) -> None:
        """A tile of a block begins."""
        self.piece, self.pieces = piece, pieces

    def speaks(self) -> bool:
        """Whether it is time for a word."""
        now = time.monotonic()
        due = now - self.spoke >= _SPEAK
        self.spoke = now if due else self.spoke
        return due

    def shows(self) -> bool:
        """Whether it is time for a preview."""
        self.asked = time.monotonic()
        return self.asked - self.shown >= self.pause

    def showed(self) -> None:
        """A preview is done."""
        self.shown = time.monotonic()
        self.pause = max(_SHOW, _PATIENCE * (self.shown - self.asked))

    def progress(self, step: Step) -> Progress:
        """How far the job is after a step."""
        share = (self.piece + step.done / step.total) / self.pieces
        return Progress(
            place=self.piece,
            places=self.pieces,
            done=step.done,
            total=step.total,
            residual=float(step.residual) ** 0.5,
            seconds=self.seconds,
            remaining=self.seconds * (1 - share) / share if self.seconds > 1 and share else None,
        )

"""The life of one image: read a block, fit, restore, write it back; say how it goes, listen for wishes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_pristine import __version__
from napari_pristine.block import Block, Other, measure_blocks, prepare
from napari_pristine.clock import Clock
from napari_pristine.device import describe_device, is_out_of_memory, pick_device
from napari_pristine.errors import AxesError, ComputeError, ImageError, SettingError
from napari_pristine.events import Event, Note, Preview, Progress, Wish
from napari_pristine.image.axes import AxesPlan, align, plan
from napari_pristine.image.image import COLOUR, Image, check_axes, check_restorable
from napari_pristine.image.intensity import cast
from napari_pristine.image.noise import Noise
from napari_pristine.image.quality import Quality
from napari_pristine.image.tiles import Tiling, repeat
from napari_pristine.methods import find_method
from napari_pristine.methods.method import Fit, Method, MethodParams, Noisy, Step, Stop
from napari_pristine.model import Model, load_model
from napari_pristine.recipe import Recipe
from napari_pristine.stream import Stream

_OVERLAP = 32
"""Least overlap of neighbouring tiles, in pixels."""
_SMALLEST_TILE = 128
_REFINED = 512
"""Side of the tiles in which a fit is refined, in pixels."""


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


class Life:
    """One job: what was resolved before it started, and how far it is.

    Args:
        image: What is to be restored.
        recipe: How.
        mask: Not zero where pixels are to be filled in; its axes are some or all of those of the image.
        others: More pictures of the same scene, on other grids maybe.
        model: A network that has learned already.

    Raises:
        PristineError: Axes, settings or images do not fit.
    """

    def __init__(
        self,
        image: Image,
        recipe: Recipe,
        mask: Image | None = None,
        others: Sequence[Image] = (),
        model: Model | None = None,
    ) -> None:
        if recipe.axes:
            check_axes(recipe.axes, image.shape)
            image = replace(image, axes=recipe.axes)
        check_restorable(image)
        self.masked = None if mask is None else replace(image, data=align(image, mask)).select(recipe.select).data
        self.image = image.select(recipe.select)
        check_restorable(self.image)
        self.cut: AxesPlan = plan(self.image, recipe.together)
        self.places = self.cut.places
        self.groups = math.prod(self.image.size(axis) for axis in self.cut.looped if axis in COLOUR)
        self.recipe = recipe
        self.others = [self.other(other) for other in others]
        self.params: MethodParams = recipe.params
        self.method: Method[Any, Any] = find_method(recipe.method)
        self.params.check(self.cut.space, len(self.others))
        self.finer = self.params.finer_by(self.cut.space)
        self.out = self.cut.finer(self.finer)
        self.model = load_model(recipe.model) if model is None and recipe.model else model
        if self.model is not None:
            self.model.check_fits(self.cut.block_shape[0], self.cut.space, recipe.method)
        elif recipe.adapt:
            raise SettingError(
                "adapt lets a model learn some more from the image, and no model is given; give one, or leave adapt out"
            )
        self.device, self.device_note = pick_device(recipe.device)
        self.tile = self.params.tile
        self.noise: dict[tuple[int, ...], list[Noise]] = {}
        self.learned: dict[tuple[int, ...], nn.Module] = {}
        self.notes: list[Note] = []
        self.stops: Counter[str] = Counter()
        self.judged: list[tuple[float, float, float, float]] = []
        self.invalid = self.hot = 0
        self.keep = False
        self.last: Progress | None = None
        self.clock = Clock()

    def other(self, other: Image) -> tuple[Image, AxesPlan]:
        """One more picture of the scene, and how it is cut: as the image is, on its own grid."""
        if parts := set(self.recipe.select) & set(self.cut.space):
            raise SettingError(f"cannot select along {', '.join(parts)} where several pictures are restored together")
        ranges = {axis: text for axis, text in self.recipe.select.items() if other.size(axis) > 1}
        other = other.select(ranges)
        cut = plan(other, "".join(axis for axis in self.cut.together if axis in other.axes))
        if cut.space != self.cut.space or cut.block_shape[0] != self.cut.block_shape[0]:
            raise AxesError(
                f"'{other.name}' is cut into blocks of {cut.block_shape[0]} channels along {cut.space}, the image into "
                f"blocks of {self.cut.block_shape[0]} along {self.cut.space}; give pictures with the same axes"
            )
        for axis in cut.looped:
            mine = self.image.size(axis) if axis in self.cut.looped else 1
            if other.size(axis) not in (1, mine):
                raise AxesError(
                    f"'{other.name}' has {other.size(axis)} elements along {axis}, the image {mine}; "
                    "give a picture with as many, or with a single one, which then goes with all"
                )
        return other, cut

    def job(self) -> Job:
        """All blocks, one after the other."""
        if self.device_note:
            yield from self.note(self.device_note)
        result = np.empty(self.out.shape, self.image.dtype)
        nets: list[nn.Module] = []
        for number, place in enumerate(self.places):
            if self.keep:
                kept = f"kept early: only {number} of {len(self.places)} blocks are restored"
                yield from self.note(Note(kept, warning=True))
                for rest in self.places[number:]:
                    self.leave(result, rest)
                break
            block = self.prepare(place)
            if isinstance(block, Note):
                yield from self.note(block)
                self.leave(result, place)
                nets = []
                continue
            warm = nets if self.params.warm_start and self.cut.follows(number) else []
            pixels, nets = yield from self.block(number, place, block, warm)
            _check_finite(pixels)
            pixels = yield from self.refined(place, block, pixels)
            values = block.values(pixels)
            _check_finite(values)
            done = cast(values, self.image.dtype)
            self.out.write(result, place, done)
            yield from self.say(Preview(self.out.index(place), self.out.unfold(done)))
            yield from self.judge(block, pixels, values)
        return (yield from self.finish(result))

    def judge(self, block: Block, pixels: _Pixels, values: NDArray[np.float64]) -> _Part[None]:
        """Remember how good a restored block is, and what of it was filled in."""
        self.hot += block.hot
        self.invalid += int((~block.valid).sum()) - block.hot
        if self.params.degraded:
            seen = self.seen(block, pixels)
            if seen is None:
                yield from self.note(Note("the memory ran out; the result is not judged", warning=True))
                return
            values = block.values(seen)
        self.judged += block.judge(values)

    def leave(self, result: NDArray[Any], place: tuple[int, ...]) -> None:
        """Leave a block as it is, on the grid of the result."""
        self.out.write(result, place, repeat(self.cut.read(self.image.data, place), self.finer))

    def refined(self, place: tuple[int, ...], block: Block, pixels: _Pixels) -> _Part[_Pixels]:
        """The pixels of a fitted block, refined if wished; as far as there is memory for it: the fit is not lost."""
        if not self.params.refine:
            return pixels
        if self.params.degraded:
            return (yield from self.refined_scene(place, block, pixels))
        try:
            return (yield from self.refined_parts(block, pixels))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        yield from self.note(Note("the memory ran out; the fit is not refined", warning=True))
        return pixels

    def refined_parts(self, block: Block, pixels: _Pixels) -> _Part[_Pixels]:
        """Refined tile by tile, so that someone may stop it."""
        tiling = Tiling.of(block.space, _REFINED, _OVERLAP)
        parts = []
        for part in tiling.slices:
            parts.append(block.refined(pixels, part))
            if self.last is not None:
                yield from self.say(self.last)
        return tiling.blend(parts)

    def refined_scene(self, place: tuple[int, ...], block: Block, pixels: _Pixels) -> _Part[_Pixels]:
        """Refined as a whole, round by round, by the method, which knows how the pictures came about."""
        if self.method.refine is None:
            return pixels
        done, total, why = 0, self.params.refinements, ""
        self.clock.begin(self.clock.piece + 1, self.clock.pieces)
        try:
            start = torch.from_numpy(pixels).to(self.device)
            rounds = self.method.refine(self.params, start, self.whole_of(block))
            while not self.keep and (better := next(rounds, None)) is not None:
                pixels, done = better.cpu().numpy(), done + 1
                yield from self.tell(done, max(done, total), partial(self.preview, place, block, pixels))
            why = "kept" if self.keep and done < total else ""
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            why = "the memory ran out"
        if why:
            yield from self.note(Note(f"{why} after {done} of {total} rounds of refinement", warning=why != "kept"))
        return pixels

    def tell(self, done: int, total: int, show: Callable[[], Preview]) -> _Part[None]:
        """Say that a round of refinement is done; and show what came of it, if it is time to."""
        self.last = self.clock.progress(Step(done, total, self.residual()))
        yield from self.say(self.last)
        if not self.keep and self.clock.shows():
            yield from self.say(show())
            self.clock.showed()

    def seen(self, block: Block, pixels: _Pixels) -> _Pixels | None:
        """What a picture of the result would be, taken as the block was; `None` if there is no memory for it."""
        for device in dict.fromkeys((self.device, torch.device("cpu"))):
            try:
                with torch.no_grad():
                    scene = torch.from_numpy(pixels).to(device)
                    seen = self.method.seen(self.params, scene, self.whole_of(block, device))
                return np.asarray(seen.cpu().numpy())
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
        return None

    def prepare(self, place: tuple[int, ...]) -> Block | Note:
        """The block at a place, or in a stack the reason for leaving it as it is."""
        try:
            return self.measured(place)
        except ImageError as error:
            if len(self.places) == 1:
                raise
            at = ", ".join(f"{axis} = {i}" for axis, i in zip(self.cut.looped, place, strict=True))
            return Note(f"left unchanged at {at}: {error}", warning=True)

    def measured(self, place: tuple[int, ...]) -> Block:
        """The block at a place, with its noise."""
        index = dict(zip(self.cut.looped, place, strict=True))
        others = []
        for other, cut in self.others:
            # one that is single along an axis goes with all of the image
            at = tuple(min(index.get(axis, 0), other.size(axis) - 1) for axis in cut.looped)
            others.append(Other(cut.read(other.data, at), other.spacing(cut.space)))
        return prepare(
            self.cut.read(self.image.data, place),
            self.noise_at(place),
            self.params,
            masked=self.mask_at(place),
            axes=self.cut.space,
            spacing=self.image.spacing(self.cut.space),
            others=others,
        )

    def whole(self, place: tuple[int, ...]) -> Noisy:
        """The block at a place as a method sees it."""
        return self.whole_of(self.measured(place))

    def whole_of(self, block: Block, device: torch.device | None = None) -> Noisy:
        """All of a block as a method sees it."""
        return block.noisy((slice(None),) * len(block.space), device or self.device, self.recipe.seed)

    def mask_at(self, place: tuple[int, ...]) -> NDArray[np.bool_] | None:
        """Where the block at a place is masked in any channel, `(*space)`."""
        if self.masked is None:
            return None
        return np.asarray(self.cut.read(self.masked, place).any(axis=0))

    def channel(self, place: tuple[int, ...]) -> tuple[int, ...]:
        """The channel of a block."""
        return tuple(i for axis, i in zip(self.cut.looped, place, strict=True) if axis in COLOUR)

    def alike(self, channel: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The places of all blocks of a channel."""
        return [place for place in self.places if place[: len(channel)] == channel]

    def noise_at(self, place: tuple[int, ...]) -> list[Noise]:
        """The noise of each channel of a block, measured once for all blocks of the same channels."""
        key = self.channel(place)
        if key not in self.noise:
            self.noise[key] = measure_blocks(lambda p: self.cut.read(self.image.data, p), self.mask_at, self.alike(key))
        return self.noise[key]

    def block(
        self, number: int, place: tuple[int, ...], block: Block, warm: list[nn.Module]
    ) -> _Part[tuple[_Pixels, list[nn.Module]]]:
        """One block; with smaller tiles where the memory does not suffice, and they help."""
        while True:
            try:
                return (yield from self.tiles(number, place, block, warm))
            except (RuntimeError, MemoryError) as error:
                largest = min(self.tile, round(math.prod(block.space) ** 0.5))
                # several pictures are fitted whole, and what learns takes crops of whole blocks
                whole = block.others or (self.method.learn and self.channel(place) not in self.learned)
                if not is_out_of_memory(error) or largest <= _SMALLEST_TILE or whole:
                    raise
                self.tile, warm = max(largest // 2, _SMALLEST_TILE), []
            yield from self.note(Note(f"the memory ran out; going on with tiles of {self.tile} pixels", warning=True))

    def tiles(
        self, number: int, place: tuple[int, ...], block: Block, warm: list[nn.Module]
    ) -> _Part[tuple[_Pixels, list[nn.Module]]]:
        """Fit and restore each tile of a block, and blend them."""
        # pictures on other grids have no tiles that go with these
        tiling = Tiling.of(block.space, math.prod(block.space) if block.others else self.tile, _OVERLAP)
        parts = [repeat(block.pixels[(slice(None), *part)], self.finer) for part in tiling.slices]
        nets: list[nn.Module] = []
        pieces = len(parts) + (self.params.refinements > 0)
        for index, part in enumerate(tiling.slices):
            if self.keep:
                yield from self.note(Note(f"kept early: only {index} of {len(parts)} tiles are restored", warning=True))
                break
            noisy = block.noisy(part, self.device, self.recipe.seed)

            def show(net: nn.Module, index: int = index, noisy: Noisy = noisy) -> Preview:
                shown = [*parts[:index], self.render(net, noisy), *parts[index + 1 :]]
                return self.preview(place, block, tiling.blend(shown))

            if self.method.learn:
                net = yield from self.learn(place, noisy, show)
                yield from self.count(number * len(parts) + index, len(self.places) * len(parts))
            else:
                self.clock.begin(number * pieces + index, len(self.places) * pieces)
                net = yield from self.fit(noisy, warm[index] if index < len(warm) else None, show)
            parts[index] = self.render(net, noisy)
            nets.append(net)
        return tiling.blend(parts), nets

    def fit(self, noisy: Noisy, start: nn.Module | None, show: Callable[[nn.Module], Preview]) -> _Part[nn.Module]:
        """A network fitted to a tile."""
        net = self.network(noisy) if start is None else start
        yield from self.follow(self.method.fit(net, noisy, self.params, start is not None), partial(show, net))
        return net

    def learn(self, place: tuple[int, ...], noisy: Noisy, show: Callable[[nn.Module], Preview]) -> _Part[nn.Module]:
        """The network of a channel: that of the model, or one that learns from all its blocks when first asked for."""
        key = self.channel(place)
        if key not in self.learned:
            net = self.network(noisy) if self.model is None else self.model.network(self.device)
            if self.method.learn and (self.model is None or self.recipe.adapt):
                self.clock.begin(2 * len(self.learned), 2 * self.groups)
                load = [partial(self.whole, p) for p in self.alike(key)]
                warm = self.model is not None
                fit = self.method.learn(net, Stream(load, self.recipe.seed), self.params, warm)
                yield from self.follow(fit, partial(show, net))
                self.keep = False  # the learning was to stop; what it has learned restores all blocks
            self.learned[key] = net
        return self.learned[key]

    def count(self, done: int, total: int) -> _Part[None]:
        """Say how many tiles are restored by a network that has learned."""
        share = total // self.groups
        self.clock.begin(2 * (done // share) + 1, 2 * self.groups)
        if self.clock.speaks():
            yield from self.progress(Step(done % share, share, self.residual()))

    def residual(self) -> torch.Tensor:
        """The mean squared residual that was last told, for steps that know of none."""
        return torch.tensor(self.last.residual**2 if self.last else 1.0)

    def follow(self, fit: Fit, show: Callable[[], Preview]) -> _Part[None]:
        """A fit to its end, or to where someone wishes to keep it: after the first step, or later."""
        step: Step | None = None
        try:
            while not (self.keep and step and step.done):
                step = next(fit)
                yield from self.progress(step)
                if self.clock.shows():
                    yield from self.say(show())
                    self.clock.showed()
        except StopIteration as end:
            yield from self.stopped(end.value)
            return
        finally:
            fit.close()
        yield from self.note(Note(f"kept after {step.done} of {step.total} steps"))

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
        return Preview(self.out.index(place), self.out.unfold(values))

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
            result[alpha] = repeat(np.asarray(self.image.data[alpha]), self.out.finer_than(self.cut))
        if self.hot:
            yield from self.note(Note(f"{self.hot} hot pixels were filled from the fit (hot_pixels)"))
        if self.invalid:
            yield from self.note(
                Note(f"{self.invalid} pixels without a value (NaN, infinite or masked) were filled from the fit")
            )
        sigma, residual, whiteness, structure = np.mean(self.judged or [(0.0,) * 4], axis=0).tolist()
        stopped = tuple(f"{count} × {text}" if count > 1 else text for text, count in self.stops.items())
        return Restored(
            image=self.image.on_finer_grid(result, self.out.finer_than(self.cut)),
            recipe=self.recipe,
            quality=Quality(sigma, residual, whiteness, structure, self.invalid, stopped),
            seconds=self.clock.seconds,
            device=describe_device(self.device),
            notes=tuple(self.notes),
        )


def _check_finite(values: NDArray[Any]) -> None:
    """Raise a `ComputeError` for a result that is none: as integers it would be garbage."""
    if wrong := int((~np.isfinite(values)).sum()):
        raise ComputeError(
            f"the fit diverged: {wrong} of {values.size} restored values are not finite; "
            "take another seed, or a lower learning_rate"
        )

"""Lesson: the life of one learning: open the images, read blocks, train, hand out the model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeAlias, TypeVar

import torch
from torch import nn

from napari_pristine.device import describe_device, pick_device, seeded, versions
from napari_pristine.errors import ComputeError, FileError, ImageError, PristineError, SettingError
from napari_pristine.events import Command, Event, Note, Progress
from napari_pristine.jobs.clock import ProgressClock
from napari_pristine.jobs.crops import CropSampler
from napari_pristine.jobs.training_images import Sample, TrainingImage
from napari_pristine.methods import METHODS, find_method
from napari_pristine.methods.method import Method, NoisyBlock, Step, StopReason
from napari_pristine.model import Facts, Model, load_model, untrained
from napari_pristine.recipe import Recipe

_MEMORY = 0.95
"""Of the mean over the residuals of the last steps: that of one step depends on its crops."""
_MOST_NAMES = 1000
"""Images whose names are kept in a model."""

T = TypeVar("T")
_Part: TypeAlias = Generator[Event, "Command | None", T]
Learning: TypeAlias = Generator[Event, "Command | None", Model]
"""A job under way: yields events, takes wishes, returns the model. Closing it cancels it."""


class TrainingJob:
    """One job: what was resolved before it started, and how far it is.

    Args:
        samples: Images, arrays or paths of files.
        recipe: How; a file of a model in it is learned on from.
        start: The same, as a model.
        room: Bytes of pixels that are kept in memory.

    Raises:
        PristineError: Axes, settings or images do not allow it.
    """

    def __init__(self, samples: Sequence[Sample], recipe: Recipe, start: Model | None, room: int) -> None:
        self.method = _learner(recipe.method)
        self.recipe = recipe
        self.params = recipe.params
        self.clock = ProgressClock()
        self.keep = False
        self.step: Step | None = None
        self.residual: torch.Tensor | None = None
        self.pending: list[Note] = []
        self.notes: list[Note] = []
        self.told = 0
        self.examples = self.open(samples)
        first = self.examples[0].cut
        self.channels, self.axes = first.block_shape[0], first.space.replace("XY", "YX")
        self.start = load_model(recipe.model) if start is None and recipe.model else start
        if self.start:
            self.start.check_fits(self.channels, self.axes, recipe.method)
            self.start.check(self.params)
        self.device, note = pick_device(recipe.device)
        self.pending += [note] if note else []
        self.blocks = [(example, place) for example in self.examples for place in example.cut.places]
        self.stream = CropSampler([partial(self.load, *block) for block in self.blocks], recipe.seed, room)

    def open(self, samples: Sequence[Sample]) -> list[TrainingImage]:
        """The images that can be learned from; the others are left out.

        Raises:
            PristineError: There is none, or they cannot be learned from together.
        """
        examples: list[TrainingImage] = []
        last: PristineError = ImageError("there are no images to learn from; give one at least")
        for number, sample in enumerate(samples):
            try:
                examples.append(TrainingImage.of(sample, self.recipe, f"image {number}"))
            except (FileError, ImageError) as error:
                last = error
                self.pending.append(Note(f"left out: {error}", warning=True))
        if not examples:
            raise last
        for other in examples[1:]:
            examples[0].check_alike(other)
        return examples

    def load(self, example: TrainingImage, place: tuple[int, ...]) -> NoisyBlock:
        """One block as the network sees it."""
        block = example.block(place, self.params)
        return block.noisy((slice(None),) * len(example.cut.space), self.device, self.recipe.seed)

    def job(self) -> Learning:
        """Read the first blocks, learn, and hand out what was learned."""
        self.clock.begin(0, 1)
        yield from self.tell()
        for _ in self.stream.fill():
            if self.clock.speaks():
                yield from self.say(Progress(0, 1, 0, 1, 1.0, self.clock.seconds, None))
        yield from self.tell()
        net = self.network()
        stop = yield from self.learn(net)
        yield from self.tell()
        return self.model(net, stop)

    def network(self) -> nn.Module:
        """The network to train: that of the model, or one of which the seed alone decides the weights."""
        if self.start:
            return self.start.network(self.device)
        with seeded(self.recipe.seed):
            return untrained(self.method, self.params, self.channels, self.axes).to(self.device)

    def learn(self, net: nn.Module) -> _Part[StopReason]:
        """The training to its end, or to where someone wishes to keep it: after the first step, or later."""
        assert self.method.learn is not None
        fit = self.method.learn(net, self.stream, self.params, self.start is not None)
        try:
            while not (self.keep and self.step and self.step.done):
                self.step = next(fit)
                last = self.step.residual
                self.residual = last if self.residual is None else last.lerp(self.residual, _MEMORY)
                if self.clock.speaks() or self.step.done == self.step.total:
                    yield from self.say(self.clock.progress(self.step))
        except StopIteration as end:
            stop: StopReason = end.value
            self.pending += [Note(stop.text, warning=True)] if stop.warning else []
            return stop
        finally:
            fit.close()
        return StopReason(f"kept after {self.step.done} of {self.step.total} steps")

    def say(self, event: Event) -> _Part[None]:
        """Say something, and listen: a wish is answered at whichever event comes next."""
        wish = yield event
        self.keep = self.keep or wish is Command.KEEP

    def tell(self) -> _Part[None]:
        """Say what is to be said, and which blocks were left out since it was last asked."""
        new = list(self.stream.left_out.items())[self.told :]
        self.told += len(new)
        counts = Counter((self.blocks[number][0].name, str(error)) for number, error in new)
        for (name, reason), count in counts.items():
            some = f"{count} blocks are" if count > 1 else "a block is"
            self.pending.append(Note(f"{name}: {some} left out: {reason}", warning=True))
        while self.pending:
            self.notes.append(self.pending.pop(0))
            yield from self.say(self.notes[-1])

    def model(self, net: nn.Module, stop: StopReason) -> Model:
        """What was learned, with all that is known about it."""
        weights = {name: weight.detach().cpu().clone() for name, weight in net.state_dict().items()}
        if not all(bool(weight.isfinite().all()) for weight in weights.values()):
            raise ComputeError("the learning diverged: the weights are no longer finite; set a lower learning_rate")
        facts = self.facts(stop)
        return Model(self.recipe, self.channels, self.axes, weights, facts)

    def facts(self, stop: StopReason) -> Facts:
        """How it went."""
        used = [block for number, block in enumerate(self.blocks) if number not in self.stream.left_out]
        residual = float(self.residual) ** 0.5 if self.residual is not None else math.nan
        names = list(dict.fromkeys(example.name for example, _ in used))
        return Facts(
            images=tuple(names[:_MOST_NAMES]),
            count=len({example for example, _ in used}),
            blocks=len(used),
            sigma=tuple(self.stream.sigma.tolist()),
            residual=residual if math.isfinite(residual) else None,
            stopped=stop.text,
            start=self.start.fingerprint if self.start else "",
            seconds=round(self.clock.seconds, 3),
            device=describe_device(self.device),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=versions(),
            notes=tuple(note.text for note in self.notes),
        )


def _learner(key: str) -> Method[Any, Any]:
    """The method with this key, if it learns from many images."""
    method = find_method(key)
    if method.learn is None:
        those = ", ".join(other.key for other in METHODS.values() if other.learn) or "none yet"
        raise SettingError(
            f"{key} fits each image by itself; there is nothing to learn beforehand: restore the images right away, "
            f"or learn by another method ({those})"
        )
    return method

"""Restore an image: read, normalise, fit, refine, denormalise and write each block."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_pristine.device import compute_threads, describe_device, out_of_memory_as_error, thread_warning, versions
from napari_pristine.errors import ComputeError, ImageError, OutOfMemory, SettingError
from napari_pristine.events import BlockDone, Command, Event, Job, Note, Preview, T
from napari_pristine.image.axes import BlockIndex
from napari_pristine.image.image import Image, check_text
from napari_pristine.image.intensity import cast
from napari_pristine.image.outliers import count_defects
from napari_pristine.image.quality import Quality
from napari_pristine.image.tiling import repeat
from napari_pristine.io.arrays import as_image, is_dataarray, like_dataarray
from napari_pristine.jobs.block import Block, Pixels
from napari_pristine.jobs.choose import choose, describe_choice
from napari_pristine.jobs.context import JobContext, JobPart
from napari_pristine.jobs.fit import BlockFitter, FittedBlock, refine_block
from napari_pristine.jobs.inputs import change_recipe, make_recipe
from napari_pristine.jobs.plan import RestorationPlan, make_plan
from napari_pristine.jobs.summary import QualitySummary
from napari_pristine.model import Model, load_model
from napari_pristine.recipe import PRETRAINED_MODEL, Recipe
from napari_pristine.recipe_file import load_recipe
from napari_pristine.settings import shorten
from napari_pristine.text import counted
from napari_pristine.threads import Prefetcher

_MAX_COUNTED = 1000
"""Maximum number of work units whose blocks are counted for the progress; more are assumed to be all of them."""

_ROUNDING = 1e-3
"""Distance below zero, in noise levels, up to which values do not count as negative."""


@dataclass(frozen=True, eq=False)
class Restored:
    """A restored image with its recipe, quality figures, notes, device and seconds.

    Attributes:
        image: The restored image.
        recipe: The recipe, with the checksums of all inputs.
        quality: Quality figures.
        seconds: Time that it took.
        device: Device that it was computed on.
        notes: Notes for the user.
        uncertainty: If wanted, half the width of the interval that holds the truth of each pixel with a probability
            of 90 %, float32, in the units of the image; NaN where nothing was restored or the image had no value.
    """

    image: Image
    recipe: Recipe
    quality: Quality
    seconds: float
    device: str
    notes: tuple[Note, ...] = ()
    uncertainty: Image | None = None

    @property
    def data(self) -> Any:
        """The restored values: an array, or a `DataArray` if one was restored."""
        return self.image.data

    def provenance(self) -> dict[str, Any]:
        """Describe how the result was made, as plain JSON values."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "quality": self.quality.to_dict(),
            "seconds": round(self.seconds, 3),
            "device": self.device,
            "notes": [note.text for note in self.notes],
            "versions": versions(),
        }


def restore(
    image: NDArray[Any] | Image,
    method: str = "",
    *,
    recipe: Recipe | str | os.PathLike[str] | None = None,
    axes: str = "",
    preset: str = "",
    settings: Mapping[str, Any] | None = None,
    together: str = "",
    select: Mapping[str, str] | None = None,
    mask: NDArray[Any] | Image | None = None,
    also: Sequence[NDArray[Any] | Image] = (),
    model: Model | str | Path | None = None,
    adapt: bool | None = None,
    value_type: str | None = None,
    strength: float | Sequence[float] | None = None,
    uncertainty: bool | None = None,
    device: str | None = None,
    seed: int | None = None,
    threads: int | None = None,
    on_event: Callable[[Event], Command | None] | None = None,
) -> Restored:
    """Restore an image and wait for the result.

    Args:
        image: An array, an `Image`, whose axes and spacing the result keeps, or a `DataArray` of xarray; then the data
            of the result are a `DataArray` too.
        method: Name of the method; by default `inr`, or that of the recipe or the model.
        recipe: A recipe, or its file, from which all other arguments take their defaults. Arguments that are given
            override it, and `settings` override single settings; method and preset cannot be changed.
        axes: One letter per dimension, such as `"TZCYX"`; needed for arrays with more than two dimensions.
        preset: Effort, `fast`, `balanced` (default) or `best`; or `paper`, as published. Not with a model.
        settings: Settings that differ from the preset, or from those of the model.
        together: Axes that are restored jointly, such as `"ZYX"`; Y and X if empty. All others are looped over.
        select: Ranges to restore, such as `{"T": "0:10"}`.
        mask: Not zero where pixels are to be filled in; of the shape of the image, or of one plane.
        also: Extra images of the same scene, for methods that restore several images jointly.
        model: A trained network, or its file; `"pretrained"` starts from the network of the package, and trains it on.
        adapt: Train the model further on the image before it restores it; off by default.
        value_type: Type of the values of the result: `auto` (default), `same` or `float32`; see `Recipe`.
        strength: How much of the noise is removed, 0 to 1: one number, or one for each channel; by default all of it.
        uncertainty: Also find half the width of the 90 % interval of each pixel, see `Restored`; off by default.
        device: `auto` (default), `cpu`, `cuda` or `mps`.
        seed: Seed of all random numbers, by default 0: the same seed gives the same pixels on one device.
        threads: Number of CPU threads; by default that of torch.
        on_event: Called with each event; may return `Command.KEEP` to stop early and keep the result so far.

    Raises:
        PristineError: Something does not fit; the message says what to do.
    """
    check_text(axes)
    check_text(together, "together")
    base = load_recipe(recipe) if isinstance(recipe, (str, os.PathLike)) else recipe
    if not isinstance(base, Recipe | None):
        raise SettingError(f"recipe is {shorten(repr(base))}; give a Recipe or its file, see load_recipe")
    axes, together = (axes or (base.axes if base else "")).upper(), together.upper()
    original, image = image, as_image(image, axes)
    network = model if isinstance(model, Model) else open_model(str(model or ""))
    fields: dict[str, Any] = {
        "axes": axes or None, "together": together or None, "select": None if select is None else dict(select),
        "adapt": adapt, "value_type": value_type, "strength": strength,
        "uncertainty": uncertainty, "device": device, "seed": seed,
        "model": None if isinstance(model, Model) or model is None else str(model),
    }  # fmt: skip
    given = {name: value for name, value in fields.items() if value is not None}
    if base is None:
        used = make_recipe(network, method, preset, settings or {}, given)
    else:
        used = change_recipe(base, method, preset, settings or {}, given)
    mask_image = None if mask is None else as_image(mask, default=image.axes)
    extra_images = [as_image(extra, default=image.axes) for extra in also]
    with compute_threads(threads):
        result = wait(run(image, used, mask=mask_image, extra_images=extra_images, model=network), on_event)
    if threads and (warning := thread_warning(threads)):
        result = replace(result, notes=(Note(warning, warning=True), *result.notes))
    if is_dataarray(original):
        result = replace(result, image=like_dataarray(original, result.image, used.select))
    return result


def run(
    image: Image,
    recipe: Recipe,
    *,
    mask: Image | None = None,
    extra_images: Sequence[Image] = (),
    model: Model | None = None,
) -> Job[Restored]:
    """Restore an image as a job.

    Everything is checked before the first event. A job that receives `Command.KEEP` stops fitting and returns the
    result so far: blocks that were not reached are left as they were, and a note says so.

    Args:
        image: The image.
        recipe: Recipe of the restoration; the files that it names are opened unless objects are given in their place.
        mask: Not zero where pixels are to be filled in; its axes are some or all of those of the image.
        extra_images: Extra images of the same scene, for methods that restore several images jointly.
        model: A trained network.

    Raises:
        PristineError: Axes, settings, image or device do not allow it; the message says what to do.
    """
    return (yield from run_plan(make_plan(image, recipe, mask=mask, extra_images=extra_images, model=model)))


def run_plan(
    plan: RestorationPlan,
    *,
    into: Any = None,
    uncertainty_into: Any = None,
    units: Sequence[Sequence[BlockIndex]] | None = None,
    checkpoint_dir: Path | None = None,
) -> Job[Restored]:
    """Restore the blocks of a plan.

    Args:
        plan: Plan of the restoration.
        into: Array to write the result to, block by block; a new one in memory if none is given.
        uncertainty_into: The same for the uncertainty, if the recipe asks for it.
        units: Blocks to restore, by their work units; all if none are given. Whole units of the plan where blocks
            start from their neighbour's network or are fitted at once.
        checkpoint_dir: Folder of checkpoints of trained networks.

    Raises:
        PristineError: It cannot be done; the message says what to do.
    """
    context = JobContext()
    if plan.method.candidates:
        plan = yield from choose(plan, context, run_plan)
    result = np.empty(plan.output_blocks.shape, plan.dtype) if into is None else into
    uncertainty = uncertainty_into
    if plan.recipe.uncertainty and uncertainty is None:
        uncertainty = np.full(plan.output_blocks.shape, np.nan, np.float32)
    batch_count, block_count, channels = plan.batch_count, len(plan.indices), plan.blocks.channel_count
    if units is not None and len(units) <= _MAX_COUNTED:
        batch_count, block_count = (sum(map(len, each)) for each in (map(plan.batches, units), units))
        channels = len({plan.blocks.channel(index) for unit in units for index in unit})
    batches = chain.from_iterable(map(plan.batches, plan.work_units if units is None else units))
    fitter = BlockFitter(plan, context, batch_count, channels, checkpoint_dir)
    summary = QualitySummary(plan, result.dtype)
    prefetcher: Prefetcher[BlockIndex] = Prefetcher(plan.read)
    networks: dict[BlockIndex, list[torch.nn.Module]] = {}
    noted = 0

    def finish(done: BlockDone) -> JobPart[None]:
        """Report a block that is written, with the notes since the block before."""
        nonlocal noted
        done = replace(done, notes=tuple(context.notes[noted:]))
        noted = len(context.notes)
        summary.add(done)
        yield from context.emit(done)

    try:
        with out_of_memory_as_error():
            for note in plan.notes:
                yield from context.emit(note)
            for number, (batch, following) in enumerate(pairwise(chain(batches, [None]))):
                assert batch is not None
                if context.keep:
                    kept = f"only {summary.count} of {counted(block_count, 'block')} restored"
                    yield from context.warn(f"kept early: {kept}; the others are unchanged")
                    for index in chain(batch, following or (), chain.from_iterable(batches)):
                        _write(plan, result, index, repeat(plan.read(index), plan.upscaling))
                        _write_uncertainty(plan, uncertainty, index, None)
                    break

                # read and normalise; in a stack, blocks with nothing to restore are left as they are
                fits: list[FittedBlock] = []
                unchanged: dict[BlockIndex, ImageError] = {}
                for index in batch:
                    try:
                        block = plan.block(index, prefetcher.get(index))
                    except ImageError as error:
                        if len(plan.indices) == 1:
                            raise
                        unchanged[index] = error
                        continue
                    neighbour = (*index[:-1], index[-1] - 1) if plan.starts_warm(index) else None
                    start = networks.get(neighbour, []) if neighbour else []
                    fits.append(FittedBlock(index, block, start, torch.from_numpy(block.pixels)))
                if following and not isinstance(plan.image.data, np.ndarray):
                    prefetcher.start(following[0])

                stops_before = Counter(context.stops)
                for group in ([f for f in fits if not f.networks], [f for f in fits if f.networks]):
                    if group:
                        yield from fitter.fit(number, group)
                stops = tuple((text, n // len(fits)) for text, n in (context.stops - stops_before).items())
                networks = {fitted.index: fitted.networks for fitted in fits}

                for index, reason in unchanged.items():
                    _write(plan, result, index, repeat(plan.read(index), plan.upscaling))
                    _write_uncertainty(plan, uncertainty, index, None)
                    yield from finish(BlockDone(index, unchanged=str(reason)))  # all of them have one note at the end
                for fitted in fits:
                    _check_finite(fitted.restored)
                    pixels = yield from refine_block(plan, context, fitter, fitted)
                    values = fitted.block.denormalise(pixels)
                    _check_finite(torch.from_numpy(values))
                    errors: tuple[tuple[float, float, float, float], ...] = ()
                    evidence: tuple[tuple[float, float, float], ...] = ()
                    if not plan.params.degraded:
                        share = fitted.kept if plan.params.safeguard else None
                        values, errors, evidence = fitted.block.replace_worse(values, share)
                    values = fitted.block.keep_empty(values)
                    unmixed, strength = values, plan.strength(fitted.index)
                    if strength is not None:
                        values = fitted.block.blend(values, strength)
                    rounded = cast(values, result.dtype)
                    yield from context.emit(_write(plan, result, fitted.index, rounded, ~fitted.block.valid))
                    if plan.recipe.uncertainty:
                        assert fitted.half_widths is not None
                        first = fitted.block.denormalise(fitted.restored.cpu().numpy())
                        widths = fitted.block.half_widths(fitted.half_widths.cpu().numpy(), first, unmixed, strength)
                        _write_uncertainty(plan, uncertainty, fitted.index, widths)
                    interior = plan.blocks.interior(fitted.index)
                    defects = tuple(count_defects(fitted.block.outliers[interior]).items())
                    quality = yield from _quality(plan, context, fitted.block, pixels, values)
                    yield from finish(
                        BlockDone(
                            fitted.index,
                            quality,
                            defects,
                            int(fitted.block.missing[interior].sum()),
                            stops,
                            errors=errors,
                            evidence=evidence,
                            stripes=fitted.block.stripes,
                            means=_means(values, rounded),
                            weights=fitted.weights,
                            below_zero=_below_zero(fitted.block, rounded),
                            patch_sigmas=fitted.block.patch_sigmas,
                        )
                    )

            if summary.count == len(plan.indices) and summary.nothing_restored:
                raise ImageError(summary.nothing_restored)
            if plan.recipe.choice is not None:
                plan, text = describe_choice(plan, summary)
                yield from context.emit(Note(text))
            for note in summary.notes():
                yield from context.emit(note)
    except RuntimeError as error:  # generator workers swallow this one
        raise ComputeError(f"the computation failed: {error}") from error
    return Restored(
        image=plan.result_image(result),
        recipe=plan.recipe,
        quality=summary.quality(),
        seconds=context.seconds,
        device=describe_device(plan.device),
        notes=tuple(context.notes),
        uncertainty=plan.result_image(uncertainty) if plan.recipe.uncertainty else None,
    )


def wait(job: Job[T], on_event: Callable[[Event], Command | None] | None = None) -> T:
    """Run a job to its end: `on_event` is called with each event, and the command it returns is sent to the job."""
    command: Command | None = None
    try:
        if on_event is not None and not callable(on_event):
            raise SettingError(f"on_event must be a function that takes an event, not {on_event!r}")
        while True:
            event = job.send(command)
            command = on_event(event) if on_event else None
            if command is not None and not isinstance(command, Command):
                raise SettingError(
                    f"on_event returned {command!r}; it may return Command.KEEP, to keep the result so far, or None"
                )
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        job.close()


def open_model(name: str) -> Model | None:
    """Open the file of a model; none if no file is named, since the recipe says how a method starts then."""
    return load_model(name) if name and name != PRETRAINED_MODEL else None


def _write(
    plan: RestorationPlan, result: Any, index: BlockIndex, values: NDArray[Any], filled: NDArray[np.bool_] | None = None
) -> Preview:
    """Write the values `(C, *space)` of a block to the result; transparency stays as it was."""
    blocks = plan.output_blocks
    part = blocks.unfold(values, index)
    if plan.image.size("S") == 4:
        original = blocks.unfold(repeat(plan.read(index), plan.upscaling), index)
        kept = [axis for axis in blocks.axes if axis in blocks.joint_axes]
        if "S" in kept:
            alpha = tuple(slice(3, 4) if axis == "S" else slice(None) for axis in kept)
            part = part.copy()
            part[alpha] = original[alpha]
        elif blocks.position(index)["S"] == 3:
            part = original
    result[blocks.region(index)] = part
    if filled is None or not filled.any() or max(plan.upscaling) > 1:
        return Preview(blocks.region(index), part)
    return Preview(blocks.region(index), part, blocks.unfold(np.broadcast_to(filled, values.shape), index))


def _write_uncertainty(
    plan: RestorationPlan, uncertainty: Any, index: BlockIndex, half_widths: NDArray[np.float32] | None
) -> None:
    """Write the uncertainty `(C, *space)` of a block, if it is wanted; NaN if it is unknown, 0 for transparency."""
    if not plan.recipe.uncertainty:
        return
    blocks = plan.output_blocks
    if half_widths is None:
        half_widths = np.full(repeat(plan.read(index), plan.upscaling).shape, np.nan, np.float32)
    part = blocks.unfold(half_widths, index)
    if plan.image.size("S") == 4:
        kept = [axis for axis in blocks.axes if axis in blocks.joint_axes]
        alpha = tuple(slice(3, 4) if axis == "S" else slice(None) for axis in kept)
        if "S" in kept or blocks.position(index)["S"] == 3:
            part = part.copy()
            part[alpha] = 0
    uncertainty[blocks.region(index)] = part


def _quality(
    plan: RestorationPlan, context: JobContext, block: Block, pixels: Pixels, values: NDArray[np.float64]
) -> JobPart[tuple[tuple[float, float, float, float], ...]]:
    """Quality of a block: compare the image with the result, which is degraded like the image if need be."""
    if not plan.params.degraded:
        return block.quality(values)
    for device in dict.fromkeys((plan.device, torch.device("cpu"))):
        try:
            with out_of_memory_as_error(), torch.no_grad():
                scene = torch.from_numpy(pixels).to(device)
                recorded = plan.method.forward_model(plan.params, scene, block.noisy(device, plan.recipe.seed))
                return block.quality(block.denormalise(recorded.cpu().numpy()))
        except OutOfMemory:
            continue
    yield from context.warn("the memory ran out; the quality of the result is not measured")
    return ()


def _means(exact: NDArray[Any], stored: NDArray[Any]) -> tuple[tuple[float, float], ...]:
    """Means of each channel before and after values are converted."""
    return tuple((float(a.mean()), float(b.mean(dtype=np.float64))) for a, b in zip(exact, stored, strict=True))


def _below_zero(block: Block, values: NDArray[Any]) -> tuple[int, float]:
    """Return the number of restored values below zero and the lowest of them; (0, 0.0) if the block has some itself.

    Values that are negative only because of rounding are not counted.
    """
    level = max(intensity.noise.sigma for intensity in block.intensities)
    lowest = float(values.min())
    if lowest >= -_ROUNDING * level or block.filled.min() < 0:
        return 0, 0.0
    return int(np.count_nonzero(values < -_ROUNDING * level)), lowest


def _check_finite(values: torch.Tensor) -> None:
    """Raise a `ComputeError` for a result that is not finite: as integers it would be garbage."""
    if wrong := int((~torch.isfinite(values)).sum()):
        raise ComputeError(
            f"the fit diverged: {wrong} of {values.numel()} restored values are not finite; "
            "use another seed, or a lower learning_rate"
        )

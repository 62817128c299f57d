"""Choose the method of an image by evidence: restore a part of it by each candidate, and compare estimated errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from napari_pristine.errors import ImageError
from napari_pristine.events import BlockDone, Job, Progress
from napari_pristine.image.image import Image
from napari_pristine.image.noise import is_correlated
from napari_pristine.jobs.context import JobContext, JobPart
from napari_pristine.jobs.plan import RestorationPlan, make_plan
from napari_pristine.jobs.summary import QualitySummary
from napari_pristine.methods import find_method
from napari_pristine.recipe import Choice, Recipe

_SAMPLE_SIDE = 256
"""Side of the part of the image on which candidates are compared, in pixels."""
_MARGIN = 0.005
"""Error, in noise variances, by which a slower candidate must be better than the one before."""


class Compared(NamedTuple):
    """A candidate, and estimates of mean squared errors in noise variances; the noisy image has 1.

    Attributes:
        choice: The candidate; its error is at least the noise that is left in the result.
        relative_error: Its error, to be compared with that of the others only.
        blur_error: That of the better of the best light blur and the image itself.
    """

    choice: Choice
    relative_error: float
    blur_error: float


def choose(
    plan: RestorationPlan, context: JobContext, run: Callable[[RestorationPlan], Job[Any]]
) -> JobPart[RestorationPlan]:
    """Return the plan with the method that suits the image best, and the choice in its recipe.

    Candidates are compared on the middle of the middle plane of each channel, so that all frames are treated alike.

    Args:
        plan: Plan of a method that has candidates.
        context: Context of the job.
        run: Runs a plan, see `jobs.restore.run_plan`.
    """
    choice = plan.recipe.choice or plan.statistics.choice
    if choice is None:
        candidates = [
            (method, preset)
            for method, preset in plan.method.candidates[plan.recipe.preset]
            if find_method(method).restore_with_error or not plan.recipe.uncertainty
        ]
        single = len(plan.indices) == plan.blocks.channel_count  # then weights are measured where they are used
        if len(candidates) == 1 and single:
            choice = Choice(method=candidates[0][0], preset=candidates[0][1])
        else:
            compared = yield from _compare(plan, candidates, context, run)
            choice = _best(compared) if compared else Choice(method=candidates[0][0], preset=candidates[0][1])
        plan.statistics.choice = choice
    return with_choice(plan, choice)


def with_choice(plan: RestorationPlan, choice: Choice) -> RestorationPlan:
    """The plan with the method of a choice."""
    chosen = recipe_with(plan.recipe, choice)
    return replace(
        plan,
        recipe=plan.recipe.model_copy(update={"choice": choice}),
        method=find_method(choice.method),
        params=chosen.params,
    )


def recipe_with(recipe: Recipe, choice: Choice) -> Recipe:
    """The recipe of a candidate: its preset, with the settings that were changed in the recipe."""
    defaults = find_method(recipe.method).settings(recipe.preset).model_dump()
    changed = {name: value for name, value in recipe.settings.items() if value != defaults[name]}
    settings = {"warm_start": False, **changed}
    return recipe.model_copy(
        update={"method": choice.method, "preset": choice.preset, "settings": settings, "choice": None}
    )


def _compare(
    plan: RestorationPlan,
    candidates: Sequence[tuple[str, str]],
    context: JobContext,
    run: Callable[[RestorationPlan], Job[Any]],
) -> JobPart[list[Compared]]:
    """Restore a part of the image by each candidate, and estimate the errors; none where the part is empty."""
    sample = _sample(plan)
    found: list[tuple[Choice, list[BlockDone]]] = []
    for method, preset in candidates:
        candidate = Choice(method=method, preset=preset)
        recipe = recipe_with(plan.recipe, candidate).model_copy(update={"select": {}, "mask": "", "uncertainty": False})
        blocks: list[BlockDone] = []
        try:
            job = run(make_plan(sample, recipe))
            try:
                while not context.keep:
                    if isinstance(event := next(job), BlockDone):
                        blocks.append(event)
                    elif isinstance(event, Progress):  # so that it can be cancelled; of the job itself, nothing is done
                        yield from context.emit(replace(event, block=0, step=0, residual=math.nan, remaining=None))
            except StopIteration:
                pass
            finally:
                job.close()
        except ImageError:  # there is nothing to restore
            return []
        weights = [weight for block in blocks for weight in block.weights]
        found.append((candidate.model_copy(update={"weights": weights}), blocks))
    if not all(block.evidence for _, blocks in found for block in blocks):
        return []
    errors = _errors([blocks for _, blocks in found])
    left = [float(np.mean([kept**2 for block in blocks for _, _, kept in block.evidence])) for _, blocks in found]
    blurs = [float(np.mean([blur for block in blocks for _, blur, *_ in block.errors])) for _, blocks in found]
    return [
        Compared(choice.model_copy(update={"error": max(error, least)}), error, blur)
        for (choice, _), error, least, blur in zip(found, errors, left, blurs, strict=True)
    ]


def _best(compared: Sequence[Compared]) -> Choice:
    """The candidate with the least error; a slower one only if it is clearly better."""
    best = compared[0]
    for candidate in compared:
        if candidate.relative_error < best.relative_error - _MARGIN:
            best = candidate
    return best.choice


def compare_candidates(image: Image, candidates: Sequence[tuple[str, str]]) -> list[Compared]:
    """Compare methods on a part of an image by their estimated errors; none where that part is empty.

    Args:
        image: The image.
        candidates: Methods, with a preset each; the quickest first.
    """
    from napari_pristine.jobs.restore import run_plan, wait

    return wait(_compare(make_plan(image, Recipe(method="auto")), candidates, JobContext(), run_plan))


def _errors(candidates: list[list[BlockDone]]) -> list[float]:
    """Mean estimated error of each candidate over all channels, with the same variance of the noise for all.

    The error is R / V - 1 + 2 s, with R the mean square of what was removed, V the variance of the noise and s its
    covariance with the result. Each candidate has seen a V of its own in what it removed; the least one has the least
    structure in it. If it was measured as too high, all errors are too low by the same, and some below zero.
    """
    evidence = [[seen for block in blocks for seen in block.evidence] for blocks in candidates]
    factors = [min(factor for _, factor, _ in channels) for channels in zip(*evidence, strict=True)]
    return [
        float(np.mean([removed / f - 1 + 2 * kept for (removed, _, kept), f in zip(seen, factors, strict=True)]))
        for seen in evidence
    ]


def _sample(plan: RestorationPlan) -> Image:
    """The middle of the middle plane of each channel of an image."""
    image, space, joint = plan.image, plan.blocks.space, plan.blocks.joint_axes
    part = []
    for axis, length in zip(image.axes, image.shape, strict=True):
        side = length if axis in "CS" or (axis in joint and axis not in space[-2:]) else 1
        side = min(length, _SAMPLE_SIDE) if axis in space[-2:] else side
        part.append(slice((length - side) // 2, (length - side) // 2 + side))
    data = np.asarray(image.data[tuple(part)])
    return image.on_finer_grid(data, (1,) * data.ndim)


def describe_choice(plan: RestorationPlan, summary: QualitySummary) -> tuple[RestorationPlan, str]:
    """Complete the choice of a plan by what was measured, and describe it in one sentence.

    Args:
        plan: A plan with a choice.
        summary: Figures of all blocks.
    """
    choice = plan.recipe.choice
    assert choice is not None
    weights = [weight for _, each in sorted(summary.weights.items()) for weight in each]
    choice = choice.model_copy(update={"weights": choice.weights or weights, "error": summary.error})
    noise = [noise for channel in plan.first_of_channels for noise in plan.statistics.noise(channel)]
    correlated = any(is_correlated(each.correlation_length) for each in noise)
    kind = "correlated between pixels" if correlated else "independent from pixel to pixel"
    name = "photon noise" if any(each.signal_dependent for each in noise) else "equally strong everywhere"
    text = f"{find_method(choice.method).title} ({choice.preset}): the noise is {name}, {kind}"
    if choice.error is not None:
        text += f"; estimated error {choice.error**0.5:.2f} noise levels (input 1.00)"
    return replace(plan, recipe=plan.recipe.model_copy(update={"choice": choice})), text

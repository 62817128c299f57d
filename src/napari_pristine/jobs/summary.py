"""Quality of a result, accumulated block by block, so that memory does not grow with their number."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_pristine.events import BlockDone, Note
from napari_pristine.image.axes import BlockIndex
from napari_pristine.image.channels import name_channel
from napari_pristine.image.intensity import is_biased
from napari_pristine.image.noise import DISAGREE
from napari_pristine.image.outliers import describe_defects
from napari_pristine.image.quality import ChannelQuality, Quality
from napari_pristine.text import counted

if TYPE_CHECKING:
    from napari_pristine.jobs.plan import RestorationPlan

_REPLACED = 0.5
"""Share of the result that is replaced by blurs, above which a warning is given."""
_WORSE = 0.1
"""Error, in noise variances, by which a result must be worse than a light blur for a warning."""
_REMOVED, _STRUCTURE = 1.1, 0.3
"""Residual in noise levels and its correlation with the result, above which structure counts as removed."""
_MAX_WEIGHTS = 1000
"""Maximum number of channels whose weights are kept."""
_LOST = 0.1
"""Share of the contrast of fine structure that is missing, above which a warning is given."""
_MAX_REASONS = 20
"""Maximum number of reasons listed for unchanged blocks: the value of each empty frame may be different."""


class QualitySummary:
    """Quality figures of all blocks so far.

    Args:
        plan: Plan of the restoration.
        dtype: Type of the values of the result.

    Attributes:
        count: Number of blocks.
        weights: Weights of the restored pixels in their mixture with the refined ones, of the first block of a channel.
    """

    def __init__(self, plan: RestorationPlan, dtype: np.dtype[Any]) -> None:
        self.count = 0
        self._blocks, self._channel_names = plan.blocks, plan.image.channels
        self._stated_dtype, self._dtype = plan.stated_dtype, dtype
        self._sums: dict[tuple[BlockIndex, int], np.ndarray] = {}
        self._invalid = 0
        self._defects: Counter[str] = Counter()
        self._errors: dict[tuple[BlockIndex, int], np.ndarray] = {}
        self._means: dict[tuple[BlockIndex, int], np.ndarray] = {}
        self._patch_sigmas: dict[tuple[BlockIndex, int], np.ndarray] = {}
        self._stripes = np.zeros(2)
        self.weights: dict[BlockIndex, tuple[float, ...]] = {}
        self._below_zero, self._lowest = 0, 0.0
        self._stops: Counter[str] = Counter()
        self._unchanged: Counter[str] = Counter()
        self._first_unchanged: dict[str, BlockIndex] = {}

    def add(self, done: BlockDone) -> None:
        """Count one more block."""
        self.count += 1
        channel = self._blocks.channel(done.index)
        quality = [(sigma**2, *others) for sigma, *others in done.quality]
        if done.weights and len(self.weights) < _MAX_WEIGHTS:
            self.weights.setdefault(channel, done.weights)
        errors = [(*others, lost, float(lost > 0)) for *others, lost in done.errors]  # blocks without spots lose none
        all_figures = [(self._sums, quality), (self._errors, errors), (self._means, done.means)]
        for sums, figures in (*all_figures, (self._patch_sigmas, [(sigma,) for sigma in done.patch_sigmas])):
            for number, values in enumerate(figures):
                sums[channel, number] = sums.get((channel, number), 0.0) + np.array([*values, 1.0])
        self._defects.update(dict(done.defects))
        count, lowest = done.below_zero
        self._below_zero, self._lowest = self._below_zero + count, min(self._lowest, lowest)
        self._stripes = np.maximum(self._stripes, done.stripes)
        self._invalid += done.invalid
        self._stops.update(dict(done.stops))
        if done.unchanged:
            several = len(self._unchanged) >= _MAX_REASONS and done.unchanged not in self._unchanged
            reason = "other reasons of this kind" if several else done.unchanged
            self._unchanged[reason] += 1
            self._first_unchanged.setdefault(reason, done.index)

    @property
    def nothing_restored(self) -> str:
        """Reason why all blocks were left unchanged; empty if one was restored."""
        return next(iter(self._unchanged)) if self.count and self._unchanged.total() == self.count else ""

    @property
    def error(self) -> float | None:
        """Estimated mean squared error of the result in noise variances, over all channels, if there is an estimate."""
        sums = [sums for sums in self._errors.values() if sums[-1]]
        return float(np.mean([max(total[0] / total[-1], 0.0) for total in sums])) if sums else None

    def quality(self) -> Quality:
        """Figures of all blocks: root mean square of the noise level, mean of the others; also channel by channel."""
        channels = tuple(ChannelQuality(self._name(*key), *_means(sums)) for key, sums in sorted(self._sums.items()))
        sigma, residual, whiteness, structure = _means(sum(self._sums.values(), np.zeros(5)))
        stopped = tuple(f"{count} × {text}" if count > 1 else text for text, count in self._stops.items())
        return Quality(sigma, residual, whiteness, structure, self._invalid, stopped, channels)

    def notes(self) -> list[Note]:
        """Return the notes and warnings on the result."""
        notes = [
            Note(f"{self._describe_unchanged(reason, count)}: {reason}", warning=True)
            for reason, count in self._unchanged.items()
        ]
        if self._dtype.kind != self._stated_dtype.kind:
            notes.append(
                Note(
                    f"the result is {self._dtype}, not {self._stated_dtype} like the image: rounding to whole numbers "
                    "would add more error than the noise that is left, or change the mean (value_type)"
                )
            )
        if self._defects:
            was = "it was" if self._defects.total() == 1 else "they were"
            notes.append(Note(f"{describe_defects(self._defects)}; {was} filled from the fit (hot_pixels)"))
        for name, level in zip(("rows", "columns"), self._stripes, strict=True):
            if level > 0:
                notes.append(
                    Note(f"offsets of {name} were removed: a standard deviation of {level:.2g} noise levels (stripes)")
                )
        for key, (exact, stored, count) in self._means.items():
            sigma = _means(self._sums[key])[0] if key in self._sums else 0.0
            if is_biased(exact / count, stored / count, sigma):
                notes.append(
                    Note(
                        f"conversion to the type of the image changes the mean{self._in(key)} from {exact / count:.3g} "
                        f"to {stored / count:.3g}; choose float32 (value_type)",
                        warning=True,
                    )
                )
        if self._below_zero:
            notes.append(
                Note(
                    f"{counted(self._below_zero, 'value')} of the result {'is' if self._below_zero == 1 else 'are'} "
                    f"below zero (down to {self._lowest:.2g}), although the image has no negative values; "
                    "negative values are kept, because setting them to 0 would raise the mean"
                )
            )
        notes += self._quality_notes()
        if self._invalid:
            notes.append(
                Note(
                    f"{counted(self._invalid, 'pixel')} without a value (NaN, infinite or masked) "
                    f"{'was' if self._invalid == 1 else 'were'} filled from the fit"
                )
            )
        return notes

    def _quality_notes(self) -> list[Note]:
        """Warnings if a channel of the result is replaced, is worse than a light blur, or lacks structure."""
        notes = []
        for key, sums in self._errors.items():
            error, blur_error, replaced = sums[:3] / sums[-1]
            lost = sums[3] / max(sums[4], 1)
            if replaced > _REPLACED:
                notes.append(
                    Note(
                        f"{replaced:.0%} of the result{self._in(key)} is a light blur or the noisy image, which are "
                        "estimated to be closer to the truth than the fit (safeguard)",
                        warning=True,
                    )
                )
            if error > blur_error + _WORSE:
                notes.append(
                    Note(
                        f"the result{self._in(key)} is estimated to be further from the truth than a light blur; use "
                        "another method or preset, and compare",
                        warning=True,
                    )
                )
            if lost > _LOST:
                notes.append(
                    Note(
                        f"structure was lost{self._in(key)}: fine structure has {1 - lost:.0%} of its contrast in the "
                        "noisy image; spots and details that are as weak as the noise are dimmed or missing",
                        warning=True,
                    )
                )
        for key, sums in self._sums.items():
            sigma, residual, _, structure = _means(sums)
            total, count = self._patch_sigmas.get(key, (0.0, 1.0))
            if 0 < sigma < total / count / DISAGREE:
                notes.append(
                    Note(
                        f"the noise level{self._in(key)} may be too low: it was measured as {sigma:.3g}, but a second "
                        f"estimate is {total / count:.3g}; if noise is left, set 'sigma' from a flat part of the image",
                        warning=True,
                    )
                )
            if residual > _REMOVED and structure > _STRUCTURE:
                notes.append(
                    Note(
                        f"structure was removed{self._in(key)}: the difference to the noisy image is {residual:.2f} "
                        f"noise levels and is correlated with the result (correlation {structure:.2f})",
                        warning=True,
                    )
                )
        return notes

    def _describe_unchanged(self, reason: str, count: int) -> str:
        """Describe how many blocks were left unchanged for a reason, and where the first of them is."""
        if self._blocks.chunks:
            return f"{count} of {self.count} chunks were left unchanged"
        position = self._blocks.position(self._first_unchanged[reason])
        where = ", ".join(f"{axis} = {n}" for axis, n in position.items())
        if count == 1:
            return f"left unchanged at {where}"
        return f"{count} of {self.count} blocks were left unchanged, the first at {where}"

    def _in(self, key: tuple[BlockIndex, int]) -> str:
        """The words that name a channel in a sentence; empty if there is only one."""
        name = self._name(*key)
        return f" in {name}" if name else ""

    def _name(self, channel: BlockIndex, number: int) -> str:
        """Name of a channel: looped colour axes first, then its number among the joint ones."""
        positions = dict(zip((a for a in self._blocks.loop_axes if a in "CS"), channel, strict=True))
        sizes = [self._blocks.sizes[axis] for axis in self._blocks.colour]
        positions |= dict(
            zip(self._blocks.colour, map(int, np.unravel_index(number, sizes)) if sizes else (), strict=True)
        )
        places = {axis: int(position) for axis, position in positions.items()}
        return name_channel(places, self._channel_names, self._blocks.sizes.get("C", 1))


def _means(sums: np.ndarray) -> tuple[float, float, float, float]:
    """Root mean square of the first figure and means of the others, from sums and their count."""
    sigma, residual, whiteness, structure = (sums[:4] / max(sums[4], 1)).tolist()
    return sigma**0.5, residual, whiteness, structure

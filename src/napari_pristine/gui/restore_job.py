"""The job of the Restore panel: make the plan, restore, and judge the result."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from napari_pristine.errors import PristineError
from napari_pristine.events import BlockDone, Command, Note
from napari_pristine.gui.job_runner import Job
from napari_pristine.image.axes import BlockIndex
from napari_pristine.image.verdict import Verdict
from napari_pristine.jobs.plan import RestorationPlan
from napari_pristine.jobs.restore import Restored, run_plan
from napari_pristine.verdict import judge


@dataclass(frozen=True)
class Judged:
    """The verdicts on the channels of a result, and the share of the image that was looked at."""

    verdicts: tuple[Verdict, ...]
    share: float


def restore_and_judge(make_plan: Callable[[], RestorationPlan]) -> Job:
    """Make the plan, yield it, run it, and judge some planes of the result."""
    plan = make_plan()
    yield plan
    done: list[BlockIndex] = []
    seen: list[BlockIndex] = []
    job = run_plan(plan)
    command: Command | None = None
    try:
        while True:
            event = job.send(command)
            if isinstance(event, BlockDone):
                seen.append(event.index)
                if not event.unchanged:
                    done.append(event.index)
            command = yield event
    except StopIteration as end:
        restored: Restored = end.value
    finally:
        job.close()
    if done and not plan.params.degraded and max(plan.upscaling) == 1 and not plan.blocks.chunks:
        places = Counter(
            tuple((axis, index) for axis, index in zip(plan.blocks.loop_axes, block, strict=False) if axis not in "CS")
            for block in done
        )
        most = max(places.values())  # of channels: where a job is kept, some planes lack the last of them
        whole = [place for place, count in places.items() if count == most]
        # of an image in memory that is restored as a whole, planes from all of it are judged
        in_memory = type(plan.image.data) is np.ndarray and len(seen) == len(plan.indices)
        ranges = {} if in_memory else {axis: str(index) for axis, index in whole[len(whole) // 2]}
        if len(set(map(plan.blocks.channel, seen))) == plan.blocks.channel_count:
            noise = [each for index in plan.first_of_channels for each in plan.statistics.noise(index)]
            try:
                noisy = plan.image.select(ranges)
                verdicts = judge(noisy, restored.image.select(ranges), noise=noise)
                share = np.mean([verdict.evidence.judged for verdict in verdicts])
                yield Judged(verdicts, float(share) * math.prod(noisy.shape) / math.prod(plan.image.shape))
            except PristineError as error:  # the result is there all the same
                yield Note(f"the result was not judged: {error}", warning=True)
    return restored

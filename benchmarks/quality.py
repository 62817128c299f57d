"""`python -m benchmarks quality`: entries × images."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.entries import Entry
from benchmarks.measure import Job, Row, measure_apart
from benchmarks.records import Records
from benchmarks.suites import Case, check_noisy
from benchmarks.table import heading, line, markdown, means
from napari_pristine.errors import ComputeError


@dataclass(frozen=True)
class Plan:
    """What to measure and where to keep it."""

    cases: Sequence[Case]
    entries: Sequence[Entry]
    crop: int | None
    device: str
    seed: int
    checked: bool
    markdown: Path | None


def run_quality(plan: Plan, records: Records) -> int:
    """Measure what is not yet in `records`, print each row and the means.

    Returns:
        Exit status: 1 if an entry failed on an image, else 0.
    """
    print("Protocol A: clipped to the range of the detector, not rounded; SSIM with a uniform 7 × 7 window.")
    if plan.checked:
        print(*check_noisy(plan.cases), sep="\n")
    print(heading(), flush=True)
    rows: list[Row] = []
    failures = 0
    for job, case in _jobs(plan):
        try:
            row = records.find(job)
            if row is None:
                row = measure_apart(job, case.noisy, case.truth)
                records.add(row)
        except ComputeError as error:
            print(error, file=sys.stderr)
            failures += 1
            continue
        rows.append(row)
        print(line(row), flush=True)
    if rows:
        print(f"\n{means(rows)}")
    if rows and plan.markdown:
        plan.markdown.write_text(markdown(rows), "utf-8")
    return 1 if failures else 0


def _jobs(plan: Plan) -> Iterable[tuple[Job, Case]]:
    for case in plan.cases:
        for entry in plan.entries:
            job = Job(
                label=entry.label,
                method=entry.method,
                settings=entry.settings,
                image=case.name,
                type=case.type,
                level=case.level,
                crop=plan.crop,
                device=plan.device if entry.preset else "cpu",
                seed=plan.seed,
            )
            yield job, case

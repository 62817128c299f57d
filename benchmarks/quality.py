"""`python -m benchmarks quality`: entries × images."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from benchmarks.cases import Case
from benchmarks.check import check_noisy
from benchmarks.entries import Entry
from benchmarks.measure import measure_apart
from benchmarks.page import markdown
from benchmarks.records import Records
from benchmarks.rows import Job, Row
from benchmarks.suites import SUITES
from benchmarks.table import heading, line, means, width_of
from napari_pristine.errors import ComputeError, SettingError

WorkDir = tuple[Job, Case]


@dataclass(frozen=True)
class Plan:
    """What to measure and where to keep it; `pool` is all there is to learn from."""

    suite: str
    cases: Sequence[Case]
    pool: Sequence[Case]
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

    Raises:
        SettingError: Nothing that was asked for can do anything with these images.
    """
    _check_use(plan)
    print(*_preface(plan), sep="\n")
    width = width_of(case.name for case in plan.cases)
    print(heading(width), flush=True)
    rows: list[Row] = []
    failures = 0
    for entry, work in _batches(plan):
        try:
            for row in _measured(plan, entry, work, records):
                rows.append(row)
                print(line(row, width), flush=True)
        except ComputeError as error:
            print(error, file=sys.stderr)
            failures += 1
    if rows:
        print(f"\n{means(rows)}")
    if rows and plan.markdown:
        plan.markdown.write_text(markdown(rows), "utf-8")
    return 1 if failures else 0


def _preface(plan: Plan) -> Iterator[str]:
    """How it is compared, and that the images are the right ones."""
    suite = SUITES[plan.suite]
    yield suite.protocol.text
    if suite.differs:
        yield f"Not as published: {suite.differs}"
    if plan.crop is not None:
        yield "Published figures are those of full frames, but for the INS paper's PolyU (256 pixels)."
    if plan.checked and suite.checked:
        yield from check_noisy(plan.cases)


def _check_use(plan: Plan) -> None:
    for entry in plan.entries:
        if entry.preset and not any(map(entry.takes, plan.cases)):
            raise SettingError(
                f"{entry.label} only takes noise away, which is not what the suite '{plan.suite}' is about; "
                "take linr or a classical method"
            )


def _measured(plan: Plan, entry: Entry, work: Sequence[WorkDir], records: Records) -> Iterator[Row]:
    """The rows of jobs that have everything but the image in common; those in the records come first."""
    known = {id(job): records.find(job) for job, _ in work}
    yield from (row for row in known.values() if row is not None)
    missing = [(job, case) for job, case in work if known[id(job)] is None]
    if not missing:
        return
    alike = entry.learns_with(missing[0][1])
    training = [c for c in plan.pool if entry.learns and entry.learns_with(c) == alike]
    for row in measure_apart(missing, training):
        records.add(row)
        yield row


def _batches(plan: Plan) -> Iterable[tuple[Entry, list[WorkDir]]]:
    """What is measured in one process: one image, or all images that a network learns from."""
    for case in plan.cases:
        for entry in plan.entries:
            if entry.takes(case) and not entry.learns:
                yield entry, [(_job(plan, entry, case), case)]
    for entry in plan.entries:
        if entry.learns:
            cases = sorted(filter(entry.takes, plan.cases), key=entry.learns_with)
            for _, alike in groupby(cases, key=entry.learns_with):
                yield entry, [(_job(plan, entry, case), case) for case in alike]


def _job(plan: Plan, entry: Entry, case: Case) -> Job:
    return Job(
        label=entry.label,
        method=entry.method,
        settings=entry.settings_for(case),
        image=case.name,
        type=case.type,
        level=case.level,
        crop=plan.crop,
        device=plan.device if entry.preset else "cpu",
        seed=plan.seed,
        suite=case.suite,
        learns=entry.learns,
    )

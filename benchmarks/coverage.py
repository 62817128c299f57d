"""`python -m benchmarks coverage`: how much of the truth lies in the intervals that are stated to hold 90 % of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure import save_json
from benchmarks.suites import Case, load_case
from napari_pristine.jobs.restore import restore
from napari_pristine.resources import Device


def run_coverage(
    cases: Sequence[Case],
    method: str,
    preset: str,
    *,
    changes: Mapping[str, str],
    crop: int | None,
    device: Device,
    seed: int,
    json: Path | None,
) -> int:
    """Restore images with their uncertainty, and print the coverage after the best gain and offset, then per type.

    Returns:
        Exit status.
    """
    covered: dict[str, list[float]] = {}
    rows = []
    for case in cases:
        pair = load_case(case, crop)
        noisy = pair.noisy.astype(np.uint8)
        result = restore(
            noisy, method, preset=preset, settings=changes, value_type="float32", uncertainty=True, device=device,
            seed=seed,
        )  # fmt: skip
        assert result.uncertainty is not None
        values, half_widths = (np.asarray(a, np.float64) for a in (result.data, result.uncertainty.data))
        gain, offset = np.polyfit(values.ravel(), pair.truth.ravel(), 1)
        known = np.isfinite(half_widths)
        inside = np.abs(gain * values + offset - pair.truth)[known] <= gain * half_widths[known]
        rows.append({"image": case.name, "level": case.level, "coverage": float(inside.mean())})
        covered.setdefault(f"{case.type}, {case.level}", []).append(float(inside.mean()))
        print(
            f"{case.name:22} {case.level:3}  {inside.mean():.3f}  median {np.median(half_widths[known]):.2f}",
            flush=True,
        )
        if json:
            save_json(json, rows)
    print("\n| type, frames averaged | images | coverage |\n|---|--:|--:|")
    for kind, values_of_kind in covered.items():
        print(f"| {kind} | {len(values_of_kind)} | {np.mean(values_of_kind):.1%} |")
    return 0

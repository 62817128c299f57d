"""The figures of the publications, on the images of the publications; most take from minutes to hours.

`make test ARGS="-m acceptance"` runs those that a test run has no time for. With a GPU they take minutes.
"""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import pytest
from benchmarks.__main__ import main
from benchmarks.measure import check_noisy, read_measurements
from benchmarks.suites import find_cases

pytestmark = pytest.mark.data

LONG = [pytest.mark.acceptance, pytest.mark.timeout(0)]


def measured(data: Path, folder: Path, *words: str) -> float:
    """Mean PSNR of all rows of a benchmark."""
    file = folder / "rows.json"
    assert main(["quality", "--data", str(data), "--json", str(file), "--unchecked", *words]) == 0
    return mean(m.psnr for m in read_measurements(file) if m.setup.method != "noisy")


def test_the_images_of_fmd_are_those_of_the_publication(data_folder: Path) -> None:
    """All 48 have 27.22 dB; where fewer are there, each type is compared with the published figure of the type."""
    cases = find_cases(data_folder, "fmd", [1])
    lines = check_noisy(cases)
    assert len(cases) < 48 or "all 48 images" in lines[-1]
    assert all("published" in line for line in lines)


@pytest.mark.parametrize(
    ("image", "psnr", "within"),
    [
        pytest.param("f16", 30.3, 0.3, id="f16", marks=LONG),
        pytest.param("house", 23.1, 0.7, id="house", marks=LONG),
    ],
)
def test_linr_as_published(image: str, psnr: float, within: float, data_folder: Path, tmp_path: Path) -> None:
    words = ("--suite", "linr-denoise", "--methods", "linr", "--preset", "paper", "--images", image)
    assert measured(data_folder, tmp_path, *words) == pytest.approx(psnr, abs=within)


@pytest.mark.acceptance
@pytest.mark.timeout(0)
def test_inr_as_published_on_photographs(data_folder: Path, tmp_path: Path) -> None:
    words = ("--suite", "polyu", "--methods", "inr", "--preset", "paper", "--crop", "512")
    assert measured(data_folder, tmp_path, *words) == pytest.approx(37.7, abs=1.0)


@pytest.mark.acceptance
@pytest.mark.timeout(0)
def test_sampling_as_published_on_fmd(data_folder: Path, tmp_path: Path) -> None:
    words = ("--suite", "fmd", "--levels", "1", "--captures", "all", "--methods", "sampling", "--preset", "paper")
    assert measured(data_folder, tmp_path, *words) > 33.6


@pytest.mark.parametrize(
    ("kind", "psnr"),
    [
        pytest.param("Confocal_FISH", 32.7, id="fish", marks=LONG),
        pytest.param("Confocal_MICE", 38.4, id="mice", marks=LONG),
        pytest.param("TwoPhoton_MICE", 34.0, id="two-photon", marks=LONG),
    ],
)
def test_blind2unblind_learns_from_one_type(kind: str, psnr: float, data_folder: Path, tmp_path: Path) -> None:
    """From four captures instead of 950 frames: within a decibel and a half."""
    names = ",".join(f"{kind}_{capture}" for capture in (1, 2))
    words = ("--suite", "fmd-b2u", "--methods", "blind2unblind@type", "--images", names)
    assert measured(data_folder, tmp_path, *words) > psnr - 1.5

"""Real files: read, restore, write, read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_pristine.image.image import Image
from napari_pristine.io.registry import read, write
from napari_pristine.jobs.restore import Restored, restore

pytestmark = pytest.mark.data
FEW: dict[str, Any] = {"steps": 30}


def restore_file(path: Path, folder: Path, **arguments: Any) -> tuple[Image, Image, Restored]:
    """Restore a file; return its image, the image of the result file, and the result."""
    image = read(path)
    result = restore(image, method="inr", settings=FEW, **arguments)
    target = folder / f"{path.stem}.tif"
    write(target, result.image, provenance=result.provenance())
    return image, read(target), result


def test_a_five_dimensional_stack_keeps_axes_type_pixel_size_and_time_step(data_folder: Path, tmp_path: Path) -> None:
    path = data_folder / "microscopy" / "composed" / "mitosis_TZCYX_first4T.tif"
    before, after, result = restore_file(path, tmp_path, select={"T": "0:2", "Z": "1:3"})
    assert before.axes == after.axes == "TZCYX"
    assert after.shape == (2, 2, 2, 196, 171)
    assert after.dtype == before.dtype == np.uint16
    assert after.scale == pytest.approx(before.scale)
    assert after.units == before.units
    assert after.metadata["pristine"] == result.provenance()
    mean = before.data[:2, 1:3].mean(axis=(0, 1, 3, 4))
    assert after.data.mean(axis=(0, 1, 3, 4)) == pytest.approx(mean, rel=0.01)


@pytest.mark.parametrize(
    ("name", "axes", "together"),
    [
        ("xy_rgb__cells.tif", "YXS", ""),
        ("xyc_16bit__cell_dna_mts_actin.tif", "CYX", ""),
        ("xyc_16bit__cell_dna_mts_actin.tif", "CYX", "CYX"),
        ("xy_8bit__nucleus_calibrated_downscaled.tif", "YX", ""),
        ("xy_float__h2b_bg_corr.tif", "YX", ""),
    ],
)
def test_axes_shape_type_and_mean_are_kept(
    name: str, axes: str, together: str, data_folder: Path, tmp_path: Path
) -> None:
    before, after, _ = restore_file(data_folder / "microscopy" / "neubias" / name, tmp_path, together=together)
    assert before.axes == after.axes == axes
    assert after.shape == before.shape
    assert after.dtype == before.dtype
    difference = after.data.astype(float) - before.data
    assert 0 < difference.std() < 0.5 * before.data.std()
    assert abs(difference.mean()) < 0.02 * before.data.std()


def test_an_offset_of_half_the_range_is_kept(data_folder: Path) -> None:
    (path,) = (data_folder / "microscopy" / "neubias").glob("*nuclei_various_shapes.tif")
    image = read(path)
    assert image.data.min() > 32768
    result = restore(image, method="inr", settings=FEW)
    assert result.data.min() > 32768
    assert result.data.mean() == pytest.approx(image.data.mean(), abs=2)
    assert np.corrcoef(result.data.ravel(), image.data.ravel())[0, 1] > 0.98


def test_a_float_image_with_a_range_of_a_thousandth_gets_better(data_folder: Path) -> None:
    folder = data_folder / "microscopy" / "flim_intensity_2p_float32"
    noisy, truth = (read(next((folder / kind).glob("*.tif"))) for kind in ("noisy", "gt"))
    assert np.ptp(noisy.data) < 0.1
    result = restore(noisy, method="inr", settings={"steps": 60})
    assert result.data.dtype == np.float32

    def rmse(values: np.ndarray) -> float:
        fitted = np.polynomial.Polynomial.fit(values.ravel(), truth.data.ravel(), 1)(values)
        return float(np.sqrt(np.mean((fitted - truth.data) ** 2)))

    assert rmse(result.data) < 0.8 * rmse(noisy.data)


def test_hot_pixels_are_filled_and_the_rest_is_kept(data_folder: Path) -> None:
    image = read(data_folder / "microscopy" / "neubias" / "xyc_16bit__membranes_nuclei_hot_pixel.tif")
    result = restore(image, method="inr", settings=FEW)
    for before, after in zip(image.data, result.data, strict=True):
        usual = np.sort(before.ravel())[-2]
        assert before.max() > 100 * usual
        assert after.max() <= 1.1 * usual
        calm = before < 1000
        assert np.corrcoef(after[calm], before[calm])[0, 1] > 0.98
    assert any("2 hot pixels" in note.text for note in result.notes)


def test_bright_points_and_single_photons_are_no_hot_pixels(data_folder: Path) -> None:
    for name in ("Confocal_FISH_1", "Confocal_BPAE_R_1", "TwoPhoton_MICE_1"):
        image = read(data_folder / "fmd_test_mix" / "noisy_avg1" / f"{name}.png")
        result = restore(image, method="inr", settings={"steps": 1}, select={"X": "0:256"})
        assert not any("hot" in note.text for note in result.notes)

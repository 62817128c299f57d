"""How a picture came from its scene, as settings say it: files that change, and texts that name them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from napari_pristine.methods.degradation import Degradation, parse_extra_images
from napari_pristine.physics.operator import Grid, degrade


def test_a_measured_spot_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    path, there = tmp_path / "spot.npy", Grid("YX", (9, 9), (1.0, 1.0))
    point = torch.zeros(1, 9, 9)
    point[0, 4, 4] = 1

    def brightest(spot: np.ndarray, time: int) -> float:
        np.save(path, spot)
        os.utime(path, ns=(time, time))
        operators = Degradation(blur="file", psf_file=str(path)).operators(there)
        return float(degrade(point, operators, there).max())

    sharp, wide = np.zeros((5, 5)), np.ones((5, 5))
    sharp[2, 2] = 1
    assert brightest(sharp, 10**18) > 0.99
    assert brightest(wide, 10**18 + 1) < 0.05  # as large, and as old to the second


def test_semicolons_in_quotes_belong_to_the_name() -> None:
    one, two = parse_extra_images('"a;b.tif" finer=2; c.tif psf_file="d;e.tif" weight=0.5;')
    assert (one.file, one.finer) == ("a;b.tif", 2)
    assert (two.file, two.psf_file, two.weight) == ("c.tif", "d;e.tif", 0.5)

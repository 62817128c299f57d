"""Tiles cover a block, overlap enough, and are blended without seams."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from napari_pristine.image.tiling import Tiling

SHAPES = st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple)
TILINGS = st.builds(Tiling.of, SHAPES, side=st.integers(1, 45), overlap=st.integers(0, 30))


def shared(tiling: Tiling, axis: int) -> list[int]:
    """Pixels that each tile shares with the next along an axis."""
    starts = tiling.starts(axis)
    return [a + tiling.side[axis] - b for a, b in itertools.pairwise(starts)]


@given(tiling=TILINGS, channels=st.integers(1, 2))
def test_cutting_and_blending_gives_the_block_back(tiling: Tiling, channels: int) -> None:
    block = np.random.default_rng(0).normal(size=(channels, *tiling.shape)).astype(np.float32)
    tiles = [block[(slice(None), *part)] for part in tiling.slices]
    blended = tiling.blend(tiles)
    assert blended.dtype == np.float32
    assert blended.shape == block.shape
    assert np.allclose(blended, block, atol=1e-5)


@given(TILINGS)
def test_all_pixels_are_covered_by_tiles_of_one_size_inside_the_block(tiling: Tiling) -> None:
    covered = np.zeros(tiling.shape, int)
    for part in tiling.slices:
        assert covered[part].shape == tiling.side
        covered[part] += 1
    assert covered.min() >= 1
    assert len(set(tiling.corners)) == len(tiling.slices) == len(tiling.corners)


@given(TILINGS)
def test_neighbours_overlap_as_promised(tiling: Tiling) -> None:
    assert all(common >= tiling.overlap for axis in range(len(tiling.shape)) for common in shared(tiling, axis))


@given(shape=st.tuples(st.integers(1, 60), st.integers(1, 60)), side=st.integers(1, 70), overlap=st.integers(0, 40))
def test_tiles_of_a_picture_are_as_asked_for(shape: tuple[int, int], side: int, overlap: int) -> None:
    tiling = Tiling.of(shape, side, overlap)
    assert tiling.side == (min(side, shape[0]), min(side, shape[1]))
    assert tiling.overlap == min(overlap, side // 2)  # more would need ever more tiles


@given(shape=SHAPES, side=st.integers(1, 45))
def test_tiles_hold_as_many_pixels_as_a_square_at_most(shape: tuple[int, ...], side: int) -> None:
    edges = Tiling.of(shape, side, 0).side
    assert np.prod([max(edge - 0.5, 0) for edge in edges]) <= side**2  # edges are rounded


@pytest.mark.parametrize("depth", [1, 4, 60])
def test_a_thin_stack_overlaps_within_its_planes_as_a_thick_one_does(depth: int) -> None:
    assert min(shared(Tiling.of((depth, 200, 200), 96, 32), 1)) >= 10


def test_a_block_that_fits_is_one_tile() -> None:
    assert Tiling.of((64, 48), 64, 32).slices == [(slice(0, 64), slice(0, 48))]


def test_no_more_tiles_are_cut_than_needed() -> None:
    assert len(Tiling.of((160, 96), 96, 32).slices) == 2
    assert len(Tiling.of((161, 96), 96, 32).slices) == 3


@pytest.mark.parametrize("overlap", [8, 16, 32])
def test_tiles_that_disagree_leave_no_seam(overlap: int) -> None:
    tiling = Tiling.of((100, 64), 64, overlap)
    tiles = [np.full((1, *tiling.side), value, np.float32) for value in range(len(tiling.slices))]
    line = tiling.blend(tiles)[0, :, 0]
    steps = np.diff(line)
    assert steps.min() >= 0
    assert steps.max() < 2.5 / min(shared(tiling, 0))  # spread over all of the overlap

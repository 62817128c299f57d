"""Masks hide the right pixels, and the filling does not depend on the hidden ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_pristine.nets.masks import cell_masks, dilate, fill_hidden, gather_hidden, visible_mask

SPACES = st.lists(st.integers(1, 11), min_size=2, max_size=3).map(tuple)


@given(SPACES, st.integers(2, 5))
def test_each_pixel_is_hidden_once(space: tuple[int, ...], width: int) -> None:
    masks = cell_masks(space, width)
    assert masks.shape == (width**2, *space)
    assert (masks.sum(dim=0) == 1).all()


@given(SPACES, st.integers(2, 5))
def test_no_neighbour_of_a_hidden_pixel_is_hidden(space: tuple[int, ...], width: int) -> None:
    for mask in cell_masks(space, width):
        for axis in range(len(space)):
            n = space[axis]
            assert not (mask.narrow(axis, 0, n - 1) & mask.narrow(axis, 1, n - 1)).any()


@given(SPACES.filter(lambda space: space[-1] * space[-2] > 1), st.integers(2, 4))
def test_a_constant_image_stays_constant_up_to_the_border(space: tuple[int, ...], width: int) -> None:
    pixels = torch.full((2, 1, *space), 3.7)
    filled = fill_hidden(pixels[:, None], cell_masks(space, width)[:, None])
    assert filled.shape == (2, width**2, 1, *space)
    assert torch.allclose(filled, pixels[:, None], atol=1e-5)


@given(SPACES, st.integers(2, 4))
def test_hidden_pixels_are_filled_from_their_neighbours_alone(space: tuple[int, ...], width: int) -> None:
    pixels = torch.randn(1, 2, *space)
    masks = cell_masks(space, width)[:, None]
    for mask in masks:
        changed = torch.where(mask, pixels + 5, pixels)
        assert torch.equal(fill_hidden(pixels, mask), fill_hidden(changed, mask))
        assert torch.equal(fill_hidden(pixels, mask)[..., ~mask[0]], pixels[..., ~mask[0]])


def test_the_neighbours_have_the_weights_of_the_paper() -> None:
    pixels = torch.tensor([[9.0, 1.0, 0.0], [2.0, 50.0, 3.0], [0.0, 4.0, 0.0]])[None, None]
    hidden = torch.zeros(3, 3, dtype=torch.bool)
    hidden[1, 1] = True
    assert float(fill_hidden(pixels, hidden)[0, 0, 1, 1]) == pytest.approx((1 + 2 + 3 + 4) / 6 + 9 / 12)


@given(SPACES, st.integers(2, 4))
def test_gathering_takes_the_hidden_pixels_of_each_copy(space: tuple[int, ...], width: int) -> None:
    masks = cell_masks(space, width)
    pixels = torch.randn(2, 3, *space)
    copies = torch.where(masks[:, None], pixels[:, None], torch.tensor(torch.nan))
    assert torch.equal(gather_hidden(copies, masks), pixels)


def test_some_of_the_copies_give_some_of_the_pixels() -> None:
    masks = cell_masks((8, 8), 4)[[0, 5]]
    gathered = gather_hidden(torch.ones(1, 2, 1, 8, 8), masks)
    assert torch.equal(gathered[0, 0] > 0, masks.any(dim=0))


@pytest.mark.parametrize("space", [(256, 256), (8, 96, 96)])
@pytest.mark.parametrize(("radius", "count"), [(0, 1), (1, 5), (2, 13), (3, 25)])
def test_invisible_pixels_are_far_from_visible_ones(space: tuple[int, ...], radius: int, count: int) -> None:
    visible = visible_mask(space, 0.1, torch.Generator().manual_seed(0))
    assert float(visible.float().mean()) == pytest.approx(0.1, abs=0.005)
    invisible = ~dilate(visible, radius)
    assert float(invisible.float().mean()) == pytest.approx(0.9**count, abs=0.02)
    assert not (invisible & visible).any()
    if radius:
        for axis in (-1, -2):
            for shift in (-1, 1):
                near = visible.roll(shift, axis).narrow(axis, 1, space[axis] - 2)
                assert not (near & invisible.narrow(axis, 1, space[axis] - 2)).any()


def test_visible_masks_depend_on_the_generator_alone() -> None:
    first, again, other = (visible_mask((40, 40), 0.5, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)

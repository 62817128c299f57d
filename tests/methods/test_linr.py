"""LINR: one function fitted to degraded images; finer, deblurred, filled in, joined."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from napari_pristine.errors import SettingError
from napari_pristine.jobs.restore import restore
from napari_pristine.methods.linr import LINR
from napari_pristine.methods.method import NoisyBlock
from napari_pristine.nets.field import Field
from napari_pristine.physics.operator import Grid
from napari_pristine.physics.psf import MeasuredPSF
from napari_pristine.physics.sampling import Downsample

SIGMA = 0.02


def scene(side: int = 48) -> Tensor:
    """Sharp-edged discs, zero mean and unit spread, `(1, side, side)`."""
    y, x = np.mgrid[:side, :side]
    rng = np.random.default_rng(3)
    image = np.zeros((side, side))
    for _ in range(8):
        cy, cx, radius = (*rng.uniform(0, side, 2).tolist(), rng.uniform(4, 9))
        image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] += 1
    image = ndimage.gaussian_filter(image, 0.7)
    return torch.from_numpy(((image - image.mean()) / image.std()).astype(np.float32))[None]


def noisy_block(pixels: Tensor, sigma: float = SIGMA, **changes: Any) -> NoisyBlock:
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(1))
    valid = torch.ones(pixels.shape[1:], dtype=torch.bool)
    return replace(NoisyBlock(pixels + sigma * noise, torch.tensor([sigma]), valid), **changes)


def restored(noisy: NoisyBlock, preset: str = "balanced", **settings: Any) -> Tensor:
    params = LINR.settings(preset, {"refine": False, **settings})
    torch.manual_seed(0)
    net = LINR.network(params, len(noisy.pixels), tuple(noisy.pixels.shape[1:]))
    for step in LINR.fit(net, noisy, params, False):
        assert step.residual.isfinite()
    with torch.no_grad():
        return LINR.restore(net, noisy, params)


def refined(noisy: NoisyBlock, **settings: Any) -> Tensor:
    """After the rounds of refinement, from a rough fit."""
    params = LINR.settings("balanced", settings)
    assert LINR.refine is not None
    *_, last = LINR.refine(params, restored(noisy, refine=True, **settings), noisy)
    return last


def error(one: Tensor, other: Tensor) -> float:
    return float((one - other).square().mean().sqrt())


def binned(pixels: Tensor, factor: int = 2) -> Tensor:
    return Downsample(factor).apply(pixels, Grid("YX", tuple(pixels.shape[1:]), (1.0, 1.0)))


def test_the_paper_preset_has_the_published_network() -> None:
    net = LINR.network(LINR.settings("paper"), 3, (40, 64))
    assert sum(p.numel() for p in net.siren.model.parameters()) == 396_291
    assert isinstance(net, Field)
    assert net.patches.corners == [(0, 0)]


def test_a_finer_grid_is_nearer_to_the_truth_than_interpolation() -> None:
    truth = scene()
    coarse = binned(truth)
    found = restored(noisy_block(coarse), finer=2, steps=150)
    zoomed = torch.from_numpy(ndimage.zoom(coarse[0].numpy(), 2, order=3, grid_mode=True, mode="nearest"))[None]
    assert found.shape == truth.shape
    assert error(found, truth) < 0.9 * error(zoomed, truth)


def test_deblurring_sharpens_and_leaves_the_noise() -> None:
    truth = scene()
    blurred = torch.from_numpy(ndimage.gaussian_filter(truth.numpy(), (0, 1.5, 1.5)))
    noisy = noisy_block(blurred)
    found = restored(noisy, blur="gaussian", blur_width=1.5, steps=200)
    assert error(found, truth) < 0.7 * error(noisy.pixels, truth)
    again = torch.from_numpy(ndimage.gaussian_filter(found.numpy(), (0, 1.5, 1.5)))
    assert error(again, noisy.pixels) < 2 * SIGMA


def test_missing_pixels_are_filled_in() -> None:
    truth = scene()
    valid = torch.rand(truth.shape[1:], generator=torch.Generator().manual_seed(0)) < 0.4
    noisy = noisy_block(truth)
    noisy = replace(noisy, valid=valid, pixels=torch.where(valid, noisy.pixels, torch.zeros(())))
    found = restored(noisy, steps=300)
    assert error(found, truth) < 0.5 * error(noisy.pixels, truth)


def test_two_images_are_better_than_each_of_them() -> None:
    truth = scene()
    noisy, coarse = noisy_block(truth, 0.3), noisy_block(binned(truth, 4), 0.02)
    alone = restored(noisy, steps=150)
    other = restored(coarse, finer=4, steps=150)
    both = restored(replace(noisy, others=(coarse,)), extra_images="coarse.tif finer=4", steps=150)
    assert both.shape == truth.shape
    assert error(both, truth) < 0.9 * min(error(alone, truth), error(other, truth))


def test_rounds_of_refinement_make_finer_what_a_rough_fit_began() -> None:
    truth = scene()
    coarse = binned(truth)
    zoomed = torch.from_numpy(ndimage.zoom(coarse[0].numpy(), 2, order=3, grid_mode=True, mode="nearest"))[None]
    found = refined(noisy_block(coarse), finer=2, rough_steps=5)
    assert found.shape == truth.shape
    assert error(found, truth) < 0.9 * error(zoomed, truth)


def test_rounds_of_refinement_sharpen_what_a_rough_fit_began() -> None:
    truth = scene()
    noisy = noisy_block(torch.from_numpy(ndimage.gaussian_filter(truth.numpy(), (0, 1.5, 1.5))))
    found = refined(noisy, blur="gaussian", blur_width=1.5, rough_steps=5)
    assert error(found, truth) < 0.6 * error(noisy.pixels, truth)


def test_a_noisy_image_and_a_coarse_one_are_joined() -> None:
    truth = scene()
    noisy, coarse = noisy_block(truth, 0.4), noisy_block(binned(truth, 4), 0.02)
    both = refined(replace(noisy, others=(coarse,)), extra_images="coarse.tif finer=4", rough_steps=5)
    assert error(both, truth) < 0.7 * min(0.4, error(refined(coarse, finer=4, rough_steps=5), truth))


def test_two_images_of_the_whole_scene_are_better_than_one() -> None:
    truth = scene()
    first = noisy_block(truth, 0.4)
    second = replace(first, pixels=truth + 0.4 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(2)))
    one = refined(replace(first, others=(first,)), extra_images="same.tif", rough_steps=5)
    both = refined(replace(first, others=(second,)), extra_images="second.tif", rough_steps=5)
    assert error(both, truth) < 0.85 * error(one, truth)
    assert error(both, truth) < 0.5 * 0.4


def test_a_volume_gets_finer_planes() -> None:
    pixels = torch.randn(1, 4, 20, 22, generator=torch.Generator().manual_seed(0))
    noisy = NoisyBlock(
        pixels, torch.ones(1), torch.ones(4, 20, 22, dtype=torch.bool), axes="ZYX", spacing=(0.6, 0.2, 0.2)
    )
    assert restored(noisy, finer=3, finer_axes="Z", steps=3).shape == (1, 12, 20, 22)
    assert LINR.settings(changes={"finer": 3, "finer_axes": "Z"}).finer_by("ZYX") == (3, 1, 1)


def test_frequencies_are_the_same_per_micrometre_along_deep_pixels() -> None:
    noisy = NoisyBlock(torch.randn(1, 6, 20, 20), torch.ones(1), torch.ones(6, 20, 20, dtype=torch.bool), axes="ZYX")
    params = LINR.settings(changes={"steps": 1})
    first = []
    for spacing in ((0.2, 0.2, 0.2), (0.6, 0.2, 0.2)):
        torch.manual_seed(0)
        net = LINR.network(params, 1, (6, 20, 20))
        next(LINR.fit(net, replace(noisy, spacing=spacing), params, False))
        first.append(net.siren.ema.weights[0].abs().amax(dim=(0, 2)))
    assert torch.allclose(first[1] / first[0], torch.tensor([3.0, 1.0, 1.0]))


def test_images_that_do_not_fit_each_other_are_refused() -> None:
    noisy = noisy_block(scene())
    with pytest.raises(SettingError, match="describes 1 extra image of the scene, and 0 are given"):
        restored(noisy, extra_images="x.tif finer=2")
    with pytest.raises(SettingError, match="pixels are needed"):
        restored(replace(noisy, others=(noisy_block(scene(20)),)), extra_images="x.tif finer=2")
    with pytest.raises(SettingError, match="multiples of"):
        restored(noisy_block(scene(47)), extra_images="x.tif finer=2")


def test_optics_ask_for_the_pixel_size() -> None:
    with pytest.raises(SettingError, match="pixel_size"):
        restored(noisy_block(scene()), blur="airy", steps=1)
    assert restored(noisy_block(scene()), blur="airy", pixel_size=0.1, steps=2).isfinite().all()


def test_a_measured_psf_comes_with_the_block() -> None:
    truth = scene()
    std = 1.5
    bead = torch.zeros(15, 15)
    bead[7, 7] = 1
    psf = MeasuredPSF(ndimage.gaussian_filter(bead.double().numpy(), std))
    noisy = noisy_block(torch.from_numpy(ndimage.gaussian_filter(truth.numpy(), (0, std, std))))
    found = refined(replace(noisy, psf=psf), blur="file", rounds=5, rough_steps=5)
    assert error(found, truth) < 0.7 * error(noisy.pixels, truth)
    with pytest.raises(SettingError, match="needs a measured point spread function"):
        restored(noisy, blur="file", steps=1)


def test_the_kernel_of_a_measured_psf_is_computed_once_for_all_frames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    compute = MeasuredPSF._compute
    monkeypatch.setattr(MeasuredPSF, "_compute", lambda psf, *args: computed.append(id(psf)) or compute(psf, *args))
    bead = np.zeros((7, 7))
    bead[3, 3] = 1
    np.save(tmp_path / "bead.npy", ndimage.gaussian_filter(bead, 1.0))
    settings = {"blur": "file", "psf_file": str(tmp_path / "bead.npy"), "rounds": 2, "rough_steps": 2}
    frames = np.random.default_rng(0).poisson(20, (3, 32, 32)).astype(np.uint16)
    assert restore(frames, "linr", axes="TYX", settings=settings).data.shape == frames.shape
    assert len(computed) == 1

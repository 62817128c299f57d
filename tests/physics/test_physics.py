"""Forward operators are linear, keep brightness and are differentiable, and each does what its name promises."""

from __future__ import annotations

import gc
import math
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, special

from napari_pristine.errors import SettingError
from napari_pristine.physics.blur import Blur, Boundary
from napari_pristine.physics.operator import Grid, Operator, Operators, degrade, scene_grid
from napari_pristine.physics.psf import PSF, AiryPSF, GaussianPSF, GibsonLanniPSF, MeasuredPSF, read_psf
from napari_pristine.physics.recover import Observation, recover
from napari_pristine.physics.sampling import Downsample, Kind, Mask

AIRY = AiryPSF(wavelength=0.52, aperture=1.2, index=1.33)
BEAD = np.array([[0.0, 1, 0], [1, 4, 2], [0, 1, 0]])


def grid(shape: tuple[int, ...]) -> Grid:
    """A grid of 0.1 µm pixels and 0.3 µm planes."""
    axes = "ZYX"[-len(shape) :]
    return Grid(axes, shape, tuple(0.3 if axis == "Z" else 0.1 for axis in axes))


@st.composite
def forward_operators(draw: st.DrawFn) -> tuple[Operators, Grid]:
    """Operators from a scene to an image, and the grid of the image, in two or three dimensions."""
    ndim = draw(st.sampled_from([2, 3]))
    shape = tuple(draw(st.integers(6, 9)) for _ in range(ndim))
    kind: Kind = draw(st.sampled_from(["box", "lanczos"]))
    boundary: Boundary = draw(st.sampled_from(["reflect", "circular"]))
    psfs = [
        GaussianPSF(tuple(draw(st.floats(0, 2)) for _ in range(ndim))),
        AIRY,
        MeasuredPSF(BEAD if ndim == 2 else np.stack([BEAD] * 3)),
    ]
    every: list[Operator] = [
        Blur(draw(st.sampled_from(psfs)), boundary),
        Downsample(draw(st.integers(1, 3)), draw(st.sampled_from(["YX", "Z", "ZYX"])), kind),
    ]
    return tuple(draw(st.lists(st.sampled_from(every), min_size=1, max_size=2, unique=True))), grid(shape)


def kernel(psf: PSF, grid: Grid, upsampling: int = 1) -> np.ndarray:
    return psf.kernel(grid, (upsampling,) * len(grid.axes)).numpy()


def random(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(2, *shape)))


@settings(deadline=None, max_examples=15)
@given(forward_operators(), st.floats(-3, 3), st.floats(-3, 3))
def test_operators_are_linear_and_keep_brightness_and_shape(drawn: tuple[Operators, Grid], a: float, b: float) -> None:
    operators, image = drawn
    scene = scene_grid(operators, image)
    x, y = random(scene.shape), random(scene.shape, 1)
    masked = degrade(a * x + b * y, operators, scene)
    assert masked.shape == (2, *image.shape)
    assert torch.allclose(masked, a * degrade(x, operators, scene) + b * degrade(y, operators, scene), atol=1e-9)
    level = torch.full((1, *scene.shape), 3.5, dtype=torch.float64)
    assert torch.allclose(degrade(level, operators, scene), torch.full((1, *image.shape), 3.5).double())


@settings(deadline=None, max_examples=10)
@given(forward_operators())
def test_the_gradient_is_the_adjoint(drawn: tuple[Operators, Grid]) -> None:
    operators, image = drawn
    scene = scene_grid(operators, image)
    x, y = random(scene.shape).requires_grad_(), random(image.shape, 1)
    (degrade(x, operators, scene) * y).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    z = random(scene.shape, 2)
    assert float((degrade(z, operators, scene) * y).sum()) == pytest.approx(float((z * x.grad).sum()), abs=1e-8)


def test_a_box_is_the_mean_of_each_block() -> None:
    scene = random((6, 8))
    found = Downsample(2).apply(scene, grid((6, 8)))
    expected = [[scene[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean(dim=(1, 2)) for j in range(4)] for i in range(3)]
    assert torch.allclose(found, torch.stack([torch.stack(row, -1) for row in expected], -2))


def test_only_the_axes_named_become_coarser() -> None:
    scene = random((6, 4, 8))
    assert Downsample(3, "Z").apply(scene, grid((6, 4, 8))).shape == (2, 2, 4, 8)
    assert Downsample(2, "YX").apply(scene, grid((6, 4, 8))).shape == (2, 6, 2, 4)
    with pytest.raises(SettingError, match="5 times coarser"):
        Downsample(5, "Z").apply(scene, grid((6, 4, 8)))


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_lanczos_keeps_slow_waves_and_their_place(factor: int) -> None:
    fine = (np.arange(40 * factor) + 0.5) / factor
    scene = torch.from_numpy(np.tile(np.cos(2 * np.pi * fine / 20), (factor, 1)))[None]
    found = Downsample(factor, kind="lanczos").apply(scene, grid((factor, 40 * factor)))
    expected = np.cos(2 * np.pi * (np.arange(40) + 0.5) / 20)
    np.testing.assert_allclose(found[0, 0, 3:-3], expected[3:-3], atol=0.02)


@pytest.mark.parametrize("shape", [(33, 40), (20, 21, 22)])
def test_a_gaussian_blur_of_a_gaussian_adds_variances(shape: tuple[int, ...]) -> None:
    there = grid(shape)
    one, two = GaussianPSF((1.2,) * len(shape)), GaussianPSF((1.6,) * len(shape))
    both = GaussianPSF((2.0,) * len(shape))
    scene = random(shape)
    twice = degrade(scene, (Blur(one, "circular"), Blur(two, "circular")), there)
    assert torch.allclose(twice, Blur(both, "circular").apply(scene, there), atol=1e-4)


@pytest.mark.parametrize(("boundary", "mode"), [("reflect", "reflect"), ("circular", "wrap")])
def test_the_scene_is_continued_beyond_its_border_as_declared(boundary: Boundary, mode: str) -> None:
    scene = random((17, 12))
    found = Blur(GaussianPSF((1.6, 3.0)), boundary).apply(scene, grid((17, 12)))
    expected = ndimage.gaussian_filter(scene.numpy(), (0, 1.6, 3.0), mode=mode, truncate=5)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_airy_pattern_has_the_rings_of_the_formula() -> None:
    psf = kernel(AIRY, Grid("YX", (1, 1), (0.01, 0.01)))
    middle = psf.shape[0] // 2
    radius = 2 * math.pi * AIRY.aperture / AIRY.wavelength * 0.01 * np.arange(1, middle)
    expected = (2 * special.j1(radius) / radius) ** 2
    np.testing.assert_allclose(psf[middle, middle + 1 : 2 * middle] / psf[middle, middle], expected, atol=1e-3)
    first_dark = 0.61 * AIRY.wavelength / AIRY.aperture
    assert psf[middle, middle + round(first_dark / 0.01)] < 1e-3 * psf[middle, middle]


def test_along_z_the_light_first_vanishes_where_born_and_wolf_say() -> None:
    psf = kernel(AIRY, Grid("ZYX", (1, 1, 1), (0.01, 0.04, 0.04)))
    line = psf[:, psf.shape[1] // 2, psf.shape[2] // 2]
    dark = 2 * AIRY.index * AIRY.wavelength / AIRY.aperture**2  # u = 4π
    half = len(line) // 2
    assert line[half + round(dark / 0.01)] < 0.01 * line[half]
    assert line[half + round(dark / 0.02)] > 0.3 * line[half]
    np.testing.assert_allclose(psf, psf[::-1, ::-1, ::-1], atol=1e-12)


def test_gibson_and_lanni_agree_with_born_and_wolf_where_nothing_aberrates() -> None:
    pytest.importorskip("psfmodels")
    there = Grid("YX", (1, 1), (0.05, 0.05))
    one, other = kernel(AIRY, there), kernel(GibsonLanniPSF(0.52, 1.2, 1.33, 1.33, 0.0), there)
    far = (len(other) - len(one)) // 2
    other = other[far : far + len(one), far : far + len(one)]
    np.testing.assert_allclose(one / one.max(), other / other.max(), atol=0.02)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_measured_psf_is_centred_odd_and_sums_to_one(times: int) -> None:
    psf = np.zeros((12, 14))
    psf[4:9, 6:11] = np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1])
    psf[0, 0] = -5
    found = kernel(MeasuredPSF(psf), grid((1, 1)), times)
    assert all(n % 2 for n in found.shape)
    assert found.sum() == pytest.approx(1)
    assert np.unravel_index(found.argmax(), found.shape) == tuple(n // 2 for n in found.shape)
    np.testing.assert_allclose(found, found[::-1, ::-1], atol=1e-12)


@pytest.mark.parametrize("psf", [np.zeros((3, 3)), np.ones((3, 3, 3))])
def test_a_psf_that_does_not_fit_is_refused(psf: np.ndarray) -> None:
    with pytest.raises(SettingError, match="point spread function"):
        kernel(MeasuredPSF(psf), grid((5, 5)))


def test_a_mask_keeps_what_was_seen() -> None:
    valid = torch.rand(6, 7, generator=torch.Generator().manual_seed(0)) < 0.5
    scene = random((6, 7))
    masked = Mask(valid).apply(scene, grid((6, 7)))
    assert torch.equal(masked[:, valid], scene[:, valid])
    assert not masked[:, ~valid].any()


def test_the_grid_of_the_scene_has_the_same_borders() -> None:
    operators = (Blur(AIRY), Downsample(2, "YX"), Downsample(3, "Z"))
    scene = scene_grid(operators, Grid("ZYX", (5, 6, 7), (0.3, 0.1, 0.1)))
    assert scene.shape == (15, 12, 14)
    assert scene.spacing == pytest.approx((0.1, 0.05, 0.05))


def test_plug_and_play_converges_to_the_closed_form() -> None:
    """Half-quadratic splitting with a linear denoiser has a closed form on a image that shows all."""
    grid = Grid("YX", (8, 9), (1.0, 1.0))
    values = torch.randn(1, 8, 9, generator=torch.Generator().manual_seed(0))
    observation = Observation(values, torch.tensor(4.0), (), grid)
    *_, last = recover(torch.zeros_like(values), [observation], lambda scene, _, __: scene / 2, 60, (1.0, 1.0), 2.0)
    # 4 (x - y) + 2 (x - x / 2) = 0
    assert torch.allclose(last, values * 4 / 5, atol=1e-4)


def test_missing_pixels_are_left_to_the_denoiser() -> None:
    grid = Grid("YX", (8, 8), (1.0, 1.0))
    values, weights = torch.ones(1, 8, 8), torch.eye(8)
    observation = Observation(values, weights, (), grid)
    *_, last = recover(torch.zeros_like(values), [observation], lambda scene, _, __: scene * 0 - 1, 3, (1.0, 1.0), 1e-3)
    assert torch.allclose(last[0], weights * 2 - 1, atol=1e-2)


@pytest.mark.parametrize("sides", [(12, 14), (11, 14), (2, 2)])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_measured_psf_does_not_shift_the_image(sides: tuple[int, int], times: int) -> None:
    y, x = (np.arange(n) - (n - 1) / 2 for n in sides)
    found = kernel(MeasuredPSF(np.exp(-(y[:, None] ** 2 + x**2) / 4)), grid((1, 1)), times)
    assert all(n % 2 for n in found.shape)
    assert ndimage.center_of_mass(found) == pytest.approx([n // 2 for n in found.shape], abs=1e-6)


def test_a_measured_psf_at_the_border_is_refused() -> None:
    psf = np.zeros((9, 9))
    psf[4, 0] = 1
    with pytest.raises(SettingError, match=r"at the border of its image \(its centre is at 4\.0, 0\.0 of 9 × 9"):
        kernel(MeasuredPSF(psf), grid((5, 5)))


def test_light_does_not_spread_along_time() -> None:
    film = Grid("TYX", (4, 5, 6), (1.0, 0.1, 0.1))
    np.testing.assert_allclose(kernel(AIRY, film)[0], kernel(AIRY, grid((5, 6))))
    assert len(kernel(AIRY, film)) == 1
    scene = random((4, 30, 30))
    one = Blur(AIRY).apply(scene[:, 2], grid((30, 30)))
    assert torch.allclose(Blur(AIRY).apply(scene, replace(film, shape=(4, 30, 30)))[:, 2], one)


def test_gibson_and_lanni_have_no_time_either() -> None:
    pytest.importorskip("psfmodels")
    psf = GibsonLanniPSF(0.52, 1.2, 1.33, 1.33, 0.0)
    film = kernel(psf, Grid("TYX", (4, 5, 6), (1.0, 0.1, 0.1)))
    np.testing.assert_allclose(film[0], kernel(psf, grid((5, 6))))
    assert len(film) == 1


def test_kernels_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of formulas are shared by equal PSFs, that of a measured PSF lives as long as the PSF."""
    computed: list[str] = []
    for psf in (AiryPSF, MeasuredPSF):
        name = {AiryPSF: "compute", MeasuredPSF: "_compute"}[psf]
        compute = getattr(psf, name)
        monkeypatch.setattr(psf, name, lambda self, *a, f=compute: computed.append(type(self).__name__) or f(self, *a))
    there = grid((12, 13))
    for _ in range(3):
        Blur(AiryPSF(0.617, 1.1, 1.33)).apply(random(there.shape), there)
    assert computed == ["AiryPSF"]
    measured = MeasuredPSF(BEAD)
    for frame in range(3):
        Blur(measured).apply(random(there.shape, frame), there)
    assert computed == ["AiryPSF", "MeasuredPSF"]
    kept = weakref.ref(measured.kernel(there, (1, 1)))
    del measured
    gc.collect()
    assert kept() is None


def test_a_measured_psf_is_read_from_tiff_and_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "bead.npy", BEAD)
    tifffile.imwrite(tmp_path / "bead.tif", BEAD.astype(np.float32))
    for name in ("bead.npy", "bead.tif"):
        np.testing.assert_array_equal(read_psf(tmp_path / name).image, BEAD)
    with pytest.raises(SettingError, match=r"psf_file: there is no file 'nowhere\.tif'"):
        read_psf("nowhere.tif")
    with pytest.raises(SettingError, match="psf_file: there is no file ''"):
        read_psf("")
    (tmp_path / "text.tif").write_text("no image")
    with pytest.raises(SettingError, match="cannot read"):
        read_psf(tmp_path / "text.tif")

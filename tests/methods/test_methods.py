"""The test_settings: every method keeps every promise.

All that it needs to know of a method is declared by the method; a new one is tested as soon as it is added to the list.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

import elsewhere
from napari_pristine.events import Command, Progress
from napari_pristine.image.image import Image
from napari_pristine.io.registry import read
from napari_pristine.jobs.restore import restore, run, wait
from napari_pristine.methods import METHODS
from napari_pristine.methods.method import Method, NoisyBlock
from napari_pristine.recipe import Recipe

INDEPENDENT, CORRELATED = "TwoPhoton_MICE_2", "WideField_BPAE_G_1"
"""Real images with noise that is independent from pixel to pixel, and with correlated noise."""

ALL = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
RESTORERS = {key: method for key, method in METHODS.items() if not method.candidates}
"""Methods that restore by themselves; `auto` takes one of them, see `tests/jobs/test_choose.py`."""
EACH = pytest.mark.parametrize("method", RESTORERS.values(), ids=RESTORERS)


def quick(method: Method[Any, Any], **changes: Any) -> dict[str, Any]:
    """Settings with which a small image is done in a moment; only for promises that do not need a good result."""
    return {**(method.test_settings or method.presets["fast"]), **changes}


def scene(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float64]:
    """A smooth image of blobs in photons, 5 to 60."""
    axes = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    rng = np.random.default_rng(seed)
    image = np.full(shape, 5.0)
    for _ in range(12):
        centre, width = [rng.uniform(0, n) for n in shape], rng.uniform(2, 6)
        image += rng.uniform(10, 50) * np.exp(-sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)) / width**2)
    return image


def photons(truth: NDArray[np.float64], seed: int = 1) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).poisson(truth).astype(np.uint16)


def error(image: NDArray[Any], truth: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean((np.asarray(image, float) - truth) ** 2)))


@ALL
def test_every_preset_makes_a_recipe_that_survives_json(method: Method[Any, Any]) -> None:
    for preset in method.presets:
        recipe = Recipe(method=method.key, preset=preset)
        again = Recipe.model_validate_json(recipe.model_dump_json())
        assert again == recipe
        assert again.params == method.settings(preset)
    assert {"balanced", "fast"} <= set(method.presets)
    assert ("paper" in method.presets) == (method.key not in ("auto", "pretrained"))  # which are of no paper


@ALL
def test_it_is_documented(method: Method[Any, Any]) -> None:
    assert method.title
    assert method.summary.endswith(".")
    assert any(str(year) in method.cite for year in range(1950, 2100))
    page = Path(__file__).parents[2] / "docs" / "methods" / f"{method.key}.md"
    assert f"<!-- settings: {method.key} -->" in page.read_text(encoding="utf-8")


@EACH
@pytest.mark.parametrize(
    ("axes", "shape", "together"),
    [
        ("XY", (40, 52), ""),
        ("CYX", (2, 40, 41), "CYX"),
        ("YXS", (40, 44, 3), ""),
        ("ZYX", (6, 33, 40), "ZYX"),
        ("YCX", (40, 2, 36), ""),
    ],
)
def test_axes_and_shape_are_kept(method: Method[Any, Any], axes: str, shape: tuple[int, ...], together: str) -> None:
    noisy = photons(scene(shape)).astype(np.uint8)
    before = noisy.copy()
    result = restore(noisy, method.key, axes=axes, together=together, settings=quick(method, steps=2))
    assert result.data.shape == shape
    assert result.image.axes == axes
    assert not np.array_equal(result.data, noisy)
    np.testing.assert_array_equal(noisy, before)


@EACH
def test_every_type_of_numbers_gives_the_same_result(method: Method[Any, Any]) -> None:
    noisy, settings = photons(scene((40, 40))), quick(method, steps=5)
    reference = restore(noisy.astype(np.float64), method.key, settings=settings).data
    for dtype in ("uint8", "uint16", "uint32", "int16", "float16", "float32"):
        result = restore(noisy.astype(dtype), method.key, settings=settings).data
        assert result.dtype == dtype
        np.testing.assert_allclose(result.astype(float), reference, atol=0.51 if result.dtype.kind in "ui" else 0.05)


@EACH
@pytest.mark.parametrize(("scale", "offset"), [(1e-5, 0.0), (1.0, 32768.0), (300.0, -20.0)])
def test_the_range_of_the_values_does_not_matter(method: Method[Any, Any], scale: float, offset: float) -> None:
    noisy, settings = photons(scene((40, 40))).astype(np.float64), quick(method, steps=5)
    reference = restore(noisy, method.key, settings=settings).data
    result = restore(noisy * scale + offset, method.key, settings=settings).data
    # the noise has a level of 2 and more; with another offset, some read noise is taken for photons, and where the
    # network computes in 16 bits, it rounds in another way
    np.testing.assert_allclose((result - offset) / scale, reference, atol=0.25)


@EACH
def test_a_noisy_image_gets_better_and_gaps_are_filled(method: Method[Any, Any]) -> None:
    truth = scene((64, 64))
    noisy = photons(truth).astype(np.float32)
    complete = noisy.copy()
    noisy[20:23, 30:34] = np.nan
    noisy[5, 5] = np.inf
    result = restore(noisy, method.key, settings=quick(method, steps=150))
    assert error(result.data, truth) < 0.6 * error(complete, truth)
    assert error(result.data[20:23, 30:34], truth[20:23, 30:34]) < 10
    assert abs(result.data.mean() - complete.mean()) < 0.02 * complete.mean()
    assert result.quality.invalid == 13
    assert any("13 pixels" in note.text for note in result.notes)


@EACH
def test_a_noisy_volume_gets_better(method: Method[Any, Any]) -> None:
    truth = scene((8, 32, 32))
    noisy = photons(truth)
    result = restore(noisy, method.key, axes="ZYX", together="ZYX", settings=quick(method, steps=150))
    assert error(result.data, truth) < 0.6 * error(noisy, truth)


@EACH
def test_the_seed_decides_the_result(method: Method[Any, Any]) -> None:
    noisy, settings = photons(scene((40, 40))).astype(np.float32), quick(method, steps=5)
    first, second, other = (restore(noisy, method.key, settings=settings, seed=s).data for s in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


@EACH
@pytest.mark.parametrize("steps", [1, 7])
def test_a_fit_that_is_kept_at_any_step_leaves_a_usable_network(method: Method[Any, Any], steps: int) -> None:
    events = 0

    def keep(event: object) -> Command | None:
        nonlocal events
        events += isinstance(event, Progress)
        return Command.KEEP if isinstance(event, Progress) and event.step >= steps else None

    noisy = photons(scene((40, 40))).astype(np.float32)
    result = wait(run(Image(noisy, "YX"), Recipe(method=method.key, settings=quick(method, steps=2000))), keep)
    assert np.isfinite(result.data).all()
    assert events >= 1
    assert result.notes[0].text.startswith("kept after ")


@EACH
def test_a_warm_start_is_no_worse_with_fewer_steps(method: Method[Any, Any]) -> None:
    truth = scene((48, 48))
    frames = np.stack([photons(truth, seed) for seed in range(2)])
    settings = quick(method, steps=120)
    both = restore(frames, method.key, axes="TYX", settings=settings).data
    alone = restore(frames[1], method.key, settings=settings).data
    assert error(both[1], truth) < 1.05 * error(alone, truth)


@EACH
def test_a_network_can_be_saved_and_loaded(method: Method[Any, Any], tmp_path: Path) -> None:
    params = method.settings("balanced", quick(method, steps=3))
    pixels = torch.from_numpy((photons(scene((40, 40))) - 15.0).astype(np.float32) / 15)[None]
    block = NoisyBlock(pixels, torch.tensor([0.3]), torch.ones(40, 40, dtype=torch.bool))
    net = method.network(params, 1, (40, 40))
    for _ in method.fit(net, block, params, False):
        pass
    torch.save(net.state_dict(), tmp_path / "net.pt")
    loaded = method.network(params, 1, (40, 40))
    loaded.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    with torch.no_grad():
        assert torch.equal(method.restore(loaded, block, params), method.restore(net, block, params))


@EACH
@pytest.mark.parametrize("axes", ["YX", "TYX", "CYX"])
def test_every_tensor_is_on_the_device(method: Method[Any, Any], axes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one that minds tensors of another as any GPU does, and gives the same numbers."""
    noisy = photons(scene((24, 24))).astype(np.float32)
    pixels = noisy if axes == "YX" else np.stack([noisy, noisy.T])
    names = method.params.model_fields.keys()
    few = {
        "steps": 2,
        "side": 16,
        "batch": 64 if "patch" in names and "side" not in names else 1,
        "rounds": 1,
        "rough_steps": 1,
        "passes": 1,
        "orientations": 2,
    }
    options: dict[str, Any] = {
        "axes": axes,
        "together": "CYX" if axes == "CYX" else "",
        "settings": {name: value for name, value in few.items() if name in names},
    }
    expected = restore(pixels, method.key, device="cpu", **options)
    monkeypatch.setattr("napari_pristine.jobs.plan.pick_device", lambda wanted: (elsewhere.DEVICE, None))
    with elsewhere.elsewhere():
        found = restore(pixels, method.key, **options)
    assert found.device == elsewhere.DEVICE.type
    np.testing.assert_allclose(found.data, expected.data, rtol=0.02, atol=0.05)


@EACH
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_gpu_gives_the_result_of_the_cpu(method: Method[Any, Any]) -> None:
    noisy = photons(scene((64, 64))).astype(np.float32)
    cpu, gpu = (restore(noisy, method.key, settings=quick(method), device=device).data for device in ("cpu", "cuda"))
    assert error(cpu, gpu) < 0.3


@EACH
@pytest.mark.parametrize("correlated", [False, True])
def test_it_warns_of_noise_that_it_takes_for_structure(method: Method[Any, Any], correlated: bool) -> None:
    noise = np.random.default_rng(0).normal(size=(64, 64))
    noise = gaussian_filter(noise, 1.0) if correlated else noise
    noisy = scene((64, 64)) + 5 * noise / noise.std()
    notes = restore(noisy, method.key, settings=quick(method, steps=2)).notes
    warned = any(note.warning and "use inr or sampling" in note.text for note in notes)
    assert warned == (correlated and method.needs_independent_noise)


@EACH
def test_provenance_is_json(method: Method[Any, Any]) -> None:
    result = restore(photons(scene((32, 32))), method.key, settings=quick(method, steps=2))
    again = json.loads(json.dumps(result.provenance()))
    assert again["recipe"]["method"] == method.key
    assert again["quality"]["sigma"] > 0


@pytest.mark.data
@pytest.mark.parametrize(
    ("key", "name"),
    [
        *((key, INDEPENDENT) for key in METHODS),
        *((key, CORRELATED) for key, method in METHODS.items() if not method.needs_independent_noise),
    ],
)
def test_a_real_image_gets_better_than_by_any_blur(key: str, name: str, data_folder: Path) -> None:
    """With the preset that promises least: a blur is faster still, so nobody would wait for less than this.

    Longer fits are for the benchmarks, on whole frames: on a part as small as this one `balanced` is not always better
    than `fast`.
    """
    part = (slice(128, 256), slice(192, 320))
    noisy, truth = (
        read(data_folder / "fmd_test_mix" / kind / f"{name}.png").data[part] for kind in ("noisy_avg1", "gt")
    )
    best_blur = min(error(gaussian_filter(noisy.astype(float), s), truth) for s in (0.7, 1.0, 1.5, 2.0))
    assert error(restore(noisy, key, preset="fast").data, truth.astype(float)) < best_blur

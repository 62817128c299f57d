"""What `pristine compare`, `diagnose`, `methods` and `demo` answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_pristine import read, write
from napari_pristine.cli.demo import run_demo
from napari_pristine.image.image import Image
from napari_pristine.image.quality import compare
from napari_pristine.methods import METHODS
from napari_pristine.samples import simulate_timelapse
from napari_pristine.settings import settings_of

Shell = Callable[..., tuple[int, str, str]]


def test_compare_gives_the_figures_and_the_range_they_refer_to(shell: Shell, tmp_path: Path) -> None:
    noisy, truth = simulate_timelapse((32, 40), frames=2)
    write(tmp_path / "noisy.tif", noisy)
    write(tmp_path / "truth.tif", truth)
    code, out, _ = shell("compare", "noisy.tif", "--reference", "truth.tif", "--json")
    expected = compare(noisy.data, truth.data, float(np.ptp(truth.data)))
    assert code == 0
    assert {key: json.loads(out)[key] for key in vars(expected)} == pytest.approx(vars(expected))
    code, out, _ = shell("compare", "noisy.tif", "--reference", "truth.tif", "--data-range", "1000")
    assert code == 0
    assert "1000 (given)" in out


def test_pictures_of_8_bits_are_compared_over_their_type(shell: Shell, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write(tmp_path / "a.tif", Image(rng.integers(50, 99, (32, 32), np.uint8), "YX"))
    _, out, _ = shell("compare", "a.tif", "--reference", "a.tif", "--json")
    assert json.loads(out)["data_range"] == 255
    assert json.loads(out)["psnr"] is None  # infinite, for which JSON has no word
    assert json.loads(out)["psnr_affine"] is None
    assert json.loads(out)["identical"] is True
    _, out, _ = shell("compare", "a.tif", "--reference", "a.tif")
    assert "PSNR                        infinite: both have the same values" in out
    assert "inf dB" not in out


def test_the_order_of_axes_does_not_matter_in_a_comparison(shell: Shell, tmp_path: Path) -> None:
    data = simulate_timelapse((32, 40), frames=2)[0].data
    write(tmp_path / "a.tif", Image(data, "TCYX"))
    write(tmp_path / "b.tif", Image(data.swapaxes(0, 1), "CTYX"))
    _, out, _ = shell("compare", "a.tif", "--reference", "b.tif", "--json")
    assert json.loads(out)["nrmse"] == 0


def test_a_result_is_judged_by_the_noisy_image_alone(shell: Shell, tmp_path: Path) -> None:
    noisy, truth = simulate_timelapse((64, 64), frames=1)
    write(tmp_path / "noisy.tif", noisy)
    write(tmp_path / "truth.tif", truth)
    code, out, _ = shell("compare", "truth.tif", "--noisy", "noisy.tif")
    assert code == 0
    assert "nuclei: Only noise was removed.\n" in out
    assert "PSNR" not in out
    _, out, _ = shell("compare", "noisy.tif", "--noisy", "noisy.tif", "--reference", "truth.tif", "--json")
    found = json.loads(out)
    assert [verdict["kind"] for verdict in found["verdicts"]] == ["noise remains"] * 2
    assert found["verdicts"][0]["evidence"]["kept"] == pytest.approx(1)
    assert found["psnr"] > 0


def test_what_is_too_small_to_compare_is_refused(shell: Shell, tmp_path: Path) -> None:
    write(tmp_path / "a.tif", Image(np.eye(8, dtype=np.uint8), "YX"))
    code, _, err = shell("compare", "a.tif", "--reference", "a.tif")
    assert code == 2
    assert "8 × 8 pixels; SSIM needs at least 11 × 11" in err


def test_diagnose_says_what_it_found_and_what_it_means(shell: Shell, movie: Path) -> None:
    code, out, err = shell("diagnose", movie)
    assert (code, err) == (0, "")
    assert all(
        word in out for word in ("nuclei", "microtubules", "noise level", "saturated", "'auto'", "estimated error")
    )
    found = json.loads(shell("diagnose", movie, "--json")[1])
    assert [channel["name"] for channel in found["channels"]] == ["nuclei", "microtubules"]
    assert found["advice"]


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda method: method.key)
def test_all_that_is_declared_about_a_method_is_shown(shell: Shell, method: Any) -> None:
    assert method.summary.split()[0] in shell("methods")[1]
    out = shell("methods", method.key)[1]
    facts = json.loads(shell("methods", method.key, "--json")[1])
    for setting, fact in zip(settings_of(method.params), facts["settings"], strict=True):
        assert fact["name"] == setting.name
        assert f"\n{setting.name}: " in out
        assert setting.text in out
        for preset in method.presets:
            value = getattr(method.settings(preset), setting.name)
            assert fact["presets"][preset] == (list(value) if isinstance(value, tuple) else value)


def test_methods_as_json_is_one_object_each(shell: Shell) -> None:
    assert [json.loads(line)["key"] for line in shell("methods", "--json")[1].splitlines()] == list(METHODS)


def test_the_demo_writes_what_it_says_and_can_be_repeated(tmp_path: Path) -> None:
    heard: list[Any] = []
    for _ in range(2):
        lines = run_demo(tmp_path / "demo", heard.append, side=32, frames=1, settings={})
    assert heard
    assert "nuclei" in lines[1]
    assert "PSNR" in lines[0]
    noisy, restored = (read(tmp_path / "demo" / f"{name}.ome.tif") for name in ("noisy", "restored"))
    assert (restored.axes, restored.dtype, restored.scale) == (noisy.axes, noisy.dtype, noisy.scale)
    picture = read(tmp_path / "demo" / "before_after_residual.png")
    assert picture.axes == "YX"
    assert picture.data.std() > 20
    told = {line.removeprefix("wrote ") for line in lines if line.startswith("wrote ")}
    assert told == {str(path) for path in (tmp_path / "demo").iterdir()}

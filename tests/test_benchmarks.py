from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.__main__ import main, make_parser
from benchmarks.batch import write_large
from benchmarks.entries import BASELINES, Baseline, find_entries
from benchmarks.gpu import PARTS, GpuBenchmark, run_gpu
from benchmarks.images import ImagePair, read_pair
from benchmarks.measure import Measurement, Setup, check_noisy, measure, measure_in_new_process
from benchmarks.published import FMD_NOISY, PUBLISHED, TableCell
from benchmarks.speed import Fit, FitOptions, Point, Race, take_turns, textbook_fit
from benchmarks.suites import Case, find_cases
from benchmarks.tables import markdown
from benchmarks.verdict import FAULTS, Restoration
from numpy.typing import NDArray
from scipy import ndimage

import napari_pristine as pristine
from napari_pristine.errors import ComputeError, FileError, ImageError, SettingError
from napari_pristine.image.image import Image
from napari_pristine.image.noise import measure_noise
from napari_pristine.image.verdict import judge_channel
from napari_pristine.methods import METHODS
from napari_pristine.samples import simulate_image

SIDE = 40


def simulated(seed: int = 0, side: int = SIDE) -> tuple[NDArray[Any], NDArray[Any]]:
    """Noisy picture and truth, 8 bits."""
    noisy, truth = simulate_image((side, side), channel="nuclei", seed=seed, photons=60.0)
    return tuple(np.clip(stack.data - 100.0, 0, 255).round().astype(np.uint8) for stack in (noisy, truth))  # type: ignore[return-value]


def write_pair(data: Path, name: str, noisy: NDArray[Any], truth: NDArray[Any], level: int = 1) -> None:
    for folder, picture in ((f"noisy_avg{level}", noisy), ("gt", truth)):
        path = data / "fmd_test_mix" / folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pristine.write(path, Image(picture, "YX"), overwrite=True)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two types and two captures, laid out like the real images, under names of which nothing is published."""
    for seed, name in enumerate(["Confocal_Yeast_1", "Confocal_Yeast_2", "WideField_Yeast_G_1", "WideField_Yeast_G_2"]):
        write_pair(tmp_path, name, *simulated(seed))
    return tmp_path


def setup(**changes: Any) -> Setup:
    usual = Setup("gaussian-1", "gaussian-1", {}, "Confocal_Yeast_1", "Confocal_Yeast", 1, None, "cpu", 0)
    return replace(usual, **changes)


def measurement(image: str, label: str, psnr: float) -> Measurement:
    kind = image.rpartition("_")[0]
    of = setup(image=image, type=kind, label=label)
    return Measurement(of, psnr, psnr + 1, 0.9, 0.9, 2.0, 100.0, "process", "cpu")


# the images


def test_types_and_captures_come_from_the_names(data: Path) -> None:
    found = [(case.type, case.capture) for case in find_cases(data, "fmd", [1])]
    assert found == [("Confocal_Yeast", 1), ("Confocal_Yeast", 2), ("WideField_Yeast_G", 1), ("WideField_Yeast_G", 2)]
    assert [case.name for case in find_cases(data, "fmd", [1], captures=[2], names=["Confocal_Yeast_2"])] == [
        "Confocal_Yeast_2"
    ]


def test_missing_files_are_named(data: Path) -> None:
    with pytest.raises(FileError, match="noisy_avg4"):
        find_cases(data, "fmd", [4])
    with pytest.raises(SettingError, match="no level 3; its levels are 1, 2"):
        find_cases(data, "fmd", [3])
    with pytest.raises(FileError, match="images named Other_1"):
        find_cases(data, "fmd", [1], names=["Other_1", "Confocal_Yeast_1"])
    (data / "fmd_test_mix/gt/Confocal_Yeast_2.png").unlink()
    with pytest.raises(FileError, match=r"no truth.*Confocal_Yeast_2"):
        find_cases(data, "fmd", [1])


def test_colour_images_are_refused(data: Path) -> None:
    path = data / "fmd_test_mix/gt/Confocal_Yeast_1.png"
    pristine.write(path, Image(np.zeros((SIDE, SIDE, 3), np.uint8), "YXS"), overwrite=True)
    with pytest.raises(ImageError, match="two grey images"):
        read_pair(data / "fmd_test_mix/noisy_avg1/Confocal_Yeast_1.png", path)


def test_crops_are_central_and_results_are_clipped_but_not_rounded() -> None:
    picture = np.zeros((20, 24))
    picture[8:12, 10:14] = 200.0
    pair = ImagePair(picture, picture, full_scale=255.0).cropped(12)
    assert pair.truth.shape == (12, 12)
    assert pair.truth[4:8, 4:8].min() == 200
    assert pair.score(pair.truth - 1000 * (pair.truth == 0)).psnr == np.inf
    assert pair.score(pair.truth + 0.25).psnr == pytest.approx(10 * np.log10(255**2 / 0.25**2))
    with pytest.raises(ImageError, match="does not fit"):
        pair.cropped(13)


def test_fast_psnr_equals_that_of_the_full_comparison() -> None:
    noisy, truth = simulated()
    pair = ImagePair(noisy.astype(float), truth.astype(float), 255.0)
    score = pair.score(3 * pair.noisy - 40)
    assert pair.psnr(3 * pair.noisy - 40) == pytest.approx((score.psnr, score.psnr_affine), abs=1e-6)


def write_all_types(data: Path, shift: float) -> None:
    """All 48 names, with the published noisy PSNR of their type plus a shift in dB."""
    off = PUBLISHED["fmd"][0].scores[TableCell(1)].psnr - np.mean([levels[0] for levels in FMD_NOISY.values()])
    checker = np.indices((12, 12)).sum(axis=0) % 2 * 2.0 - 1
    for kind, levels in FMD_NOISY.items():
        error = 65535 * 10 ** (-(levels[0] + off + shift) / 20)
        for capture in (1, 2, 3, 4):
            noisy = (32768 + np.round(error * checker)).astype(np.uint16)
            write_pair(data, f"{kind}_{capture}", noisy, np.full((12, 12), 32768, np.uint16))


def test_the_noisy_psnr_of_the_whole_set_must_be_the_published_one(tmp_path: Path) -> None:
    write_all_types(tmp_path, shift=0.0)
    assert "all 48 images: noisy 27.220 dB" in check_noisy(find_cases(tmp_path, "fmd", [1]))[-1]
    write_all_types(tmp_path, shift=0.02)
    with pytest.raises(ImageError, match=r"noisy 27\.240 dB"):
        check_noisy(find_cases(tmp_path, "fmd", [1]))


def test_a_part_of_the_set_is_checked_type_by_type(data: Path) -> None:
    lines = check_noisy(find_cases(data, "fmd", [1]))
    assert len(lines) == 2
    assert all("nothing published" in text for text in lines)
    write_pair(data, "Confocal_FISH_1", *simulated())  # far from the 22.86 dB of its name
    with pytest.raises(ImageError, match=r"Confocal_FISH.*22\.86.*--unchecked"):
        check_noisy(find_cases(data, "fmd", [1]))


# methods


@pytest.mark.parametrize("key", [key for key in BASELINES if BASELINES[key].task == "denoise" and key != "noisy"])
def test_a_baseline_improves_an_image(key: str) -> None:
    noisy, truth = simulated(side=64)
    pair = ImagePair(noisy.astype(float), truth.astype(float), 255.0)
    gain = pair.score(BASELINES[key].run(pair.noisy, 1)).psnr - pair.score(pair.noisy).psnr
    assert gain > (2.0 if key in ("gaussian-1", "gaussian-1.5", "tv", "bm3d-vst") else 0.5)


@pytest.mark.parametrize("key", ["gaussian-1", "tv", "nlm", "wavelet"])
def test_a_baseline_does_not_depend_on_the_units(key: str) -> None:
    picture = simulated()[0].astype(float)
    run = BASELINES[key].run
    np.testing.assert_allclose(run(picture / 255, 1) * 255, run(picture, 1), atol=0.3)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BASELINES, "tv", Baseline(BASELINES["tv"].run, packages={"no_such_module": "no_such_package"}))
    with pytest.raises(SettingError, match=r"'tv' needs no_such_package.*pip install"):
        find_entries(["tv"], [], {})


def test_entries_are_named_after_method_preset_and_changes() -> None:
    blurs = [entry.label for entry in find_entries(["gaussian"], [], {})]
    assert blurs[0] == "noisy"
    assert {"gaussian-1", "gaussian-1.5"} < set(blurs)
    entries = find_entries(["inr", "inr:paper", "tv"], ["fast", "balanced"], {"steps": "7"})
    labels = [entry.label for entry in entries]
    assert labels == ["noisy", "inr:fast steps=7", "inr:balanced steps=7", "inr:paper steps=7", "tv"]
    assert entries[1].settings["steps"] == 7
    assert entries[3].settings == METHODS["inr"].settings("paper", {"steps": 7}).model_dump(mode="json")
    with pytest.raises(SettingError, match="no method 'inrr'"):
        find_entries(["inrr"], ["fast"], {})


# measuring


def test_a_measurement_runs_in_a_fresh_process(data: Path) -> None:
    case = find_cases(data, "fmd", [1])[0]
    ballast = np.ones(60_000_000)  # 460 MiB here must not count there
    (apart,), here = measure_in_new_process([(setup(), case)]), measure(setup(), case)
    assert (apart.psnr, apart.ssim) == (here.psnr, here.ssim)
    assert here.memory > ballast.nbytes / 2**20 > apart.memory > 20
    assert Measurement.from_json(json.loads(json.dumps(asdict(apart)))) == apart


def test_a_failure_in_that_process_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ComputeError, match=r"gaussian-1 failed on Confocal_Yeast_1: .*does not exist"):
        list(
            measure_in_new_process(
                [(setup(), Case("fmd", "none", "none", tmp_path / "none.png", tmp_path / "none.png"))]
            )
        )


# the commands


def quality(data: Path, *more: str) -> int:
    return main(["quality", "--data", str(data), "--captures", "1", "--device", "cpu", *more])


def test_quality_writes_measurements_and_can_be_resumed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, page = data / "found.json", data / "page.md"
    keep = ["--json", str(file), "--markdown", str(page), "--crop", "32"]
    assert quality(data, "--methods", "noisy", *keep) == 0
    first = json.loads(file.read_text("utf-8"))["measurements"]
    assert [m["setup"]["label"] for m in first] == ["noisy"] * 2
    assert quality(data, "--methods", "noisy", *keep) == 2
    assert "add --resume" in capsys.readouterr().err
    assert quality(data, "--methods", "inr", "--preset", "fast", "--set", "steps=20", *keep, "--resume") == 0
    found = json.loads(file.read_text("utf-8"))["measurements"]
    assert found[:2] == first
    assert [m["setup"]["label"] for m in found[2:]] == ["inr:fast steps=20"] * 2
    assert "Confocal_Yeast_1" in capsys.readouterr().out
    table = page.read_text("utf-8")
    assert "| method | Confocal Yeast | WideField Yeast G | mean |" in table
    assert "| inr:fast steps=20 |" in table
    assert "| 27.22 |" in table


def test_a_run_continues_after_a_failure_and_reports_it(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noisy, truth = simulated()
    write_pair(data, "Confocal_Yeast_1", noisy, truth[:-1])
    assert quality(data, "--methods", "noisy", "--unchecked") == 1
    printed = capsys.readouterr()
    assert "noisy failed on Confocal_Yeast_1" in printed.err
    assert "WideField_Yeast_G_1       1  noisy" in printed.out


@pytest.mark.parametrize("page", ["benchmarks", "experiments"])
def test_commands_of_the_documentation_are_understood(page: str) -> None:
    text = (Path(__file__).parents[1] / "docs" / f"{page}.md").read_text("utf-8")
    commands = [line.split()[4:] for line in text.splitlines() if line.startswith("$ python -m benchmarks ")]
    commands += [code.split()[3:] for code in re.findall(r"`(python -m benchmarks \w[^`…]*)`", text)]
    assert commands or "benchmarks quality" in text
    for words in commands:
        args = make_parser().parse_args(words)
        for name in getattr(args, "methods", None) or []:
            assert find_entries([name], args.preset, {}, ())


def test_wrong_use_gives_one_line(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quality(data, "--methods", "inr", "--set", "step=5") == 2
    assert "there is no setting 'step'" in capsys.readouterr().err
    assert quality(data / "nowhere", "--methods", "tv") == 2
    assert "PRISTINE_DATA" in capsys.readouterr().err


def test_means_are_over_types_and_only_where_all_images_are_there() -> None:
    full = [measurement("A_1", "x", 30.0), measurement("A_2", "x", 32.0), measurement("B_1", "x", 40.0)]
    table = markdown([*full, measurement("A_1", "y", 50.0)])
    assert "| x | 31.00 / 32.00 | 40.00 / 41.00 | 35.50 / 36.50 |" in table
    assert "| y | 50.00 / 51.00 (1 of 2) | – | – |" in table


# fits


def test_a_fit_gives_what_restore_gives() -> None:
    noisy, _ = simulate_image((SIDE, SIDE), photons=60.0)
    image = noisy.data.astype(np.float64)
    fit = Fit(image, FitOptions("inr", "balanced", {"steps": "20"}, None, "cpu", 3), torch.device("cpu"))
    for _ in fit.steps:
        pass
    restored = pristine.restore(image, "inr", settings={"steps": 20}, device="cpu", seed=3)
    np.testing.assert_array_equal(fit.render(), restored.data)


def test_the_textbook_loop_fits_and_repeats_itself() -> None:
    picture = torch.from_numpy(simulated()[1] / 127.5 - 1).float()
    first = [loss for loss, _ in textbook_fit(picture, 60, seed=1)]
    assert first[-1] < 0.2 * first[0]
    assert first == [loss for loss, _ in textbook_fit(picture, 60, seed=1)]


def points(*found: tuple[float, float]) -> tuple[Point, ...]:
    return tuple(
        Point(i, seconds, psnr, psnr, 2.0 if i < 2 else 0.9) for i, (seconds, psnr) in enumerate(found, start=1)
    )


def test_a_race_finds_the_time_of_each_quality() -> None:
    found = Race(
        "x", None, "inr", "cpu", points((1, 25), (2.5, 31), (2, 30.2)), points((4, 25), (8, 28), (10, 30), (12, 29))
    )
    assert found.best() == 30
    assert found.times(30) == (2, 10)
    assert found.times(30.5) == (2.5, np.inf)
    assert ("textbook's stop", "psnr", 28) in found.targets()


def test_fits_take_turns_by_the_time_that_they_used() -> None:
    order: list[str] = []

    def runner(name: str, pace: float) -> Any:
        for i in range(1, 4):
            order.append(name)
            yield Point(i, i * pace, 0.0, 0.0, 0.0)

    both = take_turns({"slow": runner("slow", 3.0), "quick": runner("quick", 1.0)})
    assert order == ["slow", "quick", "quick", "quick", "slow", "slow"]
    assert len(both["slow"]) == len(both["quick"]) == 3


def test_speed_times_both(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = data / "races.json"
    command = ["speed", "--data", str(data), "--images", "Confocal_Yeast_1", "--crop", "32", "--device", "cpu"]
    assert main([*command, "--steps", "12", "--set", "steps=30", "--json", str(file)]) == 0
    assert "the best of the textbook loop is reached in 1 of 1 images" in capsys.readouterr().out
    found = json.loads(file.read_text("utf-8"))["races"][0]
    assert found["ours"][-1]["step"] == 30
    assert len(found["textbook"]) == 12
    assert found["ours"][0]["seconds"] > 0
    assert 0 < found["textbook"][0]["seconds"] < found["textbook"][-1]["seconds"]


def test_warm_counts_the_steps_that_are_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack = np.stack([simulated(0, 32)[0]] * 2)
    path = tmp_path / "stack.tif"
    pristine.write(path, Image(stack, "TYX"))
    command = ["warm", "--frames", "2", "--crop", "32", "--device", "cpu", "--set", "steps=60"]
    assert main([*command, "--file", str(path), "--json", str(tmp_path / "warm.json")]) == 0
    found = json.loads((tmp_path / "warm.json").read_text("utf-8"))["fractions"]
    assert [outcome["steps"] for outcome in found] == [3, 6, 12, 24]
    assert all(outcome["warm"] < outcome["cold"] for outcome in found[:2])
    assert main([*command[:1], "--frames", "1", *command[3:]]) == 2
    assert "--frames 2 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "shape", "filled"),
    [
        ("a.ome.zarr", (6, 64, 64), [0, 5]),
        ("a.tif", (6, 64, 64), [0, 5]),
        ("plane.ome.zarr", (4096, 4096), [600, 3000]),
    ],
)
def test_large_images_are_almost_empty(name: str, shape: tuple[int, ...], filled: list[int], tmp_path: Path) -> None:
    write_large(tmp_path / name, shape, 2)
    image = pristine.read(tmp_path / name)
    assert (image.axes, image.shape) == ("TYX"[-len(shape) :], shape)
    rows = image.data.reshape(len(image.data), -1)
    assert rows[filled].any(axis=1).all()
    assert not rows[[1, 2, 3, 4]].any()


# real images


@pytest.mark.data
def test_the_real_images_have_the_published_noise(data_folder: Path) -> None:
    lines = check_noisy(find_cases(data_folder, "fmd", [1, 2, 4, 8, 16]))
    assert all("published" in line for line in lines)


@pytest.mark.data
@pytest.mark.parametrize(
    ("image", "key", "psnr", "affine"),
    [
        ("Confocal_BPAE_B_1", "tv", 36.2, 36.8),
        ("Confocal_FISH_1", "tv", 30.5, 30.6),
        ("TwoPhoton_MICE_1", "tv", 32.4, 34.5),
        ("Confocal_FISH_1", "gaussian-1.5", 31.5, 31.58),
    ],
)
def test_baselines_give_known_figures(data_folder: Path, image: str, key: str, psnr: float, affine: float) -> None:
    case = find_cases(data_folder, "fmd", [1], names=[image])[0]
    pair = read_pair(case.noisy, case.truth)
    score = pair.score(BASELINES[key].run(pair.noisy, 1))
    assert (score.psnr, score.psnr_affine) == (pytest.approx(psnr, abs=0.06), pytest.approx(affine, abs=0.06))


class TestGpu:
    def test_prints_a_table_and_writes_every_row(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "rows.json"
        parts = "machine,tests,memory,small"
        assert main(["gpu", "--device", "cpu", "--tiny", "--parts", parts, "--json", str(path)]) == 0
        rows = json.loads(path.read_text())
        assert [row["part"] for row in rows] == ["machine", "tests", "memory", "memory", "memory", "small"]
        assert rows[0]["figures"]["copy GB/s"] > 0
        assert "need one" in rows[1]["problem"]
        assert rows[-1]["figures"]["at once"] == 4
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1].startswith("6 rows, 0 failed")
        assert [line.split()[0] for line in lines[-7:-1]] == [row["part"] for row in rows]

    def test_profiles_a_fit(self) -> None:
        benchmark = GpuBenchmark(torch.device("cpu"), tiny=True)
        benchmark.paper()
        assert [row.problem for row in benchmark.rows] == [""] * 4
        shares = benchmark.rows[1].figures
        parts = [float(value) for name, value in shares.items() if name.endswith("%")]
        assert sum(parts) == pytest.approx(100)
        assert float(shares["products %"]) > 0

    def test_what_fails_is_a_row_and_not_the_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(benchmark: GpuBenchmark) -> None:
            raise RuntimeError("no kernel image")

        monkeypatch.setitem(PARTS, "machine", fail)
        monkeypatch.setattr(GpuBenchmark, "_side_by_side", lambda self, frames: {}["missing"])
        assert run_gpu(["machine", "small", "tests"], "cpu", tiny=True, data=None, seconds=60, json=None) == 1

    def test_nothing_is_begun_after_the_time_is_up(self) -> None:
        benchmark = GpuBenchmark(torch.device("cpu"), tiny=True, limit=-1)
        benchmark.measure("training", "steps", lambda: pytest.fail("begun"))
        assert benchmark.rows[0].problem == "not begun, the time is up"
        assert not benchmark.rows[0].failed

    def test_differences_from_the_cpu_are_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        benchmark, pixels = GpuBenchmark(torch.device("cpu"), tiny=True), simulated(side=24)[0]
        compare = partial(benchmark._compare, "inr", "fast", pixels, "YX", "")
        assert compare()["difference"] == 0
        restored = iter([0.0, 20.0])
        monkeypatch.setattr(
            "benchmarks.gpu.pristine.restore",
            lambda pixels, *_, **__: SimpleNamespace(data=pixels + next(restored) + np.eye(24), seconds=1, notes=()),
        )
        assert "differs from the CPU" in compare()["problem"]

    def test_needs_little_software(self) -> None:
        """No windows, shell, clusters or classical filters, which machines with a GPU may lack."""
        absent = [
            "napari",
            "cyclopts",
            "jinja2",
            "rich",
            "pooch",
            "psutil",
            "bm3d",
            "pywt",
            "distributed",
        ]
        code = f"import sys; sys.modules.update(dict.fromkeys({absent})); import benchmarks.__main__, training.denoiser"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_for_the_verdict_are_planted_where_there_is_something_to_spoil(fault: str) -> None:
    plant, expected = FAULTS[fault]
    spots = np.zeros((128, 128))
    spots[14::16, 14::16] = 300
    ramp = np.tile(np.linspace(5, 45, 128), (128, 1))
    truth = ramp + ndimage.gaussian_filter(spots, 1.5)
    noisy = np.random.default_rng(0).poisson(truth).astype(np.float64)
    changed = plant(np.random.default_rng(1), Restoration(noisy, truth, measure_noise(noisy), np.sqrt(truth)))
    assert changed is not None
    assert judge_channel(noisy, changed).kind == expected
    if fault in ("plane over-smoothed", "spot erased"):
        empty = Restoration(noisy, ramp, measure_noise(noisy), np.sqrt(truth))
        assert plant(np.random.default_rng(1), empty) is None

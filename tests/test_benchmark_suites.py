"""The suites of the papers: their cases, degradations and protocols, and the published results."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from benchmarks import images
from benchmarks.__main__ import main
from benchmarks.entries import BASELINES, find_entries
from benchmarks.images import ImagePair, Protocol, read_clean
from benchmarks.published import PUBLISHED, TableCell
from benchmarks.suites import SUITES, find_cases, image_name, load_case
from numpy.typing import NDArray

from napari_pristine.errors import FileError, ImageError, SettingError
from napari_pristine.methods import METHODS

OURS = {"inr", "sampling", "iddp", "blind2unblind", "linr"}
CLEAN = {
    "set5": ["baby.bmp", "woman.bmp"],
    "set9": ["image_F16_512rgb.png", "image_House256rgb.png", "kodim01.png"],
    "linr_inpainting": ["img_001.png", "img_006.png"],
    "deblur4": ["leaves.tif"],
}
PAIRS = {
    "polyu": ("noisy", "gt", ["Sony_3-5_200_1600_classroom_14.JPG"]),
    "cc15": ("noisy", "gt", ["d800_iso1600_1.png"]),
    "sidd_val": ("noisy", "gt", ["1_8.png"]),
}


def colours(seed: int, height: int = 46, width: int = 43) -> NDArray[np.uint8]:
    """A smooth RGB picture `(Y, X, 3)`."""
    y, x = np.mgrid[:height, :width] / 40
    waves = [np.sin(3 * x + seed + channel) + np.cos(4 * y - channel) for channel in range(3)]
    return np.asarray((np.stack(waves, axis=-1) + 2) * 63, np.uint8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like the real images, with small simulated ones."""
    root = tmp_path_factory.mktemp("data")

    def put(path: Path, picture: NDArray[Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(picture).save(path)

    for folder, names in CLEAN.items():
        for seed, name in enumerate(names):
            put(root / folder / name, colours(seed))
    put(root / "set12" / "01.png", colours(5)[..., 0])
    random = np.random.default_rng(0)
    for folder, (noisy, truth, names) in PAIRS.items():
        for name in names:
            put(root / folder / truth / name, colours(1))
            put(
                root / folder / noisy / name,
                np.clip(colours(1) + random.normal(0, 9, (46, 43, 3)), 0, 255).astype("u1"),
            )
    for kind in ("Confocal_FISH", "Confocal_MICE", "WideField_BPAE_G"):
        for capture in (1, 2):
            put(root / f"fmd_test_mix/gt/{kind}_{capture}.png", colours(2)[..., 0])
            for level in (1, 2, 4, 8, 16):
                noisy_picture = np.clip(colours(2)[..., 0] + random.normal(0, 20 / level**0.5, (46, 43)), 0, 255)
                path = root / f"fmd_test_mix/noisy_avg{level}/{kind}_{capture}.png"
                put(path, noisy_picture.astype("u1"))
    return root


# the cases


@pytest.mark.parametrize("suite", SUITES)
def test_every_suite_makes_pictures_that_fit_their_truth(data: Path, suite: str) -> None:
    for case in find_cases(data, suite):
        pair = load_case(case)
        finer = case.degradation.settings.get("finer", 1)
        height, width = pair.truth.shape[:2]
        assert pair.noisy.shape == (height // finer, width // finer, *pair.truth.shape[2:])
        assert pair.truth.shape[0] % finer == pair.truth.shape[1] % finer == 0
        assert len(case.degradation.tasks) == 1 + len(pair.extra_images)
        assert all(other.shape == pair.truth.shape for other in pair.extra_images)
        assert pair.protocol == SUITES[suite].protocol
        assert ("inpaint" in case.degradation.tasks) == any(np.isnan(p).any() for p in (pair.noisy, *pair.extra_images))
        np.testing.assert_array_equal(pair.noisy, load_case(case).noisy)


def test_suites_take_the_types_and_levels_of_their_papers(data: Path) -> None:
    def found(suite: str) -> set[tuple[str, int]]:
        return {(case.type, case.level) for case in find_cases(data, suite)}

    assert found("fmd") == {("Confocal_FISH", 1), ("Confocal_MICE", 1), ("WideField_BPAE_G", 1)}
    assert found("fmd-b2u") == {("Confocal_FISH", 1), ("Confocal_MICE", 1)}
    assert found("fmd-iddp") == {(t, level) for t in ("Confocal_FISH", "Confocal_MICE") for level in (1, 2, 4, 8, 16)}
    assert found("linr-sr") == {("x2", 1), ("x4", 1), ("x8", 1)}
    assert found("linr-joint") == {("x4+noise", 1), ("10%+noise", 1), ("x4+10%", 1)}
    assert [case.name for case in find_cases(data, "linr-joint") if case.type == "10%+noise"] == [
        "f16", "house", "kodim01", "kate",
    ]  # fmt: skip


def test_names_are_those_of_the_tables() -> None:
    files = ("image_Baboon512rgb.png", "image_F16_512rgb.png", "kodim12.png", "img_002.png", "Canon5D2_5.JPG")
    assert [image_name(Path(file)) for file in files] == ["baboon", "f16", "kodim12", "bird", "canon5d2_5"]


def test_a_run_can_be_limited_and_split(data: Path) -> None:
    assert len(find_cases(data, "linr-sr", limit=1)) == 3
    assert len(find_cases(data, "linr-sr", names=["woman"])) == 3
    assert len(find_cases(data, "fmd-iddp", [4], captures=[2])) == 2
    with pytest.raises(FileError, match=r"images named Nobody.*suite 'linr-sr'"):
        find_cases(data, "linr-sr", names=["Nobody"])


def test_awgn_takes_any_folder_of_pictures(data: Path) -> None:
    types = {case.type for case in find_cases(data, "awgn")}
    assert types == {f"{s} {n}" for s in ("set9", "set12") for n in ("gauss25", "gauss0-25", "poisson30")}
    cases = find_cases(data / "set5", "awgn")
    assert {case.type for case in cases} == {"set5 gauss25", "set5 gauss0-25", "set5 poisson30"}
    assert load_case(cases[0], crop=32).noisy.shape == (32, 32, 3)


def test_a_crop_is_taken_before_the_picture_is_degraded(data: Path) -> None:
    (case,) = (c for c in find_cases(data, "linr-sr", names=["baby"]) if c.type == "x8")
    pair = load_case(case, crop=40)
    assert (pair.noisy.shape, pair.truth.shape) == ((5, 5, 3), (40, 40, 3))
    np.testing.assert_array_equal(pair.noisy, images.downsample(pair.truth, None, 8))


def test_other_pictures_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    PIL.Image.fromarray(np.zeros((20, 20), np.uint16)).save(path)
    with pytest.raises(ImageError, match="grey or RGB image of 8 bits"):
        read_clean(path)


# the degradations


@pytest.mark.parametrize(
    ("noise", "level", "wanted"),
    [
        (images.gaussian_noise, 25.0, 25.0),
        (images.poisson_noise, 30.0, (128 * 255 / 30) ** 0.5),
        (images.clipped_gaussian_noise, 25.0, 25.0),
    ],
)  # fmt: skip
def test_noise_has_the_level_that_it_says(noise: Callable[..., Any], level: float, wanted: float) -> None:
    clean = np.full((200, 200), 128.0)
    noisy = noise(clean, np.random.default_rng(0), level)
    assert noisy.mean() == pytest.approx(128, abs=0.6)
    assert noisy.std() == pytest.approx(wanted, rel=0.02)


def test_only_linrs_noise_is_clipped() -> None:
    dark = np.zeros((50, 50))
    random = np.random.default_rng(0)
    assert images.gaussian_noise(dark, random, 25).min() < -50
    assert images.clipped_gaussian_noise(dark, random, 25).min() == 0
    assert images.clipped_gaussian_noise(dark + 255, random, 25).max() == 255


def test_random_levels_lie_between_nothing_and_the_most() -> None:
    clean = np.full((60, 60), 100.0)
    levels = [images.random_gaussian_noise(clean, images.random_generator(str(i)), 25).std() for i in range(500)]
    assert max(levels) < 27
    assert min(levels) < 4
    assert np.mean(levels) == pytest.approx(12.5, abs=1)


def test_a_tenth_of_the_pixels_is_seen_in_all_colours() -> None:
    clean = colours(0, 200, 200).astype(float)
    sparse = images.hide_pixels(clean, np.random.default_rng(0))
    seen = np.isfinite(sparse)
    assert seen.mean() == pytest.approx(0.1, abs=0.01)
    assert (seen.all(axis=2) == seen.any(axis=2)).all()
    np.testing.assert_array_equal(sparse[seen], clean[seen])


def test_blur_keeps_the_light_and_goes_round_the_edge() -> None:
    point = np.zeros((64, 64))
    point[0, 0] = 1e4
    blurred = images.blur(point, np.random.default_rng(0)) - images.blur(0 * point, np.random.default_rng(0))
    assert blurred.sum() == pytest.approx(1e4)
    assert blurred[-1, -1] == pytest.approx(blurred[1, 1])
    at = np.minimum(np.arange(64), 64 - np.arange(64))
    assert (blurred.sum(axis=1) * at**2).sum() / 1e4 == pytest.approx(1.6**2, rel=0.01)


def test_noise_differs_between_images_and_variants(data: Path) -> None:
    cases = [case for case in find_cases(data, "awgn") if case.type.startswith("set9")]
    noises = [load_case(case).noisy - load_case(case).truth for case in cases]
    assert len({float(noise[0, 0, 0]) for noise in noises}) == len(cases)


# comparing


def test_each_protocol_compares_as_its_paper() -> None:
    truth = colours(0).astype(float)
    random = np.random.default_rng(0)
    result = truth + random.normal(0, 30, truth.shape)
    scores = {name: ImagePair(truth, truth, 255.0, protocol=SUITES[name].protocol).score(result) for name in SUITES}
    square = np.mean((np.clip(result, 0, 255) - truth) ** 2)
    assert scores["fmd"].psnr == pytest.approx(10 * np.log10(255**2 / square))
    assert scores["linr-sr"].psnr == pytest.approx(10 * np.log10(255**2 / np.mean((result - truth) ** 2)))
    assert scores["linr-sr"].ssim > scores["fmd"].ssim + 0.05
    assert scores["fmd-b2u"].ssim == scores["fmd-b2u"].ssim_gaussian
    assert scores["fmd-b2u"].psnr == pytest.approx(scores["fmd"].psnr, abs=0.05)
    rounding = replace(SUITES["fmd"].protocol, round=True)
    assert ImagePair(truth, truth, 255.0, protocol=rounding).score(truth + 0.4).psnr == np.inf
    grey = np.repeat(truth[..., :1], 3, axis=2)
    luma = ImagePair(grey, grey, 255.0, protocol=Protocol("", luma=True))
    # 219 of 255 levels: a shift by 51 grey values is one by 43.8 of the luma
    assert luma.score(np.clip(grey + 51, 0, None)).psnr > 10 * np.log10(255**2 / 51**2)


# methods


@pytest.mark.parametrize("key", [key for key in BASELINES if BASELINES[key].task != "denoise"])
def test_a_classical_method_recovers_something(key: str) -> None:
    clean = colours(3, 48, 48)[..., 0].astype(float)
    random = np.random.default_rng(0)
    task = BASELINES[key].task
    seen = {
        "enlarge": images.downsample(clean, None, 4),
        "inpaint": images.hide_pixels(clean, random),
        "deblur": images.blur(clean, random),
    }[task]
    result = BASELINES[key].run(seen, 4 if task == "enlarge" else 1)
    assert result.shape == clean.shape
    assert ImagePair(clean, clean, 255.0).score(result).psnr > (15 if key == "nearest" else 20)


def test_entries_take_only_what_they_can(data: Path) -> None:
    entries = {e.label: e for e in find_entries(["classical", "inr"], ["fast"], {}, ())}
    joint = {case.type: case for case in find_cases(data, "linr-joint")}
    taking = {kind: {label for label, e in entries.items() if e.accepts(case)} for kind, case in joint.items()}
    assert {"bicubic", "tv"} <= taking["x4+noise"]
    assert {"bicubic", "linear"} <= taking["x4+10%"]
    assert "tv" not in taking["x4+10%"]
    assert all("inr:fast" not in labels for labels in taking.values())
    (denoise,) = find_cases(data, "linr-denoise", names=["f16"])
    assert entries["inr:fast"].accepts(denoise)
    assert entries["inr:fast"].settings_for(denoise) == entries["inr:fast"].settings


def test_only_some_methods_learn_from_many_images() -> None:
    with pytest.raises(SettingError, match="'inr@type' cannot learn"):
        find_entries(["inr@type"], ["fast"], {})


def quality(data: Path, suite: str, *more: str) -> int:
    return main(["quality", "--suite", suite, "--data", str(data), "--device", "cpu", *more])


def test_a_method_that_cannot_help_is_named(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert quality(data, "linr-sr", "--methods", "inr") == 2
    assert "inr:balanced only removes noise" in capsys.readouterr().err


def test_split_runs_make_one_table(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for name in ("baby", "woman"):
        files.append(tmp_path / f"{name}.json")
        assert quality(data, "linr-sr", "--methods", "bicubic", "--images", name, "--json", str(files[-1])) == 0
    printed = capsys.readouterr().out
    assert "x4  30.73 / 0.916" in printed  # published results of bicubic beside ours
    assert "| Bicubic | – | 26.96 / 0.871 | – | LINR paper, table 2 |" in printed
    found = json.loads(files[0].read_text("utf-8"))["measurements"]
    assert {m["setup"]["type"] for m in found} == {"x2", "x4", "x8"}
    assert all(m["date"].startswith("20") for m in found)
    assert main(["table", *map(str, files), "--markdown", str(tmp_path / "page.md")]) == 0
    page = (tmp_path / "page.md").read_text("utf-8")
    assert page.startswith("2 images, full images, on cpu, 20")
    assert "| method | x2 | x4 | x8 | s | MiB |" in page
    assert "| x4 | bicubic | published: Bicubic | published: Nearest | published: LINR |" in page
    assert main(["table", *map(str, files), "--suite", "fmd"]) == 2
    assert "no measurements" in capsys.readouterr().err


def test_the_one_table_has_the_levels_that_are_asked_for(data: Path, tmp_path: Path) -> None:
    files = [tmp_path / "one.json", tmp_path / "four.json"]
    for level, file in zip(("1", "1,4"), files, strict=True):
        keep = ["--json", str(file), "--unchecked", "--methods", "noisy", "--levels", level]
        assert quality(data, "fmd", *keep, "--images", "Confocal_FISH_1") == 0
    assert main(["table", *map(str, files), "--levels", "4", "--markdown", str(tmp_path / "page.md")]) == 0
    page = (tmp_path / "page.md").read_text("utf-8")
    assert page.startswith("Level 4 (frames averaged), 1 image, ")
    assert "Level 1 " not in page
    assert "| VST + BM3D | 36.05 | FMD benchmark, 48 images |" in page


@pytest.mark.skipif("blind2unblind" not in METHODS, reason="no method that learns from many images")
def test_a_network_learns_once_for_all_images_of_a_type(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    entry = ["--methods", "blind2unblind@type", "--preset", "fast", "--set", "steps=2", "--unchecked"]
    images = "Confocal_FISH_1,Confocal_FISH_2"
    assert quality(data, "fmd-b2u", *entry, "--crop", "40", "--images", images, "--json", str(file)) == 0
    found = [m for m in json.loads(file.read_text("utf-8"))["measurements"] if m["setup"]["scope"]]
    assert [(m["setup"]["image"], m["images"]) for m in found] == [("Confocal_FISH_1", 2), ("Confocal_FISH_2", 2)]
    assert found[0]["learning"] == found[1]["learning"] > 0


# published results


@pytest.mark.parametrize("suite", SUITES)
def test_published_figures_belong_to_something(data: Path, suite: str) -> None:
    known = {*OURS, *BASELINES, ""}
    types = {case.type for case in find_cases(data, suite)} | {"TwoPhoton_MICE", "kodak24 gauss25", "kodak24 poisson30"}
    for published in PUBLISHED[suite]:
        assert published.counterpart in known
        assert published.source
        for cell, score in published.scores.items():
            assert cell.level in (0, *SUITES[suite].levels)
            assert cell.type in types | {""}
            assert 10 < score.psnr < 50
            assert score.ssim is None or 0.3 < score.ssim < 1


def test_published_means_are_those_of_their_images() -> None:
    checked = 0
    for published in (p for of_suite in PUBLISHED.values() for p in of_suite):
        for cell in [c for c in published.scores if c.type and not c.image]:
            of_images = [s for c, s in published.scores.items() if c.type == cell.type and c.image]
            if of_images:
                checked += 1
                mean = published.scores[cell]
                assert np.mean([score.psnr for score in of_images]) == pytest.approx(mean.psnr, abs=0.0061)
                if mean.ssim is not None:
                    assert np.mean([score.ssim or 0 for score in of_images]) == pytest.approx(mean.ssim, abs=0.0011)
    assert checked == 27


# real images


@pytest.mark.data
@pytest.mark.parametrize("key", ["bicubic", "nearest"])
def test_enlarging_gives_the_figures_of_the_paper(data_folder: Path, key: str) -> None:
    printed = {cell: s for p in PUBLISHED["linr-sr"] if p.counterpart == key for cell, s in p.scores.items()}
    for case in find_cases(data_folder, "linr-sr", names=["bird", "butterfly", "head", "woman"]):
        pair, wanted = load_case(case), printed[TableCell(1, case.type, case.name)]
        run, finer = BASELINES[key].run, case.degradation.settings["finer"]
        score = pair.score(np.stack([run(pair.noisy[..., i], finer) for i in range(3)], axis=-1))
        assert score.psnr == pytest.approx(wanted.psnr, abs=0.0051), case
        if wanted.ssim is not None:
            assert score.ssim == pytest.approx(wanted.ssim, abs=0.0051), case


@pytest.mark.data
def test_images_of_the_paper_are_those_of_the_sets(data_folder: Path) -> None:
    for index, name in enumerate(("baby", "bird", "butterfly", "head", "woman"), start=1):
        clean = read_clean(data_folder / f"set5/{name}.bmp")
        np.testing.assert_array_equal(read_clean(data_folder / f"linr_inpainting/img_{index:03}.png"), clean)
        small = read_clean(data_folder / f"linr_sr/img_{index:03}_SRF_4_LR_LANCZOS.png")
        np.testing.assert_array_equal(images.downsample(clean, None, 4), small)
    kate = read_clean(data_folder / "dip/inpainting/kate.png")
    np.testing.assert_array_equal(read_clean(data_folder / "linr_inpainting/img_006.png"), kate)

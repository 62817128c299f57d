"""Scenes and cameras are what they claim, and a training can be interrupted, repeated and used."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training.camera import Camera
from training.denoiser import ScenePool, Training, train
from training.scenes import KINDS, SIDE, make_scene, make_scenes

from napari_pristine.image.noise import measure_noise
from napari_pristine.nets.residual_unet import ResidualUNet

CPU = torch.device("cpu")
TINY = Training(widths=(8, 8, 8), scenes=3, batch=2, side=16, last_side=24, bf16=False)


@pytest.fixture(scope="module")
def scenes() -> torch.Tensor:
    return torch.from_numpy(np.stack([make_scene(number) for number in range(12)]))


def test_a_scene_is_a_function_of_its_number() -> None:
    np.testing.assert_array_equal(make_scene(5), make_scene(5))
    assert not np.array_equal(make_scene(5), make_scene(6))
    np.testing.assert_array_equal(next(make_scenes(range(5, 6), processes=1)), make_scene(5))


@pytest.mark.parametrize("number", range(12))
def test_scenes_are_light(number: int) -> None:
    scene = make_scene(number).astype(float)
    assert scene.shape == (SIDE, SIDE)
    assert np.isfinite(scene).all()
    assert scene.min() >= 0
    assert np.quantile(scene, 0.999) == pytest.approx(1, abs=0.01)
    assert scene.std() > 0.01


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_of_structure_is_finite_and_not_empty(kind: object) -> None:
    assert callable(kind)
    for seed in range(4):
        image = kind(np.random.default_rng(seed))
        assert image.shape == (SIDE, SIDE)
        assert np.isfinite(image).all()
        assert image.std() > 0


class TestCamera:
    def test_crops_are_parts_of_scenes(self) -> None:
        ramp = torch.arange(64.0).expand(1, 64, 64) / 64
        crops = Camera(0, CPU).crops(ramp, 50, 16)
        assert crops.shape == (50, 1, 16, 16)
        assert float(crops.min()) >= 0
        assert float(crops.max()) < 1
        ranges = [(crops.amax(axis) - crops.amin(axis)).amax((1, 2)) for axis in (2, 3)]
        assert bool((torch.minimum(*ranges) < 1e-6).all())  # turned or binned, it varies along one axis only

    def test_the_noise_has_level_one(self, scenes: torch.Tensor) -> None:
        camera = Camera(1, CPU)
        pairs = camera.picture(camera.crops(scenes, 300, 64))
        errors = (pairs.noisy - pairs.target) / (1 + pairs.maps[:, :1]).clamp(min=0.2) / pairs.scale
        levels = errors.flatten(1).std(dim=1)
        assert 0.95 < float(levels.median()) < 1.05
        assert float(((levels > 0.7) & (levels < 1.4)).float().mean()) > 0.85

    def test_light_of_the_target_is_the_scene(self, scenes: torch.Tensor) -> None:
        camera = Camera(2, CPU, correlated=0.0)
        pairs = camera.picture(camera.crops(scenes, 200, 64))
        bright = pairs.photons.flatten()
        light, noisy = pairs.light(pairs.target), pairs.light(pairs.noisy)
        excess = ((noisy - light).mean((1, 2, 3)) / pairs.light_level.flatten())[bright]
        assert abs(float(excess.median())) < 0.03  # an unbiased camera

    def test_white_noise_is_told_to_be_white_and_blurred_noise_is_not(self, scenes: torch.Tensor) -> None:
        for correlated, low, high in ((0.0, 0.0, 0.05), (10.0, 0.6, 1.0)):
            camera = Camera(3, CPU, correlated)
            told = camera.picture(camera.crops(scenes, 200, 64)).maps[:, 1].mean((1, 2))
            assert low <= float((told > 0.15).float().mean()) <= high

    def test_what_is_told_is_what_is_measured(self) -> None:
        """The correlation length that the network learns with is that of `measure_noise`."""
        camera = Camera(4, CPU, correlated=10.0)
        pairs = camera.picture(torch.full((60, 1, 96, 96), 0.5))
        told, measured = [], []
        for noisy, target, maps in zip(pairs.noisy, pairs.target, pairs.maps, strict=True):
            if float(maps[1].mean()) > 0.5:
                told.append(1 + float(maps[1].mean()))
                measured.append(measure_noise((noisy - target)[0].double().numpy() + 100).correlation_length)
        assert 0.85 < np.median(np.array(measured) / told) < 1.15

    def test_the_seed_decides(self, scenes: torch.Tensor) -> None:
        first, second, other = (
            (camera := Camera(seed, CPU)).picture(camera.crops(scenes, 3, 32)).noisy for seed in (5, 5, 6)
        )
        assert torch.equal(first, second)
        assert not torch.equal(first, other)


@pytest.fixture(autouse=True)
def _few_held_out_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.denoiser._HELD_OUT", 2)


class TestTraining:
    def test_writes_weights_that_load(self, tmp_path: Path) -> None:
        trained = train(tmp_path, TINY, steps=2, device=CPU)
        net = ResidualUNet(TINY.widths)
        net.load_state_dict({name: w.float() for name, w in load_file(tmp_path / "denoiser.safetensors").items()})
        for mine, theirs in zip(net.parameters(), trained.parameters(), strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-2, rtol=1e-3)

    def test_goes_on_after_an_interruption(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("training.denoiser._CHECKPOINT_SECONDS", 0.0)
        train(tmp_path, TINY, steps=3, device=CPU)
        train(tmp_path, TINY, steps=5, device=CPU, resume=True)
        assert torch.load(tmp_path / "state.pt", weights_only=True)["step"] == 5
        with (tmp_path / "log.csv").open() as file:
            steps = [int(row["steps"]) for row in csv.DictReader(file)]
        assert steps == [1, 2, 3, 4, 5]

    def test_learns(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("training.denoiser._CHECKPOINT_SECONDS", 0.0)
        train(tmp_path, replace(TINY, averaging=0.9, warm_up=1, learning_rate=1e-2, muon=0.05), steps=100, device=CPU)
        with (tmp_path / "log.csv").open() as file:
            errors = [float(row["white"]) for row in csv.DictReader(file)]
        assert errors[-1] < 0.8 * errors[0]

    def test_a_pool_has_as_many_scenes_at_a_step_as_in_any_other_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ScenePool, "_FIRST", 2)
        late, early = (ScenePool(4, 0, CPU, tmp_path / name) for name in ("a.npy", "b.npy"))
        early.at_step(0)
        early = ScenePool(4, 0, CPU, tmp_path / "b.npy")  # a new run, which finds two scenes
        assert torch.equal(early.at_step(2), late.at_step(2))
        assert len(late.at_step(100)) == 4


@pytest.mark.parametrize("size", [(2, 2), (7, 30), (64, 64), (33, 128)])
def test_the_network_takes_planes_of_any_size(size: tuple[int, int]) -> None:
    net = ResidualUNet((8, 8, 8))
    noisy = torch.randn(2, 1, *size)
    restored, error = net(noisy, torch.zeros(2, 2, *size))
    assert restored.shape == error.shape == noisy.shape
    torch.testing.assert_close(restored, noisy)  # before training it changes nothing

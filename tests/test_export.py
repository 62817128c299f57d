"""Packages of bioimage.io: valid by its library; the same result without this package."""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from napari_pristine import restore, write
from napari_pristine.cli.main import main
from napari_pristine.errors import FileError, ModelError
from napari_pristine.export import export_bioimageio
from napari_pristine.image.image import Image
from napari_pristine.jobs.train import learn
from napari_pristine.methods import METHODS
from napari_pristine.model import Model, pretrained_model, save_model
from tiny import TINY, noisy

spec = pytest.importorskip("bioimageio.spec", reason="pip install 'napari-pristine[bioimageio]'")
PLAIN = {"refine": False, "hot_pixels": False}
"""Steps that a package leaves out."""
SHAPES = {"YX": (40, 48), "CYX": (2, 40, 48), "ZYX": (3, 40, 48)}


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(METHODS, "tiny", TINY)
    yield
    with warnings.catch_warnings():  # the library leaves files open
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def model(axes: str = "YX", **settings: object) -> Model:
    return learn(noisy(SHAPES[axes]), "tiny", settings={"steps": 5, **settings}, axes=axes, together=axes)


@pytest.mark.parametrize(("axes", "stabilise"), [("YX", True), ("CYX", False), ("ZYX", True)])
def test_a_package_is_valid_and_restores_as_we_do(tmp_path: Path, axes: str, stabilise: bool) -> None:
    learned = model(axes, stabilise=stabilise)
    image = Image(noisy(SHAPES[axes], 1).astype(np.float32), axes)
    export_bioimageio(tmp_path / "model.zip", learned, image)
    with warnings.catch_warnings():  # of the library's own files, left open
        warnings.simplefilter("ignore")
        description = spec.load_model_description(tmp_path / "model.zip", format_version="latest")
    assert description.validation_summary.status in ("passed", "valid-format")
    zipfile.ZipFile(tmp_path / "model.zip").extractall(tmp_path / "model")
    values = image.data.reshape(1, -1, *image.shape[-2:]) if axes != "ZYX" else image.data[None, None]
    np.save(tmp_path / "given.npy", values)
    answer = run_without_us(tmp_path / "model" / "weights.pt", tmp_path / "given.npy").reshape(image.shape)
    ours = restore(image, model=learned, settings=PLAIN, together=axes).data
    assert np.allclose(answer, ours, atol=2e-3 * ours.std())


def test_the_pretrained_network_is_exported_for_planes_of_one_channel(tmp_path: Path) -> None:
    image = Image(np.random.default_rng(0).poisson(noisy((40, 48)) % 7).astype(np.float32), "YX")
    export_bioimageio(tmp_path / "model.zip", pretrained_model(), image)
    zipfile.ZipFile(tmp_path / "model.zip").extractall(tmp_path / "model")
    np.save(tmp_path / "given.npy", image.data[None, None])
    answer = run_without_us(tmp_path / "model" / "weights.pt", tmp_path / "given.npy")[0, 0]
    settings = {"hot_pixels": False, "stripes": False, "safeguard": False}
    ours = restore(image, "pretrained", preset="fast", settings=settings).data
    assert np.allclose(answer, ours, atol=0.05 * (image.data - ours).std())  # some processors compute ours in 16 bits


def run_without_us(weights: Path, given: Path) -> np.ndarray:
    """Run TorchScript on an array in an interpreter that cannot import this package."""
    code = (
        "import sys, warnings, numpy, torch; warnings.simplefilter('ignore'); sys.modules['napari_pristine'] = None; "
        "net = torch.jit.load(sys.argv[1]); given = torch.from_numpy(numpy.load(sys.argv[2])); "
        "numpy.save(sys.argv[3], net(given).detach().numpy())"
    )
    answer = given.with_name("answer.npy")
    subprocess.run([sys.executable, "-c", code, str(weights), str(given), str(answer)], check=True, timeout=120)
    return np.load(answer)


def test_a_large_sample_gives_a_tile(tmp_path: Path) -> None:
    export_bioimageio(tmp_path / "model.zip", model(), noisy((300, 280)))
    zipfile.ZipFile(tmp_path / "model.zip").extractall(tmp_path)
    assert np.load(tmp_path / "input.npy").shape == np.load(tmp_path / "output.npy").shape == (1, 1, 256, 256)


def test_errors_come_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "taken.zip").write_bytes(b"precious")
    with pytest.raises(FileError, match=r"\.zip files"):
        export_bioimageio(tmp_path / "model.onnx", model(), noisy((40, 48)))
    with pytest.raises(FileError, match="already exists"):
        export_bioimageio(tmp_path / "taken.zip", model(), noisy((40, 48)))
    with pytest.raises(ModelError, match=r"2 channels, .* 1 channel"):
        export_bioimageio(tmp_path / "m.zip", model("CYX"), Image(noisy((3, 40, 48))[:1], "CYX"))
    assert [file.name for file in tmp_path.iterdir()] == ["taken.zip"]


def test_a_missing_library_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bioimageio.spec", None)
    with pytest.raises(FileError, match=r"pip install 'napari-pristine\[bioimageio\]'"):
        export_bioimageio(tmp_path / "model.zip", model(), noisy((40, 48)))


def test_the_command_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model("m.safetensors", model())
    write("cell.tif", Image(noisy((40, 48)), "YX"))
    assert main(["export", "m.safetensors", "-o", "m.zip", "--image", "cell.tif"]) == 0
    assert "m.safetensors → m.zip: tiny" in capsys.readouterr().out
    assert main(["export", "m.safetensors", "-o", "m.zip", "--image", "cell.tif"]) == 2
    assert "already exists" in capsys.readouterr().err

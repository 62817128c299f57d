"""Export a model for other programs, in the format of bioimage.io.

What is exported takes values of the image and gives back values, in one TorchScript that needs no code of ours. It runs
on processors, on tiles of a fixed size: that of the sample or less. Hot pixels are not filled, and the result is not
refined.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from napari_pristine import __version__
from napari_pristine.errors import ComputeError, FileError
from napari_pristine.image.image import Image
from napari_pristine.image.intensity import Intensity
from napari_pristine.io.atomic import atomic_write, check_writable
from napari_pristine.jobs.block import Block
from napari_pristine.jobs.train import TrainingImage
from napari_pristine.methods import find_method
from napari_pristine.methods.method import NoisyBlock
from napari_pristine.model import Model

_LARGEST_TILE = 256
"""Side of the tile along Y and X, at most."""
_GIVEN = "noisy"
"""Name of what is given to the exported network."""
_STEPS = 1 << 14
"""Entries of the table by which stabilised values are undone."""


def export_bioimageio(
    path: str | os.PathLike[str], model: Model, sample: Image | str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a model as a package of bioimage.io, for instance for deepImageJ, ilastik or bioimageio.core.

    Args:
        path: The package, a `.zip` file, which appears when it is complete.
        model: What is exported.
        sample: An image like those to be restored, or its file: how the noise grows with the signal is measured in it,
            and a part of it becomes the test of the package.
        overwrite: Replace a file that exists.

    Raises:
        PristineError: The sample does not fit, the file cannot be written, or `bioimageio` is not installed.
    """
    path = Path(path)
    if path.suffix.lower() != ".zip":
        raise FileError(f"'{path}' has the suffix '{path.suffix}'; packages of bioimage.io are .zip files")
    check_writable(path, overwrite=overwrite)
    save = _saver()
    block, values = _tile(model, sample)
    net = _Values(model, block, values.shape[1:]).eval()
    # the library may hold files open that some systems do not remove then
    files = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with atomic_write(path, overwrite=overwrite) as part, files as folder:
        made = save(_describe(model, net, values, Path(folder)), output_path=Path(folder) / "package.zip")
        part.write_bytes(Path(made).read_bytes())


def _saver() -> Any:
    try:
        from bioimageio.spec import save_bioimageio_package
        from loguru import logger
    except ImportError as error:
        raise FileError(
            f"the library of bioimage.io is not there ({error}); pip install 'napari-pristine[bioimageio]'"
        ) from error
    logger.disable("bioimageio")
    return save_bioimageio_package


def _tile(model: Model, sample: Image | str | os.PathLike[str]) -> tuple[Block, np.ndarray]:
    """The first block of the sample, and the tile of its values `(C, *space)` in the middle."""
    example = TrainingImage.open(sample, model.recipe.model_copy(update={"select": {}}), "sample")
    model.check_fits(example.blocks.block_shape[0], example.blocks.space, model.recipe.method)
    block = example.block(example.blocks.indices[0], model.recipe.params)
    sides = [*block.space[:-2], *(min(n, _LARGEST_TILE) for n in block.space[-2:])]
    middle = tuple(slice((n - side) // 2, (n - side) // 2 + side) for n, side in zip(block.space, sides, strict=True))
    return block, block.filled[(slice(None), *middle)].astype(np.float32)


class _Values(nn.Module):
    """The network from values to values `(1, C, *space)`: stabilise, normalise, restore, and all of it back."""

    def __init__(self, model: Model, block: Block, space: tuple[int, ...]) -> None:
        super().__init__()
        self.net = model.network()
        self.method, self.params = find_method(model.recipe.method), model.recipe.params
        self.noisy = NoisyBlock(
            torch.zeros(len(block.pixels), *space), torch.tensor(block.sigma), torch.ones(space, dtype=torch.bool),
            block.correlation_length, model.recipe.seed, block.axes, block.spacing,
        )  # fmt: skip
        self.scales = [_Stable(intensity) for intensity in block.intensities]

    def forward(self, values: Tensor) -> Tensor:
        stable = torch.stack([scale.do(channel) for scale, channel in zip(self.scales, values[0], strict=True)])
        space = tuple(range(1, stable.dim()))
        mean = stable.mean(dim=space, keepdim=True)
        std = (stable - mean).square().mean(dim=space, keepdim=True).sqrt().clamp(min=1e-6)
        n = self.noisy
        noisy = NoisyBlock((stable - mean) / std, n.sigma, n.valid, n.correlation_length, n.seed, n.axes, n.spacing)
        restored = self.method.restore(self.net, noisy, self.params) * std + mean
        return torch.stack([s.undo(channel) for s, channel in zip(self.scales, restored, strict=True)])[None]


class _Stable:
    """Makes the noise of one channel equally strong everywhere, as its `Intensity` does, which may be nowhere."""

    def __init__(self, intensity: Intensity) -> None:
        self.anscombe = intensity.anscombe
        if self.anscombe:
            self.top = float(self.anscombe.forward(np.array([2 * self.anscombe.largest]))[0])
            table = self.anscombe.inverse(np.linspace(0, self.top, _STEPS))
            self.table = torch.from_numpy(table.astype(np.float32))

    def do(self, values: Tensor) -> Tensor:
        """Values to units of the noise."""
        if not self.anscombe:
            return values
        noise = self.anscombe.noise
        photons = (values - noise.offset) / noise.gain
        return 2 * (photons + 0.375 + (noise.read / noise.gain) ** 2).clamp(min=0).sqrt()

    def undo(self, stable: Tensor) -> Tensor:
        """Units of the noise to values."""
        if not self.anscombe:
            return stable
        at = stable.clamp(0, self.top) * ((_STEPS - 1) / self.top)
        low = at.floor().clamp(max=_STEPS - 2)
        index = low.long()
        return torch.lerp(self.table[index], self.table[index + 1], at - low)


def _describe(model: Model, net: _Values, values: np.ndarray, folder: Path) -> Any:
    """The description of the package; the files that it names are written to `folder`."""
    from bioimageio.spec.model import v0_5 as spec

    given = torch.from_numpy(values)[None]
    with torch.no_grad():
        answer = net(given)
    if not bool(answer.isfinite().all()):
        raise ComputeError("the model gives values that are not finite; learn it anew")
    _write_script(net, given, folder / "weights.pt")
    np.save(folder / "input.npy", given.numpy())
    np.save(folder / "output.npy", answer.numpy())
    (folder / "README.md").write_text(_readme(model), encoding="utf-8")
    files = {file.stem: spec.FileDescr(source=file) for file in folder.iterdir()}
    torch_version = spec.Version(torch.__version__.split("+")[0])
    noisy, restored = _axes(spec, values, out=False), _axes(spec, values, out=True)
    return spec.ModelDescr(
        name=f"napari-pristine {model.recipe.method} {model.fingerprint}",
        description=find_method(model.recipe.method).summary,
        documentation=files["README"],
        tags=["denoising", "restoration", "self-supervised"],
        inputs=[spec.InputTensorDescr(id=spec.TensorId(_GIVEN), axes=noisy, test_tensor=files["input"])],
        outputs=[spec.OutputTensorDescr(id=spec.TensorId("restored"), axes=restored, test_tensor=files["output"])],
        weights=spec.WeightsDescr(
            torchscript=spec.TorchscriptWeightsDescr(source=folder / "weights.pt", pytorch_version=torch_version)
        ),
    )


def _write_script(net: _Values, given: Tensor, path: Path) -> None:
    with torch.no_grad(), warnings.catch_warnings():
        # that the size of the tile is fixed is meant, and the format of bioimage.io knows of nothing newer
        warnings.simplefilter("ignore")
        trace: Any = torch.jit.trace
        torch.jit.save(trace(net, given, check_trace=False), str(path))


def _axes(spec: Any, values: np.ndarray, *, out: bool) -> list[Any]:
    """The axes of what is given to the network, or of its answer; both are equally large."""
    axes = [
        spec.BatchAxis(size=1),
        spec.ChannelAxis(channel_names=[spec.Identifier(f"channel{i}") for i in range(len(values))]),
    ]
    for name, size in zip("zyx"[4 - values.ndim :], values.shape[1:], strict=True):
        axis, noisy = spec.AxisId(name), spec.TensorId(_GIVEN)
        if out:
            axes.append(spec.SpaceOutputAxis(id=axis, size=spec.SizeReference(tensor_id=noisy, axis_id=axis)))
        else:
            axes.append(spec.SpaceInputAxis(id=axis, size=size))
    return axes


def _readme(model: Model) -> str:
    method, facts = find_method(model.recipe.method), model.facts
    return (
        f"# {method.title}\n\nLearned by napari-pristine {__version__} from {facts.count} noisy images in "
        f"{facts.seconds:.0f} s; no clean image was seen.\n\n{method.summary}\n\n"
        "It takes grey values and gives grey values. It is meant for images taken as those were that it learned from: "
        "same detector, gain and offset. It runs on processors; its tile has a fixed size.\n\n"
        f"## Validation\n\nCompare a result with what was removed: that should hold no structure.\n\n"
        f"## Reference\n\n{method.cite}\n"
    )

"""Export a model for other programs as a package of bioimage.io.

The package holds one TorchScript that takes and returns values in the units of the image and needs no code of ours. It
runs on CPUs, on tiles of a fixed size: that of the sample or less. It neither fills hot pixels nor refines the result.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_pristine import __version__
from napari_pristine.errors import ComputeError, FileError
from napari_pristine.fits.pretrained import interpolate
from napari_pristine.image.image import Image
from napari_pristine.image.intensity import AnscombeTransform
from napari_pristine.io.atomic import atomic_write, check_writable
from napari_pristine.jobs.block import Block
from napari_pristine.jobs.train import TrainingImage
from napari_pristine.methods import find_method
from napari_pristine.methods.method import NoisyBlock
from napari_pristine.model import Model
from napari_pristine.text import counted

_MAX_TILE = 256
"""Maximum side of the tile along Y and X, in pixels."""
_INPUT = "noisy"
_OUTPUT = "restored"


def export_bioimageio(
    path: str | os.PathLike[str], model: Model, sample: Image | str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write a model as a package of bioimage.io, for instance for deepImageJ, ilastik or bioimageio.core.

    Args:
        path: The package, a `.zip` file, which appears when it is complete.
        model: The model.
        sample: An image like those to be restored, or its file. The growth of its noise with the signal is measured
            and becomes part of the package; a tile of it becomes the test of the package.
        overwrite: Replace a file that exists.

    Raises:
        PristineError: The sample does not fit, the file cannot be written, or `bioimageio.spec` is not installed.
    """
    path = Path(path)
    if path.suffix.lower() != ".zip":
        raise FileError(f"'{path}' has the suffix '{path.suffix}'; packages of bioimage.io are .zip files")
    check_writable(path, overwrite=overwrite)
    try:
        from bioimageio.spec import save_bioimageio_package
        from loguru import logger
    except ImportError as error:
        raise FileError(
            f"the library of bioimage.io is missing ({error}); pip install 'napari-pristine[bioimageio]'"
        ) from error
    logger.disable("bioimageio")
    opened = TrainingImage.open(sample, model.recipe.model_copy(update={"select": {}}), "sample")
    model.check_fits(opened.blocks.block_shape[0], opened.blocks.space, model.recipe.method)
    block = opened.block(opened.blocks.indices[0], model.recipe.params)
    sides = [*block.space[:-2], *(min(n, _MAX_TILE) for n in block.space[-2:])]
    middle = tuple(slice((n - side) // 2, (n - side) // 2 + side) for n, side in zip(block.space, sides, strict=True))
    tile = block.filled[(slice(None), *middle)].astype(np.float32)
    net = _ExportedNetwork(model, block, tile.shape[1:]).eval()
    # the library keeps files open, which some systems cannot remove
    files = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with atomic_write(path, overwrite=overwrite) as temporary, files as folder:
        description = _describe(model, net, tile, Path(folder))
        package = save_bioimageio_package(description, output_path=Path(folder) / "package.zip")
        temporary.write_bytes(Path(package).read_bytes())


class _ExportedNetwork(nn.Module):
    """The network from values to values `(1, C, *space)`: transform, normalise, restore, and all of it backwards."""

    def __init__(self, model: Model, block: Block, space: tuple[int, ...]) -> None:
        super().__init__()
        self.net = model.network()
        self.method, self.params = find_method(model.recipe.method), model.recipe.params
        self.noisy = NoisyBlock(
            torch.zeros(len(block.pixels), *space), torch.tensor(block.sigma), torch.ones(space, dtype=torch.bool),
            block.correlation_length, model.recipe.seed, block.axes, block.spacing,
        )  # fmt: skip
        self.intensities = block.intensities

    def forward(self, values: Tensor) -> Tensor:
        transforms = [intensity.anscombe for intensity in self.intensities]
        channels = zip(transforms, values[0], strict=True)
        transformed = torch.stack([t.forward(channel) if t else channel for t, channel in channels])
        space = tuple(range(1, transformed.dim()))
        mean = transformed.mean(dim=space, keepdim=True)
        std = (transformed - mean).square().mean(dim=space, keepdim=True).sqrt().clamp(min=1e-6)
        scales: Any = zip(self.intensities, mean, std, strict=True)  # tensors in place of numbers
        intensities = tuple(replace(intensity, mean=m, std=s) for intensity, m, s in scales)
        sigma = [1 / i.std if i.anscombe else i.noise.sigma / i.std for i in intensities]
        sigmas = torch.stack([torch.as_tensor(each).reshape(()) for each in sigma])
        noisy = replace(self.noisy, pixels=(transformed - mean) / std, sigma=sigmas, intensities=intensities)
        restored = self.method.restore(self.net, noisy, self.params) * std + mean
        channels = zip(transforms, restored, strict=True)
        return torch.stack([_inverse(t, channel) if t else channel for t, channel in channels])[None]


def _inverse(transform: AnscombeTransform, transformed: Tensor) -> Tensor:
    """`AnscombeTransform.inverse` of a tensor: linear interpolation in its table."""
    return interpolate(transformed, *transform.inverse_table) * transform.noise.gain + transform.noise.offset


def _describe(model: Model, net: _ExportedNetwork, tile: NDArray[np.float32], folder: Path) -> Any:
    """Describe the package, and write the files that the description names to `folder`.

    Args:
        model: The model.
        net: The network to export.
        tile: Test input `(C, *space)`.
        folder: A temporary folder.
    """
    from bioimageio.spec.model import v0_5 as spec

    noisy = torch.from_numpy(tile)[None]
    with torch.no_grad():
        restored = net(noisy)
        if not bool(restored.isfinite().all()):
            raise ComputeError("the model gives values that are not finite; train it again")
        with warnings.catch_warnings():
            # the fixed size of the tile is intended, and bioimage.io knows no newer format than TorchScript
            warnings.simplefilter("ignore")
            trace: Any = torch.jit.trace
            torch.jit.save(trace(net, noisy, check_trace=False), str(folder / "weights.pt"))
    np.save(folder / "input.npy", noisy.numpy())
    np.save(folder / "output.npy", restored.numpy())
    (folder / "README.md").write_text(_readme(model), encoding="utf-8")
    files = {file.stem: spec.FileDescr(source=file) for file in folder.iterdir()}
    channels: Any = [spec.Identifier(f"channel{i}") for i in range(len(tile))]
    axes_in: list[Any] = [spec.BatchAxis(size=1), spec.ChannelAxis(channel_names=channels)]
    axes_out = list(axes_in)
    for name, size in zip("zyx"[4 - tile.ndim :], tile.shape[1:], strict=True):
        axis = spec.AxisId(name)
        axes_in.append(spec.SpaceInputAxis(id=axis, size=size))
        same = spec.SizeReference(tensor_id=spec.TensorId(_INPUT), axis_id=axis)
        axes_out.append(spec.SpaceOutputAxis(id=axis, size=same))
    torch_version = spec.Version(torch.__version__.split("+")[0])
    return spec.ModelDescr(
        name=f"napari-pristine {model.recipe.method} {model.fingerprint}",
        description=find_method(model.recipe.method).summary,
        documentation=files["README"],
        tags=["denoising", "restoration", "self-supervised"],
        inputs=[spec.InputTensorDescr(id=spec.TensorId(_INPUT), axes=axes_in, test_tensor=files["input"])],
        outputs=[spec.OutputTensorDescr(id=spec.TensorId(_OUTPUT), axes=axes_out, test_tensor=files["output"])],
        weights=spec.WeightsDescr(
            torchscript=spec.TorchscriptWeightsDescr(source=folder / "weights.pt", pytorch_version=torch_version)
        ),
    )


def _readme(model: Model) -> str:
    method, facts = find_method(model.recipe.method), model.facts
    origin = f"Part of napari-pristine {__version__}; trained on simulated scenes."
    if facts.count:
        origin = (
            f"Trained by napari-pristine {__version__} on {counted(facts.count, 'noisy image')} in "
            f"{facts.seconds:.0f} s, without any clean image."
        )
    return (
        f"# {method.title}\n\n{origin}\n\n{method.summary}\n\n"
        "It takes and returns grey values. It is meant for images taken like those that it was trained on: same "
        "detector, gain and offset. It runs on CPUs; its tile has a fixed size.\n\n"
        f"## Validation\n\nLook at the difference between input and output: it should show no structure.\n\n"
        f"## Reference\n\n{method.cite}\n"
    )

"""The U-Net that is trained on simulated scenes: it restores a plane and predicts how wrong each pixel may be."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

WEIGHTS = files("napari_pristine").joinpath("weights", "denoiser.safetensors")
"""File of the weights in the package."""
FACTOR = 8
"""Sides of what the network sees are padded to multiples of this."""
_SCALE = 0.2
"""Factor that brings the noisy pixels, whose noise has level 1, to the range of the features."""


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to their input; the identity before training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        for weight in self.second.parameters():
            nn.init.zeros_(weight)

    def forward(self, features: Tensor) -> Tensor:
        """Features `(N, width, Y, X)` in and out."""
        residual: Tensor = self.second(functional.relu(self.first(features)))
        return features + residual


class ResidualUNet(nn.Module):
    """U-Net of residual blocks at a half, a quarter and an eighth of the grid, with two heads.

    Args:
        widths: Features at the three levels.
        depths: Residual blocks of the two finer levels on the way down, of the coarsest, and on the way up.
        maps: Number of maps that describe the noise.
    """

    def __init__(
        self,
        widths: tuple[int, int, int] = (48, 96, 128),
        depths: tuple[int, int, int, int, int] = (2, 2, 2, 1, 2),
        maps: int = 2,
    ) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.head = nn.Conv2d(5 + maps, fine, 3, padding=1)
        self.down_fine = _blocks(fine, depths[0])
        self.to_middle = nn.Conv2d(fine, middle, 2, stride=2)
        self.down_middle = _blocks(middle, depths[1])
        self.to_coarse = nn.Conv2d(middle, coarse, 2, stride=2)
        self.coarse = _blocks(coarse, depths[2])
        self.from_coarse = nn.Conv2d(coarse, 4 * middle, 1)
        self.up_middle = _blocks(middle, depths[3])
        self.from_middle = nn.Conv2d(middle, 4 * fine, 1)
        self.up_fine = _blocks(fine, depths[4])
        self.noise = nn.Conv2d(fine, 4, 3, padding=1)
        self.error = nn.Sequential(ResidualBlock(fine), nn.Conv2d(fine, 4, 3, padding=1))
        for name, weight in self.named_parameters():
            if name.startswith(("noise.", "error.1.")):
                nn.init.zeros_(weight)

    def forward(self, noisy: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Restore noisy planes of any size, of at least two pixels a side.

        Args:
            noisy: `(N, 1, Y, X)`, with noise of about level 1 and a mean of about 0.
            maps: `(N, maps, Y, X)`: level of the noise minus 1, and its correlation length in pixels minus 1.

        Returns:
            Restored planes `(N, 1, Y, X)`, and the logarithm of the expected absolute error of each pixel.
        """
        height, width = noisy.shape[-2:]
        padding = (0, -width % FACTOR, 0, -height % FACTOR)
        if any(padding):
            noisy, maps = (functional.pad(t, padding, mode="replicate") for t in (noisy, maps))
        with torch.autocast(noisy.device.type, enabled=False):  # large values in few bits would lose the noise
            around = functional.avg_pool2d(noisy, 2 * FACTOR, FACTOR, FACTOR // 2, count_include_pad=False)
            around = functional.interpolate(around, scale_factor=FACTOR, mode="bilinear")
            details = functional.pixel_unshuffle(noisy - around, 2)
            coarse = functional.avg_pool2d(around, 2)
            features = self.head(
                torch.cat([_SCALE * details, _SCALE * coarse, functional.avg_pool2d(maps, 2)], dim=1).contiguous(
                    memory_format=torch.channels_last
                )
            )
        fine = self.down_fine(features)
        middle = self.down_middle(self.to_middle(fine))
        bottom = self.coarse(self.to_coarse(middle))
        middle = self.up_middle(functional.pixel_shuffle(self.from_coarse(bottom), 2) + middle)
        fine = self.up_fine(functional.pixel_shuffle(self.from_middle(middle), 2) + fine)
        noise = functional.pixel_shuffle(self.noise(fine), 2)
        # how wrong the restored pixels are is learned beside them, not at their cost
        error = functional.pixel_shuffle(self.error(fine.detach()), 2)
        return (noisy - noise.float())[..., :height, :width], error.float()[..., :height, :width]


def pretrained_network() -> ResidualUNet:
    """The network with the weights of the package."""
    net = ResidualUNet()
    if not net.head.weight.is_meta:  # only its shapes are asked for
        net.load_state_dict(_shipped_weights())
    return net.eval()


@lru_cache(maxsize=1)
def _shipped_weights() -> dict[str, Tensor]:
    """The weights in the package, as 32-bit floats."""
    return {name: weight.float() for name, weight in safetensors.torch.load(WEIGHTS.read_bytes()).items()}


class PlaneByPlane(nn.Module):
    """A `ResidualUNet` as a network of normalised pixels `(N, C, *space)`, for methods that train it further.

    Each plane of each channel is restored by itself.

    Attributes:
        sigma: Noise level of each channel in the units of the pixels, `(C,)`, and
        correlation_length: of that noise; both are set before use, see `fits.unets.describe_noise`.
    """

    sigma: Tensor
    correlation_length: Tensor

    def __init__(self, net: ResidualUNet, channels: int) -> None:
        super().__init__()
        self.net = net
        for name, weight in net.named_parameters():
            weight.requires_grad_(not name.startswith("error."))  # no loss here judges the predicted error
        self.register_buffer("sigma", torch.ones(channels), persistent=False)
        self.register_buffer("correlation_length", torch.ones(()), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Restore pixels `(N, C, *space)`."""
        sigma = self.sigma.reshape(-1, *[1] * (pixels.dim() - 2))
        planes = (pixels / sigma).reshape(-1, 1, *pixels.shape[-2:])
        maps = torch.zeros_like(planes).repeat(1, 2, 1, 1)
        maps[:, 1] = self.correlation_length - 1
        restored: Tensor = self.net(planes, maps)[0]
        return restored.reshape(pixels.shape) * sigma


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))

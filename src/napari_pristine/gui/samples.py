"""Sample images of File → Open Sample: simulated ones, and a confocal image that is downloaded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pooch

from napari_pristine.errors import FileError
from napari_pristine.image.image import Image
from napari_pristine.io.registry import read
from napari_pristine.samples import simulate_blurred, simulate_image, simulate_timelapse

LayerData = tuple[Any, dict[str, Any], str]

FMD_URL = "https://raw.githubusercontent.com/Danielement321/FM2S/main/data/FMD_testset/"
"""A public copy of the mixed test set of FMD (Fluorescence Microscopy Denoising), doi:10.7274/r0-ed2r-4052."""
FMD_FILES = {
    "noisy_avg1/Confocal_MICE_1.png": "sha256:5577d24a3ab5148b637b680b7ff78bd6b5c22ee9e94820fd1de8b9b9e3d72d19",
    "gt/Confocal_MICE_1.png": "sha256:166afe8690dc85ff2c7a6423c09281d4212145abe7637ab771dd9fb3166e03c4",
}
_SHOWN = (0.01, 0.999)
"""Quantiles of the noisy image that are black and white."""


def open_timelapse() -> list[LayerData]:
    """Return a simulated two-channel time-lapse and, hidden below it, the same without noise."""
    return _pair("time-lapse", "time-lapse, truth", *simulate_timelapse())


def open_microtubules() -> list[LayerData]:
    """Return a simulated image with very few photons and, hidden below it, the same without noise."""
    pair = simulate_image((512, 512), seed=1, photons=8)
    return _pair("microtubules, 8 photons", "microtubules, truth", *pair)


def open_blurred() -> list[LayerData]:
    """Return a simulated blurred image and, hidden below it, its point spread function and the sharp image."""
    blurred, psf, truth = simulate_blurred()
    below, above = _pair("nuclei, blurred", "nuclei, truth", blurred, truth)
    return [below, _layer(psf, "point spread function", visible=False), above]


def open_fmd() -> list[LayerData]:
    """Return a confocal image of mouse brain and, hidden below it, the mean of 50 such images.

    Raises:
        FileError: It cannot be downloaded, or its checksum differs.
    """
    return _pair("mouse brain", "mouse brain, mean of 50", *map(read, fetch_fmd()))


def fetch_fmd(url: str = FMD_URL, folder: Path | None = None) -> list[Path]:
    """Return the files of the FMD sample, which are downloaded once and checked each time.

    Raises:
        FileError: They cannot be downloaded, or a checksum differs.
    """
    store = pooch.create(folder or pooch.os_cache("napari-pristine"), url, registry=FMD_FILES)
    pooch.get_logger().setLevel("WARNING")
    try:
        return [Path(store.fetch(name)) for name in FMD_FILES]
    except OSError as error:
        host = urlsplit(url).hostname
        answer = getattr(getattr(error, "response", None), "status_code", None)
        cause = f"{host} cannot be reached" if answer is None else f"{host} answered with error {answer}"
        raise FileError(
            f"the sample could not be downloaded because {cause}; check the connection to the internet, or open "
            "one of the simulated samples, which need none"
        ) from error
    except ValueError as error:
        raise FileError(
            f"the download from {url} is not the expected file (its checksum differs); try again later"
        ) from error


def _pair(name: str, truth_name: str, noisy: Image, truth: Image) -> list[LayerData]:
    """The truth, hidden, and the noisy image above it, with the same contrast, of which a few bright pixels are cut."""
    low, high = np.quantile(noisy.data, _SHOWN)
    shown = {"contrast_limits": (float(low), float(high))}
    return [_layer(truth, truth_name, visible=False, **shown), _layer(noisy, name, **shown)]


def _layer(image: Image, name: str, **settings: Any) -> LayerData:
    settings |= {
        "name": name,
        "scale": image.scale,
        "units": image.units,
        "translate": image.translate,
        "axis_labels": tuple(image.axes),
    }
    return image.data, settings, "image"

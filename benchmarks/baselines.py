"""Classical methods to compare with, with the parameters that are usual for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import restoration

from napari_pristine.errors import SettingError
from napari_pristine.image.intensity import AnscombeTransform
from napari_pristine.image.noise import measure_noise

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Baseline:
    """A classical method: `run` takes a noisy picture `(Y, X)` in any units; `needs` are optional packages."""

    run: Callable[[Array], Array]
    needs: tuple[str, ...] = ()


def _noisy(picture: Array) -> Array:
    return picture


def _gaussian(picture: Array, sigma: float) -> Array:
    return np.asarray(ndimage.gaussian_filter(picture, sigma))


def _tv(picture: Array) -> Array:
    return np.asarray(restoration.denoise_tv_chambolle(picture, weight=2 * restoration.estimate_sigma(picture)))


def _nlm(picture: Array) -> Array:
    sigma = restoration.estimate_sigma(picture)
    h = 0.8 * sigma  # for the fast form (example of scikit-image)
    return np.asarray(
        restoration.denoise_nl_means(picture, patch_size=5, patch_distance=6, h=h, sigma=sigma, fast_mode=True)
    )


def _wavelet(picture: Array) -> Array:
    return np.asarray(restoration.denoise_wavelet(picture, method="BayesShrink", mode="soft", rescale_sigma=True))


def _bm3d_vst(picture: Array) -> Array:
    """Stabilise the noise of photons, BM3D, exact unbiased inverse (the classical benchmark of FMD)."""
    import bm3d

    noise = measure_noise(picture)
    anscombe = AnscombeTransform(noise, float(picture.max())) if noise.signal_dependent else None
    stable, sigma = (anscombe.forward(picture), 1.0) if anscombe else (picture, noise.sigma)
    low, std = stable.min(), np.ptp(stable) or 1.0
    restored = np.asarray(bm3d.bm3d((stable - low) / std, sigma / std)) * std + low
    return anscombe.inverse(restored) if anscombe else restored


BASELINES: dict[str, Baseline] = {
    "noisy": Baseline(_noisy),
    **{f"gaussian-{sigma:g}": Baseline(partial(_gaussian, sigma=sigma)) for sigma in (0.5, 0.7, 1.0, 1.5)},
    "tv": Baseline(_tv, ("pywt",)),
    "nlm": Baseline(_nlm, ("pywt",)),
    "wavelet": Baseline(_wavelet, ("pywt",)),
    "bm3d-vst": Baseline(_bm3d_vst, ("bm3d",)),
}
GROUPS = {
    "gaussian": tuple(key for key in BASELINES if key.startswith("gaussian")),
    "classical": tuple(key for key in BASELINES if key != "noisy"),
}
"""Names for several baselines at once."""
_PACKAGES = {"pywt": "PyWavelets"}


def check_installed(key: str) -> None:
    """Raise a `SettingError` that says what to install unless a classical method has all that it needs."""
    needs = BASELINES[key].needs if key in BASELINES else ()
    missing = [_PACKAGES.get(name, name) for name in needs if find_spec(name) is None]
    if missing:
        raise SettingError(
            f"the baseline '{key}' needs {' and '.join(missing)}, which is not installed; "
            f"run 'pip install {' '.join(missing)}' or leave it out of --methods"
        )

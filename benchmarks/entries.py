"""The methods that take part: classical baselines with their usual parameters, and ours with their presets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from scipy import interpolate, ndimage
from skimage import restoration

import napari_pristine as pristine
from benchmarks.images import FULL_SCALE, Array, blur_kernel
from benchmarks.suites import Case
from napari_pristine.errors import SettingError
from napari_pristine.image.intensity import AnscombeTransform
from napari_pristine.image.noise import measure_noise

_RICHARDSON_LUCY_STEPS = 30  # iterations of Richardson-Lucy, the default of scikit-image


@dataclass(frozen=True)
class Baseline:
    """A classical method.

    `run(image, factor)` takes a degraded image `(Y, X)`: those that denoise in any units, all others in grey values.
    `factor` is how many times finer the grid of the result is.
    """

    run: Callable[[Array, int], Array]
    task: str = "denoise"  # that it is made for, see `Degradation.tasks`
    packages: Mapping[str, str] = field(default_factory=dict)  # optional ones that it needs: module → name to install


def _unchanged(image: Array, factor: int) -> Array:
    return image


def _gaussian(image: Array, factor: int, sigma: float) -> Array:
    return np.asarray(ndimage.gaussian_filter(image, sigma))


def _tv(image: Array, factor: int) -> Array:
    return np.asarray(restoration.denoise_tv_chambolle(image, weight=2 * restoration.estimate_sigma(image)))


def _nlm(image: Array, factor: int) -> Array:
    sigma = restoration.estimate_sigma(image)
    h = 0.8 * sigma  # for the fast form, from the example of scikit-image
    return np.asarray(
        restoration.denoise_nl_means(image, patch_size=5, patch_distance=6, h=h, sigma=sigma, fast_mode=True)
    )


def _wavelet(image: Array, factor: int) -> Array:
    return np.asarray(restoration.denoise_wavelet(image, method="BayesShrink", mode="soft", rescale_sigma=True))


def _bm3d_vst(image: Array, factor: int) -> Array:
    """Stabilise the photon noise, apply BM3D, apply the exact unbiased inverse (the classical benchmark of FMD)."""
    import bm3d

    noise = measure_noise(image)
    transform = AnscombeTransform(noise, float(image.max())) if noise.signal_dependent else None
    stable, sigma = (transform.forward(image), 1.0) if transform else (image, noise.sigma)
    lowest, extent = stable.min(), np.ptp(stable) or 1.0
    restored = np.asarray(bm3d.bm3d((stable - lowest) / extent, sigma / extent)) * extent + lowest
    return transform.inverse(restored) if transform else restored


def _resize(image: Array, factor: int, filter: PIL.Image.Resampling) -> Array:  # noqa: A002
    height, width = image.shape
    coarse = PIL.Image.fromarray(image.astype(np.uint8))
    return np.asarray(coarse.resize((width * factor, height * factor), filter), np.float64)


def _interpolate(image: Array, factor: int) -> Array:
    """Interpolate between the three nearest visible pixels; beyond the outermost ones take the nearest."""
    visible = np.isfinite(image)
    points, values = np.argwhere(visible), image[visible]
    grid = tuple(np.indices(image.shape))
    linear, nearest = (interpolate.griddata(points, values, grid, method=kind) for kind in ("linear", "nearest"))
    return np.asarray(np.where(np.isfinite(linear), linear, nearest))


def _biharmonic(image: Array, factor: int) -> Array:
    hidden: NDArray[np.bool_] = ~np.isfinite(image)
    filled = restoration.inpaint_biharmonic(np.where(hidden, 0.0, image) / FULL_SCALE, hidden)
    return np.asarray(filled * FULL_SCALE, np.float64)


def _wiener(image: Array, factor: int) -> Array:
    """Wiener filter whose strength is estimated from the image (Orieux, Giovannelli & Rodet 2010)."""
    psf = np.outer(blur_kernel(), blur_kernel())
    restored, _ = restoration.unsupervised_wiener(image / FULL_SCALE, psf, clip=False, rng=0)
    return np.asarray(restored * FULL_SCALE, np.float64)


def _richardson_lucy(image: Array, factor: int) -> Array:
    margin = len(blur_kernel())
    padded = np.pad(np.maximum(image, 0) / FULL_SCALE, margin, mode="wrap")  # the blur is periodic, too
    psf = np.outer(blur_kernel(), blur_kernel())
    restored = restoration.richardson_lucy(padded, psf, num_iter=_RICHARDSON_LUCY_STEPS, clip=False)
    return np.asarray(restored[margin:-margin, margin:-margin] * FULL_SCALE, np.float64)


_WAVELETS = {"pywt": "PyWavelets"}
BASELINES: dict[str, Baseline] = {
    "noisy": Baseline(_unchanged),
    **{f"gaussian-{sigma:g}": Baseline(partial(_gaussian, sigma=sigma)) for sigma in (0.5, 0.7, 1.0, 1.5)},
    "tv": Baseline(_tv, packages=_WAVELETS),
    "nlm": Baseline(_nlm, packages=_WAVELETS),
    "wavelet": Baseline(_wavelet, packages=_WAVELETS),
    "bm3d-vst": Baseline(_bm3d_vst, packages={"bm3d": "bm3d"}),
    "nearest": Baseline(partial(_resize, filter=PIL.Image.Resampling.NEAREST), "enlarge"),
    "bicubic": Baseline(partial(_resize, filter=PIL.Image.Resampling.BICUBIC), "enlarge"),
    "lanczos": Baseline(partial(_resize, filter=PIL.Image.Resampling.LANCZOS), "enlarge"),
    "linear": Baseline(_interpolate, "inpaint"),
    "biharmonic": Baseline(_biharmonic, "inpaint"),
    "blurred": Baseline(_unchanged, "deblur"),
    "wiener": Baseline(_wiener, "deblur"),
    "richardson-lucy": Baseline(_richardson_lucy, "deblur"),
}
GROUPS = {
    "gaussian": tuple(key for key in BASELINES if key.startswith("gaussian")),
    "classical": tuple(key for key in BASELINES if key != "noisy"),
}
"""Names for several baselines at once."""
SCOPES = ("type", "suite")
"""Images that one network can learn from: all noisy images of a type and level, or all of the suite."""


@dataclass(frozen=True)
class Entry:
    """One line of a table: a baseline, or a method of ours with a preset."""

    label: str  # name in the tables
    method: str  # name of the baseline or method
    preset: str = ""  # of our method
    settings: Mapping[str, Any] = field(default_factory=dict)  # all those of our method
    scope: str = ""  # images that the network learns from first, one of `SCOPES`; empty to fit each image

    def accepts(self, case: Case) -> bool:
        """Tell whether it is made for the task of a case; of ours only `linr` does more than denoise."""
        if self.method in BASELINES:
            return BASELINES[self.method].task in case.degradation.tasks
        return case.degradation.tasks == ("denoise",) or self.method == "linr"

    @property
    def chooses(self) -> bool:
        """True for a method that chooses another one."""
        return bool(self.preset and pristine.METHODS[self.method].candidates)

    def settings_for(self, case: Case) -> Mapping[str, Any]:
        """Complete the settings by those that describe how the images of a case were degraded."""
        if self.method != "linr":
            return self.settings
        of_paper = case.degradation.paper_settings if self.preset == "paper" else {}
        return {**self.settings, **case.degradation.settings, **of_paper}

    def training_group(self, case: Case) -> tuple[str, ...]:
        """Key that is the same for all cases from which one network learns."""
        return (str(case.level), case.type) if self.scope == "type" else ()


def find_entries(
    names: Iterable[str], presets: Iterable[str], changes: Mapping[str, str], references: Iterable[str] = ("noisy",)
) -> list[Entry]:
    """List the entries for names such as `tv`, `gaussian`, `classical`, `inr`, `inr:paper` or `iddp@suite`.

    Args:
        names: Names of baselines, groups of them and our methods.
        presets: Presets for those of our methods whose name gives none; one entry each.
        changes: Settings of our methods that differ from the preset; they become part of the label.
        references: Names that come first even if they are not asked for.

    Raises:
        SettingError: A name is unknown, or a package is missing.
    """
    entries: dict[str, Entry] = {}
    for name in [*references, *names]:
        for key in GROUPS.get(name, (name,)):
            found = [Entry(key, key)] if key in BASELINES else _our_entries(key, presets, changes)
            packages = BASELINES[key].packages if key in BASELINES else {}
            missing = " ".join(package for module, package in packages.items() if find_spec(module) is None)
            if missing:
                raise SettingError(
                    f"the baseline '{key}' needs {missing}, which is not installed; "
                    f"run 'pip install {missing}' or leave it out of --methods"
                )
            entries |= {entry.label: entry for entry in found}
    return list(entries.values())


def _our_entries(name: str, presets: Iterable[str], changes: Mapping[str, str]) -> list[Entry]:
    methods = pristine.METHODS  # here, as it imports torch, which would count as memory of the baselines
    method_and_preset, _, scope = name.partition("@")
    key, _, preset = method_and_preset.partition(":")
    if key not in methods:
        known = ", ".join([*methods, *BASELINES, *GROUPS])
        raise SettingError(f"there is no method '{key}'; the methods are {known}")
    method = methods[key]
    if scope and (scope not in SCOPES or method.learn is None):
        known = ", ".join(f"{k}@{one}" for k, m in methods.items() if m.learn for one in SCOPES)
        raise SettingError(f"'{name}' cannot learn from many images; those that can are {known or 'none'}")
    entries = []
    for one in [preset] if preset else presets:
        settings = method.settings(one, changes).model_dump(mode="json")
        entries.append(Entry(label_of(key, one, changes, scope), key, one, settings, scope))
    return entries


def label_of(method: str, preset: str, changes: Mapping[str, str], scope: str = "") -> str:
    """Name one of our methods as the tables do, such as `inr:balanced steps=500`."""
    first = f"{method}:{preset}" + (f"@{scope}" if scope else "")
    return " ".join([first, *(f"{name}={value}" for name, value in changes.items())])

"""`python -m benchmarks verdict`: how often faults planted into results are found, and honest results are suspected.

Every other image served to choose the limits of the verdict; the figures are those of the rest.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from training.camera import Camera
from training.denoiser import FIRST_HELD_OUT
from training.scenes import make_scene

from benchmarks.measure import save_json
from napari_pristine.image.image import Image
from napari_pristine.image.noise import Noise, measure_noise
from napari_pristine.image.removed import Kind
from napari_pristine.image.safeguard import noise_variance
from napari_pristine.image.verdict import judge_channel
from napari_pristine.io.registry import read
from napari_pristine.jobs.restore import restore

Array = NDArray[np.float64]

_FMD_LEVELS = (1, 4, 16)
_SIMULATED, _SPECIAL = 48, 40
_FRESH, _FIRST_FRESH, _FRESH_LEVELS = 40, 5000, (2, 8)
_FIRST_SCENE = FIRST_HELD_OUT + 1_000_000
_SIDE = 192
"""Height and width of a simulated picture, in pixels."""
_MICROSCOPY = {
    "calcium/sima_example.tif": 1,
    "cbmi_low_snr/CBMI_ER/001_frame_01_iter20L_01_h578_w415.tif": 1,
    "cbmi_low_snr/CBMI_ER/003_frame_01_iter30L_04_h240_w143.tif": 1,
    "cbmi_low_snr/CBMI_ER/006_frame_01_iter20L_02_h178_w150.tif": 1,
    "composed/celegans_em_ZYX_21.tif": 1,
    "composed/mitocheck_TYX_30.tif": 2,
    "composed/mitosis_TZCYX_first4T.tif": 4,
    "flim_intensity_2p_float32/noisy/BPAE1.tif": 1,
    "livecell_noisy_725/A_0_0.tif": 1,
    "livecell_noisy_725/N_0_0.tif": 1,
    "lysosome_confocal_live_tyx/1.tif": 2,
    "neubias/xy_12bit__saturated_plant.tif": 1,
    "neubias/xy_16bit__embryo_transmission.tif": 1,
    "neubias/xy_8bit__nuclei_very_noisy.tif": 1,
    "neubias/xy_8bit__nup.tif": 1,
    "neubias/xy_calibrated_16bit__cells_eres_noisy.tif": 1,
    "neubias/xyc_16bit__cell_dna_mts_actin.tif": 3,
    "neubias/xyc_16bit__membranes_nuclei_hot_pixel.tif": 2,
    "neubias/xyt_calibrated_16bit__golgi_bfa_sum_projection.tif": 2,
    "neubias/xyz_nuclear_envelope_drosophila.tif": 2,
    "neubias/xyzc_16bit__spots.tif": 2,
    "pn2v_convallaria/20190520_tl_25um_50msec_05pc_488_130EM_Conv0000.tif": 1,
    "single_noisy/FA_0488_Evolve.tiff": 1,
    "stardist/img2d.tif": 1,
}
"""Files and the number of planes that are taken from each."""


# the images


@dataclass(frozen=True, eq=False)
class VerdictCase:
    """An image to restore, and to plant faults into its result.

    Attributes:
        name: Name of the image.
        family: Kind of image.
        tuning: True if it served to choose the limits.
        load: Makes or reads `(Y, X)`; returns the noisy image, and the truth of a simulated one.
    """

    name: str
    family: str
    tuning: bool
    load: Callable[[], tuple[NDArray[Any], Array | None]]


def find_verdict_cases(data: Path) -> Iterator[VerdictCase]:
    """List simulated images, those of FMD, and other microscopy."""
    for number in range(_SIMULATED):
        yield VerdictCase(f"camera {number}", "simulated", _drawn(f"camera {number}"), partial(_take, number))
    for number in range(_SPECIAL):
        kind = list(_SPECIAL_KINDS)[number % len(_SPECIAL_KINDS)]
        yield VerdictCase(f"{kind} {number}", kind, _drawn(f"{kind} {number}"), partial(_special, kind, number))
    for level in _FMD_LEVELS:
        for path in sorted((data / f"fmd_test_mix/noisy_avg{level}").glob("*.png")):
            # the two captures of a type show one view
            tuning = path.stem.endswith("2")
            yield VerdictCase(f"{path.stem} {level}", f"FMD, {level} averaged", tuning, partial(_plane, path, 0, 1))
    for name, count in _MICROSCOPY.items():
        for number in range(count if (data / "microscopy" / name).exists() else 0):
            path = data / "microscopy" / name
            yield VerdictCase(
                f"{path.stem} {number}",
                "other microscopy",
                _drawn(path.stem),
                partial(_plane, path, number, count),
            )


def find_fresh_cases(data: Path) -> Iterator[VerdictCase]:
    """List scenes, cameras and levels of FMD that were looked at only after all limits were set."""
    for number in range(_FRESH):
        yield VerdictCase(f"fresh camera {number}", "simulated", False, partial(_take, _FIRST_FRESH + number))
    for number in range(_FRESH):
        kind = list(_SPECIAL_KINDS)[number % len(_SPECIAL_KINDS)]
        yield VerdictCase(f"fresh {kind} {number}", kind, False, partial(_special, kind, _FIRST_FRESH + number))
    for level in _FRESH_LEVELS:
        for path in sorted((data / f"fmd_test_mix/noisy_avg{level}").glob("*.png")):
            yield VerdictCase(f"{path.stem} {level}", f"FMD, {level} averaged", False, partial(_plane, path, 0, 1))


def _drawn(name: str) -> bool:
    return zlib.crc32(name.encode()) % 2 == 0


def _plane(path: Path, number: int, count: int) -> tuple[NDArray[Any], None]:
    """One of so many planes of a file, evenly spread."""
    image = read(path) if path.stem != "1" and "sima" not in path.stem else read(path, axes="TYX")
    values = np.asarray(image.data)
    planes = values.reshape(-1, *values.shape[-2:])
    return planes[int((number + 0.5) * len(planes) / count)], None


def _take(number: int) -> tuple[NDArray[Any], None]:
    """Take a picture of a scene by one of the cameras of the training, at random."""
    scene = torch.from_numpy(make_scene(_FIRST_SCENE + number)[None].astype(np.float32))
    camera = Camera(number, torch.device("cpu"))
    pair = camera.picture(camera.crops(scene, 1, _SIDE))
    noisy = 100 + pair.light(pair.noisy)[0, 0].double().numpy()
    return noisy.astype(np.float32), None  # some are clipped or compressed, so the truth is no honest result


def _special(kind: str, number: int) -> tuple[NDArray[Any], Array]:
    rng = np.random.default_rng(number)
    scene = np.clip(make_scene(_FIRST_SCENE + 1000 + number)[:256, :256].astype(np.float64), 0, 3)
    return _SPECIAL_KINDS[kind](rng, scene)


def _few_photons(rng: np.random.Generator, scene: Array) -> tuple[NDArray[Any], Array]:
    truth = scene * 10 ** rng.uniform(0, 0.7) + rng.uniform(0.05, 0.5)
    return rng.poisson(truth).astype(np.uint16), truth


def _flat(rng: np.random.Generator, scene: Array) -> tuple[NDArray[Any], Array]:
    truth = np.full(scene.shape, 10 ** rng.uniform(-1, 2))
    return rng.poisson(truth).astype(np.uint16), truth


def _equal_noise(rng: np.random.Generator, scene: Array) -> tuple[NDArray[Any], Array]:
    truth = 100 + scene * rng.uniform(50, 500)
    return (truth + rng.normal(0, rng.uniform(5, 40), truth.shape)).astype(np.float32), truth


def _sixteen_bits(rng: np.random.Generator, scene: Array) -> tuple[NDArray[Any], Array]:
    gain, photons = rng.uniform(1, 6), scene * 10 ** rng.uniform(1, 2.5) + rng.uniform(0.5, 5)
    noisy = 100 + gain * rng.poisson(photons) + rng.normal(0, 3, photons.shape)
    return np.rint(noisy).clip(0).astype(np.uint16), 100 + gain * photons


_SPECIAL_KINDS: dict[str, Callable[[np.random.Generator, Array], tuple[NDArray[Any], Array]]] = {
    "few photons": _few_photons, "flat": _flat, "equal noise": _equal_noise, "16 bits": _sixteen_bits,
}  # fmt: skip


# the faults


@dataclass(frozen=True, eq=False)
class Restoration:
    """An image and its result, with what the faults refer to.

    Attributes:
        noisy: `(Y, X)`.
        result: `(Y, X)`.
        noise: Noise of the image.
        level: Its level at each pixel.
    """

    noisy: Array
    result: Array
    noise: Noise
    level: Array


Fault = Callable[[np.random.Generator, Restoration], Array | None]
"""Plants a fault into a result; None if the image has nothing of the kind that would stand out of the noise."""


def over_smooth(rng: np.random.Generator, case: Restoration) -> Array | None:
    """Blur the result by the least of some widths that takes half a noise level from a tenth of the squares."""
    for blur in (1.0, 1.4, 2.0, 2.8, 4.0):
        smooth = ndimage.gaussian_filter(case.result, blur)
        lost = ndimage.uniform_filter(((case.result - smooth) / case.level) ** 2, 32)
        if np.quantile(lost, 0.9) > 0.5**2:
            return np.asarray(smooth)
    return None


def erase_spot(rng: np.random.Generator, case: Restoration) -> Array | None:
    """Erase one bright spot that stands 8 to 16 standard deviations out of the noise of the noisy image."""
    reach = 8
    distance = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    inside, ring = 1 / (1 + np.exp((distance - 4) / 0.5)), (distance > 5) & (distance <= 7.5)
    blobs = ndimage.gaussian_filter(case.result, 1) - ndimage.gaussian_filter(case.result, 4)
    peaks = np.argwhere((blobs == ndimage.maximum_filter(blobs, 7)) & (blobs > 0.3 * case.level))
    rng.shuffle(peaks)
    for y, x in peaks:
        window = (slice(y - reach, y + reach + 1), slice(x - reach, x + reach + 1))
        if min(y, x) < 12 or y >= case.result.shape[0] - 12 or x >= case.result.shape[1] - 12:
            continue
        around = case.result[window][ring]
        spot = inside * (case.result[window] - around.mean())
        length = case.noise.correlation_length
        energy = float(np.sqrt(((spot / case.level[window]) ** 2).sum()))
        in_noisy = float((spot * (case.noisy[window] - around.mean()) / case.level[window] ** 2).sum())
        visible = 8 <= energy / length <= 16 and in_noisy / max(energy, 1e-9) / length >= 8
        if spot[reach, reach] > 0 and visible and around.std() < 0.25 * spot[reach, reach]:
            changed = case.result.copy()
            changed[window] -= spot
            return changed
    return None


def add_spot(rng: np.random.Generator, case: Restoration) -> Array | None:
    """Add a spot (sigma 1.5 pixels) of 10 standard deviations: 3.8 noise levels high where the noise is independent."""
    y, x = _somewhere(rng, case, 16)
    spot = _distance(case, y, x)
    spot = np.exp(-(spot**2) / (2 * 1.5**2))
    height = 10 / (np.pi**0.5 * 1.5) * case.noise.correlation_length * case.level[y, x]
    return np.asarray(case.result + height * spot)


def add_texture(rng: np.random.Generator, case: Restoration) -> Array | None:
    """Add a random texture of one noise level, with grains of 0.8 to 2 pixels, to a disc of 20 to 40 pixels radius."""
    grains = rng.uniform(0.8, 2)
    texture = ndimage.gaussian_filter(rng.normal(size=case.result.shape), grains)
    texture -= ndimage.gaussian_filter(texture, 4 * grains)
    disc = 1 / (1 + np.exp((_distance(case, *_somewhere(rng, case, 24)) - rng.uniform(20, 40)) / 2))
    return np.asarray(case.result + disc * texture / texture.std() * case.level)


def scale_brightness(rng: np.random.Generator, case: Restoration) -> Array | None:
    """Scale the brightness above the dark by 4 %, if that is six standard errors of the mean."""
    return _brighter(case, 0.04 * rng.choice([-1, 1]) * (case.result - _dark(case)))


def shift_brightness(rng: np.random.Generator, case: Restoration) -> Array | None:
    """Shift the brightness by 4 % of its mean above the dark, if that is six standard errors of the mean."""
    return _brighter(case, np.full_like(case.result, 0.04 * rng.choice([-1, 1]) * (case.result - _dark(case)).mean()))


def keep_noise(rng: np.random.Generator, case: Restoration) -> Array | None:
    """Mix in 40 % of the noisy image."""
    return case.result + 0.4 * (case.noisy - case.result)


FAULTS: dict[str, tuple[Fault, Kind]] = {
    "plane over-smoothed": (over_smooth, Kind.REMOVED),
    "spot erased": (erase_spot, Kind.REMOVED),
    "spot invented": (add_spot, Kind.ADDED),
    "texture invented": (add_texture, Kind.ADDED),
    "brightness scaled": (scale_brightness, Kind.BRIGHTNESS),
    "brightness shifted": (shift_brightness, Kind.BRIGHTNESS),
    "40 % of the noise kept": (keep_noise, Kind.REMAINS),
}
HONEST, ROUNDED, TRUTH = "honest result", "honest result, rounded", "simulated truth"


def _brighter(case: Restoration, change: Array) -> Array | None:
    error = case.noise.sigma * case.noise.correlation_length / case.result.size**0.5
    return case.result + change if abs(change.mean()) > 6 * error else None


def _dark(case: Restoration) -> float:
    return case.noise.offset or float(np.quantile(ndimage.gaussian_filter(case.noisy, 2), 0.001))


def _somewhere(rng: np.random.Generator, case: Restoration, margin: int) -> tuple[int, int]:
    y, x = (int(rng.integers(margin, n - margin)) for n in case.result.shape)
    return y, x


def _distance(case: Restoration, y: int, x: int) -> Array:
    rows, columns = np.ogrid[: case.result.shape[0], : case.result.shape[1]]
    return np.asarray(np.hypot(rows - y, columns - x))


# the measurement


def run_verdict(data: Path, *, tuning: bool, fresh: bool, json: Path | None, details: bool) -> int:
    """Judge honest results and planted faults; print the share that is suspected, by kind of result and of image.

    Args:
        data: Folder of the images of FMD and of other microscopes; without it, simulated images alone are judged.
        tuning: Take the images that served to choose the limits.
        fresh: Take other images than both halves.
        json: File for all verdicts.
        details: Print what is wrong.

    Returns:
        Exit status.
    """
    suspected: dict[str, dict[str, list[tuple[bool, bool]]]] = defaultdict(lambda: defaultdict(list))
    rows = []
    for case in (find_fresh_cases if fresh else find_verdict_cases)(data):
        if case.tuning != tuning:
            continue
        noisy, truth = case.load()
        for kind, expected, result, noise in _results(case.name, noisy, truth):
            verdict = judge_channel(noisy, result, noise)
            found = verdict.kind not in (Kind.GOOD, Kind.UNKNOWN)
            suspected[kind][case.family].append((found, verdict.kind == expected))
            rows.append({"image": case.name, "result": kind, "kind": verdict.kind, "sentence": verdict.sentence})
            if details and found == (expected is Kind.GOOD):
                strengths = {test: round(strength, 2) for test, strength in verdict.evidence.strengths.items()}
                print(f"{case.name}: {kind}: {verdict.sentence} {strengths}", flush=True)
    if json:
        save_json(json, rows)
    families = list(dict.fromkeys(family for by_family in suspected.values() for family in by_family))
    print(f"| result | number | a fault is found | of the right kind | {' | '.join(families)} |")
    print(f"|---|--:|--:|--:|{'--:|' * len(families)}")
    for kind in (HONEST, ROUNDED, TRUTH, *FAULTS):
        judged = [pair for pairs in suspected[kind].values() for pair in pairs]
        cells = [
            f"{sum(found for found, _ in pairs)} of {len(pairs)}" if (pairs := suspected[kind][family]) else "–"
            for family in families
        ]
        shares = (f"{np.mean([pair[n] for pair in judged]):.1%}" if judged else "–" for n in (0, 1))
        print(f"| {kind} | {len(judged)} | {' | '.join(shares)} | {' | '.join(cells)} |")
    return 0


def _results(name: str, noisy: NDArray[Any], truth: Array | None) -> Iterator[tuple[str, Kind, NDArray[Any], Noise]]:
    """Results of an image: its kind, the verdict it deserves, and the noise of the image."""
    result = restore(Image(noisy, "YX"), "auto", preset="fast", value_type="float32").data
    noise = measure_noise(np.asarray(noisy, np.float64))
    yield HONEST, Kind.GOOD, result, noise
    if noise.sigma == 0:
        return
    rounded = np.rint(result).clip(0)
    if noisy.dtype.kind in "ui" and noise.sigma > 1 and abs(rounded.mean() / result.mean() - 1) < 0.01:
        yield ROUNDED, Kind.GOOD, rounded.astype(noisy.dtype), noise
    if truth is not None:
        yield TRUTH, Kind.GOOD, truth, noise
    values = np.asarray(noisy, np.float64)
    case = Restoration(values, np.asarray(result, np.float64), noise, np.sqrt(noise_variance(values, noise)))
    for number, (kind, (plant, expected)) in enumerate(FAULTS.items()):
        changed = plant(np.random.default_rng([zlib.crc32(name.encode()), number]), case)
        if changed is not None:
            yield kind, expected, changed.astype(np.float32), noise

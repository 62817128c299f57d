"""INR: a continuous function fitted to the noisy pixels; computed by `fits.inr`.

The `paper` preset is one SIREN for the whole image, stopped when its residual is as strong as the noise.
The others fit many small SIRENs to overlapping patches of the variance-stabilised image.
"""

from __future__ import annotations

from napari_pristine.methods.fit_settings import FieldParams
from napari_pristine.methods.method import LazyModule, Method, MethodParams

compute = LazyModule("napari_pristine.fits.inr")


class InrParams(FieldParams, MethodParams):
    """Fits a continuous function to each image; nothing to train beforehand."""


INR = Method(
    key="inr",
    title="INR",
    summary="Fits a continuous function to each image and keeps what is smooth; for independent and correlated noise.",
    cite="Kim, Lee & Shin (2022), Zero-shot blind image denoising via implicit neural representations, "
    "arXiv 2204.02405",
    params=InrParams,
    presets={
        "balanced": {},
        "fast": {"steps": 200},
        "paper": {
            "steps": 2000,
            "stop_at": 1.0,
            "smoothness": 0.0,
            "stabilise": False,
            "refine": False,
            "hot_pixels": False,
            "stripes": False,
            "safeguard": False,
            "warm_start": False,
            "patch": None,
            "width": None,
            "layers": 6,
            "frequency": None,
            "batch": None,
            "optimiser": "adam",
            "learning_rate": 1e-4,
            "cooling": 0.0,
            "averaging": 0.0,
            "weight_decay": 1e-3,
            "tile": 512,
        },
    },
    test_settings={"steps": 60},
    seconds={"fast": 12, "balanced": 28},
    network=compute.network,
    fit=compute.fit,
    fit_batch=compute.fit_batch,
    networks_per_block=compute.networks_per_block,
    restore=compute.restore,
)

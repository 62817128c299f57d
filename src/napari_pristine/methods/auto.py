"""Auto: runs the methods that the effort allows on a part of the image, and takes the one with the least error."""

from __future__ import annotations

from typing import Any

from napari_pristine.methods.method import Method, MethodParams
from napari_pristine.settings import setting


class AutoParams(MethodParams):
    """Chooses by an estimate of the error that needs no clean image."""

    warm_start: bool = setting(
        False,
        "Start each frame of a stack from the network of the frame before.",
        title="Reuse last frame",
        advanced=True,
    )


def _replaced(*_: Any) -> Any:
    raise AssertionError("auto is replaced by the method that it chooses, see jobs.choose")


AUTO = Method(
    key="auto",
    title="Auto",
    summary="Takes the method with the least error, estimated from the noisy image alone; for any noise.",
    cite="Stein (1981), Estimation of the mean of a multivariate normal distribution, Annals of Statistics",
    params=AutoParams,
    presets={"balanced": {}, "fast": {}, "best": {}},
    seconds={"fast": 0.9, "balanced": 3.8, "best": 30},
    network=_replaced,
    fit=_replaced,
    restore=_replaced,
    restore_with_error=_replaced,
    candidates={
        "fast": (("pretrained", "fast"),),
        "balanced": (("pretrained", "balanced"),),
        "best": (("pretrained", "best"), ("pretrained", "balanced"), ("inr", "balanced")),
    },
)

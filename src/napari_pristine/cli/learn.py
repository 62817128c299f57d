"""The command `pristine learn`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from napari_pristine.cli.options import (
    DEFAULT,
    INPUTS,
    Axes,
    DeviceName,
    Json,
    Log,
    MethodName,
    Overwrite,
    Preset,
    Seed,
    Settings,
    Together,
    read_settings,
)
from napari_pristine.cli.output import describe_model, job_bar, report_error, say
from napari_pristine.recipe import Recipe
from napari_pristine.settings import make
from napari_pristine.text import to_json


def learn(
    inputs: Annotated[list[str], Parameter(help=INPUTS, negative=())],
    /,
    *,
    output: Annotated[Path, Parameter(alias="-o", help="File for the model, .safetensors.")],
    method: MethodName = "blind2unblind",
    preset: Preset = DEFAULT["preset"],
    axes: Axes = DEFAULT["axes"],
    together: Together = DEFAULT["together"],
    device: DeviceName = DEFAULT["device"],
    seed: Seed = DEFAULT["seed"],
    settings: Settings = None,
    model: Annotated[str, Parameter(help="Model to start from; takes fewer steps.", show_default=False)] = "",
    overwrite: Overwrite = False,
    log: Log = None,
    json: Json = False,
) -> None:
    """Train a network on many noisy images, for 'pristine restore --model'."""
    chosen = {"method": method, "preset": preset, "axes": axes.upper(), "together": together.upper(), "device": device}
    recipe = make(Recipe, {**chosen, "seed": seed, "model": model, "settings": read_settings(settings)})
    # here, as they import torch
    from napari_pristine.batch.inputs import find_images
    from napari_pristine.io.atomic import check_writable
    from napari_pristine.jobs.restore import wait
    from napari_pristine.jobs.train import training_job
    from napari_pristine.model import check_suffix, save_model

    check_suffix(output)
    check_writable(output, overwrite=overwrite)
    images = find_images(inputs)
    with job_bar("learning", report_error) as show:
        learned = wait(training_job(images, recipe), show)
    save_model(output, learned, overwrite=overwrite)
    say(to_json({"output": output, **learned.describe()}) if json else describe_model(output, learned))

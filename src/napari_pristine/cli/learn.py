"""The command `pristine learn`."""

from __future__ import annotations

import os
from collections.abc import Sequence
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
from napari_pristine.errors import FileError
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


def find_images(names: Sequence[str]) -> list[Path]:
    """Find all images among files and folders, and in Zarr stores; those of an earlier batch are left out.

    Named files that are not images are kept: a pattern may have matched them, and the training skips them.

    Raises:
        FileError: A folder holds no image, or a file does not exist or cannot be read.
    """
    from napari_pristine.batch.inputs import expand_patterns, find_inputs
    from napari_pristine.io.registry import SUFFIXES

    found: list[Path] = []
    for path in expand_patterns(names):
        if not path.exists():
            raise FileError(f"'{path}' does not exist; check the name")
        if path.is_file() and not os.access(path, os.R_OK):
            raise FileError(f"'{path}' cannot be read: you may not read it; ask its owner, or leave it out")
        images = [each.path for each in find_inputs([str(path)]) if not each.problem or each.path == path]
        if not images:
            raise FileError(f"there are no images in the folder '{path}'; they end in {', '.join(SUFFIXES)}")
        found += images
    return found

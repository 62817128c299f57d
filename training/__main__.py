"""Shell command of the training: `python -m training denoiser --minutes 120 --resume`."""

from __future__ import annotations

import os
from importlib.resources import as_file
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import App, Parameter

from napari_pristine.nets.residual_unet import WEIGHTS
from training.calibration import calibrate as write_calibration
from training.denoiser import Training, train
from training.evaluation import evaluate_on_images

app = App(name="python -m training", help="Train the network that the package carries.")


@app.command
def denoiser(
    *,
    minutes: float = 120.0,
    steps: int = 0,
    out: Path = Path(".scratch/denoiser"),
    device: str = "auto",
    resume: bool = False,
    threads: int = 1,
    processes: int = 1,
    settings: Annotated[Training, Parameter(name="*")] = Training(),  # noqa: B008
) -> None:
    """Train the denoiser on simulated scenes.

    Args:
        minutes: Time of the whole training, in minutes.
        steps: Number of steps, in place of the time.
        out: Folder for weights, checkpoint and log.
        device: cpu, cuda, mps, or auto.
        resume: Go on from the checkpoint in the folder.
        threads: Threads that compute on a CPU.
        processes: Processes that make scenes.
        settings: Settings of the training.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that make scenes
    train(
        out,
        settings,
        minutes=minutes,
        steps=steps,
        device=torch.device(device),
        resume=resume,
        processes=processes,
        report=lambda line: print(line, flush=True),
    )


@app.command
def calibrate(*, pictures: int = 48, seed: int = 11, threads: int = 1) -> None:
    """Calibrate the errors that the network in the package predicts; run it whenever the weights have changed.

    Args:
        pictures: Number of pictures that are restored.
        seed: Seed of the pictures.
        threads: Threads that compute.
    """
    torch.set_num_threads(threads)
    with as_file(WEIGHTS) as path:
        write_calibration(path, pictures, seed)


@app.command
def evaluate(
    weights: list[Path],
    /,
    *,
    data: Path = Path("../shared/data"),
    suite: str = "fmd",
    levels: list[int] | None = None,
    captures: list[int] | None = None,
) -> None:
    """Evaluate weights on images with a truth: mean PSNR, plain and after the best gain and offset.

    Args:
        weights: Files of weights.
        data: Folder of the images, as for the benchmarks.
        suite: Name of a suite of the benchmarks.
        levels: Numbers of frames averaged; 1 by default.
        captures: Captures to take; 1 by default.
    """
    torch.set_num_threads(1)
    for path in weights:
        plain, affine, seconds = evaluate_on_images(path, data, suite, levels or [1], captures or [1])
        print(f"{path}  {plain:.2f} / {affine:.2f} dB  {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    app()

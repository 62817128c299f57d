"""Evaluate weights on images with a truth, the network alone in one orientation: to compare trainings."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from benchmarks.suites import find_cases, load_case
from safetensors.torch import load_file

from napari_pristine.fits import pretrained
from napari_pristine.image.image import Image
from napari_pristine.jobs.plan import make_plan
from napari_pristine.methods.pretrained import PretrainedParams
from napari_pristine.nets.residual_unet import ResidualUNet
from napari_pristine.recipe import Recipe


def load_network(path: Path) -> ResidualUNet:
    """Load a network of any width from its weights."""
    weights = {name: weight.float() for name, weight in load_file(path).items()}
    widths = [weights[f"{name}.weight"].shape[0] for name in ("head", "to_middle", "to_coarse")]
    net = ResidualUNet((widths[0], widths[1], widths[2]))
    net.load_state_dict(weights)
    return net.eval()


@torch.no_grad()
def evaluate_on_images(
    path: Path, data: Path, suite: str, levels: list[int], captures: list[int]
) -> tuple[float, float, float]:
    """Mean PSNR in dB, plain and after the best gain and offset, and CPU seconds per image.

    Args:
        path: File of the weights.
        data: Folder of the images, as for the benchmarks.
        suite: Name of a suite of the benchmarks.
        levels: Numbers of frames averaged.
        captures: Captures to take; empty for all.
    """
    net, params, rows, seconds = load_network(path), PretrainedParams(orientations=1), [], 0.0
    for case in find_cases(data, suite, levels, captures):
        pair = load_case(case, None)
        plan = make_plan(Image(pair.noisy.astype(np.float32), "YX"), Recipe(method="pretrained", preset="fast"))
        started = time.process_time()
        block = plan.block(plan.indices[0])
        restored = pretrained.restore(net, block.noisy(torch.device("cpu"), 0), params).numpy()
        rows.append(pair.psnr(block.denormalise(restored)[0]))
        seconds += time.process_time() - started
    plain, affine = np.mean(rows, axis=0)
    return float(plain), float(affine), seconds / len(rows)

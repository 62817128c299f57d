"""Train the network that the package carries, on pictures that simulated cameras take of simulated scenes."""

from __future__ import annotations

import csv
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_pristine.nets.ema import EmaModel
from napari_pristine.nets.muon import Muon
from napari_pristine.nets.residual_unet import ResidualUNet
from training.camera import Camera, Pairs
from training.scenes import SIDE, make_scenes

FIRST_HELD_OUT = 1_000_000_000
"""Number of the first scene that is never trained on."""
_HELD_OUT = 24
_CHECKPOINT_SECONDS = 60.0
_SMALLEST_ERROR = 1e-3
"""Mean square, in noise variances, that is added before a root is taken."""


@dataclass(frozen=True)
class Training:
    """Settings of a training; those of a checkpoint must be the same.

    Attributes:
        seed: Of weights, crops and noise.
        scenes: Number of scenes; they are made while the training runs.
        batch: Crops in a step.
        side: Height and width of a crop in the first steps, in pixels.
        last_side: The same in the last steps, of which there are `last` as a fraction of the time.
        last: Fraction of the time at the end with larger crops.
        learning_rate: Largest learning rate of AdamW.
        muon: Largest learning rate of Muon, for the kernels of the residual blocks; 0 for AdamW alone.
        warm_up: Steps in which the learning rate rises.
        cooling: Fraction of the time, at the end, over which the learning rate falls to zero.
        averaging: Decay of the averaged weights.
        correlated: Fraction of crops with correlated noise.
        linear: Weight of the error of the light, the rest is that of the stabilised pixels.
        widths: Features of the network at its three levels.
        bf16: Compute most of the network in 16 bits.
    """

    seed: int = 0
    scenes: int = 4000
    batch: int = 8
    side: int = 64
    last_side: int = 96
    last: float = 0.4
    learning_rate: float = 1e-3
    muon: float = 0.01
    warm_up: int = 300
    cooling: float = 0.9
    averaging: float = 0.999
    correlated: float = 0.4
    linear: float = 0.5
    widths: tuple[int, int, int] = (48, 96, 128)
    bf16: bool = True


class ScenePool:
    """Scenes on a device that grow in number while a training runs: as many at a step as in any other run.

    Args:
        count: Number of scenes in the end.
        processes: Processes that make them.
        device: Where they are kept.
        path: File that keeps them for the next run.
    """

    _FIRST, _STEPS_PER_SCENE = 200, 2

    def __init__(self, count: int, processes: int, device: torch.device, path: Path) -> None:
        shape = (count, SIDE, SIDE)
        known = path.exists() and np.load(path, mmap_mode="r").shape == shape
        self._stored = np.lib.format.open_memmap(path, "r+" if known else "w+", np.float16, shape)
        made = (number for number, scene in enumerate(self._stored) if not scene.any())
        self._ready = next(made, count)
        self._scenes = torch.from_numpy(self._stored).to(device)  # the file itself on a CPU
        self._coming = make_scenes(range(self._ready, count), processes)

    def at_step(self, step: int) -> Tensor:
        """The scenes of a step, `(N, SIDE, SIDE)`; waits until they are made."""
        wanted = min(self._FIRST + step // self._STEPS_PER_SCENE, len(self._scenes))
        while self._ready < wanted:
            self._stored[self._ready] = next(self._coming)
            self._scenes[self._ready] = torch.from_numpy(self._stored[self._ready])
            self._ready += 1
        return self._scenes[:wanted]


def train(
    folder: Path,
    training: Training,
    *,
    minutes: float = 0.0,
    steps: int = 0,
    device: torch.device,
    resume: bool = False,
    processes: int = 0,
    report: Callable[[str], None] = print,
) -> ResidualUNet:
    """Train for some minutes or steps; writes `state.pt`, `log.csv`, and the averaged weights, `denoiser.safetensors`.

    Args:
        folder: Where the files are written.
        training: Settings of the training.
        minutes: Time of the whole training, that before an interruption included.
        steps: Number of steps in place of the time; the same steps give the same weights on one machine.
        device: Where it runs.
        resume: Go on from `state.pt`, if it is there.
        processes: Processes that make scenes; this one if there are none.
        report: Gets a line every minute.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(training.seed)
    nets = EmaModel(ResidualUNet(training.widths)).to(device)
    optimizers = make_optimizers(nets.model, training)
    camera = Camera(training.seed, device, training.correlated)
    step, spent = 0, 0.0
    if resume and (folder / "state.pt").exists():
        state = torch.load(folder / "state.pt", map_location=device, weights_only=True)
        nets.load_state_dict(state["nets"])
        for optimizer, saved_state in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved_state)
        camera.random.set_state(state["random"].cpu())
        step, spent = state["step"], state["seconds"]
    scenes = ScenePool(training.scenes, processes, device, folder / "scenes.npy")
    held_out = _held_out(device, processes)
    net = compiled(nets.model, device)
    started, saved, losses = time.monotonic() - spent, spent, []
    while (done := step / steps if steps else spent / (60 * minutes)) < 1:
        rate = min(1.0, (step + 1) / training.warm_up, (1 - done) / max(training.cooling, 1e-9))
        for optimizer, largest in zip(optimizers, (training.learning_rate, training.muon), strict=False):
            optimizer.param_groups[0]["lr"] = rate * largest
        side = training.last_side if done > 1 - training.last else training.side
        pairs = camera.picture(camera.crops(scenes.at_step(step), training.batch, side))
        losses.append(take_step(net, nets, optimizers, pairs, training))
        step += 1
        nets.update(min(training.averaging, step / (step + 20)))
        spent = time.monotonic() - started
        if spent - saved > _CHECKPOINT_SECONDS:
            _save(folder, nets, optimizers, camera, step, spent)
            row = {"minutes": round(spent / 60, 1), "steps": step, "rate": f"{rate:.3f}"}
            row |= {"loss": round(float(torch.stack(losses).mean()), 4)} | evaluate(nets.ema, held_out)
            _log(folder / "log.csv", row)
            report("  ".join(f"{key} {value}" for key, value in row.items()))
            saved, losses = time.monotonic() - started, []
    _save(folder, nets, optimizers, camera, step, spent)
    (folder / "training.json").write_text(
        json.dumps(asdict(training) | {"minutes": round(spent / 60, 1), "steps": step}, indent=1)
    )
    trained: ResidualUNet = nets.ema
    return trained


def compiled(net: ResidualUNet, device: torch.device) -> Any:
    """The network compiled for a GPU, once for each size of crops; as it is on a CPU, or where compiling fails."""
    if device.type != "cuda":
        return net
    torch._dynamo.config.suppress_errors = True
    return torch.compile(net, dynamic=False)


def take_step(
    net: Any,
    nets: EmaModel[ResidualUNet],
    optimizers: list[torch.optim.Optimizer | Muon],
    pairs: Pairs,
    training: Training,
) -> Tensor:
    """Update the weights by pictures, but not their average; `net` is `nets.model`, or the same compiled.

    Returns:
        The mean error, without axes, on the device.
    """
    with torch.autocast(pairs.noisy.device.type, torch.bfloat16, enabled=training.bf16):
        restored, log_error = net(pairs.noisy, pairs.maps)
    restored_loss, error_loss = _losses(pairs, restored, log_error, training.linear)
    nets.model.zero_grad()
    torch.autograd.backward(restored_loss + 0.1 * error_loss)
    nn.utils.clip_grad_norm_(nets.model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    return restored_loss.detach()


def make_optimizers(net: ResidualUNet, training: Training) -> list[torch.optim.Optimizer | Muon]:
    """Muon for the kernels of the residual blocks, if wanted, and AdamW for all other weights."""
    kernels: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, weight in net.named_parameters():
        hidden = training.muon > 0 and weight.ndim == 4 and (".first." in name or ".second." in name)
        (kernels if hidden else others).append(weight)
    adam = torch.optim.AdamW(others, training.learning_rate, betas=(0.9, 0.98), weight_decay=1e-4, fused=True)
    return [adam, Muon(kernels, training.muon)] if kernels else [adam]


def _losses(pairs: Pairs, restored: Tensor, log_error: Tensor, linear: float) -> tuple[Tensor, Tensor]:
    """Root mean square errors of each crop, averaged, and the score of the predicted error.

    Roots count dark and bright scenes alike. The errors of stabilised pixels are those that are seen; those of the
    light make the network say its mean, so that brightness is kept (methods: Laplace's distribution as score).
    """
    error = restored - pairs.target
    light = (pairs.light(restored) - pairs.light(pairs.target)) / pairs.light_level
    parts = [(e.square().mean((1, 2, 3)) + _SMALLEST_ERROR).sqrt().mean() for e in (error, light)]
    log_error = log_error.clamp(-6, 3)
    score = (log_error + error.detach().abs() * torch.exp(-log_error)).mean()
    return (1 - linear) * parts[0] + linear * parts[1], score


@torch.no_grad()
def evaluate(net: ResidualUNet, pairs: dict[str, Pairs]) -> dict[str, float]:
    """Root mean square error, in noise levels, for each kind of pictures."""
    net.eval()
    errors = {name: (net(p.noisy, p.maps)[0] - p.target).square().mean((1, 2, 3)).sqrt() for name, p in pairs.items()}
    net.train()
    return {name: round(float(error.mean()), 4) for name, error in errors.items()}


def _held_out(device: torch.device, processes: int) -> dict[str, Pairs]:
    """Pictures of scenes that are never trained on: with photon noise, white noise, and correlated noise."""
    numbers = range(FIRST_HELD_OUT, FIRST_HELD_OUT + _HELD_OUT)
    scenes = torch.from_numpy(np.stack(list(make_scenes(numbers, processes)))).to(device)
    pairs = {}
    for name, correlated in (("white", 0.0), ("correlated", 10.0)):
        camera = Camera(1, device, correlated)
        pairs[name] = camera.picture(camera.crops(scenes, 3 * _HELD_OUT, 128))
    return pairs


def _save(
    folder: Path, nets: EmaModel[ResidualUNet], optimizers: list[Any], camera: Camera, step: int, seconds: float
) -> None:
    state = {
        "nets": nets.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "random": camera.random.get_state(),
        "step": step,
        "seconds": seconds,
    }
    torch.save(state, folder / "state.part")
    os.replace(folder / "state.part", folder / "state.pt")
    weights = {name: w.half().contiguous() for name, w in nets.ema.state_dict().items()}
    save_file(weights, folder / "denoiser.part")
    os.replace(folder / "denoiser.part", folder / "denoiser.safetensors")


def _log(path: Path, row: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row)
        if new:
            writer.writeheader()
        writer.writerow(row)

#!/bin/sh
# Makes all that lies here, with version 0.1.0 of the software (commit e18b9b8):
#     mkdir /tmp/version_0_1 && cp make.sh /tmp/version_0_1 && cd /tmp/version_0_1
#     PYTHON=…/python PYTHONPATH=…/src sh make.sh
# Run again it makes the same pixels on the same kind of processor; times and the names of writers differ.
set -e
export OMP_NUM_THREADS=1
pristine() { "$PYTHON" -m napari_pristine "$@"; }

# 1. inputs and recipes
"$PYTHON" - <<'PY'
from pathlib import Path

import numpy as np
from napari_pristine import Image, Recipe, write
from napari_pristine.recipe_file import save_recipe
from napari_pristine.samples import simulate_image, simulate_timelapse

Path("inputs").mkdir()
noisy, _ = simulate_timelapse((32, 32), frames=6, seed=3)
um = ("micrometer", "micrometer")
stack = Image(noisy.data[:, 0], "TYX", (30.0, 0.2, 0.2), ("second", *um), name="stack")
write("inputs/stack.ome.tif", stack)
three = np.concatenate([simulate_timelapse((32, 32), frames=2, seed=seed)[0].data for seed in (3, 4)], axis=1)[:, :3]
write("inputs/channels.tif", Image(three, "TCYX", name="channels", channels=("a", "b", "c")))
flat, truth = simulate_image((32, 32), channel="nuclei", seed=5)
write("inputs/flat.tif", flat)
mask = np.zeros((32, 32), np.uint8)
mask[10:13, 5:25] = 1
write("mask.tif", Image(mask, "YX"))
light = (truth.data - 100).reshape(16, 2, 16, 2).mean(axis=(1, 3))
coarse = (100 + np.random.default_rng(0).poisson(light)).astype(np.uint16)
write("coarse.tif", Image(coarse, "YX", (0.4, 0.4), um))
offsets = np.arange(-3, 4)
spot = np.exp(-(offsets[:, None] ** 2 + offsets**2) / 2.0)
np.save("psf.npy", (spot / spot.sum()).astype(np.float32))

inr = {"steps": 30, "patch": 24, "overlap": 8, "width": 8, "layers": 2}
save_recipe("inr.yaml", Recipe(method="inr", preset="fast", settings=inr, device="cpu", seed=1))
cold = {**inr, "warm_start": False}
save_recipe("cold.yaml", Recipe(method="inr", preset="fast", settings=cold, device="cpu", seed=1))
save_recipe("cold_zarr.yaml", Recipe(method="inr", settings=cold, device="cpu", seed=1, format="ome-zarr"))
save_recipe("zarr_0_4.yaml", Recipe(method="inr", settings=inr, device="cpu", seed=1, format="ome-zarr-0.4"))
net = {"steps": 20, "width": 3, "levels": 1, "batch": 2, "side": 16}
save_recipe("blind2unblind.yaml", Recipe(method="blind2unblind", preset="fast", settings=net, device="cpu", seed=1))
linr = {
    "steps": 30, "rough_steps": 20, "rounds": 3, "blur": "file", "psf_file": "psf.npy", "also": "../coarse.tif finer=2",
}
save_recipe("linr.yaml", Recipe(method="linr", preset="fast", settings=linr, device="cpu", seed=1))
PY

# 2. a model, and a recipe with it and a mask: one as it is saved, and one as people write it
pristine learn inputs/flat.tif inputs/stack.ome.tif --method blind2unblind --preset fast --set steps=20 --set width=3 \
    --set levels=1 --set batch=2 --set side=16 --device cpu --seed 1 -o model.safetensors
"$PYTHON" - <<'PY'
from napari_pristine import load_model
from napari_pristine.recipe_file import save_recipe

fields = {"mask": "mask.tif", "model": "model.safetensors", "device": "cpu"}
save_recipe("model_and_mask.yaml", load_model("model.safetensors").recipe_with("", {"output": "visible"}, fields))
PY
cat > model_and_mask_short.yaml <<'YAML'
# as people write it: method and settings are those of the model
model: model.safetensors
mask: mask.tif
device: cpu
settings:
  output: visible
YAML

# 3. batches that came to their end
pristine batch inr.yaml inputs -o done
pristine batch zarr_0_4.yaml inputs/flat.tif -o done_zarr_0_4
pristine batch model_and_mask.yaml inputs/flat.tif inputs/stack.ome.tif -o done_model
pristine batch linr.yaml inputs/flat.tif -o done_linr
pristine restore inputs/flat.tif -o restored.tif --method inr --preset fast --set steps=30 --set width=8 --device cpu

# 4. batches that were killed (SIGKILL, so without any last words) at a certain moment
interrupted() {  # MOMENT NUMBER RECIPE INPUT FOLDER
    "$PYTHON" - "$@" <<'PY' || true
import os
import signal
import sys

from napari_pristine.batch import share, work
from napari_pristine.cli import main

moment, number, recipe, source, folder = sys.argv[1:]
calls = 0


def killed(function, *, after):
    def counted(*args, **more):
        global calls
        calls += 1
        last = calls == int(number)
        if last and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        function(*args, **more)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)

    return counted


if moment == "recorded":  # so many blocks are written and recorded
    work.Work.record = killed(work.Work.record, after=True)
elif moment == "unrecorded":  # the last of so many is written, and not recorded
    work.Work.record = killed(work.Work.record, after=False)
elif moment == "unnamed":  # all is written, and does not bear its name
    work.Work.appear = killed(work.Work.appear, after=False)
main(["batch", recipe, source, "-o", folder])
PY
}
interrupted recorded 3 cold.yaml inputs/stack.ome.tif interrupted_cold
interrupted unrecorded 4 cold_zarr.yaml inputs/stack.ome.tif interrupted_zarr
interrupted recorded 5 inr.yaml inputs/channels.tif interrupted_warm
interrupted recorded 2 blind2unblind.yaml inputs/stack.ome.tif interrupted_learned
interrupted unnamed 1 cold.yaml inputs/flat.tif interrupted_unnamed
interrupted recorded 2 model_and_mask.yaml inputs/stack.ome.tif interrupted_model
find . -name __pycache__ -prune -exec rm -r {} +

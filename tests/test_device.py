"""The device that is picked, and the reason if it is not the one that a user expects."""

from __future__ import annotations

import pytest
import torch

from napari_pristine import device
from napari_pristine.device import gpu_advice, pick_device, why_missing


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> object:
    """Pretends another machine."""

    def pretend(
        *, system: str = "linux", built: bool = False, gpu: bool = False, mps: bool = False, driver: bool = False
    ) -> None:
        monkeypatch.setattr(device, "_SYSTEM", system)
        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(device, "_has_nvidia_driver", lambda: driver)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return pretend


@pytest.mark.parametrize(
    ("facts", "visible", "words"),
    [
        ({"driver": True}, None, f"this PyTorch ({torch.__version__}) is a build for CPUs only; install"),
        ({"system": "win32"}, None, "for CPUs only; install the one for your GPU, with the command from pytorch.org"),
        ({"built": True}, None, "'nvidia-smi' must list one"),
        ({"built": True}, "", "CUDA_VISIBLE_DEVICES is set to ''"),
        ({"built": True}, "-1", "CUDA_VISIBLE_DEVICES is set to '-1'"),
        ({"built": True}, "0,1", "'nvidia-smi' must list one"),
        ({"system": "darwin", "mps": True}, None, "their GPU is mps"),
    ],
)  # fmt: skip
def test_cuda_that_is_missing_says_why_and_what_to_do(machine, monkeypatch, facts, visible, words):
    machine(**facts)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    picked, note = pick_device("cuda")
    assert picked == torch.device("cpu")
    assert note.warning
    assert note.text.startswith("there is no cuda device here, computing on the CPU: ")
    assert words in note.text


def test_mps_that_is_missing_says_why(machine):
    machine()
    assert "only Macs have it" in pick_device("mps")[1].text
    machine(system="darwin")
    assert "update macOS and PyTorch" in pick_device("mps")[1].text
    assert "cannot use the GPU of this Mac" in gpu_advice()


def test_the_choice_of_the_software_says_if_it_leaves_a_gpu_unused(machine):
    machine(driver=True)
    picked, note = pick_device("auto")
    assert picked == torch.device("cpu")
    assert note.text.startswith("the NVIDIA GPU of this computer is not used: this PyTorch (")
    assert not note.warning
    assert pick_device("cpu") == (torch.device("cpu"), None)  # as the user wants it
    machine()  # nothing is left unused where there is none
    assert pick_device("auto") == (torch.device("cpu"), None)
    machine(built=True, driver=True)  # it may be hidden on purpose, as by a queue
    assert pick_device("auto") == (torch.device("cpu"), None)


@pytest.mark.parametrize(
    ("facts", "kind"), [({"built": True, "gpu": True}, "cuda"), ({"system": "darwin", "mps": True}, "mps")]
)
def test_a_gpu_is_used_without_a_word(machine, facts, kind):
    machine(**facts)
    for wanted in ("auto", kind):
        assert pick_device(wanted) == (torch.device(kind), None)
    assert why_missing(kind) == gpu_advice() == ""


def test_the_advice_is_a_sentence(machine):
    machine()
    assert gpu_advice().startswith("No GPU is used: this PyTorch (")
    assert gpu_advice().endswith("pytorch.org.")

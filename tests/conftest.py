"""Fixtures that several test modules use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("no deadline", deadline=None)  # seconds depend on how busy the machine is
hypothesis.settings.load_profile("no deadline")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real images for tests marked `data`: the folder named by PRISTINE_DATA, by default ../shared/data."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("PRISTINE_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real images in {folder}; set PRISTINE_DATA to a folder laid out like those of the papers")
    return folder


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compute with one thread, also in batches and in processes that a test starts: other numbers give other digits."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

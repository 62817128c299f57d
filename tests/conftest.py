"""Fixtures that several test modules use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real images for tests marked `data`: the folder named by PRISTINE_DATA, by default ../shared/data."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("PRISTINE_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real images in {folder}; set PRISTINE_DATA to a folder laid out like those of the papers")
    return folder

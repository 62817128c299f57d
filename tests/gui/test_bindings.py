"""A whole session in a real window, with PyQt6 and with PySide6, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("binding", ["PyQt6", "PySide6"])
def test_a_session_raises_and_prints_no_errors(binding: str) -> None:
    if find_spec(binding) is None:
        pytest.skip(f"{binding} is not installed")
    session = Path(__file__).with_name("session.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_QT_API"}
    done = subprocess.run(
        [sys.executable, str(session)], capture_output=True, text=True, check=False, timeout=240,
        env={**environment, "QT_API": binding.lower()},
    )  # fmt: skip
    # vispy says so where the program that knows the size of the display is not installed
    printed = (done.stdout + done.stderr).replace("WARNING: could not determine DPI", "")
    assert done.returncode == 0, printed
    assert done.stdout.splitlines()[-1].startswith(binding)
    for sign in ("Traceback", "TypeError", "QObject::", "Warning:", "WARNING:"):
        assert sign not in printed, printed

"""The plugin works with PyQt6 and PySide6: a session with the one that the other tests do not use."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import qtpy

pytestmark = pytest.mark.gui

OTHER = "PyQt6" if qtpy.PYSIDE6 else "PySide6"


@pytest.mark.skipif(find_spec(OTHER) is None, reason=f"{OTHER} is not installed")
def test_a_session_raises_and_prints_no_errors() -> None:
    session = Path(__file__).with_name("session.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_QT_API"}
    done = subprocess.run(
        [sys.executable, str(session)], capture_output=True, text=True, check=False, timeout=240,
        env={**environment, "QT_API": OTHER.lower()},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == OTHER
    for sign in ("Traceback", "TypeError", "QObject::", "RuntimeWarning"):
        assert sign not in done.stderr, done.stderr

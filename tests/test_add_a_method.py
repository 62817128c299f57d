"""Following docs/add-a-method.md to the letter gives a method that passes the tests of all methods."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "add-a-method.md"


def block_after(text: str, sentence: str, language: str) -> str:
    """The first code block of a language after a sentence of the page."""
    found = re.search(rf"^```{language}\n(.*?)^```$", text[text.index(sentence) :], re.MULTILINE | re.DOTALL)
    assert found, sentence
    return found[1]


def apply_diff(text: str, diff: str) -> str:
    """The text with the added lines of a diff, each after the lines that stand before it."""
    lines, at = text.splitlines(), 0
    for change in diff.splitlines():
        if change.startswith("+"):
            lines.insert(at, change[1:])
            at += 1
        elif not change.startswith("@@"):
            at = lines.index(change[1:], at) + 1
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project in which a reader has followed the page."""
    if not (ROOT / "src").exists():
        pytest.skip("these tests do not lie in the repository")
    tree = tmp_path_factory.mktemp("project")
    for folder in ("src", "tests", "docs", "tools"):
        ignored = shutil.ignore_patterns("__pycache__", "pictures", "data")
        shutil.copytree(ROOT / folder, tree / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tree)
    page = PAGE.read_text(encoding="utf-8")
    places = (
        ("Save this as `src/napari_pristine/methods/", "python"),
        ("Save this as `src/napari_pristine/fits/", "py"),
        ("Write `docs/methods/", "markdown"),
    )
    for sentence, language in places:
        name = re.search(r"`([^`]+)`", page[page.index(sentence) :])
        assert name
        (tree / name[1]).write_text(block_after(page, sentence, language), encoding="utf-8")
    methods = tree / "src" / "napari_pristine" / "methods" / "__init__.py"
    diff = block_after(page, "`src/napari_pristine/methods/__init__.py`", "diff")
    methods.write_text(apply_diff(methods.read_text(encoding="utf-8"), diff), encoding="utf-8")
    return tree


def run(tree: Path, command: str) -> str:
    """Run a command of the page in the copy, with this interpreter: its output."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "PRISTINE_DATA": str(tree / "none")}
    words = [sys.executable if word == "python" else word for word in command.split()]
    done = subprocess.run(words, cwd=tree, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_page_leads_to_a_method_that_passes_the_exam(tree: Path) -> None:
    commands = re.findall(r"^\$ (.+)$", block_after(PAGE.read_text(encoding="utf-8"), "## 5.", "console"), re.MULTILINE)
    assert len(commands) == 2
    run(tree, commands[0])
    assert "napari-pristine.neighbours" in (tree / "src" / "napari_pristine" / "napari.yaml").read_text(
        encoding="utf-8"
    )
    output = run(tree, commands[1])
    passed = re.search(r"(\d+) passed", output)
    assert passed
    assert int(passed[1]) >= 20, output


def test_the_new_method_is_everywhere(tree: Path) -> None:
    code = (
        "import sys; from napari_pristine.cli.main import main; code = main(['methods', 'neighbours'])\n"
        "sys.exit(code or 'torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "Distance of the farthest neighbours" in done.stdout, done.stderr
    assert done.returncode == 0  # without torch

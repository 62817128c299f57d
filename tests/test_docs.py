"""Code blocks of the README and the documentation run; their links and pictures exist."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import yaml

from napari_pristine.cli.main import main
from napari_pristine.methods import METHODS
from napari_pristine.recipe_file import load_recipe

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_run_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for language, text in BLOCK.findall(page.read_text()):
        if language == "python":
            exec(compile(text, str(page), "exec"), names)
    assert not [name for name in names if name.startswith("assert")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_there(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each sub-command and long option of `pristine` in a console block is in its help."""
    consoles = [text for language, text in BLOCK.findall(page.read_text()) if language == "console"]
    for line in "\n".join(consoles).splitlines():
        words = line.split("#")[0].split()
        if words[:2] != ["$", "pristine"]:
            continue
        assert main([words[2], "--help"]) == 0, line
        shown = capsys.readouterr().out
        for option in [word.split("=")[0] for word in words if word.startswith("--")]:
            assert option in shown, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_architecture_names_all_root_modules_and_folders_and_only_files_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    source = ROOT / "src" / "napari_pristine"
    names = [path.name for path in source.glob("*.py") if not path.name.startswith("__")]
    names += [f"{path.parent.name}/" for path in source.glob("*/__init__.py")]
    names += [path.name for path in (source / "image").glob("*.py") if not path.name.startswith("__")]
    assert [name for name in names if name not in page] == []
    for name in re.findall(r"\b(\w+\.py)\b", page):
        assert any(list(ROOT.glob(f"{folder}/**/{name}")) for folder in ("src", "tests", "benchmarks")), name


def test_every_method_has_its_page_in_the_navigation() -> None:
    hooks = runpy.run_path(str(ROOT / "docs" / "hooks.py"))
    configuration = hooks["on_config"](yaml.safe_load((ROOT / "mkdocs.yml").read_text()))
    (pages,) = (section["Methods"] for section in configuration["nav"] if "Methods" in section)
    assert [page for entry in pages for page in entry.values()] == [f"methods/{key}.md" for key in METHODS]


def test_recipes_in_the_documentation_can_be_read(tmp_path: Path) -> None:
    """Recipes that name a model are left out: its file is not here."""
    blocks = BLOCK.findall((ROOT / "docs" / "batch.md").read_text())
    recipes = [text for language, text in blocks if language == "yaml" and "method:" in text and "model:" not in text]
    assert recipes
    for text in recipes:
        (tmp_path / "recipe.yaml").write_text(text)
        assert load_recipe(tmp_path / "recipe.yaml").params

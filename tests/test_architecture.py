"""Imports go one way, Qt and torch stay in their parts, and files keep the rules of the house."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

import napari_pristine
from napari_pristine import METHODS, errors

PACKAGE = Path(napari_pristine.__file__).parent
REPOSITORY = Path(__file__).parents[1]
LAYERS = (
    {"errors", "events"},
    {"text"},
    {"settings", "threads", "resources"},
    {"image", "device"},
    {"nets", "physics"},
    {"methods", "io"},
    {"fits"},
    {"recipe"},
    {"model"},
    {"recipe_file"},
    {"recipe_code"},
    {"samples", "comparison", "verdict", "jobs"},
    {"diagnosis"},
    {"batch", "export"},
    {"cli"},
    {"gui"},
)
"""Parts of the package (folders, and files at its root); each may import those of the layers above it in this list."""
QT = {"qtpy", "magicgui", "superqt", "napari", "PyQt5", "PyQt6", "PySide2", "PySide6"}
WITHOUT_TORCH = [
    "errors",
    "events",
    "settings",
    "text",
    "image",
    "io",
    "recipe",
    "samples",
    "comparison",
    "verdict",
    "diagnosis",
]
ENTRY_POINTS = {"__init__", "__main__"}
FINISHED = [
    "batch",
    "cli",
    "device",
    "diagnosis",
    "errors",
    "export",
    "gui",
    "image",
    "io",
    "recipe",
    "recipe_code",
    "recipe_file",
    "resources",
    "samples",
    "settings",
    "text",
    "verdict",
]
"""Parts whose docstrings are checked; to be extended until it holds all parts."""
MAX_LINES = 450
QUESTION = re.compile(r"(?:^|[.:;!?]\s+|\n\s*)((?:What|Whether|Which|Where|How|Who|Why)\b[^\n]{0,60})")
"""A sentence that opens like a question: a noun or a verb says the same more plainly."""
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def part_of(path: Path) -> str:
    """The folder of a file, or its name at the root of the package."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imported(path: Path) -> frozenset[str]:
    """Dotted names that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def parts_imported(path: Path) -> set[str]:
    """Parts of this package that a file imports."""
    dotted = [name.split(".") for name in imported(path)]
    parts = {names[1] for names in dotted if names[0] == "napari_pristine" and len(names) > 1}
    return {part for part in parts if not part.startswith("__")}


def layer_of(part: str) -> int:
    return next(number for number, parts in enumerate(LAYERS) if part in parts)


def modules(parts: Iterable[str]) -> list[str]:
    """Names of all modules in these parts."""
    paths = [path.relative_to(PACKAGE.parent).with_suffix("") for path in FILES if part_of(path) in parts]
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of all docstrings of a file: of modules, classes, functions and variables."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def python(code: str, *arguments: str) -> None:
    """Run code in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_every_part_has_a_layer() -> None:
    known = set.union(*LAYERS) | ENTRY_POINTS
    assert {part_of(path) for path in FILES} - known == set(), "add these to LAYERS and to docs/architecture.md"


def test_folders_are_one_level_deep() -> None:
    assert [name_of(path) for path in FILES if len(path.relative_to(PACKAGE).parts) > 2] == []


@pytest.mark.parametrize("path", [p for p in FILES if part_of(p) not in ENTRY_POINTS], ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    part = part_of(path)
    above = [other for other in parts_imported(path) - {part} if layer_of(other) >= layer_of(part)]
    assert above == []


def test_qt_is_imported_in_gui_only_and_torch_only_to_compute() -> None:
    for path in FILES:
        foreign = {name.split(".")[0] for name in imported(path)}
        assert part_of(path) == "gui" or not foreign & QT, name_of(path)
        assert part_of(path) not in [*WITHOUT_TORCH, *ENTRY_POINTS] or "torch" not in foreign, name_of(path)


def test_no_file_is_too_long() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_all_functions_are_typed() -> None:
    untyped = []
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                a = node.args
                given = [*a.posonlyargs, *a.args, *a.kwonlyargs, *([a.vararg] if a.vararg else [])]
                given += [a.kwarg] if a.kwarg else []
                bare = [arg.arg for arg in given if arg.annotation is None and arg.arg not in ("self", "cls")]
                if bare or node.returns is None:
                    untyped.append(f"{name_of(path)}:{node.lineno} {node.name} {bare}")
    assert untyped == []


@pytest.mark.parametrize("part", FINISHED)
def test_no_sentence_of_a_docstring_opens_like_a_question(part: str) -> None:
    found = [
        f"{name_of(path)}:{line}: {match[1]}"
        for path in FILES
        if part_of(path) == part
        for line, text in docstrings(path)
        for match in QUESTION.finditer(text)
    ]
    assert found == []


def test_methods_do_not_know_each_other() -> None:
    homes = {method.fit.__module__ for method in METHODS.values()}
    for home in homes:
        names = imported(Path(str(import_module(home).__file__)))
        assert not [name for name in names for other in homes - {home} if name.startswith(other)]


def test_the_package_is_light_to_import() -> None:
    heavy = {"torch", "napari", "qtpy", "magicgui", "superqt", "scipy", "skimage", "pydantic"}
    python(
        "import sys, napari_pristine; dir(napari_pristine); napari_pristine.__version__\n"
        f"found = {heavy!r} & set(sys.modules)\n"
        "assert not found, found"
    )


def test_images_and_files_need_neither_torch_nor_qt() -> None:
    python(
        "import sys\n"
        "from importlib import import_module\n"
        "for name in sys.argv[1:]: import_module(name)\n"
        f"found = {{'torch', *{QT!r}}} & set(sys.modules)\n"
        "assert not found, found",
        *modules(WITHOUT_TORCH),
    )


def test_all_that_the_windows_need_comes_with_the_package_or_with_napari() -> None:
    """napari's plugin manager installs a plugin without its extras."""
    project = REPOSITORY / "pyproject.toml"
    if not project.exists():
        pytest.skip(f"no {project}: these tests do not lie in the repository")
    own = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    of_napari = [text for text in requires("napari") or [] if "extra ==" not in text]
    installed = {"napari", *(re.split(r"[^\w.-]", text)[0].lower() for text in (*own, *of_napari))}
    providers = packages_distributions()
    needed = {
        name.split(".")[0]
        for path in FILES
        if part_of(path) == "gui"
        for name in imported(path)
        if name.split(".")[0] not in {"napari_pristine", *sys.stdlib_module_names}
    }
    assert "matplotlib" in needed
    assert [name for name in needed if not {each.lower() for each in providers[name]} & installed] == []


def test_everything_below_gui_works_without_qt(tmp_path: Path) -> None:
    """As on a node of a cluster: import every module below gui; restore, write and read an image."""
    python(
        "import sys\n"
        f"for name in { {*QT, 'matplotlib'}!r}: sys.modules[name] = None\n"
        "from importlib import import_module\n"
        "for name in sys.argv[2:]: import_module(name)\n"
        "import numpy as np\n"
        "import napari_pristine as pristine\n"
        "noisy = np.random.default_rng(0).poisson(20, (32, 32)).astype('uint16')\n"
        "restored = pristine.restore(noisy, 'inr', settings={'steps': 3})\n"
        "pristine.write(sys.argv[1], restored.image)\n"
        "again = pristine.read(sys.argv[1])\n"
        "assert np.array_equal(again.data, restored.data)",
        str(tmp_path / "restored.tif"),
        *modules(set.union(*LAYERS) - {"gui"}),
    )


@pytest.mark.parametrize("name", napari_pristine.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(napari_pristine, name) is not None
    assert name in dir(napari_pristine)


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        _ = napari_pristine.magic


def test_type_checkers_see_all_public_names() -> None:
    source = tree_of(PACKAGE / "__init__.py")
    seen = {a.asname or a.name for node in ast.walk(source) if isinstance(node, ast.ImportFrom) for a in node.names}
    assert set(napari_pristine.__all__) - {"__version__"} <= seen


ERRORS = [error for _, error in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("error", ERRORS)
def test_errors_are_ours_and_none_is_swallowed_by_workers(error: type[Exception]) -> None:
    assert issubclass(error, errors.PristineError)
    assert not issubclass(error, (RuntimeError, ValueError))  # pydantic swallows the latter
    assert error.__name__ in str(errors.__doc__)


def test_the_manifest_at_the_top_is_the_one_in_the_package() -> None:
    top = REPOSITORY / "napari.yaml"
    if not top.exists():
        pytest.skip(f"no {top}: these tests do not lie in the repository")
    assert top.read_text(encoding="utf-8") == (PACKAGE / "napari.yaml").read_text(encoding="utf-8")

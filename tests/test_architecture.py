"""The rooms of the package know only those below them, and it is light to import."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import napari_pristine
from napari_pristine import METHODS, errors

PACKAGE = Path(napari_pristine.__file__).parent
REPOSITORY = Path(__file__).parents[1]
LAYERS = (
    {"errors", "events"},
    {"settings", "text", "threads", "resources"},
    {"image", "device"},
    {"nets", "physics"},
    {"methods", "io"},
    {"weights"},
    {"recipe"},
    {"model"},
    {"recipe_file"},
    {"samples", "diagnosis", "jobs"},
    {"batch", "export"},
    {"cli"},
    {"gui"},
)
"""Each room may import those of the layers above it in this list."""
WINDOWS = {"qtpy", "magicgui", "superqt", "napari", "PyQt5", "PyQt6", "PySide2", "PySide6"}
LIGHT = ["errors", "events", "settings", "image", "io", "samples", "diagnosis"]
"""Rooms that do without torch."""
DOORS = {"__init__", "__main__"}
FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    """The folder of a file, or its name at the root of the package."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_imported(path: Path) -> set[str]:
    """Rooms of this package that a file imports."""
    parts = [name.split(".") for name in imported(path)]
    rooms = {part[1] for part in parts if part[0] == "napari_pristine" and len(part) > 1}
    return {room for room in rooms if not room.startswith("__")}


def layer_of(room: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms)


def modules(rooms: list[str]) -> list[str]:
    """Names of all modules in these rooms."""
    paths = [path.relative_to(PACKAGE.parent).with_suffix("") for path in FILES if room_of(path) in rooms]
    return [".".join(path.parts).removesuffix(".__init__") for path in paths]


def python(code: str, *arguments: str) -> None:
    """Run code in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_every_room_has_its_layer() -> None:
    known = set.union(*LAYERS) | DOORS
    assert {room_of(path) for path in FILES} - known == set(), "say in LAYERS and the design which rooms these may use"


@pytest.mark.parametrize(
    "path", [p for p in FILES if room_of(p) not in DOORS], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_a_room_imports_only_what_is_below_it(path: Path) -> None:
    room = room_of(path)
    above = [other for other in rooms_imported(path) - {room} if layer_of(other) >= layer_of(room)]
    assert above == []


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_windows_are_in_one_room_and_torch_is_where_it_computes(path: Path) -> None:
    foreign = {name.split(".")[0] for name in imported(path)}
    if room_of(path) != "gui":
        assert foreign & WINDOWS == set()
    if room_of(path) in [*LIGHT, *DOORS]:
        assert "torch" not in foreign


def test_methods_do_not_know_each_other() -> None:
    homes = {method.fit.__module__ for method in METHODS.values()}
    for home in homes:
        names = set(imported(Path(str(import_module(home).__file__))))
        assert not [name for name in names for other in homes - {home} if name.startswith(other)]


def test_the_package_is_light_to_import() -> None:
    heavy = {"torch", "napari", "qtpy", "magicgui", "superqt", "scipy", "skimage", "pydantic"}
    python(
        "import sys, napari_pristine; dir(napari_pristine); napari_pristine.__version__\n"
        f"found = {heavy!r} & set(sys.modules)\n"
        "assert not found, found"
    )


def test_files_and_pictures_do_without_torch() -> None:
    python(
        "import sys\n"
        "from importlib import import_module\n"
        "for name in sys.argv[1:]: import_module(name)\n"
        f"found = {{'torch', *{WINDOWS!r}}} & set(sys.modules)\n"
        "assert not found, found",
        *modules(LIGHT),
    )


def test_the_core_works_where_there_are_no_windows(tmp_path: Path) -> None:
    """On a node of a cluster: every module below gui is imported, an image restored, written and read."""
    python(
        "import sys\n"
        f"for name in {WINDOWS!r}: sys.modules[name] = None\n"
        "from importlib import import_module\n"
        "for name in sys.argv[2:]: import_module(name)\n"
        "import numpy as np\n"
        "import napari_pristine as pristine\n"
        "noisy = np.random.default_rng(0).poisson(20, (32, 32)).astype('uint16')\n"
        "restored = pristine.restore(noisy, settings={'steps': 3})\n"
        "pristine.write(sys.argv[1], restored.image)\n"
        "again = pristine.read(sys.argv[1])\n"
        "assert np.array_equal(again.data, restored.data)",
        str(tmp_path / "restored.tif"),
        *modules([room for rooms in LAYERS for room in rooms if room != "gui"]),
    )


@pytest.mark.parametrize("name", napari_pristine.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(napari_pristine, name) is not None
    assert name in dir(napari_pristine)


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
        _ = napari_pristine.magic


def test_public_names_are_told_to_type_checkers_too() -> None:
    source = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    told = {a.asname or a.name for node in ast.walk(source) if isinstance(node, ast.ImportFrom) for a in node.names}
    assert set(napari_pristine.__all__) - {"__version__"} <= told


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

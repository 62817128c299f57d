"""Thousands of broken files: each is read or refused with a clear message, soon, in little memory, and no code runs.

The kind and the number of a case decide what is broken and how, so that every run has the same cases. The quick suite
takes, from `fuzz_cases.json`, the first case of each distinct outcome, and every 25th of the others; `-m acceptance`
takes all.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import psutil
import pytest
import tifffile
import torch

from napari_pristine import read, write
from napari_pristine.errors import PristineError
from napari_pristine.image.image import Image
from napari_pristine.methods import METHODS
from napari_pristine.model import Facts, Model, load_model, save_model, untrained
from napari_pristine.recipe import Recipe
from napari_pristine.recipe_file import load_recipe, save_recipe
from tiny import TINY

SECONDS = 5.0
"""CPU time that one file may take."""
MEMORY = 256 * 2**20
"""Bytes by which the peak memory of the process may grow over all cases of a kind."""
LIMIT = 2**30
"""Bytes of address space that a case may add: a header may claim any size."""
DISTINCT: dict[str, list[int]] = json.loads((Path(__file__).parent / "fuzz_cases.json").read_text())
"""The first case of each distinct outcome, by kind."""
EXTREMES = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]
WORDS = [
    b"-1", b"0", b"1e999", b"99999999999999999999", b"NaN", b"null", b"[]", b"{}", b'""', b"true", b"\\u0000", b"&a",
    b"*a", b"!!python/name:os.system", b"<<", b"../../../x", b"\xff\xfe", b"\xed\xa0\x80", b":", b"%", b"]]]", b"{{{",
]  # fmt: skip


VALUES = [
    b"-1", b"0", b"1.5", b"1e308", b"4294967296", b"99999999999999999999", b"null", b"true", b"[]", b"{}", b'""',
    b'"x"', b'"../../../etc"', b"[1, 2, 3]", b'{"a": 1}', b'"|O"', b'"<f8"', b'"\xc3\xbc"',
]  # fmt: skip


def flip(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def misspell(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    data[rng.randrange(len(data))] = rng.choice(b" \t\n\0-+.:,;#'\"[]{}<>&*!%0189aZ_/\\")
    return data


def put_in(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    start = rng.randrange(len(data))
    return data[:start] + rng.choice(WORDS) + data[start:]


def cut(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data))]


def leave_out(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.randint(1, 32) :]


def insert(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    start = rng.randrange(len(data))
    return data[:start] + rng.choice([rng.randbytes(rng.randint(1, 16)), rng.choice(WORDS)]) + data[start:]


def exaggerate(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    size, start = rng.choice([1, 2, 4, 8]), rng.randrange(len(data))
    value = rng.choice(EXTREMES) & (2 ** (8 * size) - 1)
    data[start : start + size] = value.to_bytes(size, rng.choice(["little", "big"]))
    return data


def reword(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    found = list(re.finditer(rb"[0-9.]+|\w+", data))
    start, end = rng.choice(found).span() if found else (0, 0)
    return data[:start] + rng.choice(WORDS) + data[end:]


def revalue(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    """Replace a number or text by another value: the result is still JSON or YAML, and gets further."""
    found = list(re.finditer(rb'(?<=[:,\[ ])("[^"]*"|[0-9.]+)(?=[,\]}\s])', data))
    start, end = rng.choice(found).span() if found else (0, 0)
    return data[:start] + rng.choice(VALUES) + data[end:]


def splice(data: bytearray, other: bytes, rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


BREAKS = (flip, cut, leave_out, insert, exaggerate, exaggerate, reword, splice)
BREAKS_IN_TEXT = (flip, cut, leave_out, put_in, misspell, reword, reword, splice, *[revalue] * 8)


def broken(name: str, number: int, samples: list[bytes]) -> bytes:
    """Content of a file that is broken in one or several ways."""
    rng = random.Random(f"{name} {number}")
    ways = BREAKS_IN_TEXT if KINDS[name].is_text else BREAKS
    data, other = bytearray(rng.choice(samples)), rng.choice(samples)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        if data:
            data = bytearray(rng.choice(ways)(data, other, rng))
    return bytes(data)


def picture(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, shape, np.uint8)


def ome(folder: Path) -> list[bytes]:
    image = Image(picture((2, 2, 8, 8)), "TCYX", scale=(2, 1, 0.1, 0.1), units=("s", "pixel", "µm", "µm"))
    return [_written(folder / "a.ome.tif", image), _written(folder / "b.ome.tif", Image(picture((8, 8, 3)), "YXS"))]


def imagej(folder: Path) -> list[bytes]:
    samples = []
    for axes, shape in (("TZYX", (2, 2, 8, 8)), ("CYX", (2, 8, 8))):
        tifffile.imwrite(folder / "a.tif", picture(shape), imagej=True, metadata={"axes": axes, "spacing": 0.5})
        samples.append((folder / "a.tif").read_bytes())
    return samples


def plain(folder: Path) -> list[bytes]:
    samples = []
    for options in ({}, {"bigtiff": True}, {"byteorder": ">"}, {"resolution": (1e4, 1e4), "resolutionunit": 3}):
        tifffile.imwrite(folder / "a.tif", picture((2, 8, 8)), **options)
        samples.append((folder / "a.tif").read_bytes())
    return samples


def packed(folder: Path) -> list[bytes]:
    samples = []
    for options in (
        {"tile": (16, 16), "compression": "zlib", "predictor": True},
        {"compression": "lzw"},
        {"compression": "packbits", "rowsperstrip": 4},
        {"compression": "zstd", "photometric": "rgb"},
        {"compression": "jpeg", "photometric": "rgb"},
    ):
        shape = (17, 17, 3) if "photometric" in options else (2, 17, 17)
        tifffile.imwrite(folder / "a.tif", picture(shape), **options)
        samples.append((folder / "a.tif").read_bytes())
    return samples


def pictures(folder: Path) -> list[bytes]:
    samples = [_written(folder / "a.png", Image(picture((8, 8)), "YX"))]
    for mode in ("RGB", "P", "LA", "1", "CMYK"):
        file = io.BytesIO()
        PIL.Image.fromarray(picture((8, 8, 3))).convert(mode).save(file, "jpeg" if mode == "CMYK" else "png")
        samples.append(file.getvalue())
    return samples


def recipes(folder: Path) -> list[bytes]:
    save_recipe(folder / "a.yaml", Recipe(method="tiny", select={"T": "0:10"}, mask="/a.tif"), overwrite=True)
    saved = re.sub(rb"  #.*", b"", (folder / "a.yaml").read_bytes())
    short = b"method: inr\nsettings:\n  steps: 3\n  patch: none\nselect: {T: 1:10, C: '0'}\nseed: 7\nversion: 99.1\n"
    return [saved, short, json.dumps({"method": "linr", "settings": {"sigma": 1e-3, "finer": 2}}).encode()]


def models(folder: Path) -> list[bytes]:
    samples = []
    for channels, axes in ((1, "YX"), (2, "ZYX")):
        recipe = Recipe(method="tiny", settings={"kernel": 3})
        weights = untrained(TINY, recipe.params, channels, axes).state_dict()
        save_model(folder / "a.safetensors", Model(recipe, channels, axes, weights, Facts(count=1)), overwrite=True)
        samples.append((folder / "a.safetensors").read_bytes())
    return samples


def zarr_of(version: str, file: str) -> Callable[[Path], list[bytes]]:
    """Write an OME-Zarr, of which one metadata file is broken."""

    def samples(folder: Path) -> list[bytes]:
        metadata = {"format": "zarr", "version": version}
        units = ("pixel", "µm", "µm")
        image = Image(picture((2, 8, 8)), "CYX", (1, 0.1, 0.1), units, channels=("a", "b"), metadata=metadata)
        write(folder / "case.zarr", image, provenance={"recipe": {"method": "inr"}})
        return [(folder / "case.zarr" / file).read_bytes()]

    return samples


def _written(path: Path, image: Image) -> bytes:
    write(path, image, provenance={"recipe": {"method": "inr"}}, overwrite=True)
    return path.read_bytes()


def read_image(path: Path, number: int) -> None:
    """Read the whole image or only a plane, by turns, as the panel and the batch do."""
    image = read(path, lazy=bool(number % 2))
    if number % 2:
        for place in np.ndindex(*image.shape[:-2][:2]):
            np.asarray(image.data[place])
            break


@dataclass(frozen=True)
class Kind:
    """A kind of file: number of cases, name, and functions to make and read them.

    Of a file in a folder, the folder is read.
    """

    cases: int
    file: str
    samples: Callable[[Path], list[bytes]]
    read: Callable[[Path, int], Any]
    is_text: bool = False


KINDS = {
    "OME-TIFF": Kind(2000, "case.ome.tif", ome, read_image),
    "ImageJ": Kind(1500, "case.tif", imagej, read_image),
    "TIFF": Kind(1500, "case.tif", plain, read_image),
    "packed TIFF": Kind(1500, "case.tif", packed, read_image),
    "PNG": Kind(1500, "case.png", pictures, read_image),
    "recipe": Kind(2000, "case.yaml", recipes, lambda path, _: load_recipe(path), is_text=True),
    "model": Kind(2000, "case.safetensors", models, lambda path, _: load_model(path), is_text=True),
    **{
        f"OME-Zarr {version} {file}": Kind(250, f"case.zarr/{file}", zarr_of(version, file), read_image, is_text=True)
        for version, file in (
            ("0.5", "zarr.json"),
            ("0.5", "0/zarr.json"),
            ("0.4", ".zattrs"),
            ("0.4", ".zgroup"),
            ("0.4", "0/.zarray"),
        )
    },
}


def test_there_are_ten_thousand_cases_of_which_the_quick_suite_takes_some() -> None:
    assert sum(kind.cases for kind in KINDS.values()) >= 10_000
    assert set(DISTINCT) == set(KINDS)
    assert all(number < KINDS[name].cases for name, numbers in DISTINCT.items() for number in numbers)


class SideEffects:
    """Records what a process does beyond reading: files changed elsewhere, programs, connections."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.seen: list[str] = []
        self.active = False
        sys.addaudithook(self.record)

    def record(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.truncate"):
            if not self.is_harmless(arguments[0]):
                self.seen.append(f"{event} {arguments[0]!r}")
        elif event in ("os.system", "os.exec", "subprocess.Popen", "socket.connect", "pickle.find_class"):
            self.seen.append(f"{event} {arguments!r}")

    def is_harmless(self, path: Any) -> bool:
        text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
        return os.path.abspath(text).startswith(self.folder) or "__pycache__" in text or text == os.devnull

    @contextmanager
    def recording(self) -> Iterator[None]:
        self.active = True
        try:
            yield
        finally:
            self.active = False


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Limit the address space."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + LIMIT, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class TookTooLong(BaseException):
    """Not an `Exception`, which readers may catch."""


def raise_too_long(*_: Any) -> None:
    raise TookTooLong(f"more than {SECONDS} s of computing")


@contextmanager
def little_time() -> Iterator[None]:
    """Limit the CPU time, which a busy machine does not change; pytest uses the timer of wall-clock time."""
    before = signal.signal(signal.SIGPROF, raise_too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def fault_of(kind: Kind, path: Path, number: int) -> str:
    """Fault in how a file is read; empty if there is none."""
    try:
        with warnings.catch_warnings(), little_time():
            warnings.simplefilter("error")
            kind.read(path, number)
    except PristineError as error:
        text = str(error)
        return f"a message of {len(text)} letters: {text[:200]!r}" if "\n" in text or len(text) > 2000 else ""
    except BaseException as error:  # noqa: BLE001 - any error but ours is a fault
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.parametrize("every", [25, pytest.param(1, marks=pytest.mark.acceptance)])
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.usefixtures("little_memory")
def test_a_broken_file_is_read_or_refused(
    name: str, every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(METHODS, "tiny", TINY)
    torch.manual_seed(0)
    kind = KINDS[name]
    samples = kind.samples(tmp_path)
    path = tmp_path / kind.file
    opened = tmp_path / Path(kind.file).parts[0]
    for number, sample in enumerate(samples * 2):
        path.write_bytes(sample)
        kind.read(opened, number + number // len(samples))
    expected_files = {other for other in tmp_path.rglob("*") if other.is_relative_to(opened)}
    for other in set(tmp_path.iterdir()) - expected_files:
        other.unlink()
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()
    effects, before, faults = SideEffects(tmp_path), peak_memory(), {}
    for number in sorted({*DISTINCT[name], *range(0, kind.cases, every)}):
        path.write_bytes(broken(name, number, samples))
        with effects.recording():
            fault = fault_of(kind, opened, number) or "".join(capfd.readouterr())
        if fault:
            faults[number] = fault
    assert faults == {}
    assert effects.seen == []
    assert set(tmp_path.rglob("*")) == expected_files
    assert peak_memory() - before < MEMORY

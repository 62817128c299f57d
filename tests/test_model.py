"""Models: files that keep all that is needed, fit or say why not, and can run no code."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings

from napari_pristine.errors import FileError, ModelError
from napari_pristine.methods import METHODS
from napari_pristine.model import Facts, Model, load_model, save_model, untrained
from napari_pristine.recipe import Recipe
from tiny import TINY

LONG = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "tiny", TINY)


def model(channels: int = 1, axes: str = "YX", **settings: Any) -> Model:
    torch.manual_seed(0)
    recipe = Recipe(method="tiny", settings=settings)
    net = untrained(TINY, recipe.params, channels, axes)
    return Model(recipe, channels, axes, net.state_dict(), Facts(images=("a.tif", "b.tif"), count=2, residual=0.9))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_model(tmp_path / "model.safetensors", model())
    return tmp_path / "model.safetensors"


def parts(path: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Texts and numbers of a file."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header["__metadata__"], safetensors.torch.load(data)


@pytest.mark.parametrize(("channels", "axes"), [(1, "YX"), (3, "YX"), (2, "ZYX"), (1, "TYX")])
def test_a_model_comes_back_as_it_was_saved(tmp_path: Path, channels: int, axes: str) -> None:
    saved = model(channels, axes, kernel=3, sigma=2.5)
    save_model(tmp_path / "model.safetensors", saved)
    loaded = load_model(str(tmp_path / "model.safetensors"))
    assert loaded.describe() == saved.describe()
    assert (loaded.recipe, loaded.facts, loaded.channels, loaded.axes) == (saved.recipe, saved.facts, channels, axes)
    crops = torch.rand((1, channels, *(9,) * len(axes)))
    assert torch.equal(loaded.network()(crops), saved.network()(crops))
    assert not loaded.network().training


def test_the_length_of_the_header_is_not_taken_for_a_pickle(tmp_path: Path) -> None:
    """Some lengths have the first byte of pickles."""
    path, first = tmp_path / "model.safetensors", set()
    for extra in range(40):
        save_model(path, replace(model(), facts=Facts(images=("a" * 8 * extra,))), overwrite=True)
        first.add(path.read_bytes()[0])
        load_model(path)
    assert 0x80 in first


@given(length=st.integers(2, 2**24) | st.sampled_from([0x1980, 0x0280, 0x0580, 0x10480]), kept=st.integers(0, 200))
@LONG
def test_a_file_that_is_cut_off_is_said_to_be(path: Path, length: int, kept: int) -> None:
    path.write_bytes(length.to_bytes(8, "little") + b'{"__metadata__":'.ljust(length)[: min(kept, length - 1)])
    with pytest.raises(ModelError, match="cut off"):
        load_model(path)


@given(value=st.text() | st.binary() | st.dictionaries(st.text(), st.integers()), protocol=st.integers(2, 5))
@LONG
def test_a_pickle_is_said_to_be_one(path: Path, value: Any, protocol: int) -> None:
    path.write_bytes(pickle.dumps({"weights": value}, protocol=protocol))
    with pytest.raises(ModelError, match="could run any code"):
        load_model(path)


def test_making_a_network_leaves_the_random_numbers_of_others_alone(path: Path) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    load_model(path).network()
    assert torch.equal(torch.rand(3), expected)


def test_the_fingerprint_tells_weights_apart() -> None:
    one = model()
    other = replace(one, weights={name: weight + 1e-6 for name, weight in one.weights.items()})
    assert one.fingerprint == model().fingerprint != other.fingerprint


class Malicious:
    """Unpickled, it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize(
    "write",
    [
        lambda path, evil: path.write_bytes(pickle.dumps(evil)),
        lambda path, evil: path.write_bytes(pickle.dumps(evil, protocol=0)),
        lambda path, evil: torch.save({"weights": evil}, path),
        lambda path, evil: torch.save({"weights": evil}, path, _use_new_zipfile_serialization=False),
    ],
    ids=["pickle", "old pickle", "torch", "old torch"],
)
def test_what_could_run_code_is_refused_and_nothing_runs(tmp_path: Path, write: Callable[..., Any]) -> None:
    path, marker = tmp_path / "model.safetensors", tmp_path / "it ran"
    write(path, Malicious(marker))
    with pytest.raises(ModelError, match=r"could run any code|is not a .safetensors file"):
        load_model(path)
    assert not marker.exists()


def test_the_malicious_file_is_one(tmp_path: Path) -> None:
    """What the test before this one proves nothing without."""
    pickle.loads(pickle.dumps(Malicious(tmp_path / "it ran")))
    assert (tmp_path / "it ran").exists()


BROKEN: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "cut off"),
    "text": (lambda _: b"this is no model at all", "cut off"),
    "cut in the header": (lambda data: data[:100], "cut off"),
    "cut in the weights": (lambda data: data[:-5], "damaged"),
    "more at the end": (lambda data: data + b"more", "damaged"),
    "header of 4 EiB": (lambda data: (2**62).to_bytes(8, "little") + data[8:], "cut off"),
    "header of 1 GiB": (lambda data: (2**30).to_bytes(8, "little") + data[8:], "cut off"),
    "header too short": (lambda data: (5).to_bytes(8, "little") + data[8:], "damaged"),
    "header is a list": (lambda _: (2).to_bytes(8, "little") + b"[]", "is no"),
    "header nested deeply": (lambda _: (60_000).to_bytes(8, "little") + b'{"a":' * 10_000, "damaged"),
    "a weight changed": (lambda data: data[:-2] + bytes([data[-2] ^ 1]) + data[-1:], "not those that were saved"),
}


@pytest.mark.parametrize(("breaks", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_a_damaged_file_is_said_to_be_one(path: Path, breaks: Callable[[bytes], bytes], said: str) -> None:
    path.write_bytes(breaks(path.read_bytes()))
    with pytest.raises(ModelError, match=said) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


def change(text: str, *keys: str, to: Any) -> str:
    """JSON with one value changed."""
    inside = root = json.loads(text)
    for key in keys[:-1]:
        inside = inside[key]
    inside[keys[-1]] = to
    return json.dumps(root)


FOREIGN: dict[str, tuple[Callable[[dict[str, str]], dict[str, str]], str]] = {
    "another software": (lambda text: {}, "of other software"),
    "newer": (lambda text: text | {"format_version": "2"}, "newer version of napari-pristine: update"),
    "no version": (lambda text: text | {"format_version": "one"}, "format version 'one'.*damaged"),
    "no card": (lambda text: text | {"model": "{}"}, "field required"),
    "method": (lambda t: t | {"model": change(t["model"], "recipe", "method", to="magic")}, "no method 'magic'"),
    "setting": (lambda t: t | {"model": change(t["model"], "recipe", "settings", "x", to=1)}, "no setting 'x'"),
    "value": (lambda t: t | {"model": change(t["model"], "recipe", "settings", "kernel", to=99)}, "'kernel'"),
    "recipe": (lambda t: t | {"model": change(t["model"], "recipe", "x", to=1)}, "recipe.x"),
    "card": (lambda t: t | {"model": change(t["model"], "x", to=1)}, "x: extra inputs"),
    "channels": (lambda t: t | {"model": change(t["model"], "channels", to=10**9)}, "channels: .*4096"),
    "axes": (lambda t: t | {"model": change(t["model"], "axes", to="XZ")}, "axes"),
    "shape": (lambda t: t | {"model": change(t["model"], "recipe", "settings", "kernel", to=7)}, "do not fit"),
    "more channels": (
        lambda t: t | {"model": change(t["model"], "channels", to=4096)},
        "is 1 and should be 4096; it is damaged",
    ),
}


@pytest.mark.parametrize(("changes", "said"), FOREIGN.values(), ids=FOREIGN.keys())
def test_what_this_version_cannot_use_is_told(
    path: Path, changes: Callable[[dict[str, str]], dict[str, str]], said: str
) -> None:
    text, weights = parts(path)
    path.write_bytes(safetensors.torch.save(weights, changes(text)))
    with pytest.raises(ModelError, match=said) as caught:
        load_model(path)
    assert str(path) in str(caught.value)


@given(data=st.data())
@LONG
def test_any_other_bytes_give_a_model_or_its_error(path: Path, data: st.DataObject) -> None:
    """Flipped bits, cuts, and bytes that were never a model."""
    save_model(path, model(), overwrite=True)
    good = bytearray(path.read_bytes())
    kind = data.draw(st.sampled_from(["flip", "cut", "random", "random header"]))
    if kind == "flip":
        for place in data.draw(st.lists(st.integers(0, 8 * len(good) - 1), min_size=1, max_size=4)):
            good[place // 8] ^= 1 << place % 8
    elif kind == "cut":
        good = good[: data.draw(st.integers(0, len(good)))]
    elif kind == "random":
        good = bytearray(data.draw(st.binary(max_size=200)))
    else:
        header = data.draw(st.binary(max_size=60) | st.recursive(st.none() | st.text(), nested).map(as_bytes))
        good = bytearray(len(header).to_bytes(8, "little") + header)
    path.write_bytes(good)
    try:
        loaded = load_model(path)
    except ModelError as error:
        loaded = None
        said = str(error)
    assert loaded.fingerprint == model().fingerprint if loaded else str(path) in said


def nested(inside: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keys = st.sampled_from(["__metadata__", "format", "model", "dtype", "shape", "data_offsets"]) | st.text()
    return st.dictionaries(keys, inside, max_size=3) | st.lists(inside, max_size=3)


def as_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("channels", "axes", "method", "said"),
    [
        (3, "YX", "tiny", "blocks of 1 channel, .* blocks of 3 channels"),
        (1, "ZYX", "tiny", "axes YX, the image is cut into blocks ZYX"),
        (1, "YX", "inr", "trained with tiny, not with inr"),
    ],
)
def test_what_does_not_fit_is_told(channels: int, axes: str, method: str, said: str) -> None:
    model().check_fits(1, "YX", "tiny")
    model().check_fits(1, "XY", "tiny")
    with pytest.raises(ModelError, match=said):
        model().check_fits(channels, axes, method)


def test_time_is_not_depth() -> None:
    with pytest.raises(ModelError, match="TYX"):
        model(1, "ZYX").check_fits(1, "TYX", "tiny")


def test_a_recipe_with_a_model_takes_its_settings() -> None:
    recipe = model(kernel=3).recipe_with("", {"sigma": 2}, {"axes": "TYX"})
    assert (recipe.method, recipe.params.kernel, recipe.params.sigma, recipe.axes) == ("tiny", 3, 2.0, "TYX")
    with pytest.raises(ModelError, match=r"kernel 5 \(model: 3\)"):
        model(kernel=3).recipe_with("", {"kernel": 5}, {})
    with pytest.raises(ModelError, match="not with inr"):
        model().recipe_with("inr", {}, {})


def test_a_file_is_replaced_only_on_demand_and_never_half(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    with pytest.raises(FileError, match="already exists"):
        save_model(path, model(kernel=3))
    with pytest.raises(FileError, match=r"models are \.safetensors files"):
        save_model(path.with_suffix(".pt"), model())
    with pytest.raises(FileError, match="no folder"):
        save_model(path.parent / "no" / path.name, model())
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(FileError, match="disk full"):
            save_model(path, model(kernel=3), overwrite=True)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    save_model(path, model(kernel=3), overwrite=True)
    assert load_model(path).recipe.params.kernel == 3


def full(path: Path, data: bytes) -> int:
    with path.open("wb") as file:
        file.write(data[:10])
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(("name", "said"), [("nowhere.safetensors", "does not exist"), (".", "is a folder")])
def test_what_is_not_there_is_a_matter_of_files(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(FileError, match=said):
        load_model(tmp_path / name)

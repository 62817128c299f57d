from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from napari_pristine.errors import FileError
from napari_pristine.gui.samples import FMD_FILES, fetch_fmd, open_timelapse
from napari_pristine.io.registry import read

pytestmark = pytest.mark.gui

DATA = Path(os.environ.get("PRISTINE_DATA", Path(__file__).parents[2] / "../shared/data")) / "fmd_test_mix"


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch) -> Iterator:
    """Serves a folder at an address of this machine."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    servers = []

    def start(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_time_lapse_opens_as_one_noisy_layer_above_its_hidden_truth(viewer, npe2pm):
    with npe2pm.tmp_plugin(package="napari-pristine"):
        viewer.open_sample("napari-pristine", "timelapse")
    truth, noisy = viewer.layers
    assert noisy.data.dtype == np.uint16
    assert noisy.axis_labels == ("T", "C", "Y", "X")
    assert str(noisy.units[-1]) == "micrometer"
    assert noisy.visible
    assert not truth.visible
    assert noisy.contrast_limits == truth.contrast_limits
    low, high = noisy.contrast_limits
    assert (truth.data < low).mean() < 0.01
    assert 0.0001 < (truth.data > high).mean() < 0.01, "a few bright pixels make the others dark"


def test_the_time_lapse_is_the_same_each_time():
    assert np.array_equal(open_timelapse()[1][0], open_timelapse()[1][0])


@pytest.mark.data
@pytest.mark.skipif(not DATA.exists(), reason=f"there is no {DATA}; set PRISTINE_DATA")
def test_the_download_is_kept_when_its_checksum_is_right(serve, tmp_path):
    paths = fetch_fmd(serve(DATA), tmp_path)
    assert [path.name for path in paths] == [Path(name).name for name in FMD_FILES]
    assert read(paths[0]).shape == (512, 512)


def test_the_download_is_refused_when_its_checksum_is_wrong(serve, tmp_path):
    for name in FMD_FILES:
        (tmp_path / "site" / name).parent.mkdir(parents=True)
        (tmp_path / "site" / name).write_bytes(b"<html>not found</html>")
    with pytest.raises(FileError, match="checksum"):
        fetch_fmd(serve(tmp_path / "site"), tmp_path / "store")
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


def test_a_missing_file_is_told_clearly(serve, tmp_path):
    with pytest.raises(FileError, match=r"could not be downloaded because 127.0.0.1 answered with error 404"):
        fetch_fmd(serve(tmp_path), tmp_path / "store")


def test_without_a_network_the_message_says_what_to_do(serve, tmp_path):
    url = serve(tmp_path)
    with pytest.raises(FileError) as caught:
        fetch_fmd(url.replace(url.split(":")[-1], "1/"), tmp_path / "store")
    assert str(caught.value) == (
        "the sample could not be downloaded because 127.0.0.1 cannot be reached; check the connection to the internet, "
        "or open one of the simulated samples, which need none"
    )


@pytest.mark.parametrize("key", ["timelapse", "microtubules", "blurred"])
def test_simulated_samples_open_without_a_network(viewer, npe2pm, monkeypatch, key):
    def refuse(*_):
        raise OSError("no network")

    monkeypatch.setattr("socket.socket.connect", refuse)
    with npe2pm.tmp_plugin(package="napari-pristine"):
        viewer.open_sample("napari-pristine", key)
    *hidden, noisy = viewer.layers
    assert noisy.visible
    assert noisy.data.dtype == np.uint16
    assert not any(layer.visible for layer in hidden)
    assert str(noisy.units[-1]) == "micrometer"

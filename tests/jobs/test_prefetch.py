"""What comes next is read while the processor is busy."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from napari_pristine.image.image import Image
from napari_pristine.jobs.restore import restore
from napari_pristine.threads import Prefetcher


def test_the_next_is_read_while_something_else_is_done() -> None:
    begun, go = threading.Event(), threading.Event()
    readers: list[int] = []

    def read(key: int) -> int:
        readers.append(threading.get_ident())
        begun.set()
        assert go.wait(10)
        return 10 * key

    ahead: Prefetcher[int] = Prefetcher(read)
    ahead.start(3)
    assert begun.wait(10)  # although nobody has asked yet
    go.set()
    assert ahead.get(3) == 30
    assert readers[0] != threading.get_ident()
    assert len(readers) == 1


def test_what_was_not_expected_is_read_when_it_is_asked_for() -> None:
    ahead: Prefetcher[int] = Prefetcher(lambda key: 10 * key)
    ahead.start(3)
    assert ahead.get(4) == 40
    assert ahead.get(3) == 30
    assert ahead.get(3) == 30


def test_an_error_is_raised_where_someone_listens() -> None:
    def read(key: int) -> int:
        raise OSError("the share is gone")

    ahead: Prefetcher[int] = Prefetcher(read)
    ahead.start(1)
    with pytest.raises(OSError, match="gone"):
        ahead.get(1)


class OnDisk:
    """An array of which it is known which planes were read, and by which thread."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype, self.ndim = values, values.shape, values.dtype, values.ndim
        self.read: list[tuple[int, bool]] = []

    def __getitem__(self, index: tuple[int | slice, ...]) -> np.ndarray:
        if isinstance(index[0], int):
            self.read.append((index[0], threading.current_thread() is threading.main_thread()))
        return self.values[index]


def test_frames_on_disk_are_read_ahead_and_the_result_is_the_same() -> None:
    values = np.random.default_rng(0).poisson(30, (12, 32, 32)).astype(np.uint16)
    data = OnDisk(values)
    settings = {"steps": 3}
    result = restore(Image(data, "TYX"), "inr", preset="fast", settings=settings)
    np.testing.assert_array_equal(
        result.data, restore(values, "inr", axes="TYX", preset="fast", settings=settings).data
    )
    assert [number for number, here in data.read if not here] == list(range(1, 12))

"""The work of a process that `processes` starts; what restores is imported after the process is prepared for it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Read by numpy and torch when they are loaded."""


def serve(pipe: Connection, number: int, threads: int) -> None:
    """Restore work items until the batch ends.

    Args:
        pipe: Receives work items with the working directory of the batch; their errors are sent back.
        number: Number of this process on its machine.
        threads: Number of threads to compute with.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the batch gets Ctrl-C as well
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    from napari_pristine.batch.executors import restore_in_folder

    with suppress(EOFError, OSError):  # the batch has died
        while True:
            item, folder = pipe.recv()
            pipe.send(restore_in_folder(item, folder, threads, number))


def _stop(*_: object) -> None:
    """End this process by an exception, once, so that what is open is closed; Windows ends it without."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit()


def _end_with_parent() -> None:
    """End this process as soon as the batch dies, however it dies."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

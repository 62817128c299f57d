"""Worker: what a process of a cluster on this machine does first (a preload of dask).

Ctrl-C on a terminal goes to all processes; the batch hears it and ends them, and they have nothing to say about it.
"""

from __future__ import annotations

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)

"""`python -m napari_pristine`: the command `pristine`."""

from __future__ import annotations

import sys

from napari_pristine.cli.main import main

sys.exit(main())

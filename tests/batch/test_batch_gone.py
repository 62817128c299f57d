"""A disk that goes for a while costs nothing that was done; an input that is changed is not mixed with what it was."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.batches import block_done, listing, night, noisy, pixels, quick, restore, same, stack

from napari_pristine import write
from napari_pristine.batch.inputs import find_inputs
from napari_pristine.batch.runner import Batch, BatchJob
from napari_pristine.batch.spec import BatchOptions, assign_targets
from napari_pristine.batch.store import HIDDEN
from napari_pristine.events import ItemDone
from napari_pristine.image.image import Image


def begun(source: Path, output: Path, blocks: int) -> BatchJob:
    """A batch that has written so many blocks."""
    recipe = quick(settings={"warm_start": False})
    job = Batch(assign_targets(find_inputs([str(source)], output), output, recipe), BatchOptions(recipe)).job()
    while blocks:
        blocks -= block_done(next(job)) is not None
    return job


def ended(job: BatchJob) -> list[ItemDone]:
    return [event for event in job if isinstance(event, ItemDone)]


def test_what_is_done_is_kept_while_the_disk_of_the_input_is_gone(tmp_path: Path) -> None:
    stack(tmp_path / "in" / "a.tif", 20, 24, 24)
    recipe = quick(settings={"warm_start": False})
    restore(tmp_path / "in", tmp_path / "whole", recipe)
    job = begun(tmp_path / "in", tmp_path / "out", 17)
    (tmp_path / "in").rename(tmp_path / "gone")
    (row,) = ended(job)
    assert row.status == "failed"
    assert list((tmp_path / "out" / HIDDEN).rglob("*.jsonl"))
    (tmp_path / "gone").rename(tmp_path / "in")
    rows = restore(tmp_path / "in", tmp_path / "out", recipe, resume=True)
    assert rows["a.tif"].status == "restored"
    assert same(pixels(tmp_path / "out"), pixels(tmp_path / "whole"))
    assert HIDDEN not in listing(tmp_path / "out")


def test_what_was_written_of_an_input_that_is_changed_is_thrown_away(tmp_path: Path) -> None:
    path = stack(tmp_path / "in" / "a.tif", 20, 24, 24)
    job = begun(tmp_path / "in", tmp_path / "out", 17)
    write(path, Image(noisy(20, 24, 24, seed=9), "TYX"), overwrite=True)
    (row,) = ended(job)
    assert row.status == "failed"
    assert "changed" in row.text
    assert listing(tmp_path / "out") == []


def test_what_cannot_be_removed_does_not_end_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove = shutil.rmtree

    def stale(path: Path, *args: Any, **options: Any) -> None:
        if HIDDEN in str(path):  # as network disks say of files that somebody has open
            raise OSError(errno.ESTALE, "Stale file handle")
        remove(path, *args, **options)

    night(tmp_path / "in")
    monkeypatch.setattr(shutil, "rmtree", stale)
    rows = restore(tmp_path / "in", tmp_path / "out")
    assert {row.status for row in rows.values()} == {"restored"}
    monkeypatch.undo()
    assert {row.status for row in restore(tmp_path / "in", tmp_path / "out", resume=True).values()} == {"skipped"}
    assert HIDDEN not in listing(tmp_path / "out")

"""Whatever is wrong with a file or a disk is said in a line of the report, and the rest of the batch is done."""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile
from tests.batches import (
    SERVER,
    became,
    block_done,
    ended,
    inside,
    listing,
    night,
    noisy,
    pixels,
    process,
    quick,
    restore,
    same,
    saved,
    stack,
)

from napari_pristine import read, write
from napari_pristine.batch.inputs import find_inputs
from napari_pristine.batch.runner import Batch
from napari_pristine.batch.spec import BatchOptions, assign_targets
from napari_pristine.batch.store import HIDDEN, LockedElsewhere, OutputLock
from napari_pristine.batch.work_item import restore_work_item
from napari_pristine.events import BatchProgress, BlockDone, ItemDone, Note
from napari_pristine.image.image import Image

GOOD = ["good1.tif", "good1.tif.json", "good2.tif", "good2.tif.json"]


def between(folder: Path) -> Path:
    """A folder with good files before and after whatever is put into it."""
    stack(folder / "good1.tif", 24, 24)
    stack(folder / "good2.tif", 24, 24)
    return folder


def truncated(path: Path) -> None:
    """Its first frames are there, the rest is not."""
    tifffile.imwrite(path, noisy(8, 64, 64), imagej=True, metadata={"axes": "TYX"}, compression="zlib")
    os.truncate(path, path.stat().st_size * 2 // 3)


def cut_off(path: Path) -> None:
    """As the copy of a file that was interrupted."""
    write(path, Image(noisy(8, 64, 64), "TYX"))
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def prose(path: Path) -> None:
    path.write_text("Dear all, please find attached the images.\n")


def bomb(path: Path) -> None:
    """Few bytes that claim to be one picture of 200,000 times 200,000 pixels."""
    tifffile.imwrite(path, noisy(16, 16), compression="zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tif.pages[0].tags[name].overwrite(200_000, dtype="I")  # type: ignore[union-attr]


def tall_bomb(path: Path) -> None:
    """Few bytes that claim to be a billion pictures."""
    said = "ImageJ=1.53t\nimages=1000000000\nframes=1000000000\nhyperstack=true\n"
    tifffile.imwrite(path, noisy(16, 16), description=said, metadata=None)


def link_in_a_circle(path: Path) -> None:
    path.symlink_to(path)


def broken_link(path: Path) -> None:
    path.symlink_to(path.with_name("gone.tif"))


FAULTS: dict[Callable[[Path], None], str] = {
    truncated: "",
    cut_off: "",
    empty: "is empty (0 bytes)",
    prose: "not TIFF",
    bomb: "",
    tall_bomb: "",
    link_in_a_circle: "",
    broken_link: "does not exist",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_bad_file_is_reported_and_the_rest_is_done(tmp_path: Path, fault: Callable[[Path], None]) -> None:
    between(tmp_path / "in")
    fault(tmp_path / "in" / "good1x.tif")
    before = psutil.Process().memory_info().rss
    rows = restore(tmp_path / "in", tmp_path / "out")
    assert became(rows) == {"good1.tif": "restored", "good1x.tif": "failed", "good2.tif": "restored"}
    text = rows["good1x.tif"].text
    assert FAULTS[fault] in text
    assert "good1x.tif" in text
    assert "bug in napari-pristine" not in text
    assert psutil.Process().memory_info().rss - before < 300e6
    assert [name for name in listing(tmp_path / "out") if HIDDEN not in name] == GOOD


def test_the_finished_frames_of_a_truncated_file_are_kept_until_it_is_copied_again(tmp_path: Path) -> None:
    recipe, path = quick(settings={"warm_start": False}), tmp_path / "a.tif"
    whole = noisy(6, 64, 64)
    write(path, Image(whole, "TYX"))
    sound = path.read_bytes()
    path.write_bytes(sound[: len(sound) * 2 // 3])
    row = restore(path, tmp_path / "out", recipe)["a.tif"]
    assert row.status == "failed"
    path.write_bytes(sound)
    assert restore(path, tmp_path / "out", recipe, resume=True)["a.tif"].status == "restored"
    assert inside(tmp_path / "out") == ["a.tif", "a.tif.json"]
    fresh = restore(path, tmp_path / "fresh", recipe)["a.tif"].target
    assert np.array_equal(read(fresh).data, read(tmp_path / "out" / "a.tif").data)


@pytest.mark.parametrize("by", ["in place", "by renaming"])
def test_a_file_that_is_swapped_while_it_is_restored_fails_and_leaves_nothing(tmp_path: Path, by: str) -> None:
    between(tmp_path / "in")
    path = stack(tmp_path / "in" / "good1x.tif", 4, 32, 32)
    recipe = quick()
    job = Batch(
        assign_targets(find_inputs([str(tmp_path / "in")]), tmp_path / "out", recipe), BatchOptions(recipe)
    ).job()
    rows = {}
    for event in job:
        if isinstance(event, ItemDone):
            rows[event.source.name] = event
        if (done := block_done(event)) and done.index == (1,):
            other = stack(tmp_path / "other.tif", 4, 32, 32, seed=9)
            if by == "in place":
                path.write_bytes(other.read_bytes())
            else:
                os.replace(other, path)
    assert became(rows) == {"good1.tif": "restored", "good1x.tif": "failed", "good2.tif": "restored"}
    assert "changed" in rows["good1x.tif"].text
    assert inside(tmp_path / "out") == GOOD


def test_a_batch_in_the_same_process_does_not_take_a_file_for_the_one_it_was(tmp_path: Path) -> None:
    path = stack(tmp_path / "a.tif", 32, 32)
    restore(path, tmp_path / "first")
    write(path, Image(noisy(32, 32, seed=7) * 3, "YX"), overwrite=True)
    again = restore(path, tmp_path / "second")["a.tif"].target
    assert np.asarray(read(again).data).mean() > 120


@pytest.mark.parametrize(
    "name", ["my cells 5 µm.tif", "細胞.tif", "naïve #1 100%.tif", "-o.tif", "a'b\"c.tif", "x;y&z.tif"]
)
def test_any_name_is_good(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "Ordner mit Leerzeichen ü"
    stack(folder / name, 24, 24)
    assert ended(process("batch", saved(tmp_path), folder, "-o", tmp_path / "out é")) == 0
    assert inside(tmp_path / "out é") == sorted([name, f"{name}.json", "report.csv", "report.html"])


def test_a_name_that_is_no_unicode_is_good(tmp_path: Path) -> None:
    path = stack(tmp_path / "a.tif", 24, 24)
    odd = tmp_path / "in" / os.fsdecode(b"caf\xe9.tif")
    odd.parent.mkdir()
    os.replace(path, odd)
    assert ended(process("batch", saved(tmp_path), odd.parent, "-o", tmp_path / "out")) == 0
    assert odd.name in os.listdir(tmp_path / "out")


def test_folders_that_lead_in_circles_are_left(tmp_path: Path) -> None:
    between(tmp_path / "in")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in" / "self").symlink_to(tmp_path / "in" / "self")
    rows = restore(tmp_path / "in", tmp_path / "out")
    assert became(rows) == {"good1.tif": "restored", "good2.tif": "restored", "loop": "skipped", "self": "skipped"}
    assert "not followed" in rows["loop"].text


def test_a_pipe_does_not_stop_a_batch(tmp_path: Path) -> None:
    between(tmp_path / "in")
    os.mkfifo(tmp_path / "in" / "good1x.tif")
    rows = restore([tmp_path / "in", tmp_path / "in" / "good1x.tif"], tmp_path / "out")
    assert became(rows) == {"good1.tif": "restored", "good1x.tif": "skipped", "good2.tif": "restored"}
    assert "pipe" in rows["good1x.tif"].text


def test_a_block_beyond_the_memory_fails_before_it_is_read(tmp_path: Path) -> None:
    between(tmp_path / "in")
    rows = restore(tmp_path / "in", tmp_path / "out", memory=10**6)
    assert became(rows) == {"good1.tif": "failed", "good2.tif": "failed"}
    assert "0.001 GB may be used by a process (--memory)" in rows["good1.tif"].text
    assert not (tmp_path / "out").exists()


@contextmanager
def mounted(path: Path, *options: str) -> Iterator[Path]:
    """A small disk in memory."""
    path.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", ",".join(["size=20m", *options]), "tmpfs", str(path)]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a file system in memory can be mounted by root on Linux alone")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.mark.parametrize("form", ["same", "ome-zarr"])
def test_a_full_disk_is_said_and_a_larger_one_gets_the_same(tmp_path: Path, form: str) -> None:
    recipe = quick(format=form, settings={"steps": 1, "refine": False})
    stack(tmp_path / "in" / "a.tif", 48, 48)
    stack(tmp_path / "in" / "big.tif", 6, 256, 256)
    stack(tmp_path / "in" / "c.tif", 48, 48)
    suffix = ".tif" if form == "same" else ".ome.zarr"
    with mounted(tmp_path / "disk") as disk:
        full = disk / "full"
        full.write_bytes(bytes(shutil.disk_usage(disk).free - 2**16))
        rows = restore(tmp_path / "in", disk / "out", recipe)
        assert (rows["a.tif"].status, rows["big.tif"].status) == ("restored", "failed")
        assert "is the disk full" in rows["big.tif"].text
        assert str(disk / "out" / f"big{suffix}") in rows["big.tif"].text
        assert [name for name in listing(disk / "out") if "big" in name and HIDDEN not in name] == []
        assert f"a{suffix}" in listing(disk / "out")
        full.unlink()
        assert restore(tmp_path / "in", disk / "out", recipe, resume=True)["big.tif"].status == "restored"
        names = ["a", "big", "c"]
        assert listing(disk / "out") == sorted(f"{n}{suffix}{end}" for n in names for end in ("", ".json"))
        restore(tmp_path / "in", tmp_path / "whole", recipe)
        assert same(pixels(disk / "out"), pixels(tmp_path / "whole"))


def test_a_limit_on_the_size_of_files_is_said(tmp_path: Path) -> None:
    """As quotas are: writing fails, whoever asks."""
    stack(tmp_path / "in" / "a.tif", 24, 24)
    stack(tmp_path / "in" / "big.tif", 320, 320)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1][1]))
        rows = restore(tmp_path / "in", tmp_path / "out", quick(settings={"steps": 1, "refine": False}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before[1])
        signal.signal(signal.SIGXFSZ, before[0])
    assert became(rows) == {"a.tif": "restored", "big.tif": "failed"}
    assert "cannot be written" in rows["big.tif"].text


def test_a_folder_that_may_not_be_written_to_is_said(tmp_path: Path) -> None:
    between(tmp_path / "in")
    with mounted(tmp_path / "disk") as disk:
        (disk / "out").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        rows = restore(tmp_path / "in", disk / "out")
        assert became(rows) == {"good1.tif": "failed", "good2.tif": "failed"}
        assert all("Read-only file system" in row.text for row in rows.values())
        assert ended(process("batch", saved(tmp_path), tmp_path / "in", "-o", disk / "out")) in (1, 2)
        assert inside(disk) == ["out"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read and write everything")
def test_permissions_are_heeded(tmp_path: Path) -> None:
    between(tmp_path / "in")
    stack(tmp_path / "in" / "locked" / "c.tif", 24, 24)
    (tmp_path / "in" / "good1.tif").chmod(0)
    (tmp_path / "in" / "locked").chmod(0)
    try:
        rows = restore(tmp_path / "in", tmp_path / "out")
    finally:
        (tmp_path / "in" / "locked").chmod(0o700)
    assert became(rows) == {"good1.tif": "failed", "good2.tif": "restored", "locked": "failed"}
    assert "Permission denied" in rows["good1.tif"].text


def test_one_file_belongs_to_one_batch_at_a_time(tmp_path: Path) -> None:
    """In this process, and in another."""
    target = tmp_path / "out" / "a.tif"
    claim = OutputLock(target)
    with pytest.raises(LockedElsewhere, match="by another batch right now"):
        OutputLock(target)
    other = SERVER.Process(target=_claims, args=(target,))
    other.start()
    assert ended(other) == 3
    row = restore(stack(tmp_path / "a.tif", 24, 24), tmp_path / "out")["a.tif"]
    assert (row.status, "by another batch right now" in row.text) == ("skipped", True)
    letting_go = threading.Thread(target=claim.release)
    letting_go.start()
    letting_go.join()
    assert not (tmp_path / "out").exists()
    OutputLock(target).release()
    assert not (tmp_path / "out").exists()


def _claims(target: Path) -> None:
    try:
        OutputLock(target)
    except LockedElsewhere:
        os._exit(3)


def test_a_file_that_another_batch_has_is_done_at_the_end_if_that_dies(tmp_path: Path) -> None:
    between(tmp_path / "in")
    claim = OutputLock(tmp_path / "out" / "good1.tif")
    recipe, rows = quick(), []
    job = Batch(
        assign_targets(find_inputs([str(tmp_path / "in")]), tmp_path / "out", recipe), BatchOptions(recipe)
    ).job()
    for event in job:
        if isinstance(event, ItemDone):
            rows.append(event)
            claim.release()
    assert [(row.source.name, row.status) for row in rows] == [("good2.tif", "restored"), ("good1.tif", "restored")]
    assert inside(tmp_path / "out") == GOOD


def test_two_batches_into_one_folder_share_the_work(tmp_path: Path) -> None:
    for n in range(8):
        stack(tmp_path / "in" / f"{n}.tif", 2, 24, 24, seed=n)
    recipe = saved(tmp_path)
    assert ended(process("batch", recipe, tmp_path / "in", "-o", tmp_path / "whole")) == 0
    both = [process("batch", recipe, tmp_path / "in", "-o", tmp_path / "out") for _ in range(2)]
    assert [ended(one) for one in both] == [0, 0]
    assert listing(tmp_path / "out") == listing(tmp_path / "whole")
    assert same(pixels(tmp_path / "out"), pixels(tmp_path / "whole"))
    rows = table(tmp_path / "out")
    assert sorted(Path(row["input"]).name for row in rows) == [f"{n}.tif" for n in range(8)]
    assert {row["status"] for row in rows} <= {"restored", "skipped"}
    assert all(row["sigma"] for row in rows)


def test_processes_of_a_job_array_divide_the_files(tmp_path: Path) -> None:
    """More processes than files, started at the same time: those that find nothing to do end without an error."""
    for n in range(3):
        stack(tmp_path / "in" / f"{n}.tif", 4, 24, 24, seed=n)
    recipe = saved(tmp_path)
    jobs = [process("batch", recipe, tmp_path / "in", "-o", tmp_path / "out", "--resume") for _ in range(5)]
    assert [ended(job) for job in jobs] == [0] * 5
    assert ended(process("batch", recipe, tmp_path / "in", "-o", tmp_path / "whole")) == 0
    assert listing(tmp_path / "out") == listing(tmp_path / "whole")
    assert same(pixels(tmp_path / "out"), pixels(tmp_path / "whole"))
    assert {Path(row["input"]).name for row in table(tmp_path / "out")} == {"0.tif", "1.tif", "2.tif"}


def test_two_batches_of_other_files_report_together(tmp_path: Path) -> None:
    recipe = saved(tmp_path)
    for name in "ab":
        for n in range(3):
            stack(tmp_path / name / f"{name}{n}.tif", 24, 24)
    (tmp_path / "a" / "bad.tif").write_text("no image")
    both = [process("batch", recipe, tmp_path / name, "-o", tmp_path / "out") for name in "ab"]
    assert sorted(ended(one) for one in both) == [0, 1]
    found = {Path(row["input"]).name: row["status"] for row in table(tmp_path / "out")}
    assert found == {**{f"{name}{n}.tif": "restored" for name in "ab" for n in range(3)}, "bad.tif": "failed"}
    # a batch of its own later on reports on all results that are there
    assert ended(process("batch", recipe, tmp_path / "b", "-o", tmp_path / "out", "--resume")) == 0
    assert sorted((row["status"], row["message"]) for row in table(tmp_path / "out")) == [
        *[("skipped", "done before")] * 3,
        *[("skipped", "restored before")] * 3,
    ]


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "report.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_workers_of_a_batch_that_was_killed_do_not_write_any_more(tmp_path: Path) -> None:
    shares = []

    def keep(found: Iterator[Any]) -> Iterator[None]:
        shares.append(next(share for share in found if share is not None))
        yield None

    path = stack(tmp_path / "a.tif", 3, 32, 32)
    recipe = quick()
    batch = Batch(assign_targets(find_inputs([str(path)]), tmp_path / "out", recipe), BatchOptions(recipe), keep)
    job = batch.job()
    next(job)
    old = restore_work_item(shares[0], shares[0].opened)
    while not isinstance(next(old), BlockDone):
        pass
    job.close()  # the claim is gone; the worker does not know
    row = restore(path, tmp_path / "out", recipe, resume=True)["a.tif"]
    assert row.status == "restored"
    with pytest.raises(LockedElsewhere, match="by another process"):
        list(old)
    with pytest.raises(LockedElsewhere, match="by another process"):
        list(restore_work_item(shares[0], shares[0].opened))
    assert inside(tmp_path / "out") == ["a.tif", "a.tif.json"]


def test_the_progress_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    night(tmp_path / "in")
    recipe = quick()
    batch = Batch(assign_targets(find_inputs([str(tmp_path / "in")]), tmp_path / "out", recipe), BatchOptions(recipe))
    stands = [event for event in batch.job() if isinstance(event, BatchProgress)]
    fractions = [stand.fraction for stand in stands]
    assert fractions == sorted(fractions)
    assert (fractions[-1], stands[-1].items, stands[-1].total) == (1.0, 3, 3)
    assert len(set(fractions)) > 5


MANY = 1000


@pytest.mark.parametrize("count", [20, pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.acceptance])])
def test_many_small_files_leave_memory_and_open_files_flat(
    tmp_path: Path, count: int, record_property: Callable[[str, object], None]
) -> None:
    for n in range(count):
        tifffile.imwrite(tmp_path / f"{n:04}.tif", noisy(16, 16, seed=n))
    recipe = quick(settings={"steps": 2, "refine": False})
    batch = Batch(assign_targets(find_inputs([str(tmp_path)]), tmp_path / "out", recipe), BatchOptions(recipe))
    own, figures = psutil.Process(), []
    for event in batch.job():
        if isinstance(event, ItemDone):
            assert event.status == "restored"
            figures.append((own.memory_info().rss, own.num_fds(), own.num_threads()))
    early, late = figures[count // 10 - 1], figures[-1]
    record_property("rss, files and threads after a tenth, and at the end", json.dumps([early, late]))
    assert late[0] - early[0] < 30e6 + count * 20e3
    assert late[1] <= early[1] + 2
    assert late[2] <= early[2] + 2


class TestHiddenFolder:
    """Somebody else who may write to the folder of results cannot change what is made in it."""

    @pytest.mark.parametrize("inner", ["", "a.tif"])
    def test_a_link_is_not_followed(self, tmp_path: Path, inner: str) -> None:
        (tmp_path / "home").mkdir()
        link = tmp_path / "out" / HIDDEN / inner
        link.parent.mkdir(parents=True)
        link.symlink_to(tmp_path / "home")
        source = stack(tmp_path / "a.tif", 24, 24)
        row = restore(source, tmp_path / "out")["a.tif"]
        assert (row.status, "was made by another user" in row.text) == ("failed", True)
        assert listing(tmp_path / "home") == []
        link.unlink()
        assert restore(source, tmp_path / "out")["a.tif"].status == "restored"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders away")
    @pytest.mark.parametrize("inner", ["", "a.tif"])
    def test_a_folder_of_another_user_is_refused(self, tmp_path: Path, inner: str) -> None:
        folder = tmp_path / "out" / HIDDEN / inner
        folder.mkdir(parents=True)
        os.chown(folder, 12345, 12345)
        row = restore(stack(tmp_path / "a.tif", 24, 24), tmp_path / "out")["a.tif"]
        assert (row.status, "was made by another user" in row.text) == ("failed", True)

    def test_permissions_of_others_are_taken_away(self, tmp_path: Path) -> None:
        folder = tmp_path / "out" / HIDDEN
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        claim = OutputLock(tmp_path / "out" / "a.tif")
        assert folder.stat().st_mode & 0o777 == 0o700
        claim.release()

    def test_colleagues_share_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        theirs_hidden = partial(monkeypatch.setattr, "napari_pristine.batch.store.HIDDEN", ".pristine-12345")
        theirs_hidden()
        theirs = OutputLock(tmp_path / "out" / "b.tif")
        if os.geteuid() == 0:
            os.chown(tmp_path / "out" / ".pristine-12345", 12345, 12345)
        monkeypatch.undo()
        assert restore(stack(tmp_path / "a.tif", 24, 24), tmp_path / "out")["a.tif"].status == "restored"
        theirs_hidden()
        theirs.release()
        assert listing(tmp_path / "out") == ["a.tif", "a.tif.json"]


def test_blocks_of_another_algorithm_are_not_mixed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    source, recipe = stack(tmp_path / "a.tif", 3, 24, 24), quick(settings={"warm_start": False}, together="YX")
    tasks = assign_targets([*find_inputs([str(source)])], tmp_path / "out", recipe)
    for number, restarted in ((1, False), (1, False), (2, True)):
        monkeypatch.setattr("napari_pristine.batch.runner.ALGORITHM", number)
        job = Batch(tasks, BatchOptions(recipe, resume=True)).job()
        notes = []
        for event in job:
            notes += [event.text] if isinstance(event, Note) else []
            if block_done(event):
                break
        job.close()
        assert any("was begun by another version" in text for text in notes) == restarted
    records = list((tmp_path / "out" / HIDDEN / "a.tif" / "units").glob("*/*.jsonl"))
    assert len(records) == 1

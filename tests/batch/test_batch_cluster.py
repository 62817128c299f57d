"""A batch on several processes gives the same pixels, also if some of them die; nobody else can make them run code."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.batches import became, inside, listing, night, pixels, quick, restore, same, saved, stack

from napari_pristine.batch import executors, processes
from napari_pristine.batch.executors import Messages, dask_executor, restore_in_folder, scheduler_executor
from napari_pristine.batch.inputs import find_inputs
from napari_pristine.batch.processes import local_executor
from napari_pristine.batch.runner import Batch
from napari_pristine.batch.spec import BatchOptions, assign_targets
from napari_pristine.batch.store import HIDDEN, read_sidecar
from napari_pristine.batch.work_item import WorkItem, open_task, work_items
from napari_pristine.batch.worker_process import serve
from napari_pristine.cli.main import main
from napari_pristine.errors import SettingError
from napari_pristine.events import ItemDone, Note
from napari_pristine.jobs.inputs import InputCache

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")
pytest.importorskip("cryptography")
SCHEDULER = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}
CERTIFICATES = {
    "ca-file": "tls_ca_file",
    "scheduler.cert": "tls_scheduler_cert",
    "scheduler.key": "tls_scheduler_key",
    "worker.cert": "tls_worker_cert",
    "worker.key": "tls_worker_key",
    "client.cert": "tls_client_cert",
    "client.key": "tls_client_key",
}
"""Settings of dask below distributed.comm.tls, and the attributes of its certificates for them."""
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("one_thread"),
]


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """A cluster of two processes on this machine."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, scheduler_kwargs=SCHEDULER, memory_limit=0
        ) as cluster,
        distributed.Client(cluster) as found,
    ):
        yield found


@pytest.mark.parametrize("form", ["same", "ome-zarr"])
def test_two_workers_give_the_same_pixels_as_one(tmp_path: Path, client: Any, form: str) -> None:
    night(tmp_path / "in")
    (tmp_path / "in" / "bad.tif").write_text("no image")
    recipe = quick(format=form, settings={"warm_start": False})
    rows = restore(tmp_path / "in", tmp_path / "out", recipe, dask_executor(client))
    assert became(rows) == {"a.tif": "restored", "b.ome.tif": "restored", "c.tif": "restored", "bad.tif": "failed"}
    restore(tmp_path / "in", tmp_path / "alone", recipe)
    assert same(pixels(tmp_path / "out"), pixels(tmp_path / "alone"))
    assert listing(tmp_path / "out") == listing(tmp_path / "alone")
    end = time.monotonic() + 60
    while any(client.run(_kept_files).values()) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(client.run(_kept_files).values())  # the last image, mask and model are not kept
    left = restore(tmp_path / "in", tmp_path / "out", recipe, dask_executor(client), resume=True)
    assert became(left) == {"a.tif": "skipped", "b.ome.tif": "skipped", "c.tif": "skipped", "bad.tif": "failed"}


def test_the_shell_uses_a_cluster_that_is_running(
    tmp_path: Path, client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stack(tmp_path / "in" / "a.tif", 3, 24, 24)
    recipe, address = saved(tmp_path, quick(settings={"warm_start": False})), client.scheduler.address
    words = ["batch", recipe, tmp_path / "in", "-o", tmp_path / "out", "--scheduler", address]
    assert main([str(word) for word in words]) == 0
    assert capsys.readouterr().err == ""
    restore(tmp_path / "in", tmp_path / "alone", quick(settings={"warm_start": False}))
    assert same(pixels(tmp_path / "out"), pixels(tmp_path / "alone"))
    assert read_sidecar(tmp_path / "out" / "a.tif")["device"] == "cpu (1 thread)"  # as its workers were started


def test_a_worker_that_is_killed_costs_nothing_but_time(tmp_path: Path, client: Any) -> None:
    for n in range(4):
        stack(tmp_path / "in" / f"{n}.tif", 2, 4, 24, 24, seed=n)
    recipe = quick()
    tasks = assign_targets(find_inputs([str(tmp_path / "in")]), tmp_path / "out", recipe)
    rows = []
    before = _pids(client)
    for event in Batch(tasks, BatchOptions(recipe), dask_executor(client)).job():
        if isinstance(event, ItemDone):
            if not rows:
                os.kill(_pids(client)[0], signal.SIGKILL)
            rows.append(event)
    assert [row.status for row in rows] == ["restored"] * 4
    assert _pids(client) != before
    restore(tmp_path / "in", tmp_path / "alone", recipe)
    assert same(pixels(tmp_path / "out"), pixels(tmp_path / "alone"))
    assert listing(tmp_path / "out") == listing(tmp_path / "alone")


def test_a_batch_that_is_stopped_lets_its_workers_stop(tmp_path: Path, client: Any) -> None:
    """They may belong to others, who wait for them; what they go on writing would be in nobody's way, but for ever."""
    stack(tmp_path / "in" / "a.tif", 40, 32, 32)
    recipe = quick(settings={"steps": 400})
    tasks = assign_targets(find_inputs([str(tmp_path / "in")]), tmp_path / "out", recipe)
    work = tmp_path / "out" / HIDDEN / "a.tif"

    def stopped(shares: Iterator[WorkItem | None]) -> Messages:
        """The pool, and Ctrl-C as soon as blocks are written."""
        yield from dask_executor(client)(itertools.chain(shares, _wait_for(work / "units")))

    with pytest.raises(KeyboardInterrupt):
        list(Batch(tasks, BatchOptions(recipe), stopped).job())
    end = time.monotonic() + 120
    while any(client.run(_busy).values()) and time.monotonic() < end:
        time.sleep(0.2)
    assert time.monotonic() < end
    assert not (work / "turn.json").exists()
    found = inside(tmp_path / "out")
    time.sleep(1)
    assert inside(tmp_path / "out") == found


def workers() -> list[int]:
    """Processes that a batch of this process has started."""
    children = multiprocessing.active_children()
    return [int(child.pid or 0) for child in children if child.name.startswith("pristine-worker")]


def test_workers_of_this_machine_give_the_same_pixels_and_are_replaced_if_they_die(tmp_path: Path) -> None:
    for n in range(3):
        stack(tmp_path / "in" / f"{n}.tif", 2, 4, 24, 24, seed=n)
    (tmp_path / "in" / "bad.tif").write_text("no image")
    recipe = quick()
    tasks = assign_targets(find_inputs([str(tmp_path / "in")]), tmp_path / "out", recipe)
    events, killed = [], 0
    for event in Batch(tasks, BatchOptions(recipe), local_executor(2, 1)).job():
        events.append(event)
        if not killed and list((tmp_path / "out").glob(f"{HIDDEN}/*/units/*/*.jsonl")):
            killed = workers()[0]
            os.kill(killed, signal.SIGKILL)
    statuses = [event.status for event in events if isinstance(event, ItemDone)]
    assert sorted(statuses) == ["failed", *["restored"] * 3]
    assert workers() == []
    assert any("SIGKILL); its work is repeated" in event.text for event in events if isinstance(event, Note))
    restore(tmp_path / "in", tmp_path / "alone", recipe)
    assert same(pixels(tmp_path / "out"), pixels(tmp_path / "alone"))
    assert listing(tmp_path / "out") == listing(tmp_path / "alone")


def test_work_that_kills_its_workers_is_given_up(tmp_path: Path) -> None:
    stack(tmp_path / "in" / "a.tif", 2, 24, 24)
    recipe = quick(settings={"steps": 100_000})
    tasks = assign_targets(find_inputs([str(tmp_path / "in")]), tmp_path / "out", recipe)
    rows, pids = [], set()
    for event in Batch(tasks, BatchOptions(recipe), local_executor(2, 1)).job():
        if (tmp_path / "out" / HIDDEN / "a.tif" / "turn.json").exists():
            for pid in workers():
                pids.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if isinstance(event, ItemDone):
            rows.append(event)
    assert [row.status for row in rows] == ["failed"]
    assert "a worker process ended (SIGKILL), 3 times" in rows[0].text
    assert "--resume" in rows[0].text
    assert len(pids) >= 3


def attack(address: str, marker: Path) -> None:
    """Run code as the owner of whatever listens at an address, as any user of the machine might try."""
    stranger = distributed.security.Security.temporary() if address.startswith("tls") else None
    with suppress(Exception), distributed.Client(address, security=stranger, timeout="3s") as client:
        client.submit(marker.write_text, "attacked", pure=False).result(timeout=5)


def listening(pid: int) -> list[int]:
    """The ports on which a process and all its children listen."""
    root = psutil.Process(pid)
    sockets = [socket for each in (root, *root.children(recursive=True)) for socket in each.net_connections("all")]
    return sorted(socket.laddr.port for socket in sockets if socket.status == psutil.CONN_LISTEN)


def doors(pid: int) -> list[str]:
    """Ports and Unix sockets of a process and its children to which others can connect, and shared memory."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    found = [f"port {port}" for port in listening(pid)]
    for each in processes:
        found += [str(socket.laddr) for socket in each.net_connections(kind="unix") if socket.laddr]
        found += [mapped.path for mapped in each.memory_maps() if mapped.path.startswith("/dev/shm/")]
    return found


def test_the_attack_works_where_nothing_protects(tmp_path: Path) -> None:
    with distributed.LocalCluster(
        n_workers=1, processes=False, scheduler_kwargs=SCHEDULER, protocol="tcp://", memory_limit=0
    ) as cluster:
        assert int(cluster.scheduler_address.rpartition(":")[2]) in listening(os.getpid())
        assert doors(os.getpid()) != []
        attack(cluster.scheduler_address, tmp_path / "marker")
    assert (tmp_path / "marker").exists()


def test_other_users_cannot_run_code_in_the_workers_which_end_with_the_batch(tmp_path: Path) -> None:
    with _running_batch(tmp_path, "--workers", "2") as job:
        children = psutil.Process(job.pid).children(recursive=True)
        assert len(children) >= 2
        assert doors(job.pid) == []
        folders = [path for path in (tmp_path / "out").rglob("*") if path.name == HIDDEN]
        assert [oct(path.stat().st_mode & 0o777) for path in folders] == ["0o700"]
        job.kill()
        job.wait(60)
        assert psutil.wait_procs(children, timeout=60)[1] == []


@pytest.fixture
def certificates(tmp_path: Path) -> Iterator[None]:
    """Certificates in files that the configuration of dask names."""
    made = distributed.security.Security.temporary()
    settings = {}
    for name, attribute in CERTIFICATES.items():
        path = tmp_path / f"{name}.pem"
        path.write_text(getattr(made, attribute))
        settings[f"distributed.comm.tls.{name}"] = str(path)
    with dask.config.set(settings):
        yield


@pytest.mark.usefixtures("certificates")
def test_a_cluster_with_certificates_takes_work_from_their_owner_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stack(tmp_path / "in" / "a.tif", 3, 24, 24)
    recipe = saved(tmp_path, quick(settings={"warm_start": False}))
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, scheduler_kwargs=SCHEDULER, protocol="tls://",
        security=distributed.security.Security(), memory_limit=0,
    ) as cluster:  # fmt: skip
        address, port = cluster.scheduler_address, cluster.scheduler_address.rpartition(":")[2]
        assert address.startswith("tls://")
        for protocol in ("tcp", "tls"):
            attack(f"{protocol}://127.0.0.1:{port}", tmp_path / "marker")
        assert not (tmp_path / "marker").exists()
        words = ["batch", recipe, tmp_path / "in", "-o", tmp_path / "out", "--scheduler", address]
        capsys.readouterr()
        assert main([str(word) for word in words]) == 0
        # the scheduler may report the attacks late
        assert [line for line in capsys.readouterr().err.splitlines() if "TLS handshake failed" not in line] == []
        with (
            dask.config.set({"distributed.comm.tls.ca-file": str(tmp_path / "gone.pem")}),
            pytest.raises(SettingError, match=r"cannot be used .*distributed\.comm\.tls\.ca-file"),
            scheduler_executor(address),
        ):
            pass
    assert (tmp_path / "out" / "a.tif").exists()


def test_certificates_that_are_missing_are_named() -> None:
    with (
        pytest.raises(SettingError, match=r"are not named; .*distributed\.comm\.tls\.ca-file"),
        scheduler_executor("tls://127.0.0.1:9"),
    ):
        pass


@contextmanager
def _running_batch(tmp_path: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A batch in a process of its own that has begun to write blocks, and will not end."""
    stack(tmp_path / "in" / "a.tif", 60, 24, 24)
    recipe = saved(tmp_path, quick(settings={"steps": 3000, "warm_start": False}))
    command = [sys.executable, "-m", "napari_pristine", "batch", recipe, tmp_path / "in", "-o", tmp_path / "out"]
    with subprocess.Popen([*map(str, command), *words]) as job:
        try:
            end = time.monotonic() + 100
            while not list(tmp_path.glob(f"out/{HIDDEN}/a.tif/turn.json")) and time.monotonic() < end:
                time.sleep(0.05)
                assert job.poll() is None
            time.sleep(2)
            yield job
        finally:
            job.kill()


def test_nobody_at_the_address_of_a_scheduler_is_said_at_once() -> None:
    began = time.monotonic()
    with (
        pytest.raises(SettingError, match=r"no dask scheduler answers at 'tcp://127\.0\.0\.1:9'"),
        scheduler_executor("tcp://127.0.0.1:9"),
    ):
        pass
    assert time.monotonic() - began < 100


def _wait_for(path: Path) -> Iterator[None]:
    while not path.exists():
        time.sleep(0.05)
    raise KeyboardInterrupt
    yield


def _pids(client: Any) -> list[int]:
    return sorted(client.run(os.getpid).values())


def _kept_files() -> int:
    return executors._opened.cache_info().currsize + executors._input_cache.cache_info().currsize


def _busy(dask_worker: Any) -> bool:
    return bool(dask_worker.state.executing)


def test_processes_are_started_for_work_and_ignore_ctrl_c_from_their_first_moment(tmp_path: Path) -> None:
    source, recipe = stack(tmp_path / "a.tif", 24, 24), quick()
    (task,) = assign_targets(find_inputs([str(source)]), tmp_path / "out", recipe)
    (item,) = work_items(open_task(task, recipe, InputCache()), "token", 1)
    with processes._Pool(3, 1) as pool:
        assert pool._workers == []
        for count in (1, 2, 3, 3):
            pool.add(item)
            assert len(pool._workers) == count
        for worker in pool._workers:
            status = Path(f"/proc/{worker.process.pid}/status").read_text()
            (blocked,) = [line for line in status.splitlines() if line.startswith("SigBlk")]
            assert int(blocked.split()[1], 16) & 1 << signal.SIGINT - 1
        started = [worker.process for worker in pool._workers]
    for each in started:
        with pytest.raises(ValueError, match="closed"):
            each.is_alive()


@pytest.mark.parametrize(
    ("code", "text"), [(3, "exit code 3"), (None, "exit code None"), (-9, "SIGKILL"), (-35, "signal 35")]
)
def test_the_end_of_a_process_is_described(code: int | None, text: str) -> None:
    assert processes._describe_exit(code) == text


def test_a_process_whose_batch_has_died_ends_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    ours, theirs = processes._START.Pipe()
    started = processes._START.Process(target=serve, args=(theirs, 0, 1))
    started.start()
    theirs.close()
    ours.close()
    started.join(100)
    assert (started.exitcode, capfd.readouterr().err) == (0, "")


def test_an_item_of_a_set_of_many_files_is_small(tmp_path: Path) -> None:
    source, recipe = stack(tmp_path / "a.tif", 24, 24), quick()
    (task,) = assign_targets(find_inputs([str(source)]), tmp_path / "out", recipe)
    opened = open_task(task, recipe, InputCache())
    many = replace(opened, fingerprint=opened.fingerprint + tuple((f"{n}.tif", n, n) for n in range(10_000)))
    (item,) = work_items(many, "token", 1)
    assert len(pickle.dumps(replace(item, opened=None))) < 5_000
    assert item.digest != opened.digest
    error = restore_in_folder(replace(item, opened=None), str(tmp_path), 1, 0)
    assert "a.tif' was changed while it was being restored" in str(error)

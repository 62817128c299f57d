"""A batch by jobs of a real Slurm gives the same pixels, says why jobs do not work, and leaves none behind.

`sh tests/slurm/one_node.sh start` makes a Slurm of this machine alone (as root, in a container of Debian or Ubuntu),
`stop` ends it. On a cluster, where each job may run on another machine: `--basetemp=FOLDER`, with one that all see.
"""

from __future__ import annotations

import copy
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.batches import became, listing, pixels, quick, restore, same, saved, stack

from napari_pristine.batch import crew, slurm
from napari_pristine.batch.clusters import slurm_client
from napari_pristine.batch.executors import slurm_cluster
from napari_pristine.batch.inputs import inputs_of
from napari_pristine.batch.options import BatchOptions
from napari_pristine.batch.runner import Batch
from napari_pristine.batch.slurm import Jobs
from napari_pristine.batch.tasks import assign
from napari_pristine.batch.worker_monitor import Notice
from napari_pristine.errors import ComputeError, SettingError
from napari_pristine.events import ItemDone

dask = pytest.importorskip("dask")
pytest.importorskip("dask_jobqueue")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.usefixtures("one_thread"),
]
Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def there() -> None:
    if not shutil.which("sinfo") or not _say("sinfo", "--noheader"):
        pytest.skip("no Slurm answers to 'sinfo'; 'sh tests/slurm/one_node.sh start' starts one")


@pytest.fixture
def ask(there: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    """Sets what jobs to ask Slurm for, small ones if nothing else is said; they have a name of their own."""
    monkeypatch.setattr(slurm, "_LOOKS", 1.0)
    monkeypatch.setattr(crew, "_PATIENCE", 1.0)
    monkeypatch.chdir(tmp_path)
    before = copy.deepcopy(dask.config.config)

    def set_(**wishes: Any) -> dict[str, Any]:
        wished = {"cores": 1, "memory": "1GB", "walltime": "00:10:00", "log-directory": str(tmp_path / "logs")}
        wished |= {"name": f"test-{uuid.uuid4().hex}"} | {key.replace("_", "-"): wishes[key] for key in wishes}
        dask.config.set({f"jobqueue.slurm.{key}": value for key, value in wished.items()})
        return wished

    yield set_
    dask.config.config.clear()
    dask.config.config.update(before)


@pytest.fixture(scope="module")
def alone(there: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results that this process gives."""
    folder = tmp_path_factory.mktemp("alone")
    restore(_files(folder), folder / "out", quick())
    return folder / "out"


@pytest.mark.slow
def test_jobs_give_the_same_pixels_as_this_process_and_say_why_they_wait(tmp_path: Path, ask: Ask, alone: Path) -> None:
    files = _files(tmp_path)
    ask(job_extra_directives=["--begin=now+3"])
    with slurm_cluster(2) as pool:
        events = list(_batch(files, tmp_path / "out", pool))
    told = [event.text for event in events if isinstance(event, Notice)]
    assert "2 pending (BeginTime)" in told[0]
    assert "has workers now" in told[-1]
    assert same(pixels(tmp_path / "out"), pixels(alone))
    assert listing(tmp_path / "out") == listing(alone)


@pytest.mark.slow
def test_a_job_that_ends_has_a_successor(tmp_path: Path, ask: Ask, alone: Path) -> None:
    """By its limit of time, as a rule."""
    files = _files(tmp_path)
    wished = ask()
    rows = {}
    with slurm_cluster(1) as pool:
        for event in _batch(files, tmp_path / "out", pool):
            if isinstance(event, ItemDone):
                if not rows:
                    time.sleep(3)  # the next share is over by now, and what the worker would say of it is lost
                    _say("scancel", "--name", wished["name"])
                rows[event.source.name] = event
    assert set(became(rows).values()) == {"restored"}
    assert len(list((tmp_path / "logs").glob("*.err"))) == 2
    assert same(pixels(tmp_path / "out"), pixels(alone))
    assert not _queued(wished["name"])


def test_the_cores_of_a_job_are_workers_that_keep_their_memory(ask: Ask) -> None:
    ask(cores=2, job_script_prologue=["export OF_THE_USER=1"], worker_extra_args=["--resources", "wish=1"])
    with slurm_client(1) as (client, script), Jobs(script, 1):
        client.wait_for_workers(2, timeout=60)
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        environments = client.run(lambda: dict(os.environ)).values()
    assert [(worker["nthreads"], worker["memory_limit"], worker["resources"]) for worker in workers] == [
        (1, 0, {"wish": 1.0})
    ] * 2
    job = {environment["SLURM_JOB_ID"] for environment in environments}.pop()
    assert {worker["name"] for worker in workers} == {f"{job}-0", f"{job}-1"}
    for environment in environments:
        assert environment["OMP_NUM_THREADS"] == environment["MKL_NUM_THREADS"] == environment["OF_THE_USER"] == "1"
        assert "MALLOC_TRIM_THRESHOLD_" not in environment


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_batch_that_is_told_to_end_leaves_no_jobs(tmp_path: Path, ask: Ask, name: str) -> None:
    wished = ask()
    (tmp_path / "dask.yaml").write_text(yaml.safe_dump({"jobqueue": {"slurm": wished}}))
    recipe = saved(tmp_path, quick(settings={"steps": 20000}))
    words = [recipe, *_files(tmp_path), "-o", tmp_path / "out", "--slurm", "--workers", 4]
    with _pristine("batch", *words, config=tmp_path / "dask.yaml") as started:
        end = time.monotonic() + 60
        while len(_queued(wished["name"])) < 4 and time.monotonic() < end:
            time.sleep(0.2)
        started.send_signal(getattr(signal, name))
        _, said = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "interrupted" in said
    assert not _queued(wished["name"])


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"queue": "nowhere"}, r"Slurm does not take the jobs: 'sbatch' says: .*partition"),
        ({"memory": "900000GB"}, r"Slurm does not take the jobs: 'sbatch' says: "),
        ({"memory": "plenty"}, r"what to ask Slurm for \(Could not interpret 'plenty'"),
        ({"cores": None}, r"You must specify how much cores and memory per job you want to use\); set jobqueue"),
        ({"interface": "ib9"}, r"no scheduler of dask can be started here .*'ib9'.* see jobqueue\.slurm\.interface"),
    ],
)
def test_jobs_that_cannot_be_had_are_said_at_once(ask: Ask, wishes: dict[str, Any], said: str) -> None:
    wished = ask(**wishes)
    with pytest.raises(SettingError, match=said), slurm_cluster(1):
        pass
    assert not _queued(wished["name"])


def test_jobs_that_end_before_they_work_end_the_batch(tmp_path: Path, ask: Ask) -> None:
    """All would; who has gone home would find nothing done, and no word why."""
    ask(job_script_prologue=["echo no module of this name >&2; exit 3"])
    with (
        pytest.raises(ComputeError, match=r"2 jobs .* before they worked; .*no module of this name"),
        slurm_cluster(2) as pool,
    ):
        list(_batch(_files(tmp_path), tmp_path / "out", pool))


def test_a_machine_without_slurm_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(SettingError, match=r"needs the commands of Slurm, and there is no 'sbatch' here"),
        slurm_cluster(1),
    ):
        pass


def test_a_configuration_that_cannot_be_read_is_said_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "dask.yaml").write_text("jobqueue: {slurm: [")
    words = [saved(tmp_path), *_files(tmp_path), "-o", tmp_path / "out", "--slurm"]
    with _pristine("batch", *words, config=tmp_path / "dask.yaml") as started:
        _, said = started.communicate(timeout=60)
    assert started.returncode == 2
    assert f"'{tmp_path / 'dask.yaml'}' is malformed" in said


def _files(folder: Path) -> list[Path]:
    return [stack(folder / "in" / f"{n}.tif", 2, 32, 32, seed=n) for n in range(3)]


def _batch(files: list[Path], output: Path, pool: Any) -> Iterator[Any]:
    recipe = quick()
    return Batch(assign(inputs_of([str(file) for file in files]), output, recipe), BatchOptions(recipe), pool).job()


def _pristine(*words: object, config: Path) -> subprocess.Popen[str]:
    """The command in a process of its own, with Ctrl-C as on a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "napari_pristine", *map(str, words)],
        env=os.environ | {"DASK_CONFIG": str(config)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _queued(name: str) -> list[str]:
    """Jobs of a name that wait or run."""
    return _say("squeue", "--noheader", "--name", name, "--states=PENDING,CONFIGURING,RUNNING").splitlines()


def _say(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=False).stdout

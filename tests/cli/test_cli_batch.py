"""`pristine batch`: options, what is said, exit codes, Ctrl-C."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.batches import ended, inside, listing, night, noisy, process, quick, saved, stack

from napari_pristine import Image, Recipe, read, restore, save_recipe, write
from napari_pristine.batch.store import HIDDEN
from napari_pristine.device import why_missing

Shell = Callable[..., tuple[int, str, str]]


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "report.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return saved(tmp_path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return night(tmp_path / "in")


def test_a_folder_is_restored_and_reported(shell: Shell, recipe: Path, images: Path) -> None:
    code, out, err = shell("batch", recipe, images, "-o", "out")
    lines = out.splitlines()
    assert (code, err, len(lines)) == (0, "", 5)
    assert "a.tif: noise level" in lines[0]
    assert lines[-2:] == ["3 restored", f"report: {Path('out/report.html')}"]
    assert inside(Path("out")) == sorted(
        ["deeper", "report.csv", "report.html"]
        + [f"{name}{end}" for name in ("a.tif", "b.ome.tif", "deeper/c.tif") for end in ("", ".json")]
    )
    assert [row["status"] for row in table(Path("out"))] == ["restored"] * 3


def test_files_and_patterns_are_restored_each_once(shell: Shell, recipe: Path, images: Path) -> None:
    code, out, _ = shell("batch", recipe, images / "*.tif", images / "a.tif", "-o", "out", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [Path(row["input"]).name for row in rows] == ["a.tif", "b.ome.tif"]
    assert {row["status"] for row in rows} == {"restored"}
    assert rows[0]["output"] == str(Path("out/a.tif"))
    assert rows[0]["recipe"]["settings"]["steps"] == 5


def test_junk_is_left_and_a_bad_image_fails_with_exit_code_1(shell: Shell, recipe: Path, images: Path) -> None:
    (images / "notes.txt").write_text("staining: DAPI")
    (images / "Thumbs").write_text("")
    code, out, err = shell("batch", recipe, images, "-o", "junk")
    assert (code, err) == (0, "")
    assert f"{images / 'notes.txt'}: skipped, not an image that can be read (suffix '.txt')" in out
    (images / "bad.tif").write_text("no image")
    code, out, err = shell("batch", recipe, images, "-o", "bad")
    assert code == 1
    assert err.startswith(f"pristine: '{images / 'bad.tif'}' cannot be read as TIFF")
    assert err.count("\n") == 1
    assert "report: " in out


def test_results_are_not_replaced_by_mistake(shell: Shell, recipe: Path, images: Path) -> None:
    shell("batch", recipe, images, "-o", "out")
    for more in ([], ["--resume"]):
        code, out, err = shell("batch", recipe, images, "-o", "out", *more)
        assert (code, err, out.count("skipped, done before")) == (0, "", 3)
        assert "0 restored, 3 done before" in out
    code, out, err = shell("batch", saved(Path(), quick(seed=3)), images, "-o", "out")
    assert (code, "0 restored, 3 not replaced" in out) == (1, True)
    assert err.count("by another recipe (seed 0, now 3); --overwrite replaces it, or give another folder") == 3
    assert [float(row["sigma"]) > 0 for row in table(Path("out"))] == [True] * 3  # the results that are there
    assert shell("batch", recipe, images, "-o", "out", "--overwrite")[0] == 0


def test_axes_are_those_of_the_files_with_as_many_dimensions(shell: Shell, images: Path, tmp_path: Path) -> None:
    """A recipe that was saved for a picture restores a folder with movies as well."""
    recipe = saved(tmp_path, quick(axes="YX"))
    assert shell("batch", recipe, images, "-o", "out")[:2][0] == 0
    sidecars = {name: json.loads(Path(f"out/{name}.json").read_text()) for name in ("a.tif", "b.ome.tif")}
    assert {name: (facts["axes"], facts["recipe"]["axes"]) for name, facts in sidecars.items()} == {
        "a.tif": ("TYX", ""), "b.ome.tif": ("YX", "YX"),
    }  # fmt: skip
    assert sidecars["a.tif"]["notes"].count("the axes YX do not fit its 3 dimensions; read as TYX") == 1
    code, out, _ = shell("batch", recipe, images, "-o", "volumes", "--axes", "zyx", "--plan")
    assert (code, "Z 3 × Y 32 × X 32" in out, "Y 32 × X 40" in out) == (0, True, True)
    assert shell("batch", recipe, images / "a.tif", "-o", "out", "--axes", "ZZX")[0] == 1


def test_the_report_stays_true_when_a_batch_is_started_again(shell: Shell, recipe: Path, images: Path) -> None:
    shell("batch", recipe, images, "-o", "out")
    (images / "bad.tif").write_text("no image")
    for name in ("new.tif", "other.tif"):
        stack(images / name, 32, 32)
    stack(Path("out/other.tif"), 32, 32)  # not made by a batch
    code, out, err = shell("batch", recipe, images, "-o", "out")
    assert (code, "1 restored, 3 done before, 1 not replaced, 1 failed" in out) == (1, True)
    assert "other.tif' already exists without a record of how it was made; --overwrite replaces it" in err
    rows = {Path(row["input"]).name: row for row in table(Path("out"))}
    assert {name: row["status"] for name, row in rows.items()} == {
        "a.tif": "skipped", "b.ome.tif": "skipped", "c.tif": "skipped", "new.tif": "restored", "bad.tif": "failed",
        "other.tif": "exists",
    }  # fmt: skip
    assert all(float(rows[name]["sigma"]) > 0 for name in ("a.tif", "b.ome.tif", "c.tif"))
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert "Failed (1)" in page
    assert (page.count(">done before<"), page.count("not replaced: ")) == (3, 1)
    code, out, _ = shell("batch", recipe, images / "a.tif", "-o", "out", "--json")
    assert (code, json.loads(out)["status"], json.loads(out)["recipe"]["method"]) == (0, "skipped", "inr")


def test_a_finer_type_is_told_by_shell_sidecar_and_report(shell: Shell, recipe: Path) -> None:
    few = np.random.default_rng(0).poisson(0.3, (32, 32)).astype(np.uint16)
    for name, values in (("few", few), ("stack", np.stack([few, few[::-1]]))):
        write(f"{name}.tif", Image(values, "TYX"[-values.ndim :]))
    says = "the result is float32, not uint16 like the image: rounding to whole numbers"
    code, _, err = shell("restore", "few.tif", "stack.tif", "-o", "a", "--method", "inr", "--set", "steps=5")
    assert (code, err.count(says)) == (0, 2)
    assert shell("batch", recipe, "few.tif", "stack.tif", "-o", "b")[0] == 0
    for name in ("a/few.tif", "a/stack.tif", "b/few.tif", "b/stack.tif"):
        facts = json.loads(Path(f"{name}.json").read_text(encoding="utf-8"))
        assert (facts["dtype"], sum(says in note for note in facts["notes"])) == ("float32", 1)
    assert Path("b/report.html").read_text(encoding="utf-8").count(says) == 2
    assert sum(says in note.text for note in restore(few, method="inr", settings={"steps": 5}).notes) == 1
    code, _, err = shell(
        "restore", "few.tif", "-o", "c.tif", "--method", "inr", "--set", "steps=5", "--value-type", "float32"
    )
    assert (code, says in err) == (0, False)  # it was asked for


def test_the_plan_says_what_would_be_done_and_writes_nothing(shell: Shell, recipe: Path, images: Path) -> None:
    (images / "notes.txt").write_text("staining: DAPI")
    (images / "bad.tif").write_text("no image")
    before = inside(Path())
    code, out, _ = shell("batch", recipe, images, "-o", "out", "--plan")
    lines = out.splitlines()
    assert code == 1
    assert "T 3 × Y 32 × X 32" in lines[0]
    assert "uint16" in lines[0]
    assert "GB" in lines[0]
    assert any("notes.txt" in line and "suffix '.txt'" in line for line in lines)
    assert any("bad.tif" in line and "cannot be read" in line for line in lines)
    assert lines[-1].startswith("3 of 5 files can be restored, about ")
    assert inside(Path()) == before
    code, out, _ = shell("batch", recipe, images, "-o", "out", "--plan", "--json")
    facts = [json.loads(line) for line in out.splitlines()]
    assert [fact["shape"] for fact in facts if not fact["problem"]] == [[3, 32, 32], [32, 40], [2, 24, 32]]
    assert all(fact["seconds"] > 0 and fact["memory"] > 0 for fact in facts if not fact["problem"])
    assert inside(Path()) == before


def test_the_plan_knows_of_results_that_are_there(shell: Shell, recipe: Path, images: Path) -> None:
    shell("batch", recipe, images / "a.tif", "-o", "out")
    code, out, _ = shell("batch", recipe, images / "a.tif", "-o", "out", "--plan")
    assert (code, "done before, with the same recipe" in out) == (0, True)
    other = saved(Path(), quick(seed=3))
    code, out, _ = shell("batch", other, images / "a.tif", "-o", "out", "--plan")
    assert (code, "already exists, made by another recipe (seed 0, now 3)" in out) == (1, True)
    assert shell("batch", other, images / "a.tif", "-o", "out", "--plan", "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["missing.yaml", "in"], "missing.yaml"),
        (["bad.yaml", "in"], "no method 'magic'"),
        (["recipe.yaml", "empty"], "there are no files in empty"),
        (["recipe.yaml", "in", "--workers", "0"], "--workers is 0; give at least 1"),
        (["recipe.yaml", "in", "--memory", "lots"], "cannot read --memory 'lots'"),
        (["recipe.yaml", "in", "--memory", "2"], "has no unit; give one, such as 2GB"),
        (["recipe.yaml", "in", "--memory", "100MB"], "less than the program itself takes"),
        (["recipe.yaml", "in", "gone.tif"], "'gone.tif' does not exist; check the name"),
        (["recipe.yaml", "in", "gone*.tif"], "nothing matches the pattern 'gone*.tif'"),
        (["masked.yaml", "in", "--plan"], "of the recipe does not exist; check the name"),
        (["recipe.yaml", "in", "--threads", "0"], "--threads is 0"),
        (["recipe.yaml", "in", "--scheduler", "tcp://localhost:1", "--workers", "2"], "leave --workers out"),
        (["recipe.yaml", "in", "-o", "recipe.yaml"], "is a file; give a folder"),
        (["recipe.yaml", "in", "-o", "in"], "would replace the input"),
        (["recipe.yaml"], "INPUTS"),
    ],
)
def test_wrong_use_is_said_on_one_line(shell: Shell, recipe: Path, images: Path, words: list[str], said: str) -> None:
    Path("bad.yaml").write_text("method: magic\n")
    Path("masked.yaml").write_text("method: inr\nmask: gone.tif\n")
    Path("empty").mkdir()
    before = inside(Path())
    code, out, err = shell("batch", *words, *([] if "-o" in words else ["-o", "out"]))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert inside(Path()) == before


def test_a_scheduler_that_is_not_there_is_said(shell: Shell, recipe: Path, images: Path) -> None:
    pytest.importorskip("distributed")
    code, _, err = shell("batch", recipe, images, "-o", "out", "--scheduler", "tcp://127.0.0.1:9")
    assert (code, err.count("\n")) == (2, 1)
    assert "no dask scheduler answers" in err


def test_a_cluster_without_workers_is_said_and_can_be_left(tmp_path: Path, recipe: Path, images: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=0, scheduler_kwargs={"dashboard_address": "127.0.0.1:0"}, protocol="tcp://"
    ) as cluster:
        address = cluster.scheduler_address
        command = ["batch", recipe, images, "-o", tmp_path / "out", "--scheduler", address]
        heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        with subprocess.Popen(
            [sys.executable, "-m", "napari_pristine", *map(str, command)], stderr=subprocess.PIPE, text=True,
            preexec_fn=heed,
        ) as job:  # fmt: skip
            assert job.stderr is not None
            said = job.stderr.readline()
            job.send_signal(signal.SIGINT)
            job.stderr.read()
            assert job.wait(200) == 130
    assert said == (
        f"pristine: the cluster at {address} has no workers; start one with 'dask worker {address}'; waiting\n"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one here")
@pytest.mark.parametrize("plan", [[], ["--plan"]])
def test_a_gpu_that_is_not_there_is_said_once(shell: Shell, tmp_path: Path, images: Path, plan: list[str]) -> None:
    code, _, err = shell("batch", saved(tmp_path, quick(device="cuda")), images, "-o", "out", *plan)
    note = f"there is no cuda device here, computing on the CPU: {why_missing('cuda')}"
    assert (code, err) == (0, f"pristine: {note}\n")
    if not plan:
        assert [row["notes"] for row in table(Path("out"))] == [note] * 3


def test_a_second_batch_does_not_hide_the_first(shell: Shell, recipe: Path, images: Path) -> None:
    shell("batch", recipe, images, "-o", "out")
    first = table(Path("out"))
    assert shell("batch", recipe, images / "a.tif", "-o", "out")[0] == 0
    rows = {Path(row["input"]).name: row for row in table(Path("out"))}
    assert {name: (row["status"], row["message"][-15:]) for name, row in rows.items()} == {
        "a.tif": ("skipped", "done before"),
        "b.ome.tif": ("skipped", "restored before"),
        "c.tif": ("skipped", "restored before"),
    }
    for row in first:
        assert rows[Path(row["input"]).name]["input"] == row["input"]
        assert rows[Path(row["input"]).name]["sigma"] == row["sigma"] != ""
    page = Path("out/report.html").read_text()
    assert page.count('alt="after"') == 3
    stack(Path("other/a.tif"), 24, 24)
    assert shell("batch", recipe, "other", "-o", "out")[0] == 1  # of another file, and is not shown with its figures
    found = [(row["input"], row["status"], bool(row["sigma"])) for row in table(Path("out"))]
    assert (str(Path("other/a.tif")), "exists", False) in found
    assert (str(images / "a.tif"), "skipped", True) in found


def test_memory_that_is_too_little_is_said_for_each_file(shell: Shell, recipe: Path, images: Path) -> None:
    code, _, err = shell("batch", recipe, images, "-o", "out", "--memory", "524.5MB")
    assert (code, err.count("may be used by a process (--memory)")) == (1, 3)


def test_two_workers_give_what_one_gives_and_say_no_more(tmp_path: Path, recipe: Path, images: Path) -> None:
    command = [sys.executable, "-m", "napari_pristine", "batch", str(recipe), str(images), "-o"]
    done = subprocess.run(
        [*command, str(tmp_path / "out"), "--workers", "2"], capture_output=True, text=True, timeout=250, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 5
    assert ended(process("batch", recipe, images, "-o", tmp_path / "alone")) == 0
    assert listing(tmp_path / "out") == listing(tmp_path / "alone")
    for name in ("a.tif", "b.ome.tif", "deeper/c.tif"):
        assert np.array_equal(read(tmp_path / "out" / name).data, read(tmp_path / "alone" / name).data)


@pytest.mark.parametrize(
    ("more", "send", "which"),
    [
        ([], os.killpg, signal.SIGINT),
        (["--workers", "2"], os.killpg, signal.SIGINT),
        (["--workers", "2"], os.kill, signal.SIGTERM),
    ],
    ids=["alone", "workers", "queue"],
)
def test_ctrl_c_and_sigterm_stop_a_batch_that_can_be_resumed(
    tmp_path: Path, more: list[str], send: Callable[[int, int], None], which: signal.Signals
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    stack(folder / "a.tif", 40, 24, 24)
    recipe = saved(tmp_path, quick(settings={"steps": 40}))
    command = [sys.executable, "-m", "napari_pristine", "batch", str(recipe), str(folder), "-o", str(out), "--resume"]
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        [*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed,
        start_new_session=True,
    ) as job:  # fmt: skip
        end = time.monotonic() + 200
        while not list(out.glob(f"{HIDDEN}/a.tif/units/*/*.jsonl")) and time.monotonic() < end:
            time.sleep(0.02)
        send(job.pid, which)
        said, complained = job.communicate(timeout=200)
    assert (job.returncode, said) == (128 + which, "")
    assert complained.splitlines() == [
        "pristine: 0 of 1 file done; --resume continues",
        "pristine: interrupted; no incomplete file has a final name",
    ]
    assert not list(out.rglob("*.lock"))
    assert ended(process(*command[3:])) == 0
    assert inside(out) == ["a.tif", "a.tif.json", "report.csv", "report.html"]


@pytest.mark.parametrize("in_recipe", [False, True])
def test_the_uncertainty_of_each_image_lies_beside_its_result(
    shell: Shell, images: Path, tmp_path: Path, in_recipe: bool
) -> None:
    wanted = Recipe(method="pretrained", preset="fast", uncertainty=in_recipe)
    save_recipe(tmp_path / "pretrained.yaml", wanted)
    option = [] if in_recipe else ["--uncertainty"]
    assert shell("batch", "pretrained.yaml", images, "-o", "out", *option)[0] == 0
    for name in ("a", "b", "deeper/c"):
        error = read(Path("out") / f"{name}.uncertainty.ome.tif")
        clean = read(next(Path("out").glob(f"{name}.*tif")))
        assert (error.axes, error.shape, error.dtype) == (clean.axes, clean.shape, np.float32)
    code, out, _ = shell("batch", "pretrained.yaml", images, "-o", "out", *option, "--resume")
    assert (code, out.count("skipped, done before")) == (0, 3)
    Path("out/a.uncertainty.ome.tif").unlink()
    code, _, err = shell("batch", "pretrained.yaml", images, "-o", "out", *option)
    assert (code, "its uncertainty" in err, "is missing; --overwrite restores it again" in err) == (1, True, True)
    assert shell("batch", "pretrained.yaml", images, "-o", "out", *option, "--overwrite")[0] == 0


def test_the_uncertainty_of_a_zarr_and_of_a_png_is_a_tiff(shell: Shell, tmp_path: Path) -> None:
    save_recipe(tmp_path / "pretrained.yaml", Recipe(method="pretrained", preset="fast", uncertainty=True))
    (tmp_path / "in").mkdir()
    for name in ("a.ome.zarr", "b.png"):
        write(tmp_path / "in" / name, Image(noisy(40, 48).astype(np.uint8), "YX"))
    assert shell("batch", "pretrained.yaml", "in", "-o", "out")[0] == 0
    for name in ("a", "b"):
        assert read(Path("out") / f"{name}.uncertainty.ome.tif").shape == (40, 48)

"""`python -m benchmarks quality | table | coverage | speed | warm | noise | verdict | batch | gpu | panel`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.batch import TASKS, run_batch
from benchmarks.coverage import run_coverage
from benchmarks.entries import find_entries
from benchmarks.gpu import PARTS, run_gpu
from benchmarks.measure import check_noisy, measure_all
from benchmarks.noise import run_noise
from benchmarks.panel import run_panel
from benchmarks.speed import FitOptions, run_speed
from benchmarks.suites import SUITES, Case, find_cases
from benchmarks.tables import heading, line, markdown, merge
from benchmarks.verdict import run_verdict
from benchmarks.warm import run_warm
from napari_pristine.errors import ComputeError, PristineError, SettingError

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark.

    Returns:
        Exit status: 0 all good, 1 a restoration failed, 2 wrong use or unusable input, 130 stopped by Ctrl-C.
    """
    args = make_parser().parse_args(argv)
    try:
        if "changes" in args:
            args.changes = _parse_changes(args.changes)
        status: int = args.run(args)
    except PristineError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return status


def make_parser() -> argparse.ArgumentParser:
    """Declare the commands and their options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> Any:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added.add_argument

    add = command("quality", _quality, "quality, time and memory of each method, beside classical and published ones")
    _add_images(add, list(SUITES))
    _add_common(add)
    methods = (
        "comma-separated, such as inr,tv,gaussian,bm3d-vst or inr:paper; 'classical' for all classical ones; "
        "blind2unblind@type learns from all noisy images of the type, @suite of the suite (default: the suite's)"
    )
    add("--methods", type=_words, help=methods)
    add("--limit", type=int, help="largest number of images of each type")
    add("--preset", type=_words, default=["balanced"], help="presets of our methods, comma-separated")
    add("--unchecked", action="store_true", help="also measure images whose noisy PSNR is not the published one")
    add("--resume", action="store_true", help="skip what the file of --json holds already")
    add("--markdown", type=Path, help="file for the tables of the documentation")

    add = command("table", _table, "join the measurements of several runs in one table")
    add("files", nargs="+", type=Path, help="files of --json; later ones replace measurements of earlier ones")
    add("--suite", type=_words, default=[], help="suites, comma-separated (default: all)")
    add("--levels", type=_numbers, default=[], help="numbers of frames averaged, comma-separated (default: all)")
    add("--markdown", type=Path, help="file for the tables (default: print them)")

    add = command("panel", _panel, "how fast the window answers while the Restore panel works; needs a display")
    add("--busy", type=int, default=0, help="other processes that compute meanwhile (default: 0)")
    add("--side", type=int, default=1024, help="side of the image that is fitted (default: 1024)")
    add("--json", type=Path, help="file for the figures")

    add = command("coverage", _coverage, "how much of the truth the stated 90 % intervals hold")
    _add_images(add, ["fmd"])
    _add_common(add)
    _add_method(add, "balanced", "pretrained")

    add = command("speed", _speed, "time until our fit and a textbook loop reach a given quality")
    _add_images(add, ["fmd"])
    _add_common(add, crop=256)
    _add_method(add, "balanced")
    add("--steps", type=int, default=2000, help="largest number of steps of the textbook loop (default: 2000)")

    add = command("warm", _warm, "steps that are saved when a fit starts from the network of the previous frame")
    _add_common(add, crop=128)
    add("--file", type=Path, help="a stack with the axes TYX (default: a simulated one)")
    add("--frames", type=int, default=4, help="number of frames to take (default: 4)")
    _add_method(add, "balanced")

    add = command("noise", _noise, "measured noise level relative to the true one, on simulated scenes")
    add("--count", type=int, default=500, help="number of images (default: 500)")
    add("--seed", type=int, default=0, help="seed of the scenes (default: 0)")
    add("--picture", type=Path, help="file for a picture of all ratios")

    add = command("verdict", _verdict, "how often planted faults are found, and honest results are suspected")
    add("--data", type=Path, default=Path(os.environ.get("PRISTINE_DATA", _DATA)), help="folder of folders of images")
    add("--tuning", action="store_true", help="judge the images that served to choose the limits, not the others")
    add("--fresh", action="store_true", help="judge images that were looked at only after all limits were set")
    add("--details", action="store_true", help="print each fault that is missed and each false alarm")
    add("--json", type=Path, help="file for all verdicts")

    add = command("batch", _batch, "frames per minute and memory of batches; warm starts, workers, large images")
    usual = list(TASKS)[:4]
    add("--tasks", type=_words, default=usual, help=f"comma-separated, of {', '.join(TASKS)} (default: the first four)")
    add("--frames", type=_numbers, default=[10, 40], help="numbers of frames, comma-separated (default: 10,40)")
    add("--side", type=int, default=128, help="pixels of a frame along Y and X (default: 128)")
    _add_method(add, "fast")
    _add_changes(add)
    add("--folder", type=Path, help="folder to keep all files in (default: they are deleted)")
    add("--json", type=Path, help="file for the figures")

    add = command("gpu", _gpu, "all that can be seen on a GPU alone, in at most five minutes; prints a table last")
    usual = list(PARTS)[:-1]
    add("--parts", type=_words, default=usual, help=f"comma-separated, of {', '.join(PARTS)} (default: not the last)")
    add("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"], help="where to compute")
    add("--tiny", action="store_true", help="sizes that a CPU manages in a minute or two, to try the command out")
    add("--data", type=Path, help="folder of the images of FMD (default: simulated ones)")
    add("--seconds", type=float, default=270.0, help="nothing is begun after this time (default: 270)")
    add("--json", type=Path, help="file for the figures, complete after each of them")
    return parser


def _add_images(add: Any, suites: Sequence[str]) -> None:
    data = "folder of folders of images, for awgn also a folder of images (default: PRISTINE_DATA or ../shared/data)"
    add("--suite", default="fmd", choices=suites, help="images, and the way they are compared")
    add("--data", type=Path, default=Path(os.environ.get("PRISTINE_DATA", _DATA)), help=data)
    add("--levels", type=_numbers, help="numbers of frames averaged, comma-separated (default: the suite's)")
    add("--captures", type=_numbers, help="captures, comma-separated, or 'all' (default: the suite's)")
    add("--images", type=_words, default=[], help="names without suffix, comma-separated")


def _add_common(add: Any, crop: int | None = None) -> None:
    default = f" (default: {crop})" if crop else " (default: full images)"
    add("--crop", type=int, default=crop, help=f"use the central square with this side in pixels{default}")
    add("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"], help="where our methods compute")
    add("--seed", type=int, default=0, help="seed of our methods (default: 0)")
    _add_changes(add)
    add("--json", type=Path, help="file for the figures, complete after each of them")


def _add_method(add: Any, preset: str, method: str = "inr") -> None:
    add("--method", default=method, help=f"our method (default: {method})")
    add("--preset", default=preset, help=f"its preset (default: {preset})")


def _add_changes(add: Any) -> None:
    add("--set", action="append", default=[], dest="changes", metavar="NAME=VALUE", help="a setting of our methods")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[int]:
    return [] if text == "all" else [int(word) for word in _words(text)]


def _parse_changes(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise SettingError(f"cannot read the setting '{pair}'; write --set NAME=VALUE")
    return {name.strip(): value.strip() for name, _, value in (pair.partition("=") for pair in pairs)}


def _cases(args: argparse.Namespace, limit: int | None = None) -> list[Case]:
    captures = SUITES[args.suite].default_captures if args.captures is None else args.captures
    return find_cases(args.data, args.suite, args.levels, captures, args.images, limit)


def _quality(args: argparse.Namespace) -> int:
    """Measure, print each measurement and the tables."""
    suite, cases = SUITES[args.suite], _cases(args, args.limit)
    entries = find_entries(args.methods or suite.default_methods, args.preset, args.changes, suite.references)
    for entry in entries:
        if entry.preset and not any(map(entry.accepts, cases)):
            raise SettingError(
                f"{entry.label} only removes noise, which is not the task of the suite '{args.suite}'; "
                "take linr or a classical method"
            )
    print(suite.protocol.text)
    if suite.differs:
        print(f"Differences from the publications: {suite.differs}")
    if args.crop is not None:
        print("Published figures are those of full images, except the INS paper's PolyU (256 pixels).")
    if suite.is_fmd and not args.unchecked:
        print(*check_noisy(cases), sep="\n")
    width = max(22, *(len(case.name) + 1 for case in cases))
    print(heading(width), flush=True)
    training = find_cases(args.data, args.suite, args.levels)
    keep = {"json": args.json, "resume": args.resume}
    found, failed = [], False
    for result in measure_all(cases, entries, training, crop=args.crop, device=args.device, seed=args.seed, **keep):
        if isinstance(result, ComputeError):
            print(result, file=sys.stderr)
            failed = True
        else:
            print(line(result, width), flush=True)
            found.append(result)
    if found:
        print(f"\n{markdown(found)}")
        if args.markdown:
            args.markdown.write_text(markdown(found) + "\n", "utf-8")
    return 1 if failed else 0


def _table(args: argparse.Namespace) -> int:
    text = markdown(merge(args.files, args.suite, args.levels))
    if args.markdown:
        args.markdown.write_text(text + "\n", "utf-8")
    else:
        print(text)
    return 0


def _panel(args: argparse.Namespace) -> int:
    return run_panel(args.busy, args.side, args.json)


def _coverage(args: argparse.Namespace) -> int:
    options = {name: getattr(args, name) for name in ("changes", "crop", "device", "seed", "json")}
    return run_coverage(_cases(args), args.method, args.preset, **options)


def _fit_options(args: argparse.Namespace) -> FitOptions:
    return FitOptions(args.method, args.preset, args.changes, args.crop, args.device, args.seed)


def _speed(args: argparse.Namespace) -> int:
    return run_speed(_cases(args), _fit_options(args), args.steps, args.json)


def _warm(args: argparse.Namespace) -> int:
    return run_warm(_fit_options(args), args.file, args.frames, args.json)


def _noise(args: argparse.Namespace) -> int:
    return run_noise(args.count, args.seed, args.picture)


def _verdict(args: argparse.Namespace) -> int:
    return run_verdict(
        args.data, tuning=args.tuning and not args.fresh, fresh=args.fresh, json=args.json, details=args.details
    )


def _batch(args: argparse.Namespace) -> int:
    if unknown := [task for task in args.tasks if task not in TASKS]:
        raise SettingError(f"there is no task '{unknown[0]}'; the tasks are {', '.join(TASKS)}")
    fields = {name: getattr(args, name) for name in ("frames", "side", "method", "preset", "changes")}
    return run_batch(args.tasks, args.folder, args.json, **fields)


def _gpu(args: argparse.Namespace) -> int:
    if unknown := [part for part in args.parts if part not in PARTS]:
        raise SettingError(f"there is no part '{unknown[0]}'; the parts are {', '.join(PARTS)}")
    return run_gpu(args.parts, args.device, args.tiny, args.data, args.seconds, args.json)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m benchmarks quality | table | speed | warm | batch`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.batch import TASKS, BatchPlan, run_batch
from benchmarks.cases import Case
from benchmarks.entries import find_entries
from benchmarks.page import markdown, merge
from benchmarks.quality import Plan, run_quality
from benchmarks.records import Records
from benchmarks.speed import SpeedPlan, run_speed
from benchmarks.suites import SUITES, find_cases
from benchmarks.warm import WarmPlan, run_warm
from napari_pristine.errors import PristineError, SettingError

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a benchmark; 0 all good, 1 something failed, 2 wrong use or unusable input, 130 stopped by Ctrl-C."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.run(args)
    except PristineError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_quality(commands.add_parser("quality", help="how good each method is, beside classical and published ones"))
    _add_table(commands.add_parser("table", help="the rows of several runs in one table"))
    _add_speed(commands.add_parser("speed", help="how soon our fit and a textbook loop reach a given quality"))
    _add_warm(commands.add_parser("warm", help="what a fit saves that starts from the frame before"))
    _add_batch(commands.add_parser("batch", help="frames per minute and memory of batches; warm starts, workers"))
    return parser


def _add_quality(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_quality)
    _add_images(parser, list(SUITES))
    _add_common(parser)
    methods = (
        "comma-separated, such as inr,tv,gaussian,bm3d-vst or inr:paper; 'classical' for all classical ones; "
        "blind2unblind@type learns from all noisy images of the type, @suite of the suite (default: the suite's)"
    )
    parser.add_argument("--methods", type=_words, help=methods)
    parser.add_argument("--limit", type=int, help="so many images of each type at most")
    parser.add_argument("--preset", type=_words, default=["balanced"], help="presets of our methods, comma-separated")
    unchecked = "measure images whose noisy PSNR is not the published one"
    parser.add_argument("--unchecked", action="store_true", help=unchecked)
    parser.add_argument("--resume", action="store_true", help="skip what is in the file of --json already")
    parser.add_argument("--markdown", type=Path, help="file for the tables of the documentation")


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_table)
    parser.add_argument("files", nargs="+", type=Path, help="files of --json; later ones replace rows of earlier ones")
    parser.add_argument("--suite", type=_words, default=[], help="suites, comma-separated (default: all)")
    parser.add_argument("--levels", type=_numbers, default=[], help="frames averaged, comma-separated (default: all)")
    parser.add_argument("--markdown", type=Path, help="file for the tables (default: they are printed)")


def _add_speed(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_speed)
    _add_images(parser, ["fmd"])
    _add_common(parser, crop=256)
    parser.add_argument("--method", default="inr")
    parser.add_argument("--preset", default="balanced")
    parser.add_argument("--steps", type=int, default=2000, help="steps of the textbook loop at most")


def _add_warm(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_warm)
    _add_common(parser, crop=128)
    parser.add_argument("--file", type=Path, help="a stack with the axes TYX (default: a simulated one)")
    parser.add_argument("--frames", type=int, default=4, help="how many frames of it")
    parser.add_argument("--method", default="inr")
    parser.add_argument("--preset", default="balanced")


def _add_batch(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_batch)
    tasks = f"comma-separated, of {', '.join(TASKS)} (default: all but large and plane)"
    parser.add_argument("--tasks", type=_words, default=list(TASKS[:-2]), help=tasks)
    parser.add_argument("--frames", type=_numbers, default=[10, 40], help="numbers of frames, comma-separated")
    parser.add_argument("--side", type=int, default=128, help="pixels of a frame along Y and X")
    parser.add_argument("--method", default="inr")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the method")
    parser.add_argument("--folder", type=Path, help="folder to keep all files in (default: they are deleted)")
    parser.add_argument("--json", type=Path, help="file for the figures")


def _add_images(parser: argparse.ArgumentParser, suites: Sequence[str]) -> None:
    data = "folder of folders of images, or for awgn of images (default: PRISTINE_DATA or ../shared/data)"
    parser.add_argument("--suite", default="fmd", choices=suites, help="images and how they are compared")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("PRISTINE_DATA", _DATA)), help=data)
    parser.add_argument("--levels", type=_numbers, help="frames averaged, comma-separated (default: the suite's)")
    parser.add_argument("--captures", type=_numbers, help="captures, comma-separated, or 'all' (default: the suite's)")
    parser.add_argument("--images", type=_words, default=[], help="names without suffix, comma-separated")


def _add_common(parser: argparse.ArgumentParser, crop: int | None = None) -> None:
    default = f" (default: {crop})" if crop else " (default: full frames)"
    parser.add_argument("--crop", type=int, default=crop, help=f"use the central square with this side{default}")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of our methods")
    parser.add_argument("--json", type=Path, help="file for the figures, complete after each of them")


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[int]:
    return [] if text == "all" else [int(word) for word in _words(text)]


def _changes(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise SettingError(f"cannot read the setting '{pair}'; write --set NAME=VALUE")
    return {name.strip(): value.strip() for name, _, value in (pair.partition("=") for pair in pairs)}


def _quality(args: argparse.Namespace) -> int:
    suite = SUITES[args.suite]
    plan = Plan(
        suite=args.suite,
        cases=_cases(args, args.limit),
        pool=find_cases(args.data, args.suite, args.levels),
        entries=find_entries(args.methods or suite.methods, args.preset, _changes(args.set), suite.references),
        crop=args.crop,
        device=args.device,
        seed=args.seed,
        checked=not args.unchecked,
        markdown=args.markdown,
    )
    return run_quality(plan, Records(args.json, resume=args.resume))


def _cases(args: argparse.Namespace, limit: int | None = None) -> list[Case]:
    captures = SUITES[args.suite].captures if args.captures is None else args.captures
    return find_cases(args.data, args.suite, args.levels, captures, args.images, limit)


def _table(args: argparse.Namespace) -> int:
    text = markdown(merge(args.files, args.suite, args.levels))
    if args.markdown:
        args.markdown.write_text(text, "utf-8")
    else:
        print(text)
    return 0


def _speed(args: argparse.Namespace) -> int:
    plan = SpeedPlan(
        cases=_cases(args),
        method=args.method,
        preset=args.preset,
        changes=_changes(args.set),
        crop=args.crop,
        device=args.device,
        seed=args.seed,
        steps=args.steps,
        json=args.json,
    )
    return run_speed(plan)


def _warm(args: argparse.Namespace) -> int:
    plan = WarmPlan(
        file=args.file,
        frames=args.frames,
        crop=args.crop,
        method=args.method,
        preset=args.preset,
        changes=_changes(args.set),
        device=args.device,
        seed=args.seed,
        json=args.json,
    )
    return run_warm(plan)


def _batch(args: argparse.Namespace) -> int:
    if unknown := [task for task in args.tasks if task not in TASKS]:
        raise SettingError(f"there is no task '{unknown[0]}'; the tasks are {', '.join(TASKS)}")
    return run_batch(
        BatchPlan(
            tasks=tuple(args.tasks),
            frames=tuple(args.frames),
            side=args.side,
            method=args.method,
            preset=args.preset,
            changes=_changes(args.set),
            folder=args.folder,
            json=args.json,
        )
    )


if __name__ == "__main__":
    sys.exit(main())

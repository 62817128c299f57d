"""The command `pristine`: what it is told, what it answers, and its exit codes.

0 all good · 1 some files failed · 2 wrong use or unusable input · 130 stopped by Ctrl-C
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import App, CycloptsError, Parameter

from napari_pristine import __version__
from napari_pristine.cli.output import (
    describe_comparison,
    describe_diagnosis,
    describe_method,
    describe_settings,
    method_facts,
)
from napari_pristine.errors import ComputeError, ImageError, PristineError
from napari_pristine.text import one_line, to_json

GOOD, SOME_FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
_WINDOW = 11  # pixels across the window of SSIM

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON, one object per line.")]
Axes = Annotated[str, Parameter(help="Axes of the file, one letter each, where it says nothing or the wrong thing.")]

app = App(
    name="pristine",
    help="Restores noisy microscopy images from the noisy data alone.",
    version=f"pristine {__version__}",
    help_format="plaintext",
    help_epilogue="Add --debug to any command to see where an error comes from.",
)
# imported with its first use: torch takes seconds to import, which --help and --version should not
app.command(
    "napari_pristine.cli.restore:restore",
    name="restore",
    help="Restore images. 'pristine methods NAME' lists what can be set with --set.",
)
app.command(
    "napari_pristine.cli.batch:batch",
    name="batch",
    help="Restore folders of files by a recipe; can be interrupted, resumed, and spread over many machines.",
)
app.command(
    "napari_pristine.cli.learn:learn",
    name="learn",
    help="Learn from many noisy images, to restore these and others like them with 'pristine restore --model'.",
)
app.command(
    "napari_pristine.cli.export:export",
    name="export",
    help="Export a model for other programs, in the format of bioimage.io.",
)


@app.command
def compare(
    result: Path,
    /,
    *,
    reference: Annotated[Path, Parameter(help="What the image should be.")],
    data_range: Annotated[
        float | None, Parameter(help="Range of values; 255 for 8 bits, else that of the reference, if not given.")
    ] = None,
    json: Json = False,
) -> None:
    """Compare an image with a reference: PSNR, SSIM in both common forms, NRMSE."""
    from napari_pristine.image import quality
    from napari_pristine.io.registry import read

    image, truth = read(result), read(reference)
    if set(image.axes) == set(truth.axes):
        data = np.asarray(truth.data).transpose([truth.axes.index(axis) for axis in image.axes])
    else:
        data = np.asarray(truth.data)
    if min(image.size("Y"), image.size("X")) < _WINDOW:
        raise ImageError(
            f"'{result}' has {image.size('Y')} × {image.size('X')} pixels; SSIM needs {_WINDOW} × {_WINDOW} at least"
        )
    chosen, extent = "given", data_range
    if extent is None:
        chosen, extent = _default_range(data)
    samples = image.axes.index("S") if "S" in image.axes else None
    found = quality.compare(np.asarray(image.data), data, extent, samples)
    facts = {"result": result, "reference": reference, **vars(found)}
    say(to_json(facts) if json else describe_comparison(found, chosen))


def _default_range(reference: np.ndarray) -> tuple[str, float]:
    """The range of 8-bit pictures; other types are rarely filled, so there the range of the values."""
    if reference.dtype == np.uint8:
        return "of 8 bits; --data-range sets another", 255.0
    finite = reference[np.isfinite(reference)] if reference.dtype.kind == "f" else reference
    extent = float(finite.max()) - float(finite.min()) if finite.size else 0.0
    return "largest minus smallest value of the reference; --data-range sets another", extent


@app.command
def diagnose(image: Path, /, *, axes: Axes = "", json: Json = False) -> None:
    """Measure the noise of an image, and say what that means for the choice of method."""
    from napari_pristine import diagnosis
    from napari_pristine.io.registry import read

    found = diagnosis.diagnose(read(image, axes=axes))
    say(to_json({"input": image, **vars(found)}) if json else describe_diagnosis(found))


@app.command
def methods(name: str = "", /, *, json: Json = False) -> None:
    """List the methods, or all settings of one.

    Parameters
    ----------
    name
        Method of which to show the settings.
    """
    from napari_pristine.methods import METHODS, find_method

    if name:
        method = find_method(name)
        say(to_json(method_facts(method, settings=True)) if json else describe_settings(method))
        return
    for method in METHODS.values():
        say(to_json(method_facts(method, settings=False)) if json else describe_method(method))
    if not json:
        say("\n'pristine methods NAME' shows the settings of a method.")


@app.command
def demo(*, output: Annotated[Path, Parameter(alias="-o", help="Folder for the pictures.")] = Path("demo")) -> None:
    """Restore a simulated time-lapse of which the truth is known, and say how much better it got."""
    from napari_pristine.cli.demo import run_demo
    from napari_pristine.cli.output import progress_bar

    say("restoring a simulated two-channel time-lapse; this takes about a minute")
    with progress_bar("demo", report_error) as show:
        lines = run_demo(output, show)
    say("\n".join(lines))


def say(text: object) -> None:
    """Say something on stdout."""
    print(text, flush=True)


def report_error(text: object) -> None:
    """Say something on stderr, on one line."""
    print(f"pristine: {one_line(text)}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        return _run([word for word in words if word != "--debug"], debug)
    except KeyboardInterrupt:
        report_error("interrupted; nothing half-written bears a final name")
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SOME_FAILED


def _run(words: list[str], debug: bool) -> int:
    try:
        command, bound, injected = app.parse_args(words, exit_on_error=False, print_error=False, verbose=False)
        extra: dict[str, Any] = {"debug": debug} if "debug" in injected else {}
        code = command(*bound.args, **bound.kwargs, **extra)
        return GOOD if code is None else int(code)
    except CycloptsError as error:
        report_error(f"{one_line(error)} (pristine --help shows how it is used)")
        return UNUSABLE
    except PristineError as error:
        explain(error, debug)
        return SOME_FAILED if isinstance(error, ComputeError) else UNUSABLE
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:  # noqa: BLE001 - the door to the shell, which has no other way to say it
        explain(error, debug)
        return SOME_FAILED


def explain(error: Exception, debug: bool, about: str = "") -> None:
    """Say what went wrong on one line, with the traceback above it if wished."""
    if debug:
        traceback.print_exception(error)
    text = str(error)
    if not isinstance(error, PristineError):
        text = f"{type(error).__name__}: {error}; this is a mistake of ours, please report it with --debug"
    report_error(f"{about}: {text}" if about and about not in text else text)

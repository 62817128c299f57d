"""The command `pristine`: its commands, and its exit codes.

0 success · 1 some files failed · 2 wrong use or unusable input · 130 stopped by Ctrl-C · 143 by SIGTERM
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter

from napari_pristine import __version__
from napari_pristine.cli.output import (
    INTERRUPTED,
    SOME_FAILED,
    SUCCESS,
    TERMINATED,
    UNUSABLE,
    explain,
    log_to,
    report_error,
    say,
)
from napari_pristine.errors import ComputeError, format_error
from napari_pristine.text import one_line

app = App(
    name="pristine",
    help="Restores noisy microscopy images from the noisy data alone.",
    version=f"pristine {__version__}",
    help_format="plaintext",
    help_epilogue="Add --debug to any command to see where an error comes from.",
)
app.register_install_completion_command(
    help="Set up Tab completion in this shell; except for fish, adds a line to its start-up file."
)
# imported when first used, and what restores only when it restores: torch takes seconds to import
for _name, _module, _help in (
    ("restore", "restore", "Restore images. 'pristine methods NAME' lists the settings for --set."),
    ("batch", "batch", "Restore folders of files by a recipe; can be interrupted, resumed, and run on many machines."),
    ("learn", "learn", "Train a network on many noisy images, for 'pristine restore --model'."),
    (
        "compare",
        "inspect",
        "Compare a result with a reference (PSNR, SSIM, NRMSE), or judge it by the noisy image alone.",
    ),
    ("diagnose", "inspect", "Measure the noise of an image, and recommend a method."),
    ("methods", "inspect", "List the methods, or all settings of one."),
    ("export", "inspect", "Export a model for other programs, in the format of bioimage.io."),
):
    app.command(f"napari_pristine.cli.{_module}:{_name}", name=_name, help=_help)


@app.command
def demo(*, output: Annotated[Path, Parameter(alias="-o", help="Folder for the pictures.")] = Path("demo")) -> None:
    """Restore a simulated time-lapse whose truth is known, and show how much better it is."""
    from napari_pristine.cli.demo import run_demo
    from napari_pristine.cli.output import job_bar

    say("restoring a simulated two-channel time-lapse; this takes about a minute")
    with job_bar("demo", report_error) as show:
        lines = run_demo(output, show)
    say(*lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    with ExitStack() as stack:
        try:
            if threading.current_thread() is threading.main_thread():
                stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _terminate))
            command, bound, injected = app.parse_args(words, exit_on_error=False, print_error=False, verbose=False)
            stack.enter_context(log_to(bound.arguments.get("log"), shlex.join(["pristine", *words])))
            extra: dict[str, Any] = {"debug": debug} if "debug" in injected else {}
            code = command(*bound.args, **bound.kwargs, **extra)
            return SUCCESS if code is None else int(code)
        except CycloptsError as error:
            report_error(_describe_misuse(error))
            return UNUSABLE
        except KeyboardInterrupt as error:
            report_error("interrupted; no incomplete file has a final name")
            return TERMINATED if signal.SIGTERM in error.args else INTERRUPTED
        except BrokenPipeError:  # the reader, such as `head`, needs no more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return SOME_FAILED
        except Exception as error:  # noqa: BLE001 - every error becomes a message and an exit code
            found = format_error(error, "")
            explain(found, debug)
            return SOME_FAILED if isinstance(found, ComputeError) else UNUSABLE


def _terminate(*_: object) -> None:
    """End as by Ctrl-C, once: queues stop jobs with SIGTERM when their time is over."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.SIGTERM)


def _describe_misuse(error: CycloptsError) -> str:
    """Say which word of a command is wrong or missing, and how to show its usage."""
    command = " ".join(["pristine", *(error.command_chain or ())])
    text = one_line(error)
    if isinstance(error, MissingArgumentError) and error.argument is not None:
        name = error.argument.names[0]
        text = f"'{command}' needs {'a value for ' if name.startswith('-') else ''}{name}."
    return f"{text} ('{command} --help' shows the usage)"

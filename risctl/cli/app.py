"""The application: which commands there are, and how a command ends.

Exit status: 0 done, 1 internal error, 2 usage or bad input, 3 a check failed, 4 a damaged file, 5 disk or
lock trouble, 129, 130 and 143 after SIGHUP, SIGINT and SIGTERM. Every status but 1 comes with one line on
stderr; an internal error keeps its traceback, because someone has to mend it.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import Annotated

import typer

from risctl import __version__
from risctl.cli.bench import bench
from risctl.cli.calibrate import calibrate
from risctl.cli.calibrate_surface import calibrate_surface
from risctl.cli.check_alignment import check_alignment_command
from risctl.cli.config import app as config_app
from risctl.cli.demo import demo
from risctl.cli.doctor import doctor
from risctl.cli.eval import evaluate_command
from risctl.cli.example import example
from risctl.cli.export import export
from risctl.cli.gen_data import gen_data
from risctl.cli.hpo import hpo
from risctl.cli.locate import locate
from risctl.cli.options import EndedError
from risctl.cli.overfit import overfit
from risctl.cli.report import report
from risctl.cli.runs import app as runs_app
from risctl.cli.signals import SAID, leave_on_signals
from risctl.cli.train import train
from risctl.cli.verdict import verdict
from risctl.errors import RisctlError, StorageError, one_line
from risctl.text import json_text, versioned

# In the order of `risctl --help`.
COMMANDS = {
    "gen-data": gen_data,
    "train": train,
    "overfit": overfit,
    "hpo": hpo,
    "eval": evaluate_command,
    "example": example,
    "locate": locate,
    "calibrate-surface": calibrate_surface,
    "calibrate": calibrate,
    "export": export,
    "check-alignment": check_alignment_command,
    "report": report,
    "verdict": verdict,
    "demo": demo,
    "bench": bench,
    "doctor": doctor,
}

SIGINT_STATUS = 130

app = typer.Typer(
    name="risctl",
    no_args_is_help=False,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Positions of several near-field radio sources, seen through a reconfigurable intelligent surface.",
)
for name, function in COMMANDS.items():
    app.command(name)(function)
app.add_typer(runs_app, name="runs")
app.add_typer(config_app, name="config")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"risctl {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Positions of several near-field radio sources, seen through a reconfigurable intelligent surface."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    _open_streams()
    with leave_on_signals():
        return _run(arguments)


def _open_streams() -> None:
    """Make stdout and stderr take whatever is printed.

    A process started with one of them closed (`>&-`) gets one that leads nowhere, and bytes of file names
    that are no text are escaped.
    """
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        stream = getattr(sys, name)
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _run(arguments: list[str]) -> int:
    try:
        status = _dispatch(arguments)
        sys.stdout.flush()
    except EndedError as error:
        return _fail(str(error), error.exit_status, ())  # its document is on stdout already
    except RisctlError as error:
        return _fail(str(error), error.exit_status, arguments)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = "risctl" if context is None else context.command_path
        return _fail(f"{error.format_message()} (see {command} --help)", error.exit_code, arguments)
    except BrokenPipeError:
        return _close_stdout()
    except OSError as error:
        place, reason = error.filename or "output", error.strerror or error
        return _fail(f"{place}: {reason}", StorageError.exit_status, arguments)
    except SystemExit as error:
        if error.code not in SAID:
            raise  # typer's own: a closed pipe
        status = int(error.code or 0)
    return _fail(SAID[status], status, arguments) if status in SAID else status


def _dispatch(arguments: list[str]) -> int:
    """Run the command; typer answers `Exit` and KeyboardInterrupt (130) with a number."""
    try:
        result = typer.main.get_command(app).main(arguments, prog_name="risctl", standalone_mode=False)
    except KeyboardInterrupt:
        return SIGINT_STATUS
    return result if isinstance(result, int) else 0


def _fail(message: str, status: int, arguments: Sequence[str]) -> int:
    """Say in one line why the command ended; with `--json` the one document on stdout says it too."""
    text = one_line(message)
    with suppress(OSError):  # a terminal that is gone
        print(f"risctl: {text}", file=sys.stderr)
    try:
        if "--json" in arguments:
            sys.stdout.write(json_text(versioned({"error": {"exit_status": status, "message": text}})))
        sys.stdout.flush()
    except OSError:  # stdout itself is what failed
        _close_stdout()
    return status


def _close_stdout() -> int:
    """Stop quietly when nobody reads stdout (`risctl ... | head`), at interpreter exit too."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return RisctlError.exit_status

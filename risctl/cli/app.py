"""The application: which commands there are, and how a command ends.

Exit status: 0 done, 1 internal error, 2 usage or bad input, 3 a check failed, 4 a damaged file, 5 disk or
lock trouble, 129, 130 and 143 after SIGHUP, SIGINT and SIGTERM. Every status but 1 comes with one line on
stderr; an internal error keeps its traceback, because someone has to mend it.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from risctl import __version__
from risctl.cli.options import EndedError
from risctl.cli.signals import SAID, leave_on_signals
from risctl.errors import RisctlError, StorageError, one_line
from risctl.text import json_text, versioned

# In the order of `risctl --help`, which shows the second and loads none: where the command is (below
# `risctl.cli`), and the first line of its docstring.
COMMANDS = {
    "gen-data": ("gen_data:gen_data", "Write a dataset of simulated scenes."),
    "train": ("train:train", "Train the network."),
    "overfit": ("overfit:overfit", "Learn 512 scenes by heart: the gate before any training."),
    "hpo": ("hpo:hpo", "Search the hyper-parameters."),
    "eval": ("eval:evaluate_command", "Evaluate estimators beside the Cramer-Rao bound."),
    "example": ("example:example", "Write a measurement file, its true positions beside it."),
    "locate": ("locate:locate", "Estimate source positions from a measurement file."),
    "calibrate-surface": (
        "calibrate_surface:calibrate_surface",
        "Find the errors of a real surface from measurements.",
    ),
    "calibrate": ("calibrate:calibrate", "Fit the stated probabilities of a model, or of NOMP."),
    "export": ("export:export", "Copy what inference needs out of a run."),
    "check-alignment": (
        "check_alignment:check_alignment_command",
        "Prove that training and inference compute the same.",
    ),
    "report": ("report:report", "Write one page about a run, or several side by side."),
    "verdict": ("verdict:verdict", "Show go or no-go: every gate on one page."),
    "demo": ("demo:demo", "Show everything at work, offline."),
    "bench": ("bench:bench", "Measure speed on one CPU thread."),
    "doctor": ("doctor:doctor", "Check whether risctl would run here."),
    "runs": ("runs:app", "List, compare and remove runs; alone: list."),
    "config": ("config:app", "List, show, explain and compare configurations."),
}

SIGINT_STATUS = 130


class Commands(TyperGroup):
    """The commands, each loaded when it is called or completed."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Load the command that `args` begin with."""
        if args and args[0] in COMMANDS:
            self.commands[args[0]] = load_command(args[0])
        return super().resolve_command(ctx, args)


def load_command(name: str) -> Any:
    """The command, or group of commands, with its options."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    found = getattr(import_module(f"risctl.cli.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(add_completion=False)
        alone.command(name)(found)
        found = alone
    return typer.main.get_command(found)


app = typer.Typer(
    name="risctl",
    cls=Commands,
    no_args_is_help=False,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Positions of several near-field radio sources, seen through a reconfigurable intelligent surface.",
)
for _name, (_, _summary) in COMMANDS.items():
    app.command(_name, help=_summary)(lambda: None)  # a line of the help, until it is loaded


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

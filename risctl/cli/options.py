"""The options that every command has, declared once and added to each command's signature."""

from __future__ import annotations

import copy
import functools
import inspect
import os
import shlex
import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.models import OptionInfo

from risctl.cli.completion import complete_preset, complete_setting
from risctl.errors import InputError, RisctlError
from risctl.text import Document, json_text, versioned

if TYPE_CHECKING:
    from risctl.config.layers import Layers, Machine

PANEL = "Options of every command"
WorkersOption = Annotated[
    int | None, typer.Option(help="Worker processes of one thread each; absent: one for every core.")
]
PRESET_HELP = "Shipped preset to start from; {} if absent."
OWN_PRESETS = {"hpo": "search", "overfit": "overfit"}  # of commands that do not start from quick
SurfaceOption = Annotated[
    Path | None, typer.Option(help="Calibration of the surface (calibrate-surface); absent: nominal.")
]


def named_path(text: str) -> Path:
    """A path that somebody named; an empty one, which would be the working directory, is refused."""
    if not text.strip():
        raise typer.BadParameter("expected a path, got nothing")
    return Path(text)


NameOption = Annotated[
    str | None,
    typer.Option("--name", help="Name of the run's directory; time, preset and a number if absent."),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out", parser=named_path, metavar="PATH", help="Directory of the run, in place of one below runs/."
    ),
]

FormatOption = Annotated[Literal["png", "pdf", "svg"], typer.Option("--format", help="Of the pictures.")]


@dataclass(frozen=True)
class Ending:
    """A command's document with an exit status other than 0: a failed gate, an interrupted training.

    With `--json` the document is still the one on stdout; `message` is the one line on stderr.
    """

    document: Document
    exit_status: int
    message: str


class EndedError(RisctlError):
    """A command that has shown its result and ends with another status than 0."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


@dataclass(frozen=True)
class Common:
    """The options that every command has.

    Attributes:
        layers: preset, configuration file, override words and seed.
        machine: device and threads.
        json: print one JSON document on stdout.
        dry_run: write nothing.
    """

    layers: Layers
    machine: Machine
    json: bool = False
    dry_run: bool = False

    @property
    def again(self) -> str:
        """Settings and device as words of a command line, with a space in front; empty without any."""
        stated = {
            "--preset": self.layers.preset,
            "--config": self.layers.file,
            "--seed": self.layers.seed,
            "--device": None if self.machine.device == "auto" else self.machine.device,
            "--threads": self.machine.threads,
        }
        flags = [str(part) for pair in stated.items() if pair[1] is not None for part in pair]
        words = [*self.layers.overrides, *flags]
        return f" {shlex.join(words)}" if words else ""

    def with_override(self, word: str, first: bool = False) -> Common:
        """These options with one more override word."""
        return replace(self, layers=self.layers.with_overrides(word, first=first))


def _shared_parameters(
    *,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SECTION.KEY=VALUE",
            help="Settings that replace the preset's.",
            autocompletion=complete_setting,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help=PRESET_HELP.format("quick, or what a run or checkpoint was made with,"),
            rich_help_panel=PANEL,
            autocompletion=complete_preset,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file, or a run's config.json, over the preset.", rich_help_panel=PANEL),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout.", rich_help_panel=PANEL)
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel=PANEL)] = "auto",
    seed: Annotated[
        int | None, typer.Option(help="Seed of scenes and training.", rich_help_panel=PANEL)
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print what would run and what it needs; write nothing.", rich_help_panel=PANEL
        ),
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            help="CPU threads of a process; 1, or those of the run that goes on, if absent.",
            rich_help_panel=PANEL,
        ),
    ] = None,
) -> Common:
    """Collect the shared options."""
    from risctl.config.layers import THREAD_VARIABLES, Layers, Machine

    layers = Layers(preset, config, tuple(overrides or ()), seed)
    common = Common(layers, Machine(device, threads), json, dry_run)
    for variable in THREAD_VARIABLES:  # before numpy and torch are imported, so that their BLAS sees it
        os.environ[variable] = str(threads or 1)
    return common


def common_options(command: Callable[..., Document | Ending]) -> Callable[..., None]:
    """Give `command(common, ...)` the shared options.

    With `--json` the document it returns is printed on stdout, and everything else it prints goes to stderr.
    An `Ending` is shown the same way, and then ends the command with its own status. An error that names an
    argument of the engine is given the name of the flag. A command that takes a list of words of its own (it
    declares `overrides`) has no settings; one that hides them takes no more words than its own.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    taken = {parameter.name for parameter in own}
    shared = [
        parameter
        for parameter in inspect.signature(_shared_parameters, eval_str=True).parameters.values()
        if parameter.name not in taken
    ]
    if command.__name__ in OWN_PRESETS:
        shared = [_with_preset(parameter, OWN_PRESETS[command.__name__]) for parameter in shared]
    names = {parameter.name for parameter in shared}
    wordless = any(p.name == "overrides" and p.annotation.__metadata__[0].hidden for p in own)
    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own + shared]

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        try:
            common = _shared_parameters(**{name: values.pop(name) for name in names})
            if wordless and values["overrides"]:
                raise InputError("words", "", "no more of them", values["overrides"][0])
            with redirect_stdout(sys.stderr) if common.json else nullcontext():
                result = command(common, **values)
        except InputError as error:
            raise _with_flag(error, parameters) from None
        if common.json:
            document = result.document if isinstance(result, Ending) else result
            sys.stdout.write(json_text(versioned(document)))
            sys.stdout.flush()
        if isinstance(result, Ending) and result.exit_status:
            raise EndedError(result.message, result.exit_status)

    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper


def _with_preset(parameter: inspect.Parameter, preset: str) -> inspect.Parameter:
    """The parameter; of the preset's option with the preset of this command in its help."""
    if parameter.name != "preset":
        return parameter
    option = copy.copy(parameter.annotation.__metadata__[0])
    option.help = PRESET_HELP.format(preset)
    return parameter.replace(annotation=Annotated[str | None, option])


def _with_flag(error: InputError, parameters: Iterable[inspect.Parameter]) -> InputError:
    """The error with `--num-sources` for `num_sources`, where that is an option of the command."""
    from risctl.config import Config

    name, space, rest = error.where.partition(" ")
    flags = {
        parameter.name: f"--{parameter.name.replace('_', '-')}"
        for parameter in parameters
        if isinstance(parameter.annotation.__metadata__[0], OptionInfo)
    }
    is_section = bool(error.key) and not space and name in Config.model_fields  # data, model: both
    if name not in flags or is_section:
        return error
    return InputError(f"{flags[name]}{space}{rest}", error.key, error.expected, error.got)

"""The options that every command has, declared once and added to each command's signature."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from risctl.cli.documents import Document, EndedError, Ending, json_text, versioned
from risctl.errors import InputError

if TYPE_CHECKING:
    from risctl.config import Config

PANEL = "Options of every command"
DEFAULT_PRESET = "quick"
SEED_LIMIT = 2**63


@dataclass(frozen=True)
class Common:
    """The values of the options that every command has; `preset` is None where none was named.

    `threads_stated` says whether `threads` was given; `device` is `auto` where it was not.
    """

    preset: str | None
    config_file: Path | None
    overrides: tuple[str, ...]
    json: bool
    device: str
    seed: int | None
    dry_run: bool
    threads: int
    threads_stated: bool = False

    @property
    def preset_name(self) -> str:
        """The preset that is meant: `quick` where none was named."""
        return self.preset or DEFAULT_PRESET

    def resolve(self) -> Config:
        """Return the configuration: defaults < preset < file < override words < `--seed`."""
        from risctl.config import load_config

        return load_config(self.preset_name, self.config_file, self.words)

    def resolve_over(self, base: Config) -> Config:
        """Return the configuration on the base of a run's own, which a named preset replaces as a whole."""
        from risctl.config import load_config

        if self.preset is not None:
            return self.resolve()
        return load_config(None, self.config_file, self.words, base=base)

    @property
    def words(self) -> list[str]:
        """The override words, those that `--seed` stands for last."""
        seeds = [] if self.seed is None else [f"data.seed={self.seed}", f"training.seed={self.seed}"]
        return [*self.overrides, *seeds]

    def with_override(self, word: str) -> Common:
        """Return these options with one more override word in front."""
        return replace(self, overrides=(word, *self.overrides))

    def with_last_override(self, word: str) -> Common:
        """Return these options with one more override word, which replaces what those before it say."""
        return replace(self, overrides=(*self.overrides, word))

    def with_preset(self, name: str) -> Common:
        """Return these options with the preset `name` where none was named."""
        return self if self.preset is not None else replace(self, preset=name)


def _shared_parameters(
    *,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="SECTION.KEY=VALUE", help="Settings that replace the preset's."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Shipped preset to start from; quick, or what a run or checkpoint was made with, if absent.",
            rich_help_panel=PANEL,
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
    """Collect the shared options, after checking what needs no configuration."""
    from risctl.cli.machine import check_device_name

    if seed is not None and not 0 <= seed < SEED_LIMIT:
        raise InputError("--seed", "", f"0 to {SEED_LIMIT - 1}", seed)
    require_range("--threads", threads, 1, 1024)
    check_device_name(device)
    used = 1 if threads is None else threads
    words = tuple(overrides or ())
    return Common(preset, config, words, json, device, seed, dry_run, used, threads is not None)


def require_range(flag: str, value: int | None, low: int, high: int) -> None:
    """Refuse a flag's number outside `low`..`high`; None means that the flag was not given."""
    if value is not None and not low <= value <= high:
        raise InputError(flag, "", f"{low} to {high}", value)


def common_options(command: Callable[..., Document | Ending]) -> Callable[..., None]:
    """Give `command(common, ...)` the shared options.

    With `--json` the document it returns is printed on stdout, and everything else it prints goes to stderr.
    An `Ending` is shown the same way, and then ends the command with its own status.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    shared = list(inspect.signature(_shared_parameters, eval_str=True).parameters.values())
    names = {parameter.name for parameter in shared}

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        common = _shared_parameters(**{name: values.pop(name) for name in names})
        with redirect_stdout(sys.stderr) if common.json else nullcontext():
            result = command(common, **values)
        if common.json:
            document = result.document if isinstance(result, Ending) else result
            sys.stdout.write(json_text(versioned(document)))
            sys.stdout.flush()
        if isinstance(result, Ending) and result.exit_status:
            raise EndedError(result.message, result.exit_status)

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own + shared]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper

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

from risctl.cli.documents import Document, json_text, versioned
from risctl.errors import InputError

if TYPE_CHECKING:
    from risctl.config import Config

PANEL = "Options of every command"
SEED_LIMIT = 2**63


@dataclass(frozen=True)
class Common:
    """The values of the options that every command has."""

    preset: str
    config_file: Path | None
    overrides: tuple[str, ...]
    json: bool
    device: str
    seed: int | None
    dry_run: bool
    threads: int

    def resolve(self) -> Config:
        """Return the configuration: defaults < preset < file < override words < `--seed`."""
        from risctl.config import load_config

        seeds = [] if self.seed is None else [f"data.seed={self.seed}", f"training.seed={self.seed}"]
        return load_config(self.preset, self.config_file, [*self.overrides, *seeds])

    def with_override(self, word: str) -> Common:
        """Return these options with one more override word in front."""
        return replace(self, overrides=(word, *self.overrides))


def _shared_parameters(
    *,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="SECTION.KEY=VALUE", help="Settings that replace the preset's."),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="Shipped preset to start from.", rich_help_panel=PANEL)
    ] = "quick",
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
    threads: Annotated[int, typer.Option(help="CPU threads of a process.", rich_help_panel=PANEL)] = 1,
) -> Common:
    """Collect the shared options, after checking what needs no configuration."""
    from risctl.cli.machine import check_device_name

    if seed is not None and not 0 <= seed < SEED_LIMIT:
        raise InputError("--seed", "", f"0 to {SEED_LIMIT - 1}", seed)
    require_range("--threads", threads, 1, 1024)
    check_device_name(device)
    return Common(preset, config, tuple(overrides or ()), json, device, seed, dry_run, threads)


def require_range(flag: str, value: int | None, low: int, high: int) -> None:
    """Refuse a flag's number outside `low`..`high`; None means that the flag was not given."""
    if value is not None and not low <= value <= high:
        raise InputError(flag, "", f"{low} to {high}", value)


def common_options(command: Callable[..., Document]) -> Callable[..., None]:
    """Give `command(common, ...)` the shared options.

    With `--json` the document it returns is printed on stdout, and everything else it prints goes to stderr.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    shared = list(inspect.signature(_shared_parameters, eval_str=True).parameters.values())
    names = {parameter.name for parameter in shared}

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        common = _shared_parameters(**{name: values.pop(name) for name in names})
        with redirect_stdout(sys.stderr) if common.json else nullcontext():
            document = command(common, **values)
        if common.json:
            sys.stdout.write(json_text(versioned(document)))
            sys.stdout.flush()

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own + shared]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper

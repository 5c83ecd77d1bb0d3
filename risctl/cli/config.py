"""`risctl config list|show|explain|diff`: what would run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from risctl.cli.completion import complete_setting
from risctl.cli.console import say, show_table
from risctl.cli.options import Common, common_options
from risctl.errors import InputError
from risctl.text import Document

if TYPE_CHECKING:
    from risctl.config import Config

app = typer.Typer(help="List, show, explain and compare configurations.", add_completion=False)


@app.command("list")
@common_options
def list_presets(common: Common) -> Document:
    """List the shipped presets."""
    from risctl.config import fingerprint, load_config, preset_names, preset_path, preset_summary

    common.layers.resolve()
    rows = [(name, fingerprint(load_config(name)), preset_summary(name)) for name in preset_names()]
    show_table("Presets", ("name", "fingerprint", "what for"), rows)
    return {
        "presets": [
            {"name": name, "fingerprint": print_, "summary": summary, "path": str(preset_path(name))}
            for name, print_, summary in rows
        ]
    }


@app.command("show")
@common_options
def show(common: Common) -> Document:
    """Show the resolved configuration as TOML that `--config` reads back.

    A comment on every key says what it is, what it may be, and where its value came from.
    """
    from risctl.config import fingerprint
    from risctl.config.explain import commented_toml

    config = common.layers.resolve()
    say(commented_toml(common.layers))
    return {
        "preset": common.layers.name,
        "fingerprint": fingerprint(config),
        "config": config.model_dump(mode="json"),
    }


@app.command("explain")
@common_options
def explain(
    common: Common,
    key: Annotated[str, typer.Argument(metavar="KEY", help="section.key", autocompletion=complete_setting)],
    overrides: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
) -> Document:
    """Explain a setting: meaning, unit, what it may be, and its value in every preset."""
    from risctl.config import load_config, preset_names
    from risctl.config.explain import explain as explain_setting
    from risctl.config.explain import value_text

    found = explain_setting(key.partition("=")[0])
    values = {name: value_text(load_config(name), found.key) for name in preset_names()}
    say(f"{found.key}: {found.meaning}")
    facts = {"allowed": found.allowed or "see the message of a refused value", "default": found.default}
    for name, text in (facts | {f"preset {name}": text for name, text in values.items()}).items():
        say(f"  {name:<16}  {text}")
    return {"key": found.key, "meaning": found.meaning, "presets": values} | facts


@app.command("diff")
@common_options
def diff(
    common: Common,
    first: Annotated[str, typer.Argument(metavar="A", help="A preset, a TOML file, or a run directory.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The same; override words change this one.")],
) -> Document:
    """Show the settings in which two configurations differ."""
    from risctl.config import diff_configs

    layers = common.layers
    for name, value in (("preset", layers.preset), ("config", layers.file), ("seed", layers.seed)):
        if value is not None:
            raise InputError(name, "", "none (A and B say what is compared)", value)
    differences = diff_configs(_named(first, ()), _named(second, layers.overrides))
    rows = [(key, *pair) for key, pair in differences.items()]
    if rows:
        show_table("Differences", ("setting", first, second), rows)
    else:
        say(f"{first} and {second} do not differ")
    return {"a": first, "b": second, "differences": [{"key": key, "a": a, "b": b} for key, a, b in rows]}


def _named(name: str, overrides: tuple[str, ...]) -> Config:
    """Load a preset by name; anything that looks like a path, or exists, is a file or a run directory."""
    from risctl.config import load_config, preset_names

    path = Path(name)
    if name in preset_names():
        return load_config(name, None, overrides)
    if not (path.suffix or len(path.parts) > 1 or path.exists()):
        known = ", ".join(preset_names())
        raise InputError(name, "", f"a preset ({known}), a file or a run's directory", "none of this name")
    return load_config(None, path / "config.json" if path.is_dir() else path, overrides)

"""Tab completion of presets, settings and their values, and runs. Nothing heavy is loaded."""

from __future__ import annotations

import os
from pathlib import Path

RUNS_SHOWN = 50


def complete_preset(incomplete: str) -> list[str]:
    """The presets that begin like this."""
    from risctl.config import preset_names

    return [name for name in preset_names() if name.startswith(incomplete)]


def complete_setting(incomplete: str) -> list[str]:
    """The settings that begin like this, as `section.key=`; after the sign the values it may have.

    Bash makes words of their own of the sign and of what follows it, other shells do not.
    """
    from risctl.config.explain import all_settings

    known = all_settings()
    key, start = _split_by_bash(incomplete)
    if key:
        return [value for value in known[key].values if value.startswith(start)] if key in known else []
    key, sign, start = incomplete.partition("=")
    if sign:
        values = known[key].values if key in known else ()
        return [f"{key}={value}" for value in values if value.startswith(start)]
    return [f"{name}=" for name in known if name.startswith(incomplete)]


def _split_by_bash(incomplete: str) -> tuple[str, str]:
    """Key and beginning of the value, where bash split a word at the sign; empty where it did not."""
    words = os.environ.get("COMP_WORDS", "").split()
    before = words[: int(os.environ.get("COMP_CWORD") or 0)]
    if words[len(before) : len(before) + 1] == ["="] and before:
        return before[-1], ""
    return (before[-2], incomplete) if before[-1:] == ["="] and len(before) > 1 else ("", "")


def complete_run(incomplete: str) -> list[str]:
    """The newest runs whose directory begins like this."""
    names = [str(path) for path in Path("runs").glob("*/*") if path.is_dir() and path.name[0] != "."]
    return sorted((name for name in names if name.startswith(incomplete)), reverse=True)[:RUNS_SHOWN]


def complete_run_or_setting(incomplete: str) -> list[str]:
    """Runs, then settings: where the parser takes either."""
    return complete_run(incomplete) + complete_setting(incomplete)

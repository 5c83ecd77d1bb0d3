"""Resolving a configuration: schema defaults < preset < `--config FILE` < overrides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from risctl.config.compare import flatten
from risctl.config.former import current_names
from risctl.config.parse import check_keys, parse_override, read_table, validate
from risctl.config.presets import preset_path
from risctl.config.schema import Config


def load_config(
    preset: str | None = "quick",
    file: str | Path | None = None,
    overrides: Sequence[str] = (),
    base: Config | None = None,
) -> Config:
    """Resolve a configuration.

    Args:
        preset: name of a shipped preset, or None for the schema's defaults.
        file: TOML file (or a run's `config.json`) whose values replace the preset's.
        overrides: words `section.key=value`, which replace everything else.
        base: lowest layer, for example the settings of a checkpoint.

    Raises:
        InputError: an unknown preset or key, an unreadable file or a bad value, naming where it came from.
    """
    layers = [] if base is None else [("base", flatten(base.model_dump(mode="json")))]
    for path in ([preset_path(preset)] if preset else []) + ([Path(file)] if file else []):
        table = current_names(read_table(path), path)
        # Empty sections are kept: a misspelt one is refused too.
        layers.append((str(path), flatten(table) | {key: {} for key in table if table[key] == {}}))
    layers += [("override", dict([parse_override(word)])) for word in overrides]
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for where, flat in layers:
        check_keys(flat, Config, where)
        stated = {key: value for key, value in flat.items() if value != {}}
        values |= stated
        origin |= dict.fromkeys(stated, where)
    last = layers[-1][0] if layers else "defaults"
    return validate(Config, _nest(values), lambda key: _origin(key, origin, last))


def _origin(key: str, origin: dict[str, str], last: str) -> str:
    """Layer that set `key`, which may point into an array (`physics.snr_values_db.2`) or name a table."""
    below = [where for name, where in origin.items() if name.startswith(f"{key}.")]
    while key:
        if key in origin:
            return origin[key]
        key = key.rpartition(".")[0]
    return below[-1] if below else last


def _nest(flat: dict[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *tables, name = key.split(".")
        table = nested
        for part in tables:
            table = table.setdefault(part, {})
        table[name] = value
    return nested

"""Writing a configuration as TOML, in a form that `--config` reads back."""

from __future__ import annotations

import json
from typing import Any

from risctl.config.schema import Config


def to_toml(config: Config) -> str:
    """Return every setting, one table a section."""
    return "\n".join(_table(name, values) for name, values in config.model_dump(mode="json").items())


def _table(name: str, values: dict[str, Any]) -> str:
    plain = [f"{key} = {toml_value(value)}\n" for key, value in values.items() if not isinstance(value, dict)]
    below = [
        f"\n{_table(f'{name}.{key}', value)}" for key, value in values.items() if isinstance(value, dict)
    ]
    return f"[{name}]\n{''.join(plain)}{''.join(below)}"


def toml_value(value: Any) -> str:
    """Return a number, truth value, string or list as TOML; JSON's notation is TOML's for all of them."""
    return json.dumps(value)

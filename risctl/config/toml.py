"""Writing a configuration as TOML, in a form that `--config` reads back."""

import json
from collections.abc import Mapping
from typing import Any

INLINE_BELOW = 3  # dots in the name of a table: [search.spaces.wide.training] has its tables in one line each


def tables_to_toml(tables: Mapping[str, dict[str, Any]]) -> str:
    """Sections of JSON values as TOML."""
    return "\n".join(_table(name, values) for name, values in tables.items())


def _table(name: str, values: dict[str, Any]) -> str:
    """A table and those below it; from the fourth level on inline."""
    inline = name.count(".") >= INLINE_BELOW
    plain, below = "", ""
    for key, value in values.items():
        if inline or not isinstance(value, dict):
            plain += f"{key} = {toml_value(value)}\n"
        else:
            below += f"\n{_table(f'{name}.{key}', value)}"
    return f"[{name}]\n{plain}{below}" if plain or not below else below.removeprefix("\n")


def toml_value(value: Any) -> str:
    """A value on one line; JSON and TOML agree on everything but tables."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {toml_value(item)}' for key, item in value.items())} }}"
    return json.dumps(value)

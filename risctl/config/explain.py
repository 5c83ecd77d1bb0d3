"""What each setting means: its description with the unit, what it may be, and where its value came from."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from risctl.config.compare import flatten
from risctl.config.layers import Layers
from risctl.config.parse import known_keys, nearest_key
from risctl.config.schema import Config
from risctl.config.toml import toml_value
from risctl.errors import InputError


@dataclass(frozen=True)
class Setting:
    """A setting of the schema.

    Attributes:
        key: `section.key`.
        meaning: what it is, with its unit.
        allowed: what it may be, in words.
        values: its choices, where they can be listed.
        default: value without preset, file or word, as TOML.
    """

    key: str
    meaning: str
    allowed: str
    values: tuple[str, ...]
    default: str


@functools.cache
def all_settings() -> Mapping[str, Setting]:
    """Every setting by its key, in the order of the schema."""
    schema = Config.model_json_schema()
    return {entry.key: entry for entry in _below(schema, schema, "", Config().model_dump(mode="json"))}


def explain(key: str) -> Setting:
    """A setting by its key; the `InputError` of an unknown one names the nearest."""
    found = all_settings().get(key)
    if found is None:
        nearest = nearest_key(key, known_keys(Config)[0]) if "." in key else ""
        nearest = nearest or ", ".join(Config.model_fields)
        raise InputError("key", "", f"section.key (nearest: {nearest})", repr(key))
    return found


def value_text(config: Config, key: str) -> str:
    """The value of a setting, as TOML; of a table, its names."""
    value: Any = config.model_dump(mode="json")
    for part in key.split("."):
        value = value[part]
    return ", ".join(value) if isinstance(value, dict) else toml_value(value)


def commented_toml(layers: Layers) -> str:
    """The resolved configuration as TOML; a comment on every key says what it is and where it came from."""
    config, origins = layers.resolve(), layers.origins()
    tables: dict[str, list[str]] = {}
    for key, value in flatten(config.model_dump(mode="json")).items():
        table, _, name = key.rpartition(".")
        entry = all_settings().get(key)
        words = [] if entry is None else [entry.meaning.rstrip("."), entry.allowed]
        comment = "; ".join([*filter(None, words), f"from {origins.get(key, 'the defaults')}"])
        if key.startswith("search.spaces."):  # a space: the whole of a parameter in one line
            section, _, parameter = key.removeprefix("search.spaces.").partition(".")
            table, name = f"search.spaces.{section}", parameter
            tables.setdefault(table, []).append(f"{name} = {toml_value(value)}")
            continue
        tables.setdefault(table, []).extend([f"# {comment}", f"{name} = {toml_value(value)}"])
    return "\n\n".join("\n".join([f"[{table}]", *lines]) for table, lines in tables.items())


def _below(schema: dict[str, Any], part: dict[str, Any], prefix: str, defaults: Any) -> list[Setting]:
    found = []
    for name, field in part.get("properties", {}).items():
        key, whole = f"{prefix}{name}", _resolved(schema, field)
        default = defaults.get(name) if isinstance(defaults, dict) else None
        if "properties" in whole:
            found += _below(schema, whole, f"{key}.", default)
        else:
            meaning = field.get("description") or whole.get("description", "")
            text = "" if default is None else toml_value(default)
            found.append(
                Setting(key, " ".join(meaning.split()), _allowed(schema, whole), _values(whole), text)
            )
    return found


def _resolved(schema: dict[str, Any], field: dict[str, Any]) -> dict[str, Any]:
    """A field's own schema, references and single alternatives followed."""
    while "$ref" in field or len(field.get("allOf", ())) == 1:
        field = schema["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else field["allOf"][0]
    return field


def _values(field: dict[str, Any]) -> tuple[str, ...]:
    if "enum" in field or "const" in field:
        return tuple(map(str, field.get("enum") or [field["const"]]))
    return ("true", "false") if field.get("type") == "boolean" else ()


def _allowed(schema: dict[str, Any], field: dict[str, Any]) -> str:
    """What a field may be, in words: `0 to 1`, `one of a, b`, `a list of -100 to 100`."""
    field = _resolved(schema, field)
    if values := _values(field):
        return " or ".join(values) if len(values) <= 2 else f"one of {', '.join(values)}"
    if "anyOf" in field:
        return " or ".join(filter(None, (_allowed(schema, part) for part in field["anyOf"])))
    if field.get("type") == "array":
        inside: dict[str, Any] = field.get("items") or next(iter(field.get("prefixItems", [])), {})
        return f"a list of {_allowed(schema, inside) or 'values'}"
    least, most = field.get("minimum"), field.get("maximum")
    above, below = field.get("exclusiveMinimum"), field.get("exclusiveMaximum")
    low = None if least is None and above is None else f"{least:g}" if above is None else f"above {above:g}"
    high = None if most is None and below is None else f"{most:g}" if below is None else f"below {below:g}"
    whole = "whole numbers " if field.get("type") == "integer" else ""
    if low is None or high is None:
        return f"{whole}{f'from {low}' if low else f'up to {high}' if high else ''}".strip()
    return f"{whole}{low} to {high}"

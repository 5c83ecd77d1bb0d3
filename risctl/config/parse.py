"""Parsing files and override words into checked values, with one-line errors."""

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from risctl.config.former import current_name
from risctl.errors import DamagedFileError, InputError

Model = TypeVar("Model", bound=BaseModel)
BARE_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
ALIKE = 0.5  # likeness from which another key may be meant
MAX_FILE_BYTES = 1_000_000
MAX_WORD = 4_000  # characters of an override
# A key of more parts than any setting has: for thousands the parser takes seconds and gigabytes.
DEEP_KEY = re.compile(r"""(?<!["'\w-])(?:["'\w-]++[ \t]*+\.[ \t]*+){16}""")
OPEN_TABLES = ("search.spaces.",)  # tables below have names that the user chooses; the schema checks them


def read_table(path: Path) -> dict[str, Any]:
    """Read a TOML file, or a JSON one if its name ends in `.json` (a run's `config.json`)."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror.lower() if isinstance(error, OSError) and error.strerror else error
        raise InputError(path, "", "a readable configuration file", reason) from None
    if len(raw) > MAX_FILE_BYTES:
        raise InputError(path, "", "a configuration file of at most 1 MB", "a larger one")
    is_json = path.suffix == ".json"
    try:
        text = raw.decode("utf-8")
        if not is_json and DEEP_KEY.search(text):
            raise ValueError("a key of too many parts")
        table = json.loads(text, object_pairs_hook=_distinct) if is_json else tomllib.loads(text)
    except UnicodeDecodeError:
        raise InputError(path, "", "UTF-8 text", "other bytes") from None
    except (ValueError, RecursionError) as error:
        reason = "tables nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(path, "", f"valid {'JSON' if is_json else 'TOML'}", reason) from None
    if not isinstance(table, dict):
        raise InputError(path, "", "a table of sections", type(table).__name__)
    return table


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a key that occurs twice")
    return table


def parse_override(word: str) -> tuple[str, Any]:
    """Split `section.key=value` into present name and value.

    The value is a TOML scalar or array; a bare word stands for its string.
    """
    key, equals, text = word.partition("=")
    key, text = current_name(key.strip()), text.strip()
    if not equals or "." not in key or not all(key.split(".")):
        raise InputError("override", "", "section.key=value", _shown(word))
    if len(text) > MAX_WORD:
        raise InputError(
            "override", key, f"a TOML scalar or array of at most {MAX_WORD} characters", len(text)
        )
    if BARE_WORD.fullmatch(text) and text not in ("true", "false", "nan", "inf"):
        return key, text
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        table = {}
    if list(table) != ["value"] or isinstance(table["value"], dict):
        raise InputError("override", key, "a TOML scalar or array", _shown(text))
    return key, table["value"]


def known_keys(model: type[BaseModel], prefix: str = "") -> tuple[set[str], set[str]]:
    """Dotted names of all fields of `model`: those of plain values, and those of tables."""
    leaves: set[str] = set()
    tables: set[str] = set()
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            below = known_keys(kind, f"{prefix}{name}.")
            tables |= {f"{prefix}{name}"} | below[1]
            leaves |= below[0]
        else:
            leaves.add(f"{prefix}{name}")
    return leaves, tables


def check_keys(flat: Mapping[str, Any], model: type[BaseModel], where: str) -> None:
    """Raise `InputError` for a dotted key that `model` does not have; the message gives the nearest one."""
    leaves, tables = known_keys(model)
    for key, value in flat.items():
        if key in tables:
            if value != {}:
                raise InputError(where, key, "a table", _shown(value))
        elif key not in leaves and not key.startswith(OPEN_TABLES):
            nearest = nearest_key(key, leaves if "." in key else tables)
            section, _, name = key.partition(".")
            wrong = name.rpartition(".")[2] if section in tables and name else section
            hint = f"nearest: {nearest}" if nearest else f"sections: {', '.join(model.model_fields)}"
            raise InputError(where, key, f"a known key ({hint})", repr(wrong))


def nearest_key(key: str, known: set[str]) -> str:
    """The known dotted key most similar to `key`, empty if none is; the name weighs more than the section."""
    section, _, name = key.partition(".")

    def likeness(candidate: str) -> float:
        its_section, _, its_name = candidate.partition(".")
        same_section = difflib.SequenceMatcher(None, section, its_section).ratio()
        return 0.4 * same_section + 0.6 * difflib.SequenceMatcher(None, name, its_name).ratio()

    best = max(sorted(known), key=likeness)
    return best if likeness(best) >= ALIKE else ""


def validate(model: type[Model], values: Mapping[str, Any], where: Callable[[str], str]) -> Model:
    """Build `model` from `values`; the first error becomes an `InputError` of the file `where(key)`."""
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
    key, expected, got = _explain(details)
    raise InputError(where(key), key, expected, got)


def parse_section(model: type[Model], values: object, where: str | Path) -> Model:
    """Build a model from a table that was read from the file `where`."""
    if not isinstance(values, Mapping):
        raise InputError(where, "", "a table", type(values).__name__)
    return validate(model, values, lambda _key: str(where))


def parse_json(model: type[Model], content: bytes | str, where: str | Path) -> Model:
    """Build a model from JSON that risctl wrote into the file `where`.

    Raises:
        DamagedFileError: it is not what was written; naming file, key, expected and found value.
    """
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        key, expected, got = _explain(error.errors(include_url=False)[0])
    raise DamagedFileError(f"{where}: {key}" if key else where, expected, got)


def _explain(details: ErrorDetails) -> tuple[str, str, str]:
    """Key, expected and found value of a pydantic error."""
    place = ".".join(str(part) for part in details["loc"])
    if details["type"] == "cross_field":
        context = details["ctx"]
        key = f"{place}.{context['key']}" if place else str(context["key"])
        return key, str(context["expected"]), str(context["got"])
    if details["type"] == "extra_forbidden":
        return place, "a known key", repr(str(details["loc"][-1]))
    if details["type"] == "missing":
        return place, "a value", "none"
    if details["type"] == "json_invalid":
        return place, "valid JSON", str(details["ctx"]["error"])
    expected = details["msg"].removeprefix("Input should be ")
    return place, expected[:1].lower() + expected[1:], _shown(details["input"])


def _shown(value: object, limit: int = 60) -> str:
    """A value as text of at most `limit` characters."""
    try:
        text = repr(value)
    except ValueError:  # Python writes no integer of more than 4300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."

"""Numbers, times, sizes and JSON documents as text."""

import json
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

ABSENT = "–"
SCHEMA_VERSION = 1  # of the documents on stdout and in run directories
Document: TypeAlias = dict[str, Any]


def number(value: Any, digits: int = 4) -> str:
    """`digits` significant digits of a float, other values as they are; a dash for None and NaN."""
    if value is None or value != value:
        return ABSENT
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def decimals(value: float, places: int = 3) -> str:
    """A fixed number of decimal places; a dash for NaN and infinity."""
    return f"{value:.{places}f}" if math.isfinite(value) else ABSENT


def counted(count: int, word: str) -> str:
    """A number of things: `1 scene`, `2,000 scenes`."""
    return f"{count:,} {word}{'s' * (count != 1)}"


def parameter_list(params: Mapping[str, Any]) -> str:
    """Settings on one line, without the names of their sections."""
    return ", ".join(f"{key.rpartition('.')[2]} {number(value)}" for key, value in sorted(params.items()))


def readable_seconds(seconds: float | None) -> str:
    """A duration as `h:mm:ss` or `m:ss`; a dash for None."""
    if seconds is None:
        return ABSENT
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def readable_bytes(count: float) -> str:
    """A byte count in decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def versioned(document: Mapping[str, Any]) -> Document:
    """The document with its `schema_version` in front: its own where it has one."""
    return {"schema_version": SCHEMA_VERSION, **document}


def json_text(document: object) -> str:
    """Indented JSON; NaN and infinities, which JSON lacks, become null."""
    return json.dumps(finite(document), indent=2, allow_nan=False, default=str) + "\n"


def finite(value: Any) -> Any:
    """The value with NaN and infinities, at any depth, as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value

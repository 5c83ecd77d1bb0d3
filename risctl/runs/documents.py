"""JSON documents with a schema version and finite numbers only."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from risctl.errors import RisctlError

SCHEMA_VERSION = 1
Document: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Ending:
    """A command's document when the command has more to say than "done": a failed gate, a training stopped.

    With `--json` the document is still the one on stdout; `message` is the one line on stderr.
    """

    document: Document
    exit_status: int
    message: str


class EndedError(RisctlError):
    """A command that has shown its result and ends with another status than 0."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def versioned(document: Mapping[str, Any]) -> Document:
    """Return the document with its `schema_version` in front."""
    return {"schema_version": SCHEMA_VERSION, **document}


def json_text(document: object) -> str:
    """Return indented JSON; NaN and infinities, which JSON lacks, become null."""
    return json.dumps(finite(document), indent=2, allow_nan=False, default=str) + "\n"


def finite(value: Any) -> Any:
    """Return the value with NaN and infinities, at any depth, as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def write_json(path: Path, document: object) -> None:
    """Write a JSON document, whole or not at all; `StorageError` if the disk refuses."""
    from risctl.data.atomic import write_atomically

    write_atomically(path, json_text(document).encode())

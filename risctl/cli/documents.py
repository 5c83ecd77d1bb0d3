"""JSON documents with a schema version and finite numbers only."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

SCHEMA_VERSION = 1
Document: TypeAlias = dict[str, Any]


def versioned(document: Mapping[str, Any]) -> Document:
    """Return the document with its `schema_version` in front."""
    return {"schema_version": SCHEMA_VERSION, **document}


def json_text(document: object) -> str:
    """Return indented JSON; NaN and infinities, which JSON lacks, become null."""
    return json.dumps(_finite(document), indent=2, allow_nan=False, default=str) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def write_json(path: Path, document: object) -> None:
    """Write a JSON document, whole or not at all; `StorageError` if the disk refuses."""
    from risctl.data.atomic import write_atomically

    write_atomically(path, json_text(document).encode())

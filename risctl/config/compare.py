"""Comparing configurations: a canonical form, its hash, and the keys in which two differ."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel

from risctl.config.schema import Config


def canonical_json(model: BaseModel) -> str:
    """Return the JSON text that equal settings share: sorted keys, no spaces, shortest floats."""
    values = model.model_dump(mode="json")
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(model: BaseModel) -> str:
    """Return 16 hexadecimal digits of the BLAKE2b hash of the canonical JSON."""
    return hashlib.blake2b(canonical_json(model).encode(), digest_size=8).hexdigest()


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as `{"section.key": value}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def diff_configs(a: Config, b: Config) -> dict[str, tuple[Any, Any]]:
    """Return `{"section.key": (value in a, value in b)}` for the keys in which they differ."""
    left, right = flatten(a.model_dump(mode="json")), flatten(b.model_dump(mode="json"))
    return {key: (left[key], right[key]) for key in left if left[key] != right[key]}

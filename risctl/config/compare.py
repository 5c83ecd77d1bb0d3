"""Comparing configurations: a canonical form, its hash, and the keys in which two differ."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel

from risctl.config.schema import Config

# Settings younger than files that carry a fingerprint, at the value that changes nothing: left out of the
# canonical form there, so that the fingerprints of datasets and checkpoints made before stand.
YOUNGER = {"pair_coherence": 0.0}


def canonical_json(model: BaseModel) -> str:
    """Return the JSON text that equal settings share: sorted keys, no spaces, shortest floats."""
    values = _without_neutral(model.model_dump(mode="json"))
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(model: BaseModel) -> str:
    """Return 16 hexadecimal digits of the BLAKE2b hash of the canonical JSON."""
    return hashlib.blake2b(canonical_json(model).encode(), digest_size=8).hexdigest()


def _without_neutral(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_neutral(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if key not in YOUNGER or value != YOUNGER[key]
    }


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested tables as `{"section.key": value}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def diff_configs(a: Config, b: Config) -> dict[str, tuple[Any, Any]]:
    """Return `{"section.key": (value in a, value in b)}` for the keys in which they differ; None: absent."""
    left, right = flatten(a.model_dump(mode="json")), flatten(b.model_dump(mode="json"))
    return {key: (left.get(key), right.get(key)) for key in left | right if left.get(key) != right.get(key)}

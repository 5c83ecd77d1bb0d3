"""Comparing configurations: a canonical form, its hash, and the keys in which two differ.

The canonical form holds the settings that differ from the schema's defaults, so a setting that is added later
leaves the fingerprints of all older artefacts as they are. Two changes it cannot see, and each raises a
version: another default value raises `DEFAULTS_VERSION` here; other numbers from the same settings raise
`PIPELINE_VERSION` (covariances) or `GENERATOR_VERSION` (scenes), which stand beside the fingerprints.

Where settings are stored (checkpoints, `dataset.json`, `config.json`, the settings of a study) they are
compared themselves, as this version reads them. A hash that stands alone (the covariance in `results.json`,
scenes in `provenance.json`) is compared with `known_fingerprints`, which include the form of risctl 0.1.0.
A verdict of its overfit gate, an interrupted sweep and the generated name of a study are not known any more:
run the gate or the sweep anew, join the study by its name.
"""

import json
from typing import Any, Final

from pydantic import BaseModel

from risctl.config.former import digest16, former_canonical_json
from risctl.config.schema import Config

DEFAULTS_VERSION: Final = 1


def canonical_json(model: BaseModel) -> str:
    """JSON of the settings that differ from their defaults: sorted keys, no spaces, shortest floats."""
    values = model.model_dump(mode="json", exclude_defaults=True) | {"defaults_version": DEFAULTS_VERSION}
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def fingerprint(model: BaseModel) -> str:
    """16 hexadecimal digits of the BLAKE2b hash of the canonical JSON."""
    return digest16(canonical_json(model))


def known_fingerprints(model: BaseModel, section: str) -> tuple[str, str]:
    """The present fingerprint of a section, and the one that risctl 0.1.0 wrote for the same settings."""
    return fingerprint(model), digest16(former_canonical_json(model, section))


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as `{"section.key": value}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def diff_configs(a: Config, b: Config) -> dict[str, tuple[Any, Any]]:
    """`{"section.key": (value in a, value in b)}` for the keys in which they differ; None: absent."""
    left, right = flatten(a.model_dump(mode="json")), flatten(b.model_dump(mode="json"))
    return {key: (left.get(key), right.get(key)) for key in left | right if left.get(key) != right.get(key)}

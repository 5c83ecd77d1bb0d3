"""Answers of another program, as `risctl locate` writes them, scored like an estimator.

    {"schema_version": 2,
     "scenes": [{"index": 0, "sources": [{"azimuth_deg": -12.5, "elevation_deg": 3.0, "range_m": 4.2}]}]}

Every scene of the data is there once, in any order, by its index from 0; `sources` is empty where none was
found. `range_m` is null for plane waves, where the data has an infinite range. A source may also have
`power_db` and deviations `std_azimuth_deg`, `std_elevation_deg`, `std_range_m`; null stands for an unknown
one. Other keys are passed over, and so is what distinguishes schema 2 from 1.
"""

import json
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import Tensor

from risctl.data.atomic import storage_errors
from risctl.errors import InputError, require_file
from risctl.evaluation.external import to_estimates
from risctl.evaluation.positions import FloatArray
from risctl.inference import Estimates

SCHEMA_VERSIONS = (1, 2)
TINY, HUGE = sys.float_info.min, 1e9  # squares of larger errors would be infinite
LIMITS = {  # in the order of a table's columns
    "azimuth_deg": (-360.0, 360.0, "degrees within +-360"),
    "elevation_deg": (-90.0, 90.0, "degrees within +-90"),
    "range_m": (TINY, HUGE, "metres above 0, up to 1e9"),
    "std_azimuth_deg": (0.0, HUGE, "degrees from 0 to 1e9"),
    "std_elevation_deg": (0.0, HUGE, "degrees from 0 to 1e9"),
    "std_range_m": (0.0, HUGE, "metres from 0 to 1e9"),
    "power_db": (-3000.0, 3000.0, "decibels within +-3000"),
}
REQUIRED, ANGLES = ("azimuth_deg", "elevation_deg"), [0, 1, 3, 4]


@dataclass(frozen=True)
class StoredAnswers:
    """An estimator that returns stored answers by the index of the scene; it looks at no measurement.

    A number of sources that the evaluation gives is passed over: the answers are as they are.

    Attributes:
        name: under which it is reported.
        path: the file, for messages.
        tables: per scene its sources [K, 7]: azimuth, elevation (rad), range (m), their deviations, power.
        first: index of the first scene of the batch.
    """

    name: str
    path: Path
    tables: tuple[FloatArray, ...]
    first: int = 0

    def check(self, evaluated: int, available: int, plane_waves: bool) -> None:
        """Refuse answers that are not of the data.

        Args:
            evaluated: scenes that are scored. available: scenes of the data. The answers are of one or other.
            plane_waves: whether ranges may be infinite.
        """
        if len(self.tables) not in (evaluated, available):
            raise InputError(self.path, "scenes", f"{available}, as the data has", len(self.tables))
        for index, table in enumerate(self.tables):
            if not plane_waves and np.isinf(table[:, 2]).any():
                key, (_, _, expected) = f"scenes[index={index}].sources.range_m", LIMITS["range_m"]
                raise InputError(self.path, key, expected, "none")

    def starting_at(self, first: int) -> Self:
        """The same answers for a batch whose first scene is scene `first`."""
        return replace(self, first=first)

    def __call__(self, y: Tensor, H: Tensor, codes: Tensor, num_sources: Tensor | None = None) -> Estimates:
        """The answers of scenes `first` to ``first + B - 1``."""
        return to_estimates(self.tables[self.first : self.first + len(y)])


def read_answers(path: Path, name: str) -> StoredAnswers:
    """Read the answers of a program that is to be reported as `name`.

    Raises:
        InputError: no file, or one that does not hold answers; the message names the place in it.
        StorageError: it cannot be read.
    """
    require_file(path)
    with storage_errors(path):
        content = path.read_bytes()
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(path, "", "a JSON document", error) from None
    if not isinstance(document, dict):
        raise InputError(path, "", "an object with `scenes`", type(document).__name__)
    version = document.get("schema_version", SCHEMA_VERSIONS[-1])
    if version not in SCHEMA_VERSIONS:
        raise InputError(path, "schema_version", " or ".join(map(str, SCHEMA_VERSIONS)), version)
    tables: dict[int, FloatArray] = {}
    scenes = _list(document.get("scenes"), path, "scenes")
    for place, scene in enumerate(scenes):
        index, key = scene.get("index"), f"scenes[{place}].index"
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(scenes):
            raise InputError(path, key, f"an index from 0 to {len(scenes) - 1}", repr(index))
        if index in tables:
            raise InputError(path, key, "every index once", f"{index} again")
        tables[index] = _sources(scene, path, f"scenes[{place}]")
    return StoredAnswers(name, path, tuple(tables[index] for index in range(len(scenes))))


def _sources(scene: dict[str, Any], path: Path, key: str) -> FloatArray:
    """The sources of one scene, [K, 7]."""
    sources = _list(scene.get("sources"), path, f"{key}.sources")
    if scene.get("num_sources", len(sources)) != len(sources):
        raise InputError(path, f"{key}.num_sources", f"{len(sources)}, as sources has", scene["num_sources"])
    rows = np.empty((len(sources), 7))
    for k, source in enumerate(sources):
        rows[k] = [_number(source, name, path, f"{key}.sources[{k}].{name}") for name in LIMITS]
    rows[:, ANGLES] = np.radians(rows[:, ANGLES])
    rows[:, 2] = np.nan_to_num(rows[:, 2], nan=np.inf)
    rows[:, 6] = 10 ** (rows[:, 6] / 10)
    return rows


def _list(value: Any, path: Path, key: str) -> list[dict[str, Any]]:
    """A list of objects; a single object, as MATLAB writes a list of one, is such a list."""
    items = [value] if isinstance(value, dict) else value
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InputError(path, key, "a list of objects", "none" if value is None else type(value).__name__)
    return items


def _number(source: dict[str, Any], name: str, path: Path, key: str) -> float:
    """A number of the file within its limits; NaN for one that is absent or null and may be."""
    value, (low, high, expected) = source.get(name), LIMITS[name]
    if value is None and name not in REQUIRED:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(path, key, expected, "none" if value is None else repr(value)[:40])
    return float(value)

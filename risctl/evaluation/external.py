"""Estimators from outside: a function of one scene's NumPy arrays, put beside ours in an evaluation."""

import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from risctl.data.arrays import real_array
from risctl.errors import InputError
from risctl.evaluation.positions import FloatArray
from risctl.inference import Estimates, Estimator
from risctl.inference.estimates import unknown

POSITIONS = "an array [K, 3] of azimuth (rad), elevation (rad) and range (m)"
# Name, unit, least and largest value of each column; degrees given for radians stand out.
LIMITS = (
    ("azimuth", "rad", -2 * math.pi, 2 * math.pi),
    ("elevation", "rad", -math.pi / 2, math.pi / 2),
    ("range", "m", sys.float_info.min, sys.float_info.max),
)


@runtime_checkable
class IndexedEstimator(Protocol):
    """An estimator that needs the index of the scenes in front of it, for messages or to look answers up."""

    def starting_at(self, first: int) -> Estimator:
        """The same estimator for a batch whose first scene is scene `first`."""
        ...


@dataclass(frozen=True)
class ExternalEstimator:
    """An estimator made from a function of one scene's arrays.

    Example:
        >>> def boresight(y, H, codes):
        ...     return [[0.0, 0.0, 5.0]]  # one source: azimuth and elevation in radians, range in metres
        >>> ours = ExternalEstimator("boresight", boresight)  # evaluate(..., {"boresight": ours}, ...)

    Attributes:
        name: under which it is reported.
        locate: called as ``locate(y, H, codes)`` for every scene, with copies of y [L, M], H [M, N] and codes
            [L, N], complex64. It returns an array [K, 3], one row per source: azimuth and elevation in
            radians, range in metres; an empty one if it finds no source, as many rows as it likes otherwise.
            Or a mapping with that array as `positions` and, where known, its standard deviations `std`
            [K, 3] in the same units and linear powers `power` [K]. A parameter `num_sources` gets the number
            of sources, None where the evaluation does not give it. With several workers it must be picklable.
        first: index of the first scene of the batch in the evaluation, for messages.
    """

    name: str
    locate: Callable[..., Any]
    first: int = 0

    def starting_at(self, first: int) -> Self:
        """The same estimator for a batch whose first scene is scene `first`."""
        return replace(self, first=first)

    def __call__(self, y: Tensor, H: Tensor, codes: Tensor, num_sources: Tensor | None = None) -> Estimates:
        """Locate the sources of B scenes, one after another.

        Raises:
            InputError: the function returned no list of positions, or cannot be given their number.
        """
        takes_count = "num_sources" in inspect.signature(self.locate).parameters
        if num_sources is not None and not takes_count:
            expected = "a parameter num_sources, as the number of sources is given"
            raise InputError(f"estimator {self.name}", "", expected, "a function without one")
        tables = []
        for i in range(len(y)):
            arrays = [part[i].cpu().numpy().copy() for part in (y, H, codes)]
            known = None if num_sources is None else int(num_sources[i])
            found = self.locate(*arrays, **({"num_sources": known} if takes_count else {}))
            parts = found if isinstance(found, Mapping) else {"positions": found}
            tables.append(source_table(parts, f"estimator {self.name}", f"scene {self.first + i}"))
        return to_estimates(tables)


def source_table(parts: Mapping[str, Any], where: str | Path, key: str) -> FloatArray:
    """Positions, deviations and powers of one scene as one checked array [K, 7]; NaN where unknown.

    Args:
        parts: `positions` [K, 3]; optionally `std` [K, 3] and `power` [K].
        where: the estimator or file to name in errors.
        key: the scene in it.

    Raises:
        InputError: another shape, no real numbers, positions that are not finite or cannot be.
    """
    for name in parts.keys() - {"positions", "std", "power"}:
        raise InputError(where, key, "positions, std and power", f"{name!r}")
    positions = real_array(parts.get("positions"), (-1, 3), POSITIONS, where, key)
    count = len(positions)
    for column, (name, unit, low, high) in zip(positions.T, LIMITS, strict=True):
        wrong = np.flatnonzero(~((column >= low) & (column <= high)))
        if len(wrong):
            place = f"{key}, source {wrong[0]}, {name}"
            raise InputError(where, place, f"{low:.4g} to {high:.4g} {unit}", f"{column[wrong[0]]:g}")
    columns = [positions]
    for name, shape in (("std", (count, 3)), ("power", (count,))):
        values = np.full(shape, np.nan)
        if parts.get(name) is not None:
            values = real_array(parts[name], shape, f"{name} {list(shape)}, none negative", where, key)
        if (values < 0).any():
            raise InputError(where, f"{key}, {name}", "none negative", f"{values.min():g}")
        columns.append(values)
    return np.column_stack(columns)


def to_estimates(tables: Sequence[FloatArray]) -> Estimates:
    """Pad the sources of B scenes, [K, 7] each as `source_table` returns them, to the largest K."""
    counts = [len(table) for table in tables]
    padded = np.full((len(tables), max(counts, default=0), 7), np.nan)
    for row, table in zip(padded, tables, strict=True):
        row[: len(table)] = table
    columns = torch.from_numpy(padded).unbind(-1)
    azimuth, elevation, range_, std_azimuth, std_elevation, std_range, power = columns
    num_sources = torch.tensor(counts, dtype=torch.int64)
    std = (std_azimuth, std_elevation, std_range)
    noise_var = torch.full((len(tables),), torch.nan, dtype=torch.float64)
    rest = (*std, noise_var, *unknown(num_sources, padded.shape[1]))
    return Estimates(num_sources, azimuth, elevation, range_, power, *rest)

"""The raw rows of an evaluation, per estimator: one row per scene and one per source, as columns.

They hold everything that the figures are computed from, in degrees, metres and decibels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from risctl.evaluation.positions import BoolArray, FloatArray, IntArray

COORDINATES = ("azimuth_deg", "elevation_deg", "range_m")
QUANTITIES = (*COORDINATES, "position_m")


def _named(*columns: str, prefix: str = "") -> dict[str, tuple[str, ...]]:
    """Metadata of a field that is written under other names than its own."""
    return {"names": tuple(prefix + column for column in columns)}


@dataclass(frozen=True)
class Rows:
    """Columns of equal length; a field of several columns is an array (rows, columns)."""

    def __len__(self) -> int:
        return len(self.arrays()[0])

    def arrays(self) -> list[npt.NDArray[Any]]:
        """The fields in order."""
        return [getattr(self, item.name) for item in fields(self)]

    def select(self, chosen: BoolArray) -> Self:
        """The rows where `chosen` is true."""
        return type(self)(*(array[chosen] for array in self.arrays()))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The rows of `parts` in order; at least one part."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*(p.arrays() for p in parts), strict=True)))

    @classmethod
    def header(cls) -> list[str]:
        """Column names of a CSV file of these rows."""
        return [name for item in fields(cls) for name in item.metadata.get("names", (item.name,))]


@dataclass(frozen=True)
class SceneRows(Rows):
    """One row per scene. GOSPA parts are p-th powers, metres^p: gospa^p = localisation + missed + false.

    The count that the estimator calls most probable, and its probability (-1, NaN: it gives none).
    """

    scene: IntArray
    snr_db: FloatArray
    snr_bin_db: FloatArray
    num_sources: IntArray
    num_estimated: IntArray
    num_matched: IntArray
    num_pegged: IntArray
    gospa: FloatArray = field(metadata=_named("gospa_m"))
    gospa_parts: FloatArray = field(
        metadata=_named("gospa_localisation_pow", "gospa_missed_pow", "gospa_false_pow")
    )
    probable_count: IntArray
    count_probability: FloatArray


@dataclass(frozen=True)
class SourceRows(Rows):
    """One row per true source, then one per estimate without a source (source = -1, truth NaN).

    `estimate` is the one assigned to the source, NaN where there were too few; `matched` says whether it lies
    inside the gate. error = estimate - truth (position: the distance), bound = the Cramer-Rao standard
    deviation, std = the estimator's own standard deviation, probability = what it gives the estimate;
    near: the estimate is paired with a source in the GOSPA distance of cut-off 2 m, which stated
        probabilities are of.
    """

    scene: IntArray
    source: IntArray
    snr_db: FloatArray
    snr_bin_db: FloatArray
    num_sources: IntArray
    num_estimated: IntArray
    matched: BoolArray
    pegged: BoolArray
    power_db: FloatArray
    coherence: FloatArray
    truth: FloatArray = field(metadata=_named(*COORDINATES, prefix="true_"))
    estimate: FloatArray = field(metadata=_named(*COORDINATES, prefix="estimated_"))
    error: FloatArray = field(metadata=_named(*QUANTITIES, prefix="error_"))
    bound: FloatArray = field(metadata=_named(*QUANTITIES, prefix="bound_"))
    std: FloatArray = field(metadata=_named(*COORDINATES, prefix="std_"))
    probability: FloatArray
    near: BoolArray


@dataclass(frozen=True)
class EstimatorRows:
    """The rows of one estimator: all scenes, all sources."""

    scenes: SceneRows
    sources: SourceRows

    @classmethod
    def concatenate(cls, parts: Sequence[EstimatorRows]) -> EstimatorRows:
        """The rows of consecutive chunks as one."""
        scenes = SceneRows.concatenate([part.scenes for part in parts])
        return cls(scenes, SourceRows.concatenate([part.sources for part in parts]))

    def cell(self, snr_db: float | None, num_sources: int | None) -> EstimatorRows:
        """The rows of one SNR bin and source count; None takes every one."""

        def inside(rows: SceneRows | SourceRows) -> BoolArray:
            snr = snr_db is None or rows.snr_bin_db == snr_db
            count = num_sources is None or rows.num_sources == num_sources
            return np.broadcast_to(np.logical_and(snr, count), len(rows))

        scenes, sources = self.scenes, self.sources
        return EstimatorRows(scenes.select(inside(scenes)), sources.select(inside(sources)))

"""The raw rows of an evaluation, one estimator's at a time: a row a scene and a row a source, as columns.

They hold everything the figures are computed from, in the units of a report: degrees, metres, decibels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from risctl.evaluation.positions import BoolArray, FloatArray, IntArray

COORDINATES = ("azimuth_deg", "elevation_deg", "range_m")
QUANTITIES = (*COORDINATES, "position_m")


def _columns(dtype: type, *names: str) -> dict[str, Any]:
    return {"dtype": dtype, "names": names}


def _prefixed(prefix: str, names: Sequence[str]) -> dict[str, Any]:
    return _columns(float, *(f"{prefix}_{name}" for name in names))


@dataclass(frozen=True)
class Rows:
    """Columns of equal length; a field of several columns is an array (rows, columns)."""

    def __len__(self) -> int:
        return len(next(iter(self.arrays())))

    def arrays(self) -> Iterator[npt.NDArray[Any]]:
        """Yield the fields in order."""
        for item in fields(self):
            yield getattr(self, item.name)

    def select(self, chosen: BoolArray) -> Self:
        """Return the rows where `chosen` is true."""
        return type(self)(*(array[chosen] for array in self.arrays()))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Return the rows of `parts` in order; at least one part."""
        return cls(*(np.concatenate(arrays) for arrays in zip(*(p.arrays() for p in parts), strict=True)))

    @classmethod
    def header(cls) -> list[str]:
        """Return the column names of a CSV file of these rows."""
        return [name for item in fields(cls) for name in item.metadata["names"]]


@dataclass(frozen=True)
class SceneRows(Rows):
    """One row a scene. GOSPA parts are p-th powers, metres^p: gospa^p = localisation + missed + false."""

    scene: IntArray = field(metadata=_columns(int, "scene"))
    snr_db: FloatArray = field(metadata=_columns(float, "snr_db"))
    snr_bin_db: FloatArray = field(metadata=_columns(float, "snr_bin_db"))
    num_sources: IntArray = field(metadata=_columns(int, "num_sources"))
    num_estimated: IntArray = field(metadata=_columns(int, "num_estimated"))
    num_matched: IntArray = field(metadata=_columns(int, "num_matched"))
    num_pegged: IntArray = field(metadata=_columns(int, "num_pegged"))
    gospa: FloatArray = field(metadata=_columns(float, "gospa_m"))
    gospa_parts: FloatArray = field(
        metadata=_columns(float, "gospa_localisation_pow", "gospa_missed_pow", "gospa_false_pow")
    )


@dataclass(frozen=True)
class SourceRows(Rows):
    """One row a true source, then one an estimate that no source was assigned to (source = -1, truth NaN).

    `estimate` is the one assigned to the source, NaN where there were too few; `matched` says whether it lies
    inside the gate. error = estimate - truth (position: the distance), bound = the Cramer-Rao standard
    deviation, std = the estimator's own standard deviation.
    """

    scene: IntArray = field(metadata=_columns(int, "scene"))
    source: IntArray = field(metadata=_columns(int, "source"))
    snr_db: FloatArray = field(metadata=_columns(float, "snr_db"))
    snr_bin_db: FloatArray = field(metadata=_columns(float, "snr_bin_db"))
    num_sources: IntArray = field(metadata=_columns(int, "num_sources"))
    num_estimated: IntArray = field(metadata=_columns(int, "num_estimated"))
    matched: BoolArray = field(metadata=_columns(bool, "matched"))
    pegged: BoolArray = field(metadata=_columns(bool, "pegged"))
    power_db: FloatArray = field(metadata=_columns(float, "power_db"))
    coherence: FloatArray = field(metadata=_columns(float, "coherence"))
    truth: FloatArray = field(metadata=_prefixed("true", COORDINATES))
    estimate: FloatArray = field(metadata=_prefixed("estimated", COORDINATES))
    error: FloatArray = field(metadata=_prefixed("error", QUANTITIES))
    bound: FloatArray = field(metadata=_prefixed("bound", QUANTITIES))
    std: FloatArray = field(metadata=_prefixed("std", COORDINATES))


@dataclass(frozen=True)
class EstimatorRows:
    """What one estimator did with every scene."""

    scenes: SceneRows
    sources: SourceRows

    @classmethod
    def concatenate(cls, parts: Sequence[EstimatorRows]) -> EstimatorRows:
        """Return the rows of consecutive chunks as one."""
        scenes = SceneRows.concatenate([part.scenes for part in parts])
        return cls(scenes, SourceRows.concatenate([part.sources for part in parts]))

    def cell(self, snr_db: float | None, num_sources: int | None) -> EstimatorRows:
        """Return the rows of one SNR bin and source count; None takes every one."""
        return EstimatorRows(
            self.scenes.select(_in_cell(self.scenes, snr_db, num_sources)),
            self.sources.select(_in_cell(self.sources, snr_db, num_sources)),
        )


def _in_cell(rows: SceneRows | SourceRows, snr_db: float | None, num_sources: int | None) -> BoolArray:
    chosen = np.ones(len(rows), dtype=bool)
    if snr_db is not None:
        chosen &= rows.snr_bin_db == snr_db
    if num_sources is not None:
        chosen &= rows.num_sources == num_sources
    return chosen

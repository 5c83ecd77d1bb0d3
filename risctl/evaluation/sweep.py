"""A sweep: one setting varied, everything else held, and where each estimator breaks.

The scenes of all points have one seed, and each ingredient of a scene is drawn from a stream of its own: a
setting changes what depends on it and leaves the rest of the scene as it was.
"""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import model_validator

from risctl.config.base import cross_field_error
from risctl.evaluation.results import Cell, OracleFigures, Record, Results, Timing, find
from risctl.evaluation.tables import Columns, TextTable, error_ratio, interval_text, number_text, row_name

SCHEMA_VERSION: Literal[1] = 1
HOLDS = 0.9  # of its best recall in the sweep: below it an estimator counts as broken


class SweepPoint(Record):
    """The figures at one value: cells over SNR, over source counts, and over both."""

    value: bool | int | float | str
    scenes: int
    cells: tuple[Cell, ...]
    references: tuple[OracleFigures, ...]
    timings: tuple[Timing, ...]

    def cell(self, name: str) -> Cell:
        """The cell of one estimator or reference over all SNR and counts."""
        return find(self.cells, estimator=name, snr_db=None, num_sources=None)

    def cpu_seconds(self, name: str) -> float | None:
        """CPU seconds per scene of one estimator or reference."""
        return find(self.timings, estimator=name).cpu_seconds_per_scene


class Break(Record):
    """Where an estimator's recall is below 90 % of its best in the sweep."""

    estimator: str
    best_recall: float | None
    broken_at: tuple[bool | int | float | str, ...]
    """The values, in the order of the sweep."""


class Sweep(Record):
    """One setting varied: the schema of `sweep_*.json`."""

    schema_version: Literal[1]
    key: str
    """The setting, as a dotted key; `physics.snr_db` is every scene's SNR."""
    estimators: tuple[str, ...]
    references: tuple[str, ...]
    """Oracles, not listed as estimators."""
    num_sources_known: bool
    snr_values_db: tuple[float, ...]
    """SNR of the scenes; empty where it is what varies."""
    gate_deg: float
    seed: int
    """Seed of the bootstrap."""
    covariance_fingerprint: str | None
    checkpoint: str | None
    points: tuple[SweepPoint, ...]
    breaks: tuple[Break, ...]

    @model_validator(mode="after")
    def _require_every_cell(self) -> Self:
        for i, point in enumerate(self.points):
            over_all = {c.estimator for c in point.cells if c.snr_db is None and c.num_sources is None}
            timed = {timing.estimator for timing in point.timings}
            for name in (*self.estimators, *self.references):
                if name not in over_all:
                    raise cross_field_error(f"points.{i}.cells", f"figures of {name} over all scenes", "none")
                if name not in timed:
                    raise cross_field_error(f"points.{i}.timings", f"the time of {name}", "none")
        return self


def assemble(key: str, values: Sequence[bool | int | float | str], results: Sequence[Results]) -> Sweep:
    """The sweep of `key` over `values` from the figures at each of them (at least one)."""
    points = tuple(
        SweepPoint(
            value=value,
            scenes=found.scenes,
            cells=tuple(cell for cell in found.cells if cell.snr_db is None or cell.num_sources is None),
            references=found.references,
            timings=found.timings,
        )
        for value, found in zip(values, results, strict=True)
    )
    first = results[0]
    bins = {found.snr_values_db for found in results}
    breaks = []
    for name in first.estimators:
        recalls = {point.value: point.cell(name).recall.value for point in points}
        known = {value: recall for value, recall in recalls.items() if recall is not None}
        best = max(known.values(), default=0.0)
        broken = tuple(value for value, recall in known.items() if recall < HOLDS * best)
        breaks.append(Break(estimator=name, best_recall=best if known else None, broken_at=broken))
    return Sweep(
        schema_version=SCHEMA_VERSION,
        key=key,
        estimators=first.estimators,
        references=tuple(reference.name for reference in first.references),
        num_sources_known=first.num_sources_known,
        snr_values_db=first.snr_values_db if len(bins) == 1 else (),
        gate_deg=first.gate_deg,
        seed=first.seed,
        covariance_fingerprint=first.covariance_fingerprint,
        checkpoint=first.checkpoint,
        points=points,
        breaks=tuple(breaks),
    )


def sweep_table(sweep: Sweep) -> TextTable:
    """Recall, count, RMSE over bound and time, by estimator and value."""
    broken = {(entry.estimator, value) for entry in sweep.breaks for value in entry.broken_at}
    columns: Columns[tuple[str, SweepPoint, Cell]] = (
        ("estimator", lambda row: row_name(row[0], sweep.estimators)),
        (sweep.key.rpartition(".")[2], lambda row: value_text(row[1].value)),
        ("recall", lambda row: interval_text(row[2].recall)),
        ("K right", lambda row: interval_text(row[2].count_accuracy)),
        ("azimuth", lambda row: error_ratio(row[2].azimuth_deg)),
        ("elevation", lambda row: error_ratio(row[2].elevation_deg)),
        ("range", lambda row: error_ratio(row[2].range_m)),
        ("CPU s per scene", lambda row: number_text(row[1].cpu_seconds(row[0]))),
        ("", lambda row: "*" if (row[0], row[1].value) in broken else ""),
    )
    names = (*sweep.estimators, *sweep.references)
    rows = [(name, point, point.cell(name)) for name in names for point in sweep.points]
    note = (
        f"recall within {sweep.gate_deg:g} deg; azimuth .. range: RMSE over bound of matched sources; "
        f"*: recall below {100 * HOLDS:g} % of the estimator's best here"
    )
    scenes = " or ".join(map(str, sorted({point.scenes for point in sweep.points})))
    return TextTable.of(f"{sweep.key}, {scenes} scenes per value", columns, rows, note)


def sweep_headline(sweep: Sweep) -> str:
    """Where each estimator breaks, in a line."""
    sentences = []
    for entry in sweep.breaks:
        at = ", ".join(map(value_text, entry.broken_at))
        where = f"below {100 * HOLDS:g} % of that at {at}" if at else "holds throughout"
        sentences.append(f"{entry.estimator} recall {number_text(entry.best_recall)} at best, {where}")
    return f"{sweep.key}: " + "; ".join(sentences)


def value_text(value: bool | int | float | str) -> str:
    """A swept value as a person writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)

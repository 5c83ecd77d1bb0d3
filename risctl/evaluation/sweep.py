"""A sweep: one setting varied, everything else held, and where each estimator breaks.

The scenes of all points have one seed, and each ingredient of a scene is drawn from a stream of its own: a
setting changes what depends on it and leaves the rest of the scene as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from risctl.evaluation.results import Cell, Record, ReferenceFigures, Results, Timing
from risctl.evaluation.tables import TextTable, error_ratio, interval_text, number_text

SCHEMA_VERSION: Literal[1] = 1
HOLDS = 0.9  # of its best recall in the sweep: below it an estimator counts as broken


class SweepPoint(Record):
    """The figures at one value: cells over SNR, over source counts, and over both."""

    value: bool | int | float | str
    scenes: int
    cells: tuple[Cell, ...]
    references: tuple[ReferenceFigures, ...]
    timings: tuple[Timing, ...]

    def cell(self, name: str) -> Cell:
        """Return the cell of one estimator or reference over all SNR and counts."""
        for cell in self.cells:
            if (cell.estimator, cell.snr_db, cell.num_sources) == (name, None, None):
                return cell
        raise KeyError(name)

    def cpu_seconds(self, name: str) -> float | None:
        """Return the CPU seconds a scene of one estimator or reference."""
        return next(t.cpu_seconds_per_scene for t in self.timings if t.estimator == name)


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
    """What was told the truth: no estimators."""
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


def assemble(key: str, values: Sequence[bool | int | float | str], results: Sequence[Results]) -> Sweep:
    """Return the sweep of `key` over `values` from the figures at each of them (at least one)."""
    points = tuple(_point(value, found) for value, found in zip(values, results, strict=True))
    first = results[0]
    bins = {found.snr_values_db for found in results}
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
        breaks=tuple(_break(name, points) for name in first.estimators),
    )


def _point(value: bool | int | float | str, results: Results) -> SweepPoint:
    margins = tuple(cell for cell in results.cells if cell.snr_db is None or cell.num_sources is None)
    return SweepPoint(
        value=value,
        scenes=results.scenes,
        cells=margins,
        references=results.references,
        timings=results.timings,
    )


def _break(name: str, points: Sequence[SweepPoint]) -> Break:
    recalls = [point.cell(name).recall.value for point in points]
    best = max((recall for recall in recalls if recall is not None), default=None)
    broken = tuple(
        point.value
        for point, recall in zip(points, recalls, strict=True)
        if best is not None and recall is not None and recall < HOLDS * best
    )
    return Break(estimator=name, best_recall=best, broken_at=broken)


def sweep_table(sweep: Sweep) -> TextTable:
    """Return recall, count, RMSE over bound and time: a row an estimator and value."""
    name = sweep.key.rpartition(".")[2]
    columns = ("estimator", name, "recall", "K right", "azimuth", "elevation", "range", "CPU s a scene", "")
    broken = {(entry.estimator, value) for entry in sweep.breaks for value in entry.broken_at}
    rows = tuple(
        (
            estimator if estimator in sweep.estimators else f"{estimator} (reference)",
            value_text(point.value),
            interval_text(point.cell(estimator).recall),
            interval_text(point.cell(estimator).count_accuracy),
            *_ratios(point.cell(estimator)),
            number_text(point.cpu_seconds(estimator)),
            "broken" if (estimator, point.value) in broken else "",
        )
        for estimator in (*sweep.estimators, *sweep.references)
        for point in sweep.points
    )
    note = (
        f"recall within {sweep.gate_deg:g} deg; azimuth .. range: RMSE over bound of matched sources; "
        f"broken: recall below {100 * HOLDS:g} % of the estimator's best here"
    )
    scenes = sorted({point.scenes for point in sweep.points})
    return TextTable(f"{sweep.key}, {' or '.join(map(str, scenes))} scenes a value", columns, rows, note)


def _ratios(cell: Cell) -> tuple[str, ...]:
    return tuple(error_ratio(stats) for stats in (cell.azimuth_deg, cell.elevation_deg, cell.range_m))


def sweep_headline(sweep: Sweep) -> str:
    """Return where each estimator breaks, in a line."""
    return f"{sweep.key}: " + "; ".join(_sentence(entry) for entry in sweep.breaks)


def _sentence(entry: Break) -> str:
    best = f"{entry.estimator} recall {number_text(entry.best_recall)} at best"
    if not entry.broken_at:
        return f"{best}, holds throughout"
    return f"{best}, breaks at {', '.join(map(value_text, entry.broken_at))}"


def value_text(value: bool | int | float | str) -> str:
    """Return a swept value as a person writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)

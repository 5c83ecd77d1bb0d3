"""The tables a console shows, as plain text cells: no layout, no colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from risctl.evaluation.references import ANGLE_TARGET, EDGE_TARGET, RANGE_TARGET
from risctl.evaluation.results import Cell, ErrorStats, Interval, ReferenceFigures, Results

NOTHING = "–"


@dataclass(frozen=True)
class TextTable:
    """A table of text; a row has as many cells as there are columns. `note` says how to read it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def detection_table(results: Results, num_sources: int | None = None) -> TextTable:
    """Return source counts, recall and precision with their intervals, GOSPA: a row an estimator and SNR."""
    columns = ("estimator", "SNR dB", "scenes", "K right", "recall", "precision", "GOSPA m", "at edge")
    known = "K given" if results.num_sources_known else "K estimated"
    return TextTable(
        title=f"Sources found ({known}, {_counts(num_sources)})",
        columns=columns,
        rows=tuple(_detection_row(cell) for cell in _over_snr(results, num_sources)),
        note=f"recall and precision within {results.gate_deg:g} deg in azimuth and elevation; "
        f"[95 % bootstrap]; GOSPA cut-off {results.gospa_cutoff_m:g} m, p {results.gospa_power:g}",
    )


def accuracy_table(results: Results, num_sources: int | None = None) -> TextTable:
    """Return RMSE beside the bound of the same sources, and the ratio: a row an estimator and SNR."""
    columns = ("estimator", "SNR dB", "left out", "azimuth deg", "elevation deg", "range m", "position m")
    return TextTable(
        title=f"RMSE / Cramer-Rao bound (ratio), matched sources, {_counts(num_sources)}",
        columns=columns,
        rows=tuple(_accuracy_row(cell) for cell in _over_snr(results, num_sources)),
        note="bound: root mean variance, same sources; left out: sources without an estimate inside the gate",
    )


def median_table(results: Results, num_sources: int | None = None) -> TextTable:
    """Return median errors beside median bounds, and how well the stated deviations cover the errors."""
    columns = ("estimator", "SNR dB", "azimuth deg", "elevation deg", "range m", "position m", "1σ", "2σ")
    return TextTable(
        title=f"Median error / median bound, matched sources, {_counts(num_sources)}",
        columns=columns,
        rows=tuple(_median_row(cell) for cell in _over_snr(results, num_sources)),
        note="1σ, 2σ: share of azimuth errors within the estimator's own deviation (Gaussian: 68 %, 95 %)",
    )


def count_table(results: Results, snr_db: float | None = None) -> TextTable:
    """Return the same figures by number of sources, in one SNR bin (None: all)."""
    cells = [results.cell(name, snr_db, k) for name in results.estimators for k in _true_counts(results)]
    rows = tuple(
        (
            cell.estimator,
            str(cell.num_sources),
            str(cell.scenes),
            interval_text(cell.count_accuracy),
            interval_text(cell.recall),
            *(error_ratio(stats) for stats in _errors(cell)),
        )
        for cell in cells
    )
    columns = ("estimator", "K", "scenes", "K right", "recall", "azimuth", "elevation", "range", "position")
    where = "all SNR" if snr_db is None else f"{snr_db:g} dB"
    return TextTable(f"By number of sources, {where}", columns, rows, "azimuth .. position: RMSE over bound")


def closeness_table(results: Results) -> TextTable:
    """Return recall and RMSE over bound by coherence with the nearest neighbour; empty bins are left out."""
    columns = ("estimator", "coherence", "sources", "recall", "azimuth", "elevation", "range")
    rows = tuple(
        (
            cell.estimator,
            f"{cell.coherence_low:.1f} - {cell.coherence_high:.1f}" if cell.coherence_high else "alone",
            str(cell.true_sources),
            _share(cell.recall),
            *(_share(ratio) for ratio in (cell.azimuth_ratio, cell.elevation_ratio, cell.range_ratio)),
        )
        for cell in results.closeness
        if cell.true_sources
    )
    note = (
        "coherence: largest |a_i^H a_j| with another source of the scene; azimuth .. range: RMSE over bound"
    )
    return TextTable("By closeness of sources, all SNR and K", columns, rows, note)


def reference_table(results: Results) -> TextTable:
    """Return what was told the truth: a row a reference; none without one."""
    columns = (
        "reference",
        "told",
        "scenes",
        "median angle deg",
        "median range m",
        "at edge",
        "truth at edge",
        "targets",
    )
    rows = tuple(
        (
            reference.name,
            reference.told,
            str(reference.scenes),
            number_text(reference.median_angle_deg),
            number_text(reference.median_range_m),
            _percent(reference.edge_pegged_share),
            _percent(reference.edge_share_of_truth),
            "met" if reference.met else "missed",
        )
        for reference in results.references
    )
    note = (
        "no estimator: it sees the truth, no snapshot and no noise; what error is left is the search's own. "
        f"Targets: {ANGLE_TARGET:g} deg, {RANGE_TARGET:g} m, {100 * EDGE_TARGET:g} %"
    )
    return TextTable("Reference, all SNR and K", columns, rows, note)


def timing_table(results: Results) -> TextTable:
    """Return CPU seconds a scene of each estimator."""
    columns = ("estimator", "CPU s a scene", "elapsed s a scene", "workers", "threads each", "device")
    rows = tuple(
        (
            timing.estimator if timing.estimator in results.estimators else f"{timing.estimator} (reference)",
            number_text(timing.cpu_seconds_per_scene),
            number_text(timing.wall_seconds / timing.scenes if timing.scenes else None),
            str(timing.workers),
            str(timing.threads_per_worker),
            timing.device,
        )
        for timing in results.timings
    )
    return TextTable("Time of the estimators' own calls", columns, rows)


def headline(results: Results) -> str:
    """Return the one-line summary at the highest SNR with scenes: azimuth and range beside the bound."""
    cells = [_highest(results, name) for name in results.estimators]
    told = [_reference_sentence(reference) for reference in results.references]
    return "; ".join([_sentence(cell) for cell in cells if cell is not None] + told) or "no scenes"


def _reference_sentence(reference: ReferenceFigures) -> str:
    return (
        f"{reference.name} (a reference, told the truth): median angle error "
        f"{number_text(reference.median_angle_deg)} deg, range {number_text(reference.median_range_m)} m, "
        f"{_percent(reference.edge_pegged_share)} at an edge"
    )


def _sentence(cell: Cell) -> str:
    azimuth, range_ = cell.azimuth_deg, cell.range_m
    return (
        f"{cell.estimator} at {cell.snr_db:g} dB: azimuth {number_text(azimuth.rmse)} deg (bound "
        f"{number_text(azimuth.bound)}), range {number_text(range_.rmse)} m (bound "
        f"{number_text(range_.bound)}), "
        f"recall {_share(cell.recall.value)}, K right {_share(cell.count_accuracy.value)}"
    )


def _highest(results: Results, estimator: str) -> Cell | None:
    cells = [results.cell(estimator, snr) for snr in results.snr_values_db]
    return next((cell for cell in reversed(cells) if cell.scenes), None)


def _over_snr(results: Results, num_sources: int | None) -> list[Cell]:
    """Return the cells of each estimator by SNR, then over all; bins without scenes are left out."""
    bins = (*results.snr_values_db, None)
    cells = [results.cell(name, snr, num_sources) for name in results.estimators for snr in bins]
    return [cell for cell in cells if cell.scenes]


def _detection_row(cell: Cell) -> tuple[str, ...]:
    return (
        cell.estimator,
        _snr(cell),
        str(cell.scenes),
        interval_text(cell.count_accuracy),
        interval_text(cell.recall),
        interval_text(cell.precision),
        number_text(cell.gospa.mean),
        _percent(cell.edge_pegged_share),
    )


def _accuracy_row(cell: Cell) -> tuple[str, ...]:
    errors = (
        f"{number_text(stats.rmse)} / {number_text(stats.bound)} ({error_ratio(stats)})"
        if stats.sources
        else NOTHING
        for stats in _errors(cell)
    )
    return cell.estimator, _snr(cell), _percent(cell.left_out_share), *errors


def _median_row(cell: Cell) -> tuple[str, ...]:
    errors = (
        f"{number_text(stats.median_error)} / {number_text(stats.median_bound)}" if stats.sources else NOTHING
        for stats in _errors(cell)
    )
    stats = cell.azimuth_deg
    return cell.estimator, _snr(cell), *errors, _percent(stats.within_1_sigma), _percent(stats.within_2_sigma)


def _errors(cell: Cell) -> Sequence[ErrorStats]:
    return cell.azimuth_deg, cell.elevation_deg, cell.range_m, cell.position_m


def _true_counts(results: Results) -> list[int]:
    return sorted({cell.num_sources for cell in results.cells if cell.num_sources is not None})


def _counts(num_sources: int | None) -> str:
    return "all K" if num_sources is None else f"K = {num_sources}"


def _snr(cell: Cell) -> str:
    return "all" if cell.snr_db is None else f"{cell.snr_db:g}"


def interval_text(figure: Interval) -> str:
    """Return a share and its interval."""
    if figure.low is None or figure.high is None:
        return _share(figure.value)
    return f"{_share(figure.value)} [{_share(figure.low)}, {_share(figure.high)}]"


def error_ratio(stats: ErrorStats) -> str:
    """Return RMSE over bound."""
    return _share(stats.ratio.value)


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f} %"


def number_text(value: float | None) -> str:
    """Return a number to three digits, a dash for none."""
    return NOTHING if value is None else f"{value:.3g}"

"""The tables of an evaluation as plain text cells: no layout, no colour.

A column is its heading and the text of its cell, side by side: a new figure is one entry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from risctl.evaluation.metrics import ANGLE_TARGET, EDGE_TARGET, RANGE_TARGET
from risctl.evaluation.results import (
    CalibrationError,
    Cell,
    ClosenessCell,
    ErrorStats,
    Interval,
    OracleFigures,
    Results,
    Timing,
)
from risctl.evaluation.rows import QUANTITIES

TRUSTED_RECALL = 0.9  # below it errors are those of the easier sources only
WEAK = "*"
MARK = f"{WEAK}: recall below {TRUSTED_RECALL:g}, the easier sources only"
NOTHING = "–"
Item = TypeVar("Item")
Columns: TypeAlias = Sequence[tuple[str, Callable[[Item], str]]]


@dataclass(frozen=True)
class TextTable:
    """A table of text; a row has as many cells as there are columns. `note` says how to read it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    @classmethod
    def of(cls, title: str, columns: Columns[Item], items: Iterable[Item], note: str = "") -> TextTable:
        """One row per item."""
        headings = tuple(heading for heading, _ in columns)
        return cls(title, headings, tuple(tuple(text(item) for _, text in columns) for item in items), note)


def number_text(value: float | None) -> str:
    """A number to three digits, a dash for none."""
    return NOTHING if value is None else f"{value:.3g}"


def interval_text(figure: Interval) -> str:
    """A share and its interval."""
    if figure.low is None or figure.high is None:
        return share_text(figure.value)
    return f"{share_text(figure.value)} [{share_text(figure.low)}, {share_text(figure.high)}]"


def error_ratio(stats: ErrorStats) -> str:
    """RMSE over bound."""
    return share_text(stats.ratio.value)


def share_text(value: float | None) -> str:
    """A number to two decimal places, a dash for none."""
    return NOTHING if value is None else f"{value:.2f}"


def _thousandths(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.1f} %"


def _rmse(stats: ErrorStats) -> str:
    text = f"{number_text(stats.rmse)} / {number_text(stats.bound)} ({error_ratio(stats)})"
    return text if stats.sources else NOTHING


def _median(stats: ErrorStats) -> str:
    text = f"{number_text(stats.median_error)} / {number_text(stats.median_bound)}"
    return text if stats.sources else NOTHING


def _marked(text: str, cell: Cell) -> str:
    """The text with a mark, which is shown grey, where the figures are those of the easier sources only."""
    recall = cell.recall.value
    return f"{text}{WEAK}" if text != NOTHING and (recall is None or recall < TRUSTED_RECALL) else text


def _coherence(cell: ClosenessCell) -> str:
    return f"{cell.coherence_low:.1f} - {cell.coherence_high:.1f}" if cell.coherence_high else "alone"


def _errors(text: Callable[[ErrorStats], str], unit: bool = True) -> Columns[Cell]:
    """A column per coordinate, and one of the position."""

    def column(name: str) -> tuple[str, Callable[[Cell], str]]:
        heading = name.replace("_", " ") if unit else name.partition("_")[0]
        return heading, lambda cell: _marked(text(getattr(cell, name)), cell)

    return [column(name) for name in QUANTITIES]


WHERE: Columns[Cell] = (
    ("estimator", lambda cell: cell.estimator),
    ("SNR dB", lambda cell: "all" if cell.snr_db is None else f"{cell.snr_db:g}"),
)
RATES: Columns[Cell] = (
    ("scenes", lambda cell: str(cell.scenes)),
    ("K right", lambda cell: interval_text(cell.count_accuracy)),
    ("recall", lambda cell: interval_text(cell.recall)),
)
DETECTION: Columns[Cell] = (
    *WHERE,
    *RATES,
    ("precision", lambda cell: interval_text(cell.precision)),
    ("GOSPA m", lambda cell: number_text(cell.gospa.mean)),
    ("at edge", lambda cell: _percent(cell.edge_pegged_share)),
)
ACCURACY: Columns[Cell] = (
    *WHERE,
    ("left out", lambda cell: _percent(cell.left_out_share)),
    *_errors(_rmse),
)
MEDIANS: Columns[Cell] = (
    *WHERE,
    *_errors(_median),
    ("1σ", lambda cell: _percent(cell.azimuth_deg.within_1_sigma)),
    ("2σ", lambda cell: _percent(cell.azimuth_deg.within_2_sigma)),
)
COUNTS: Columns[Cell] = (
    WHERE[0],
    ("K", lambda cell: str(cell.num_sources)),
    *RATES,
    *_errors(error_ratio, unit=False),
)
CLOSENESS: Columns[ClosenessCell] = (
    ("estimator", lambda cell: cell.estimator),
    ("coherence", _coherence),
    ("sources", lambda cell: str(cell.true_sources)),
    ("recall", lambda cell: share_text(cell.recall)),
    ("azimuth", lambda cell: share_text(cell.azimuth_ratio)),
    ("elevation", lambda cell: share_text(cell.elevation_ratio)),
    ("range", lambda cell: share_text(cell.range_ratio)),
)
CALIBRATION: Columns[CalibrationError] = (
    ("estimator", lambda line: line.estimator),
    ("SNR dB", lambda line: "all" if line.snr_db is None else f"{line.snr_db:g}"),
    ("source", lambda line: _thousandths(line.source)),
    ("K", lambda line: _thousandths(line.count)),
)
ORACLES: Columns[OracleFigures] = (
    ("reference", lambda oracle: oracle.name),
    ("side information", lambda oracle: oracle.side_information),
    ("scenes", lambda oracle: str(oracle.scenes)),
    ("median angle deg", lambda oracle: number_text(oracle.median_angle_deg)),
    ("median range m", lambda oracle: number_text(oracle.median_range_m)),
    ("at edge", lambda oracle: _percent(oracle.edge_pegged_share)),
    ("truth at edge", lambda oracle: _percent(oracle.edge_share_of_truth)),
    ("targets", lambda oracle: "met" if oracle.met else "missed"),
)


def detection_table(results: Results) -> TextTable:
    """Source counts, recall and precision with their intervals, GOSPA, by estimator and SNR."""
    known = "K given" if results.num_sources_known else "K estimated"
    note = (
        f"recall and precision within {results.gate_deg:g} deg in azimuth and elevation; [95 % bootstrap]; "
        f"GOSPA cut-off {results.gospa_cutoff_m:g} m, p {results.gospa_power:g}"
    )
    return TextTable.of(f"Sources found ({known}, all K)", DETECTION, _over_snr(results), note)


def accuracy_table(results: Results) -> TextTable:
    """RMSE beside the bound of the same sources, and the ratio, by estimator and SNR."""
    title = "RMSE / Cramer-Rao bound (ratio), matched sources, all K"
    note = f"bound: root mean variance, same sources; left out: sources not found; {MARK}"
    return TextTable.of(title, ACCURACY, _over_snr(results), note)


def median_table(results: Results) -> TextTable:
    """Median errors beside median bounds, and how well the stated deviations cover the errors."""
    title = "Median error / median bound, matched sources, all K"
    note = f"1σ, 2σ: share of azimuth errors within the stated deviation (Gaussian: 68 %, 95 %); {MARK}"
    return TextTable.of(title, MEDIANS, _over_snr(results), note)


def count_table(results: Results) -> TextTable:
    """Detection and accuracy by number of sources, over all SNR."""
    cells = [results.cell(name, None, count) for name in results.estimators for count in results.counts]
    note = f"azimuth .. position: RMSE over bound; {MARK}"
    return TextTable.of("By number of sources, all SNR", COUNTS, cells, note)


def calibration_table(results: Results) -> TextTable:
    """Expected calibration error of the probabilities, by estimator and SNR; no row without a probability."""
    note = (
        "mean |stated - observed| in ten bins; source: a true one within 2 m of a report; "
        "K: the most probable number of sources is right"
    )
    stated = [line for line in results.calibration if line.source is not None or line.count is not None]
    return TextTable.of("Calibration error of the stated probabilities", CALIBRATION, stated, note)


def closeness_table(results: Results) -> TextTable:
    """Recall and RMSE over bound by coherence with the nearest neighbour; empty bins are left out."""
    cells = [cell for cell in results.closeness if cell.true_sources and cell.estimator in results.estimators]
    note = (
        "coherence: largest |a_i^H a_j| with another source of the scene; azimuth .. range: RMSE over bound"
    )
    return TextTable.of("By closeness of sources, all SNR and K", CLOSENESS, cells, note)


def reference_table(results: Results) -> TextTable:
    """Figures of the oracles; no row without one."""
    note = (
        "no estimator: it sees the truth, no snapshot and no noise; what error is left is the search's own. "
        f"Targets: {ANGLE_TARGET:g} deg, {RANGE_TARGET:g} m, {100 * EDGE_TARGET:g} %"
    )
    return TextTable.of("Reference, all SNR and K", ORACLES, results.references, note)


def timing_table(results: Results) -> TextTable:
    """CPU and elapsed seconds per scene of each estimator; dashes for answers read from a file."""

    def elapsed(timing: Timing) -> str:
        seconds = timing.wall_seconds
        return number_text(seconds / timing.scenes if seconds is not None and timing.scenes else None)

    columns: Columns[Timing] = (
        ("estimator", lambda timing: row_name(timing.estimator, results.estimators)),
        ("CPU s per scene", lambda timing: number_text(timing.cpu_seconds_per_scene)),
        ("elapsed s per scene", elapsed),
        ("workers", lambda timing: str(timing.workers)),
        ("threads each", lambda timing: str(timing.threads_per_worker)),
        ("device", lambda timing: timing.device),
    )
    return TextTable.of("Time of the estimators' own calls", columns, results.timings)


def row_name(name: str, estimators: Sequence[str]) -> str:
    """The name as it stands in a table beside the estimators."""
    return name if name in estimators else f"{name} (reference)"


def headline(results: Results) -> str:
    """The result in a line: azimuth error over the bound at the highest SNR, GOSPA and count over all."""
    names = [name for name in results.estimators if results.cell(name).scenes]
    sentences = []
    for snr in [snr for snr in results.snr_values_db if names and results.cell(names[0], snr).scenes][-1:]:
        cells = [results.cell(name, snr) for name in names]
        bound = max((c.azimuth_deg.bound for c in cells if c.azimuth_deg.bound is not None), default=None)
        ratios = ", ".join(f"{c.estimator} {error_ratio(c.azimuth_deg)}" for c in cells)
        sentences.append(f"azimuth error / bound at {snr:g} dB: {ratios} (bound {number_text(bound)} deg)")
    if names:
        whole = [results.cell(name) for name in names]
        gospa = ", ".join(f"{c.estimator} {share_text(c.gospa.mean)}" for c in whole)
        right = ", ".join(f"{c.estimator} {share_text(c.count_accuracy.value)}" for c in whole)
        sentences += [f"GOSPA (m): {gospa}", f"K right: {right}"]
    sentences += [
        f"{oracle.name} (a reference, given {oracle.side_information}): median angle error "
        f"{number_text(oracle.median_angle_deg)} deg, range {number_text(oracle.median_range_m)} m, "
        f"{_percent(oracle.edge_pegged_share)} at an edge"
        for oracle in results.references
    ]
    return "; ".join(sentences) or "no scenes"


def _over_snr(results: Results) -> list[Cell]:
    """Cells of each estimator by SNR, then over all; bins without scenes are left out."""
    bins = (*results.snr_values_db, None)
    cells = [results.cell(name, snr) for name in results.estimators for snr in bins]
    return [cell for cell in cells if cell.scenes]

"""All tables of an evaluation, and the small one: a row an estimator, what a reader asks first."""

from collections.abc import Callable

from risctl.evaluation.results import Cell, Results, find
from risctl.evaluation.tables import (
    NOTHING,
    TRUSTED_RECALL,
    Columns,
    TextTable,
    accuracy_table,
    calibration_table,
    closeness_table,
    count_table,
    detection_table,
    median_table,
    reference_table,
    share_text,
    timing_table,
)

SNRS = (0.0, 10.0, 20.0)


def summary_table(results: Results) -> TextTable:
    """Recall at a few SNR, count, GOSPA and precision over all, error over bound and time by estimator.

    The error is azimuth RMSE over the bound at the highest SNR; a dash where recall there is below 0.9.
    """
    snr = [value for value in SNRS if value in results.snr_values_db] or list(results.snr_values_db[-1:])
    recalls = [f"{'' if at else 'recall '}{value:g} dB" for at, value in enumerate(snr)]
    top = max(results.snr_values_db)
    columns: Columns[str] = (
        ("estimator", lambda name: name),
        *((name, _share(results, "recall", value)) for name, value in zip(recalls, snr, strict=True)),
        ("precision", _share(results, "precision")),
        ("K right", _share(results, "count_accuracy")),
        ("GOSPA m", lambda name: share_text(results.cell(name).gospa.mean)),
        ("ratio", lambda name: _ratio(results.cell(name, top))),
        ("ms", lambda name: _milliseconds(results, name)),
    )
    names = [name for name in results.estimators if results.cell(name).scenes]
    note = f"others over all SNR; ratio: azimuth RMSE / bound at {top:g} dB; ms: CPU per scene"
    return TextTable.of("At a glance", columns, names, note)


def _share(results: Results, figure: str, snr_db: float | None = None) -> Callable[[str], str]:
    def text(name: str) -> str:
        value = getattr(results.cell(name, snr_db), figure).value
        return NOTHING if value is None else f"{value:.2f}"

    return text


def _ratio(cell: Cell) -> str:
    ratio, recall = cell.azimuth_deg.ratio.value, cell.recall.value
    return NOTHING if ratio is None or recall is None or recall < TRUSTED_RECALL else f"{ratio:.2f}"


def _milliseconds(results: Results, name: str) -> str:
    seconds = find(results.timings, estimator=name).cpu_seconds_per_scene
    return NOTHING if seconds is None else f"{1000 * seconds:.0f}"


def evaluation_tables(results: Results) -> list[TextTable]:
    """The tables of an evaluation: detection, calibration, errors and bounds, counts, oracles, time."""
    found = (detection_table, calibration_table, accuracy_table, median_table, count_table, closeness_table)
    return [table(results) for table in (*found, reference_table, timing_table)]

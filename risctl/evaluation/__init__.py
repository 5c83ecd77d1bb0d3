"""Evaluation: matching, figures against the Cramer-Rao bound, GOSPA, intervals, tables, pictures."""

from risctl.evaluation.answers import read_answers
from risctl.evaluation.external import ExternalEstimator
from risctl.evaluation.files import (
    StoredPoint,
    read_point,
    read_results,
    sweep_stem,
    write_evaluation,
    write_point,
    write_sweep,
)
from risctl.evaluation.positions import Positions
from risctl.evaluation.results import Results
from risctl.evaluation.rows import SourceRows
from risctl.evaluation.run import Evaluation, evaluate
from risctl.evaluation.sweep import Sweep, assemble, sweep_headline, sweep_table, value_text
from risctl.evaluation.tables import (
    TextTable,
    accuracy_table,
    calibration_table,
    closeness_table,
    count_table,
    detection_table,
    headline,
    median_table,
    reference_table,
    timing_table,
)

__all__ = [
    "Evaluation",
    "ExternalEstimator",
    "Positions",
    "Results",
    "SourceRows",
    "StoredPoint",
    "Sweep",
    "TextTable",
    "accuracy_table",
    "assemble",
    "calibration_table",
    "closeness_table",
    "count_table",
    "detection_table",
    "evaluate",
    "headline",
    "median_table",
    "read_answers",
    "read_point",
    "read_results",
    "reference_table",
    "sweep_headline",
    "sweep_stem",
    "sweep_table",
    "timing_table",
    "value_text",
    "write_evaluation",
    "write_point",
    "write_sweep",
]

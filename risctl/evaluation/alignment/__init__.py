"""Proof that training and inference compute the same covariances, and that the proof would notice if not."""

from risctl.evaluation.alignment.check import check_alignment, spot_check
from risctl.evaluation.alignment.mutants import MutantResult, count_mutants, self_test
from risctl.evaluation.alignment.report import Finding, Report
from risctl.evaluation.alignment.sides import TwoSides

__all__ = [
    "Finding",
    "MutantResult",
    "Report",
    "TwoSides",
    "check_alignment",
    "count_mutants",
    "self_test",
    "spot_check",
]

"""Proof that training and inference compute the same covariances, and that the proof would notice if not."""

from risctl.evaluation.alignment.check import check_alignment, spot_check
from risctl.evaluation.alignment.mutants import Verdict, count_mutants, self_test
from risctl.evaluation.alignment.report import Finding, Report
from risctl.evaluation.alignment.subject import Subject

__all__ = [
    "Finding",
    "Report",
    "Subject",
    "Verdict",
    "check_alignment",
    "count_mutants",
    "self_test",
    "spot_check",
]

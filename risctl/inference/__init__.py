"""Positions from measurements: likelihoods, grids, estimators, source counting."""

from risctl.inference.build import build_estimator, build_oracle
from risctl.inference.ceiling import Ceiling, Oracle
from risctl.inference.estimates import Estimates, Estimator, GeneralEstimator
from risctl.inference.learned import LearnedEstimator, build_learned

__all__ = [
    "Ceiling",
    "Estimates",
    "Estimator",
    "GeneralEstimator",
    "LearnedEstimator",
    "Oracle",
    "build_estimator",
    "build_learned",
    "build_oracle",
]

"""Positions from measurements: likelihoods, grids, classical estimators, source counting."""

from risctl.inference.build import ESTIMATORS, build_estimator
from risctl.inference.ceiling import CEILING, Ceiling, Reference, build_ceiling
from risctl.inference.estimates import Estimates, Estimator
from risctl.inference.learned import LearnedEstimator, build_learned

__all__ = [
    "CEILING",
    "ESTIMATORS",
    "Ceiling",
    "Estimates",
    "Estimator",
    "LearnedEstimator",
    "Reference",
    "build_ceiling",
    "build_estimator",
    "build_learned",
]

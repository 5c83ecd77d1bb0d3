"""Positions from measurements: likelihoods, grids, classical estimators, source counting."""

from risctl.inference.build import ESTIMATORS, build_estimator
from risctl.inference.estimates import Estimates, Estimator
from risctl.inference.learned import LearnedEstimator, build_learned

__all__ = ["ESTIMATORS", "Estimates", "Estimator", "LearnedEstimator", "build_estimator", "build_learned"]

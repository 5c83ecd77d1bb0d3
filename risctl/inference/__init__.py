"""Positions from measurements: likelihoods, grids, classical estimators, source counting."""

from risctl.inference.build import ESTIMATORS, build_estimator
from risctl.inference.estimates import Estimates, Estimator

__all__ = ["ESTIMATORS", "Estimates", "Estimator", "build_estimator"]

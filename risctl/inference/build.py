"""Estimators by name, each from the sections of the configuration that it reads."""

from __future__ import annotations

import torch

from risctl.config import CovarianceConfig, InferenceConfig, PhysicsConfig
from risctl.errors import InputError
from risctl.inference.count import CountRule
from risctl.inference.estimates import Estimator
from risctl.inference.greedy import Search
from risctl.inference.music import MusicEstimator
from risctl.inference.nomp import NompEstimator
from risctl.inference.sbl import SblEstimator
from risctl.physics import ArrayGeometry, FieldOfView
from risctl.physics.grid import PolarGrid

ESTIMATORS = ("nomp", "music", "sbl")


def build_estimator(
    name: str,
    physics: PhysicsConfig,
    covariance: CovarianceConfig,
    inference: InferenceConfig,
    device: torch.device | str = "cpu",
) -> Estimator:
    """The classical estimator `name` for a surface.

    Raises:
        InputError: if there is no estimator of that name.
    """
    geometry = ArrayGeometry.from_config(physics, device)
    search = Search(geometry, FieldOfView.from_config(physics))
    rule = CountRule.of(physics, inference.count_rule, inference.count_price)
    if name == "sbl":
        return SblEstimator(search, rule, physics.max_sources, inference)  # on a grid of its own
    grid = PolarGrid.build(geometry, search.view, inference.grid_oversampling, inference.range_rings)
    if name == "nomp":
        return NompEstimator(search, grid, rule, physics.max_sources, inference.swap_rounds)
    if name == "music":
        return MusicEstimator(search, grid, rule, physics.max_sources, covariance, inference)
    raise InputError("--estimator", "", "one of " + ", ".join(ESTIMATORS), name)

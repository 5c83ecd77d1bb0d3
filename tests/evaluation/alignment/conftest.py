"""A small surface and both sides of a linear network on it."""

import pytest

from risctl.config import Config, parse_section
from risctl.data import SceneStream
from risctl.evaluation.alignment import TwoSides
from risctl.inference import build_learned
from risctl.physics import Scenes
from tests.evaluation.alignment.linear import LinearNetwork

SMALL = {
    "physics": {"ris_columns": 6, "ris_rows": 4, "num_antennas": 6, "num_snapshots": 8, "max_sources": 2},
    "inference": {"range_grid": 11, "range_rings": 2, "grid_oversampling": 1.0},
}


@pytest.fixture(scope="session")
def config() -> Config:
    return parse_section(Config, SMALL, "test")


@pytest.fixture(scope="session")
def scenes(config: Config) -> Scenes:
    return SceneStream(config.physics, 0, "val", 4).scenes(0, 4)


@pytest.fixture(scope="session")
def network(config: Config) -> LinearNetwork:
    return LinearNetwork(6, 24, 2)


@pytest.fixture(scope="session")
def sides(config: Config, network: LinearNetwork) -> TwoSides:
    estimator = build_learned(network, config.physics, config.covariance, config.inference)
    return TwoSides(network, config.covariance, estimator, config.physics, config.covariance)

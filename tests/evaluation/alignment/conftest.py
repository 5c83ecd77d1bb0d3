"""A small surface and both sides of a linear network on it."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from risctl.config import Config, parse_section
from risctl.data import SceneStream
from risctl.evaluation.alignment import Report, TwoSides, check_alignment
from risctl.inference import build_learned
from risctl.model import Prediction
from risctl.physics import Scenes

Check = Callable[[TwoSides], Report]

SMALL = {
    "physics": {"ris_columns": 6, "ris_rows": 4, "num_antennas": 6, "num_snapshots": 8, "max_sources": 2},
    "inference": {"range_grid": 11, "range_rings": 2, "grid_oversampling": 1.0},
}


class LinearNetwork(nn.Module):
    """Covariance factors that are linear in the snapshots' and the codes' mean: one matrix is enough."""

    def __init__(self, num_antennas: int = 6, num_elements: int = 24, max_sources: int = 2) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(3)
        shape = (2, num_elements * max_sources * 2, num_antennas)
        self.weight = nn.Parameter(torch.randn(shape, generator=rng))
        self.sizes = (num_elements, max_sources)

    def forward(self, y: Tensor, H: Tensor, codes: Tensor) -> Prediction:
        N, K = self.sizes
        mean = y.abs().square().mean(1).to(self.weight.dtype)
        real, imaginary = (mean @ self.weight[0].mT, mean @ self.weight[1].mT)
        factors = torch.complex(real, imaginary).view(-1, 2, N, K)
        zeros = torch.zeros(len(y), K)
        position = torch.tensor([0.1, 0.1, 2.0]).expand(len(y), K, 3)
        return Prediction(factors[:, 0], factors[:, 1], zeros, position, zeros + 1 / K)


def two_sides(network: LinearNetwork, config: Config) -> TwoSides:
    estimator = build_learned(network, config.physics, config.covariance, config.inference)
    return TwoSides(network, config.covariance, estimator, config.physics, config.covariance)


@pytest.fixture(scope="session")
def config() -> Config:
    return parse_section(Config, SMALL, "test")


@pytest.fixture(scope="session")
def scenes(config: Config) -> Scenes:
    return SceneStream(config.physics, 0, "val", 4).scenes(0, 4)


@pytest.fixture(scope="session")
def network() -> LinearNetwork:
    return LinearNetwork()


@pytest.fixture(scope="session")
def sides(config: Config, network: LinearNetwork) -> TwoSides:
    return two_sides(network, config)


@pytest.fixture(scope="session")
def checked(scenes: Scenes, network: LinearNetwork) -> Check:
    """The check of two sides on the scenes, gradients to the weights of `network` included."""
    return lambda sides: check_alignment(sides, scenes, list(network.parameters()))

"""A network that is one matrix: enough for two sides to disagree about."""

import torch
from torch import Tensor, nn

from risctl.model import Prediction


class LinearNetwork(nn.Module):
    """Covariance factors that are linear in the snapshots' and the codes' mean."""

    def __init__(self, num_antennas: int, num_elements: int, max_sources: int) -> None:
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

"""Predictions of a stated error, and the same scenes for every loss term."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor

from risctl.config import CovarianceConfig, LossConfig, PhysicsConfig
from risctl.covariance import Covariances, LowRank
from risctl.covariance.pipeline import blended_covariance, predicted_covariance
from risctl.losses import Truth, per_scene_terms
from risctl.model import Forward, Prediction
from risctl.physics import ArrayGeometry, Scenes, simulate_scenes

PHYSICS = PhysicsConfig()
SMALL = PhysicsConfig(ris_columns=4, ris_rows=3, max_sources=3, num_antennas=4, max_coherence=1.0)
COVARIANCE = CovarianceConfig()
LOSS = LossConfig()


@dataclass(frozen=True)
class Case:
    """Leaves of the graph, from which the covariances follow as in the pipeline, and the truth."""

    A_angle: Tensor
    A_range: Tensor
    count_logits: Tensor
    position: Tensor
    power: Tensor
    samp: Tensor
    truth: Truth
    geometry: ArrayGeometry
    beta: float = 0.3

    LEAVES = ("A_angle", "A_range", "count_logits", "position", "power")

    def leaves(self) -> tuple[Tensor, ...]:
        return tuple(getattr(self, name) for name in self.LEAVES)

    def forward(self) -> Forward:
        pred = predicted_covariance(self.A_angle, self.A_range, COVARIANCE.range_weight)
        beta = torch.full((len(self.power),), self.beta, dtype=self.samp.real.dtype, device=self.samp.device)
        samp = LowRank(self.samp)
        blend = blended_covariance(pred, samp, beta, COVARIANCE.eps_cov)
        return Forward(Prediction(*self.leaves()), Covariances(samp, pred, blend, beta, self.samp.mT))

    def terms(self, loss: LossConfig = LOSS) -> dict[str, Tensor]:
        return per_scene_terms(self.forward(), self.truth, loss, self.geometry)

    def with_leaves(self, leaves: tuple[Tensor, ...]) -> Self:
        return replace(self, **dict(zip(self.LEAVES, leaves, strict=True)))

    def requires_grad(self) -> Self:
        return self.with_leaves(tuple(x.detach().clone().requires_grad_() for x in self.leaves()))

    def slots(self, order: list[int]) -> Self:
        columns = {name: getattr(self, name)[..., order] for name in ("A_angle", "A_range", "power")}
        return replace(self, **columns, position=self.position[:, order])

    def map(self, change: Callable[[Tensor], Tensor]) -> Self:
        parts = {name: change(getattr(self, name)) for name in (*self.LEAVES, "samp")}
        return replace(self, **parts, truth=map_truth(self.truth, change))

    def scenes(self, index: slice) -> Self:
        return self.map(lambda x: x[index])

    def to(self, device: torch.device | str) -> Self:
        geometry = self.geometry.to(device, self.geometry.positions.dtype)
        return replace(self.map(lambda x: x.to(device)), geometry=geometry)


def map_truth(truth: Truth, change: Callable[[Tensor], Tensor]) -> Truth:
    return Truth(**{f.name: change(getattr(truth, f.name)) for f in fields(Truth)})


def simulated(physics: PhysicsConfig = PHYSICS, count: int = 8, seed: int = 5) -> Scenes:
    return simulate_scenes(physics, np.random.Generator(np.random.SFC64(seed)), count)


def build(
    error: float, scenes: Scenes | None = None, physics: PhysicsConfig = PHYSICS, beta: float = 0.3
) -> Self:
    """A prediction that is the truth at ``error = 0`` and drifts off it along one fixed direction."""
    scenes = simulated(physics) if scenes is None else scenes
    geometry = ArrayGeometry.from_config(physics, dtype=torch.float64)
    truth = Truth.of(scenes, geometry)
    draw = torch.Generator().manual_seed(0)
    noise = [torch.randn(truth.A.shape, dtype=torch.complex128, generator=draw) for _ in range(2)]
    drift = torch.rand(truth.position.shape, dtype=torch.float64, generator=draw) - 0.5
    logits = torch.nn.functional.one_hot(truth.num_sources - 1, physics.max_sources).double()
    position = truth.position + error * torch.tensor([0.6, 0.4, 0.8]) * drift
    samp = truth.covariance().F
    samp = torch.cat([samp, torch.randn(samp.shape, dtype=samp.dtype, generator=draw)], dim=-1)
    return Case(
        A_angle=truth.A * truth.power.sqrt().unsqueeze(-2) + error * noise[0],
        A_range=error * noise[1],
        count_logits=12.0 * (1.0 - error) * logits,
        position=torch.cat([position[..., :2], position[..., 2:].clamp(0.3, 12.0)], dim=-1),
        power=truth.power / truth.power.sum(-1, keepdim=True),
        samp=samp * (geometry.num_elements / samp.abs().square().sum((-2, -1), keepdim=True)).sqrt(),
        truth=truth,
        geometry=geometry,
        beta=beta,
    )


def single(case: Case) -> Self:
    """The same case in single precision."""

    def narrow(x: Tensor) -> Tensor:
        return x.to({torch.float64: torch.float32, torch.complex128: torch.complex64}.get(x.dtype, x.dtype))

    return replace(case.map(narrow), geometry=case.geometry.to("cpu", torch.float32))

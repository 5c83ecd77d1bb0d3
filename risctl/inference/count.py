"""Source counting by evidence, and estimates at the chosen count.

The marginal likelihood of k sources is approximated by Laplace's method (Kass and Raftery, J. Am. Stat.
Assoc. 90(430), 1995): ``log L_k - 1/2 log det(I + W J W / (2 pi))`` with J the Fisher information at the
optimum and W the width of the prior of each parameter there. BIC keeps only the leading term of this and so
has the same penalty per source however accurately it can be located; the penalty that suits 20 dB is too high
at 0 dB. One constant per source remains to be chosen by measurement.

Two priors enter: positions are uniform over the field of view, and log-powers (times r^2 under path loss) are
normal about their common level, 2.5 times as wide as the configured spread. The second rejects weak
artefacts, and is wide enough to keep a source 10 dB below the rest if the data support it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.config import PhysicsConfig
from risctl.inference.concentrated import fit_amplitudes
from risctl.inference.estimates import Estimates
from risctl.inference.gaussian import (
    GaussianModel,
    GaussianParameters,
    Hypothesis,
    starting_parameters,
)
from risctl.inference.observation import Observation
from risctl.inference.refine import refine_gaussian
from risctl.inference.tree import tree_index
from risctl.physics.bounds import invert_information
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.polar import from_polar, polar_direction

POWER_TOLERANCE = 2.5  # width of the power prior over the spread the configuration states
MIN_POWER_STD = 0.5  # nats
NOISE_STD = 1.0  # nats; the same for every count, so of little effect
NUISANCE_STEPS = 8


@dataclass(frozen=True)
class CountRule:
    """Score by which source counts are compared.

    Attributes:
        view: field of view; positions are uniform in azimuth, elevation and range over it.
        rule: ``evidence`` (Laplace) or ``penalty`` (log-likelihood less a fixed price per source).
        price: nats per source, on top of the Occam factor with ``evidence``.
        power_std: standard deviation of log-powers about their common level, nats.
        path_loss: whether powers fall as 1/r^2 on top of that.
    """

    view: FieldOfView
    rule: str
    price: float
    power_std: float
    path_loss: bool

    @classmethod
    def from_config(cls, physics: PhysicsConfig, rule: str, price: float) -> CountRule:
        """The rule for the scenes of a configuration."""
        spread = physics.power_spread_db / math.sqrt(3.0)  # standard deviation of the uniform draw, dB
        power_std = max(MIN_POWER_STD, POWER_TOLERANCE * spread * math.log(10.0) / 10.0)
        return cls(
            FieldOfView.from_config(physics), rule, price, power_std, physics.power_control == "path_loss"
        )

    def score(self, params: GaussianParameters, model: GaussianModel) -> Tensor:
        """Score [B] of a fitted hypothesis; the largest over k wins."""
        score = model.log_likelihood - self.price * params.points.shape[1]
        if self.rule == "penalty":
            return score
        return score + self.log_prior(params) - occam_factor(params, model, self.view, self.power_std)

    def log_prior(self, params: GaussianParameters) -> Tensor:
        """Log-density [B] of the powers relative to that of equal ones; at most 0."""
        level = params.log_power - 2.0 * params.points[..., 2].log() if self.path_loss else params.log_power
        deviation = level - level.mean(dim=1, keepdim=True)
        return -0.5 * (deviation / self.power_std).square().sum(1)


def occam_factor(
    params: GaussianParameters, model: GaussianModel, view: FieldOfView, power_std: float
) -> Tensor:
    """``1/2 log det(I + W J W / (2 pi))`` [B]: log-ratio of prior to posterior volume, nats."""
    points, B = params.points, params.points.shape[0]
    c_elevation = (1.0 - points[..., 1].square()).clamp_min(1e-6).sqrt()
    u_x = polar_direction(points)[..., 0]
    # Inverse densities of (u_y, u_z, q) under positions uniform in (azimuth, elevation, range).
    width_y = 2.0 * view.azimuth * u_x.clamp_min(1e-3)
    width_z = 2.0 * view.elevation * c_elevation
    width_q = (view.range_max - view.range_min) * points[..., 2].square()
    positions = torch.stack([width_y, width_z, width_q], dim=-1).flatten(1)
    deviations = [power_std] * params.log_power.shape[1] + [NOISE_STD]
    nuisance = math.sqrt(2.0 * math.pi) * positions.new_tensor(deviations).expand(B, -1)
    W = torch.cat([positions, nuisance], dim=-1).double()
    J = model.information.double() * W.unsqueeze(-1) * W.unsqueeze(-2) / (2.0 * math.pi)
    logdet: Tensor = torch.linalg.slogdet(J + torch.eye(J.shape[-1], dtype=J.dtype, device=J.device))[1]
    return 0.5 * logdet


def fit_nuisance(
    obs: Observation, points: Tensor, geometry: ArrayGeometry, view: FieldOfView
) -> tuple[GaussianParameters, GaussianModel]:
    """Powers and noise of the Gaussian-symbol likelihood with the positions [B, K, 3] fixed."""
    start = gaussian_start(obs, points, geometry)
    return refine_gaussian(obs, start, geometry, view, NUISANCE_STEPS, hold_points=True)


def gaussian_start(obs: Observation, points: Tensor, geometry: ArrayGeometry) -> GaussianParameters:
    """Starting powers and noise of sources at `points` from their least-squares amplitudes."""
    fit = fit_amplitudes(obs, points, geometry)
    return starting_parameters(fit.amplitudes, points, fit.cost, obs.y.shape[-1])


def keep_best(hypotheses: Sequence[Hypothesis], rule: CountRule, rows: Tensor, result: Estimates) -> None:
    """Write the best-scoring of the `hypotheses` of B scenes into `rows` [B] of `result`."""
    best = torch.stack([rule.score(h.params, h.model) for h in hypotheses], dim=1).argmax(dim=1)
    for k, hypothesis in enumerate(hypotheses):
        here = (best == k).nonzero().squeeze(-1)
        if len(here):
            chosen = tree_index(hypothesis, here)
            result.put(rows[here], to_estimates(chosen.params, chosen.model))


def to_estimates(params: GaussianParameters, fisher: GaussianModel) -> Estimates:
    """Estimates of B scenes with K sources each, strongest first; deviations from the Fisher information."""
    order = params.log_power.argsort(dim=1, descending=True)
    azimuth, elevation, range_ = from_polar(params.points.double())
    std = _deviations(params.points.double(), fisher.information.double())

    def ranked(x: Tensor) -> Tensor:
        return x.gather(1, order)

    B, K = order.shape
    return Estimates(
        num_sources=torch.full((B,), K, dtype=torch.int64, device=order.device),
        azimuth=ranked(azimuth),
        elevation=ranked(elevation),
        range=ranked(range_),
        power=ranked(params.log_power.double().exp()),
        std_azimuth=ranked(std[..., 0]),
        std_elevation=ranked(std[..., 1]),
        std_range=ranked(std[..., 2]),
        noise_var=params.log_noise.double().exp(),
    )


def _deviations(points: Tensor, information: Tensor) -> Tensor:
    """Standard deviations of azimuth, elevation, range [B, K, 3] from the polar information."""
    B, K, _ = points.shape
    covariance, unidentifiable = invert_information(information)
    blocks = (
        covariance[:, : 3 * K, : 3 * K].reshape(B, K, 3, K, 3).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
    )
    T = angle_jacobian(points)
    variance = (T @ blocks @ T.mT).diagonal(dim1=-2, dim2=-1).clamp_min(0.0)
    lost_y, lost_z, lost_q = unidentifiable[:, : 3 * K].reshape(B, K, 3).unbind(-1)
    unknown = torch.stack([lost_y | lost_z, lost_z, lost_q], dim=-1)
    return variance.sqrt().masked_fill(unknown, torch.inf)


def angle_jacobian(points: Tensor) -> Tensor:
    """``d(azimuth, elevation, range) / d(u_y, u_z, q)`` [..., 3, 3] at polar points [..., 3]."""
    u_x, u_y, u_z = polar_direction(points).unbind(-1)
    c2 = (1.0 - u_z.square()).clamp_min(1e-12)
    zero = torch.zeros_like(u_x)
    azimuth = torch.stack([1.0 / u_x, u_y * u_z / (c2 * u_x), zero], dim=-1)
    elevation = torch.stack([zero, c2.rsqrt(), zero], dim=-1)
    range_ = torch.stack([zero, zero, -points[..., 2].square().reciprocal()], dim=-1)
    return torch.stack([azimuth, elevation, range_], dim=-2)

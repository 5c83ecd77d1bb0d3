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
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from risctl.config import InferenceConfig, PhysicsConfig
from risctl.inference.concentrated import fit_responses
from risctl.inference.estimates import Estimates
from risctl.inference.gaussian import GaussianModel, GaussianParameters, Hypothesis, refine_gaussian
from risctl.inference.observation import Observation
from risctl.physics.bounds import invert_information
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.polar import polar_direction, polar_steering

POWER_TOLERANCE = 2.5  # width of the power prior over the spread the configuration states
MIN_POWER_STD = 0.5  # nats
NOISE_STD = 1.0  # nats; the same for every count, so of little effect
NUISANCE_STEPS = 8
NOISE_SHARE = 0.3  # of the received power, to start from where no residual shows it
EVIDENCE_PRICE = -1.0  # nats per source in the evidence that probabilities are fitted with
FIRST_WEIGHT = 0.9  # of the hypothesis of one source among those that are weighed against noise alone


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
        path_loss = physics.power_control == "path_loss" and physics.known_range != math.inf
        return cls(FieldOfView.from_config(physics), rule, price, power_std, path_loss)

    @classmethod
    def choose(cls, physics: PhysicsConfig, inference: InferenceConfig, calibrated: bool) -> CountRule:
        """The stated rule where it decides; the one that probabilities are fitted with where these do."""
        if calibrated and inference.count_by != "evidence":
            return cls.from_config(physics, "evidence", EVIDENCE_PRICE)
        return cls.from_config(physics, inference.count_rule, inference.count_price)

    def scores(self, hypotheses: Sequence[Hypothesis]) -> Tensor:
        """Score [B, n] of each of n fitted `hypotheses` of B scenes; the largest wins."""
        return torch.stack([self._score(h.params, h.model) for h in hypotheses], dim=1)

    def _score(self, params: GaussianParameters, model: GaussianModel) -> Tensor:
        score = model.log_likelihood - self.price * params.points.shape[1]
        if self.rule == "penalty":
            return score
        if not params.points.shape[1]:
            return score - occam_factor(params, model, self.view, self.power_std)
        # Log-density of the powers relative to that of equal ones; at most 0.
        level = params.log_power - 2.0 * params.points[..., 2].log() if self.path_loss else params.log_power
        deviation = level - level.mean(dim=1, keepdim=True)
        log_prior = -0.5 * (deviation / self.power_std).square().sum(1)
        return score + log_prior - occam_factor(params, model, self.view, self.power_std)


def occam_factor(
    params: GaussianParameters, model: GaussianModel, view: FieldOfView, power_std: float
) -> Tensor:
    """``1/2 log det(I + W J W / (2 pi))`` [B]: log-ratio of prior to posterior volume, nats."""
    positions, B = position_widths(params.points, view), params.points.shape[0]
    deviations = [power_std] * params.log_power.shape[1] + [NOISE_STD]
    nuisance = math.sqrt(2.0 * math.pi) * positions.new_tensor(deviations).expand(B, -1)
    return volume_ratio(model.information, torch.cat([positions, nuisance], dim=-1))


def position_widths(points: Tensor, view: FieldOfView) -> Tensor:
    """Inverse prior densities [B, 3K] of the ``(u_y, u_z, q)`` of polar points [B, K, 3].

    Positions are uniform in azimuth, elevation and range over the field of view.
    """
    c_elevation = (1.0 - points[..., 1].square()).clamp_min(1e-6).sqrt()
    u_x = polar_direction(points)[..., 0]
    width_y = 2.0 * view.azimuth * u_x.clamp_min(1e-3)
    width_z = 2.0 * view.elevation * c_elevation
    width_q = (view.range_max - view.range_min) * points[..., 2].square()
    widths = torch.stack([width_y, width_z, width_q], dim=-1)
    return widths.masked_fill(torch.tensor(view.known, device=points.device), 0.0).flatten(1)


def volume_ratio(information: Tensor, widths: Tensor) -> Tensor:
    """``1/2 log det(I + W J W / (2 pi))`` [B] of J [B, P, P] and prior widths W [B, P], nats."""
    W = widths.double()
    J = information.double() * W.unsqueeze(-1) * W.unsqueeze(-2) / (2.0 * math.pi)
    logdet: Tensor = torch.linalg.slogdet(J + torch.eye(J.shape[-1], dtype=J.dtype, device=J.device))[1]
    return 0.5 * logdet


def log_bayes_factors(null: Hypothesis, hypotheses: Sequence[Hypothesis], rule: CountRule) -> Tensor:
    """``log p(y | hypothesis) / p(y | null)`` [B, n] by Laplace's method, nats; no price per source."""
    scores = replace(rule, rule="evidence", price=0.0).scores([null, *hypotheses])
    return scores[:, 1:] - scores[:, :1]


def noise_only(obs: Observation) -> Hypothesis:
    """The hypothesis of no source: ``y ~ CN(0, sigma^2 I)`` with sigma^2 the mean of ``|y|^2``."""
    B, L, M = obs.y.shape
    log_noise, size = obs.y.abs().square().mean((1, 2)).log(), L * M * obs.weight
    model = GaussianModel(-size * (log_noise + 1.0), log_noise.new_zeros(B, 1), size[:, None, None])
    return Hypothesis(
        GaussianParameters(log_noise.new_empty(B, 0, 3), log_noise.new_empty(B, 0), log_noise), model
    )


def fit_nuisance(obs: Observation, points: Tensor, geometry: ArrayGeometry, view: FieldOfView) -> Hypothesis:
    """Powers and noise of the Gaussian-symbol likelihood with the positions [B, K, 3] fixed."""
    start = gaussian_start(obs, points, geometry)
    return refine_gaussian(obs, start, geometry, view, NUISANCE_STEPS, hold_points=True)


def gaussian_start(
    obs: Observation, points: Tensor, geometry: ArrayGeometry, responses: Tensor | None = None
) -> GaussianParameters:
    """Starting powers and noise of sources at polar `points` [B, K, 3], by least squares.

    Powers are the mean ``|x|^2``, the noise is the residual energy over its degrees of freedom; if there are
    none, sources of equal power and the noise share the power received. `responses` of the sources
    [B, L, M, K] are computed where they are not given.
    """
    K, M = points.shape[1], obs.y.shape[-1]
    S = obs.observe(polar_steering(points, geometry)) if responses is None else responses
    if K >= M:
        received = obs.y.abs().square().mean((1, 2))
        response = S.abs().square().mean((1, 2))
        share = (1.0 - NOISE_SHARE) / max(K, 1)
        power = received.unsqueeze(-1) * share / response.clamp_min(torch.finfo(response.dtype).tiny)
        return GaussianParameters(points, power.log(), (received * (NOISE_SHARE if K else 1.0)).log())
    fit = fit_responses(obs.y, S)
    L = fit.amplitudes.shape[1]
    noise = (fit.cost / (L * (M - K))).clamp_min(1e-30)
    power = torch.maximum(fit.amplitudes.abs().square().mean(1), noise.unsqueeze(-1) * 1e-3)
    return GaussianParameters(points, power.log(), noise.log())


def is_noise(
    null: Hypothesis, hypotheses: Sequence[Hypothesis], rule: CountRule, false_alarm: float
) -> Tensor:
    """Whether the hypothesis of no source stands, bool [B], beside those of one or more.

    Under noise alone the ratio of marginal likelihoods has mean one, so that it exceeds ``1 / false_alarm``
    with probability at most ``false_alarm`` (Markov's inequality; Ville 1939), whatever L, M, N, channel,
    codes and noise. A mixture of hypotheses is a hypothesis: the first weighs `FIRST_WEIGHT`, the others
    share the rest. At high SNR one source alone, where there are more, may be less likely than none.
    """
    return noise_stands(log_bayes_factors(null, hypotheses, rule), false_alarm)


def noise_stands(factors: Tensor, false_alarm: float) -> Tensor:
    """`is_noise` by the log-ratios of marginal likelihoods [B, n] of 1 .. n sources against none."""
    others = factors.shape[1] - 1
    weights = [FIRST_WEIGHT, *[(1.0 - FIRST_WEIGHT) / others] * others] if others else [1.0]
    known = factors.nan_to_num(nan=-torch.inf) + factors.new_tensor(weights).log()
    return known.logsumexp(dim=1) < -math.log(false_alarm)


def choose_count(
    null: Hypothesis, hypotheses: Sequence[Hypothesis], rule: CountRule, false_alarm: float
) -> tuple[Tensor, Tensor]:
    """The count of best score, 0 where noise alone explains the data, and the probabilities by the evidence.

    Args:
        null: no source. hypotheses: 1, 2, .., K_max sources in B scenes.
        rule: how they are compared. false_alarm: probability of a source in noise alone.

    Returns:
        K [B], and P(K = 0 .. K_max) [B, K_max + 1], each count as probable beforehand.
    """
    scores = rule.scores([null, *hypotheses])
    noise = is_noise(null, hypotheses, rule, false_alarm)
    return (scores[:, 1:].argmax(dim=1) + 1).masked_fill(noise, 0), scores.double().softmax(dim=1)


def to_estimates(hypothesis: Hypothesis) -> Estimates:
    """Estimates of B scenes with K sources each, strongest first; deviations from the Fisher information."""
    params, points = hypothesis.params, hypothesis.params.points.double()
    B, K, _ = points.shape
    covariance, unidentifiable = invert_information(hypothesis.model.information.double())
    covariance = covariance[:, : 3 * K, : 3 * K].reshape(B, K, 3, K, 3)
    T = angle_jacobian(points)
    variance = T @ covariance.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2) @ T.mT
    lost_y, lost_z, lost_q = unidentifiable[:, : 3 * K].reshape(B, K, 3).unbind(-1)
    unknown = torch.stack([lost_y | lost_z, lost_z, lost_q], dim=-1)
    std = variance.diagonal(dim1=-2, dim2=-1).clamp_min(0.0).sqrt().masked_fill(unknown, torch.inf)
    return Estimates.ranked(points, params.log_power.double().exp(), std, params.log_noise.double().exp())


def angle_jacobian(points: Tensor) -> Tensor:
    """``d(azimuth, elevation, range) / d(u_y, u_z, q)`` [..., 3, 3] at polar points [..., 3]."""
    u_x, u_y, u_z = polar_direction(points).unbind(-1)
    c2 = (1.0 - u_z.square()).clamp_min(1e-12)
    zero = torch.zeros_like(u_x)
    azimuth = torch.stack([1.0 / u_x, u_y * u_z / (c2 * u_x), zero], dim=-1)
    elevation = torch.stack([zero, c2.rsqrt(), zero], dim=-1)
    square = points[..., 2].square()  # zero only where an infinite range is known, without an error
    slope = torch.where(square > 0, -square.reciprocal(), zero)
    range_ = torch.stack([zero, zero, slope], dim=-1)
    return torch.stack([azimuth, elevation, range_], dim=-2)

"""Posterior of the position of each source, given a hypothesis: means instead of maxima.

About the optimum of a hypothesis the likelihood of direction cosines and curvature ``q = 1/r`` is taken as
normal, its covariance the inverse of the Fisher information with a wide prior on every parameter; where
the optimum is on a limit of the field of view, the gradient says how far beyond it the maximum lies.
Positions are uniform in azimuth, elevation and range over the field of view, so the posterior of the range is

    ``p(r) ~ exp(-(1/r - q)^2 / (2 s_q^2))``  on ``[range_min, range_max]``.

Its mean lowers the squared error where the range is uncertain (below 10 dB, near the far limit at any SNR)
and does not stick to the limits as the maximum does. Directions follow the range by linear regression.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.count import angle_jacobian
from risctl.inference.gaussian import Hypothesis
from risctl.physics.bounds import KNOWN_INFORMATION
from risctl.physics.geometry import FieldOfView
from risctl.physics.polar import clamp_to_view, polar_limits

NODES = 48  # of the numerical integral over a truncated normal density
TAILS = 4.0  # standard deviations to which it extends
FARTHEST = 3.0  # standard deviations beyond a limit at which an unconstrained maximum is taken to lie
NUISANCE_STD = 3.0  # nats: prior of log-powers and log noise, to keep the information regular


@dataclass(frozen=True)
class SourcePosterior:
    """Posterior of K sources in B scenes, each with the others and their powers marginalised; float64.

    Attributes:
        points: posterior means, polar [B, K, 3]: the mean range in the mean direction.
        std: deviations of azimuth, elevation (rad) and range (m), [B, K, 3].
        spread: mean squared distance from the mean position, m^2 [B, K].
        near: mass within the cut-off distance of it [B, K].
    """

    points: Tensor
    std: Tensor
    spread: Tensor
    near: Tensor


def source_posterior(hypothesis: Hypothesis, view: FieldOfView, cutoff: float) -> SourcePosterior:
    """Posterior means and deviations of the sources of a hypothesis; `cutoff` in metres."""
    points = hypothesis.params.points.double()
    mean, C = _normal_approximation(hypothesis, view)
    low, high = polar_limits(points, view)
    sigma = C.diagonal(dim1=-2, dim2=-1).sqrt()
    r, weight = range_nodes(mean[..., 2], sigma[..., 2], view)
    if view.known_range is not None:
        r = torch.full_like(r, min(view.known_range, view.range_max))
    range_ = (weight * r).sum(-1)
    variance = (weight * (r - range_.unsqueeze(-1)).square()).sum(-1)
    q = (weight / r).sum(-1) if view.known_range is None else points[..., 2]
    q_variance = (weight * (1.0 / r - q.unsqueeze(-1)).square()).sum(-1)
    slope = C[..., :2, 2] / C[..., 2, 2].unsqueeze(-1)  # of the direction cosines in q
    if view.known_range is not None:
        slope, q_variance = torch.zeros_like(slope), C[..., 2, 2]
    direction = mean[..., :2] + slope * (q - mean[..., 2]).unsqueeze(-1)
    shrunk = (q_variance - C[..., 2, 2])[..., None, None]
    plane = C[..., :2, :2] + slope.unsqueeze(-1) * slope.unsqueeze(-2) * shrunk
    inside = truncated_mean(
        direction, plane.diagonal(dim1=-2, dim2=-1).clamp_min(0.0).sqrt(), low[..., :2], high[..., :2]
    )
    curvature = q if view.known_range is not None else 1.0 / range_
    found = clamp_to_view(torch.cat([inside, curvature.unsqueeze(-1)], dim=-1), view)
    T = angle_jacobian(found)[..., :2, :2]
    angles = (T @ plane @ T.mT).diagonal(dim1=-2, dim2=-1).clamp_min(0.0)
    widths = angles.new_tensor([view.azimuth, view.elevation]) * (2.0 / math.sqrt(12.0))
    angles = torch.minimum(angles, widths.square())  # no wider than the prior
    across = range_.square() * (angles[..., 0] * (1.0 - found[..., 1].square()) + angles[..., 1])
    spread = variance + across
    left = (cutoff**2 - (r - range_.unsqueeze(-1)).square()).clamp_min(0.0)
    near = (weight * -torch.expm1(-left / across.clamp_min(1e-12).unsqueeze(-1))).sum(-1)
    std = torch.cat([angles.sqrt(), variance.clamp_min(0.0).sqrt().unsqueeze(-1)], dim=-1)
    return SourcePosterior(found, std, spread, near)


def _normal_approximation(hypothesis: Hypothesis, view: FieldOfView) -> tuple[Tensor, Tensor]:
    """Maximum of the quadratic model [B, K, 3], which may lie outside the view, and covariances [B, K, 3,
    3]."""
    points, model = hypothesis.params.points.double(), hypothesis.model
    B, K, _ = points.shape
    J, gradient = model.information.double().nan_to_num(0.0), model.gradient.double()  # where it overflows
    known = torch.zeros(J.shape[-1], dtype=torch.bool, device=J.device)
    known[: 3 * K] = torch.tensor(view.known, device=J.device).repeat(K)
    outside = known | known.unsqueeze(-1)  # an information without end would take the digits of the others
    J, gradient = J.masked_fill(outside, 0.0), gradient.masked_fill(known, 0.0)
    width = points.new_tensor(
        [
            2.0 * math.sin(view.azimuth),
            2.0 * math.sin(view.elevation),
            1 / view.range_min - 1 / view.range_max,
        ]
    )
    prior = torch.cat([(12.0 / width.square()).repeat(K), width.new_full((K + 1,), NUISANCE_STD**-2)])
    # In units of the prior all eigenvalues of its inverse are at least 1; by rounding of J some are not.
    scale = prior.rsqrt()
    values, axes = torch.linalg.eigh(J * scale[:, None] * scale + torch.eye(len(scale)).to(J))
    axes = scale[:, None] * axes
    covariance = (axes / values.clamp_min(1.0).unsqueeze(-2)) @ axes.mT
    covariance = covariance.masked_fill(outside, 0.0) + torch.diag(known / KNOWN_INFORMATION).to(J)
    shift = (covariance @ gradient.unsqueeze(-1)).squeeze(-1)[:, : 3 * K].view(B, K, 3)
    blocks = covariance[:, : 3 * K, : 3 * K].reshape(B, K, 3, K, 3).diagonal(dim1=1, dim2=3)
    blocks = blocks.permute(0, 3, 1, 2)
    sigma = blocks.diagonal(dim1=-2, dim2=-1).clamp_min(1e-18).sqrt()
    limit = FARTHEST * sigma
    return points + torch.minimum(torch.maximum(shift, -limit), limit), blocks


def range_nodes(q: Tensor, sigma: Tensor, view: FieldOfView) -> tuple[Tensor, Tensor]:
    """Ranges r [..., NODES] and weights, which add up to 1, of the posterior of the range.

    Args:
        q: centre of the likelihood in 1/r [...]. sigma: its deviation [...].
    """
    far, near = 1.0 / view.range_max, 1.0 / view.range_min
    q = torch.minimum(torch.maximum(q, far - FARTHEST * sigma), near + FARTHEST * sigma)
    low, high = (q - TAILS * sigma).clamp(far, near), (q + TAILS * sigma).clamp(far, near)
    r = _between(1.0 / high, 1.0 / low)
    return r, _normalised(-0.5 * ((1.0 / r - q.unsqueeze(-1)) / sigma.unsqueeze(-1)).square())


def truncated_mean(mean: Tensor, sigma: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Mean of a normal density restricted to ``[low, high]``; all of one shape."""
    sigma = sigma.clamp_min(1e-9)
    mean = torch.minimum(torch.maximum(mean, low - FARTHEST * sigma), high + FARTHEST * sigma)
    x = _between(torch.maximum(low, mean - TAILS * sigma), torch.minimum(high, mean + TAILS * sigma))
    weight = _normalised(-0.5 * ((x - mean.unsqueeze(-1)) / sigma.unsqueeze(-1)).square())
    return (weight * x).sum(-1)


def _between(low: Tensor, high: Tensor) -> Tensor:
    """Midpoints [..., NODES] of equal cells between `low` and `high`."""
    steps = (torch.arange(NODES, dtype=low.dtype, device=low.device) + 0.5) / NODES
    return low.unsqueeze(-1) + (high - low).unsqueeze(-1) * steps


def _normalised(log_weight: Tensor) -> Tensor:
    return log_weight.softmax(dim=-1)

"""What a calibration found, in figures: ramps, dead elements, spread."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from risctl.inference.surface.bound import hybrid_bound
from risctl.inference.surface.calibrate import Round
from risctl.inference.surface.response import GAINS, POSITIONS
from risctl.inference.surface.scoring import Prior, posterior
from risctl.physics.geometry import ArrayGeometry, FieldOfView

DEAD_SHARE = 0.02  # of the elements, before the data
DEAD_LEVEL = 0.5  # probability from which an element is called dead


def ramp_modes(round_: Round, geometry: ArrayGeometry) -> Tensor:
    """Shifts of all sources in (u_y, u_z, 1/r) that a small change of the response imitates, [3, P].

    A phase ``k0 (a y + b z) - k0 c |p|^2 / 2`` over the surface moves sources by (a, b, c), near boresight;
    an element's phase is that of its gain, or ``k0`` times its displacement towards the sources. A ramp that
    the array does not have, as one across a line, is zero.
    """
    g, p, k0 = round_.response.gains, geometry.positions, geometry.wavenumber
    square = geometry.squared_radius
    D = torch.stack([torch.ones_like(square), k0 * p[:, 1], k0 * p[:, 2], -k0 * square / 2.0], dim=1)
    weight = g.abs().square()
    unit = D.norm(dim=0)
    D = D / unit.masked_fill(unit == 0, 1.0)
    fit = torch.linalg.pinv((D.mT * weight) @ D, hermitian=True) @ (D.mT * weight)  # [4, N], from phases
    fit = fit[1:] / unit[1:, None].masked_fill(unit[1:, None] == 0, torch.inf)
    alive = torch.where(weight > 0, weight, torch.ones_like(weight))
    parts = []
    for kind in round_.prior.kinds:
        if kind == GAINS:
            parts.append(torch.cat([fit * -g.imag / alive, fit * g.real / alive], dim=1))
        elif kind == POSITIONS:
            parts.append(torch.cat([k0 * fit, torch.zeros(3, 2 * len(g), dtype=fit.dtype)], dim=1))
        else:
            parts.append(torch.zeros(3, len(round_.prior.mean[kind]), dtype=fit.dtype))
    return torch.cat(parts, dim=1)


def ramp_covariance(round_: Round, geometry: ArrayGeometry, covariance: Tensor) -> Tensor:
    """Covariance [3, 3] of the common shift of all sources in (u_y, u_z, 1/r)."""
    modes = ramp_modes(round_, geometry)
    return modes @ covariance @ modes.mT


def tilt_std(ramps: Tensor) -> float:
    """Root mean square deviation of the two tilts, or of the one that a line has, rad, near boresight."""
    tilts = ramps.diagonal()[:2]
    return math.sqrt(float(tilts.sum() / (tilts > 0).sum().clamp_min(1)))


def with_anchor(round_: Round, geometry: ArrayGeometry) -> tuple[int, float, float] | None:
    """What knowing the positions in the strongest scene would do; None: no source is at an unknown one.

    Returns:
        The scene, its SNR in dB (power of all its sources over noise, over all elements), and the deviation
        of the tilt with it, rad.
    """
    best: tuple[float, int, int] = (-math.inf, 0, 0)
    for i, group in enumerate(round_.joint.groups):
        ratio = group.params.log_power.logsumexp(1) - group.params.log_noise
        ratio = ratio.masked_fill(group.anchored, -math.inf)
        best = max(best, (float(ratio.max()), i, int(ratio.argmax())))
    snr, i, row = best
    if snr == -math.inf:
        return None
    free = [f.clone() for f in round_.arrow.free]
    free[i][row, : 3 * round_.joint.groups[i].params.points.shape[1]] = False
    arrow = replace(round_.arrow, free=tuple(free))
    covariance = posterior(arrow, round_.joint, round_.prior)
    ramps = ramp_covariance(round_, geometry, covariance)
    return int(round_.joint.groups[i].rows[row]), snr * 10.0 / math.log(10.0), tilt_std(ramps)


def direction_bounds(round_: Round, covariance: Tensor, view: FieldOfView) -> tuple[float, float]:
    """Hybrid bound of the direction of sources like those that were found, rad: the median over them.

    Returns:
        Root mean square deviation of u_y and u_z, of those that are not known and can be seen: with the
        response known, and with the one found.
    """
    models = [model for model in round_.arrow.models if model.cross.shape[-1] > 1]
    found = [hybrid_bound(model, covariance, view) for model in models]
    unknown = torch.tensor([not known for known in view.known[:2]])

    def middle(name: str) -> float:
        squares = torch.cat([getattr(b, name)[..., :2].flatten(0, 1) for b in found])
        seen = unknown & squares.isfinite()
        means = squares.masked_fill(~seen, 0.0).sum(-1) / seen.sum(-1).clamp_min(1)
        return math.sqrt(float(means.median()))

    return (middle("known"), middle("estimated")) if found else (0.0, 0.0)


def dead_probability(round_: Round, covariance: Tensor) -> Tensor:
    """Probability [N] that an element reflects nothing, by the odds of g = 0 against a live gain.

    A live gain is normal about the prior mean with the learned variance; the data alone know it by its
    posterior with the prior divided out.
    """
    N, prior = len(round_.response.gains), round_.prior
    if GAINS not in prior.kinds:
        return torch.zeros(N, dtype=torch.float64)
    start = sum(len(prior.mean[kind]) for kind in prior.kinds[: prior.kinds.index(GAINS)])
    block = covariance[start : start + 2 * N, start : start + 2 * N].reshape(2, N, 2, N)
    own = block.diagonal(dim1=1, dim2=3).permute(2, 0, 1)  # [N, 2, 2]
    v, eye = prior.variance[GAINS], torch.eye(2, dtype=torch.float64)
    mean = prior.mean[GAINS].view(2, N).T
    found = round_.response.parameters()[GAINS].view(2, N).T
    tiny = 1e-9 * v * eye
    precision = torch.linalg.inv(own + tiny)
    data = precision - eye / v
    w, U = torch.linalg.eigh(data)
    data = (U * w.clamp_min(1e-6 / v).unsqueeze(-2)) @ U.mT
    noise = torch.linalg.inv(data)
    centre = (noise @ (precision @ found.unsqueeze(-1) - mean.unsqueeze(-1) / v)).squeeze(-1)
    dead = _log_normal(centre, noise) + math.log(DEAD_SHARE)
    live = _log_normal(centre - mean, noise + v * eye) + math.log(1.0 - DEAD_SHARE)
    return torch.sigmoid(dead - live)


def _log_normal(x: Tensor, covariance: Tensor) -> Tensor:
    """Log-density of N(0, covariance) at x [N, 2], but for a constant."""
    fit = (x.unsqueeze(-2) @ torch.linalg.solve(covariance, x.unsqueeze(-1))).squeeze((-1, -2))
    return -0.5 * (fit + torch.linalg.slogdet(covariance)[1])


def spread_over_error(round_: Round, covariance: Tensor, kind_prior: Prior) -> float:
    """Mean square deviation of the response from nominal over the mean variance; below 1: nominal so far."""
    deviation = kind_prior.deviation(round_.response)
    return float(deviation.square().sum() / covariance.diagonal().sum().clamp_min(1e-30))

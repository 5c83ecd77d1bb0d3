"""The Gaussian-symbol (unconditional) likelihood of joint positions, powers and noise, and its scoring model.

``y_l ~ CN(0, R_l)``, ``R_l = B_l diag(p) B_l^H + sigma^2 I``; up to a constant

    ``log L = -sum_l (log det R_l + y_l^H R_l^-1 y_l)``.

Symbols are averaged over instead of fitted, so K L complex unknowns become K powers: below about 15 dB
this is what reaches the bound, and its values for different K can be compared. Gradient and Fisher
information come from the K x K identity ``R^-1 = (I - B C B^H) / sigma^2`` with
``C = (B^H B + sigma^2 diag(p)^-1)^-1``, in which ``R^-1 B = B C diag(p)^-1`` needs no difference at all.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from risctl.inference.levenberg import POINT_LIMIT, Damping, damped_step, predicted_gain
from risctl.inference.observation import Observation, tree_index, tree_scatter, tree_where
from risctl.physics.bounds import with_known
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.polar import clamp_to_view, polar_jet, polar_limits, polar_steering

LOG_RANGE = math.log(1e8)  # powers and noise stay within this factor of their starting values
LOG_LIMIT = 1.5
CONVERGED = 1e-3  # nats: a step that changes the likelihood by less ends the refinement
STUCK = 1e4  # damping at which no step helps any more


@dataclass(frozen=True)
class GaussianParameters:
    """Points in polar coordinates [B, K, 3], log-powers [B, K] and log noise variance [B]."""

    points: Tensor
    log_power: Tensor
    log_noise: Tensor


@dataclass(frozen=True)
class GaussianModel:
    """log L [B], its gradient [B, 4K+1] and Fisher information [B, 4K+1, 4K+1].

    Parameters: positions source by source, then log-powers, then the log noise variance. `responses`: of the
    sources and their derivatives, [B, L, M, 4K], where they are kept.
    """

    log_likelihood: Tensor
    gradient: Tensor
    information: Tensor
    responses: Tensor | None = None


@dataclass(frozen=True)
class Hypothesis:
    """Parameters of K sources in B scenes and the Gaussian model there."""

    params: GaussianParameters
    model: GaussianModel


def gaussian_model(obs: Observation, params: GaussianParameters, geometry: ArrayGeometry) -> GaussianModel:
    """Value, gradient and Fisher information of the Gaussian-symbol likelihood."""
    V = observed_jet(obs, params.points, geometry)
    return model_of_responses(V, obs.y.to(V.dtype), obs.weight, params.log_power, params.log_noise)


def model_with_responses(
    obs: Observation, params: GaussianParameters, geometry: ArrayGeometry
) -> GaussianModel:
    """The same, with the responses that it was computed from."""
    return _from_responses(obs, params, observed_jet(obs, params.points, geometry))


def _from_responses(obs: Observation, params: GaussianParameters, V: Tensor) -> GaussianModel:
    """The same from the responses V [B, L, M, 4K] at `params`."""
    model = model_of_responses(V, obs.y.to(V.dtype), obs.weight, params.log_power, params.log_noise)
    return replace(model, responses=V)


def observed_jet(obs: Observation, points: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Responses of K sources at polar `points` [B, K, 3], then their derivatives, [B, L, M, 4K]."""
    a, da = polar_jet(points, geometry)
    columns = torch.cat([a, da.flatten(1, 2)], dim=1)
    return obs.observe(columns.to(obs.Phi.dtype)).to(columns.dtype)


def gaussian_gradient(obs: Observation, params: GaussianParameters, geometry: ArrayGeometry) -> Tensor:
    """The gradient [B, 4K+1] alone, for half of the work.

    By a position it is ``2 p_k Re g_k^H d_k`` with ``g_k = sum_l Phi_l^H W_l (y_l b_kl^* - B_kl)``,
    ``b = B^H W y``: the derivatives d_k of the steering vector need not pass the measurement matrices.
    """
    a, da = polar_jet(params.points, geometry)
    B = obs.observe(a.to(obs.Phi.dtype)).to(a.dtype)
    G = B.mH @ B
    fit = _fit(B, G, obs.y.to(B.dtype), params.log_power.exp(), params.log_noise.exp())
    p, noise = fit.power, fit.noise[:, None, None]
    V = (fit.rest / noise.unsqueeze(-1)) @ fit.b.conj().unsqueeze(-2) - B @ (fit.C / p[:, None, None, :])
    g = obs.gather(V.to(obs.Phi.dtype)).to(a.dtype)
    positions = 2.0 * p.unsqueeze(-1) * (g.conj().unsqueeze(-2) @ da.mT).squeeze(-2).real
    own = (fit.C @ G).diagonal(dim1=-2, dim2=-1).real / p.unsqueeze(1)
    powers = (square(fit.b) - own).sum(1) * p
    gradient = torch.cat([positions.flatten(1), powers, fit.level().unsqueeze(-1)], dim=-1)
    return gradient * obs.weight[:, None]


def gaussian_value(obs: Observation, params: GaussianParameters, geometry: ArrayGeometry) -> GaussianModel:
    """The value alone, for a quarter of the work; gradient and information are NaN."""
    a = polar_steering(params.points, geometry)
    return _value(obs, params, obs.observe(a.to(obs.Phi.dtype)).to(a.dtype))


def value_with_responses(
    obs: Observation, params: GaussianParameters, geometry: ArrayGeometry
) -> GaussianModel:
    """The same, with the responses of the sources and their derivatives."""
    V = observed_jet(obs, params.points, geometry)
    return replace(_value(obs, params, V[..., : params.points.shape[1]]), responses=V)


def _value(obs: Observation, params: GaussianParameters, B: Tensor) -> GaussianModel:
    fit = _fit(B, B.mH @ B, obs.y.to(B.dtype), params.log_power.exp(), params.log_noise.exp())
    unknown = torch.full_like(pack(params), torch.nan)
    P = unknown.shape[1]
    return GaussianModel(fit.log_likelihood() * obs.weight, unknown, unknown.unsqueeze(-1).repeat(1, 1, P))


@dataclass(frozen=True)
class _Fit:
    """Amplitudes of K sources and what they leave: ``C = loaded^-1`` [B, L, K, K], ``x = C B^H y`` and
    ``b = B^H W y`` [B, L, K], ``rest = sigma^2 W y`` [B, L, M, 1]; powers [B, K], noise [B], ``W = R^-1``."""

    loaded: Tensor
    C: Tensor
    x: Tensor
    b: Tensor
    rest: Tensor
    power: Tensor
    noise: Tensor

    def level(self) -> Tensor:
        """Derivative [B] of the log-likelihood by the log noise variance."""
        L, M, K = *self.rest.shape[1:3], self.power.shape[1]
        leftover = (self.C.diagonal(dim1=-2, dim2=-1).real / self.power.unsqueeze(1)).sum((1, 2))
        trace = L * (M - K) / self.noise + leftover  # sum_l tr W
        return (self.energy() / self.noise.square() - trace) * self.noise

    def log_likelihood(self) -> Tensor:
        """Of the snapshots, without their weight [B]."""
        L, M, K = *self.rest.shape[1:3], self.power.shape[1]
        explained = self.energy() / self.noise + (square(self.x).sum(1) / self.power).sum(-1)
        root = torch.linalg.cholesky_ex(self.loaded)[0]
        logdet = 2.0 * root.diagonal(dim1=-2, dim2=-1).real.log().sum((1, 2))
        return -(logdet + L * ((M - K) * self.noise.log() + self.power.log().sum(-1)) + explained)

    def energy(self) -> Tensor:
        """``sum_l |sigma^2 W_l y_l|^2`` [B]."""
        return square(self.rest).sum((1, 2, 3))


def _fit(B: Tensor, G: Tensor, y: Tensor, p: Tensor, noise: Tensor) -> _Fit:
    """Fit responses B [B, L, M, K] with ``G = B^H B`` to snapshots y [B, L, M]."""
    y = y.unsqueeze(-1)
    loaded = G + torch.diag_embed(noise[:, None] / p).unsqueeze(1)
    C = torch.linalg.inv_ex(loaded)[0]
    x = C @ (B.mH @ y)
    b = x.squeeze(-1) / p.unsqueeze(1)
    return _Fit(loaded, C, x.squeeze(-1), b, y - B @ x, p, noise)


def slope_of_responses(
    V: Tensor, y: Tensor, weight: Tensor, log_power: Tensor, log_noise: Tensor
) -> tuple[Tensor, Tensor]:
    """The same from ``V = [B, D]`` [B, L, M, 4K] and snapshots [B, L, M]."""
    value, gradient, *_ = _slope(V, y, weight, log_power, log_noise)
    return value, gradient


def model_of_responses(
    V: Tensor, y: Tensor, weight: Tensor, log_power: Tensor, log_noise: Tensor
) -> GaussianModel:
    """Value, gradient and information from ``V = [B, D]`` [B, L, M, 4K] and snapshots [B, L, M]."""
    K, M, D = log_power.shape[1], y.shape[2], V[..., log_power.shape[1] :]
    value, gradient, G, C, T = _slope(V, y, weight, log_power, log_noise)
    p, noise = log_power.exp(), log_noise.exp()
    dd = D.mH @ D - G[..., K:].mH @ T[..., K:]
    J = _information(T * (1.0 / p)[:, None, :, None], dd, C, p, noise, M)
    return GaussianModel(value, gradient, J * weight[:, None, None])


def _slope(
    V: Tensor, y: Tensor, weight: Tensor, log_power: Tensor, log_noise: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Value and gradient, and what the information shares: ``G = B^H V``, C and ``T = C G``; ``W = R^-1``."""
    K, p, noise = log_power.shape[1], log_power.exp(), log_noise.exp()
    B, D = V[..., :K], V[..., K:]
    G = B.mH @ V
    fit = _fit(B, G[..., :K], y, p, noise)
    T = fit.C @ G
    P = T * (1.0 / p)[:, None, :, None]  # B^H W [B, D]

    d = (fit.rest.mH @ D).squeeze(-2) / noise[:, None, None]  # y^H W D
    slope = (d * fit.b.repeat_interleave(3, dim=-1)).real - _own(P[..., K:])
    positions = 2.0 * slope.sum(1) * p.repeat_interleave(3, dim=1)
    powers = (square(fit.b) - P[..., :K].diagonal(dim1=-2, dim2=-1).real).sum(1) * p
    gradient = torch.cat([positions, powers, fit.level().unsqueeze(-1)], dim=-1)
    return fit.log_likelihood() * weight, gradient * weight[:, None], G, fit.C, T


def square(z: Tensor) -> Tensor:
    """``|z|^2`` without the square root of abs."""
    return z.real.square() + z.imag.square()


def _own(x: Tensor) -> Tensor:
    """Real parts [B, L, 3K] of a source's row at its own three columns of x [B, L, K, 3K]."""
    B, L, K, _ = x.shape
    return x.reshape(B, L, K, K, 3).diagonal(dim1=2, dim2=3).real.mT.reshape(B, L, 3 * K)


def _information(P: Tensor, dd: Tensor, C: Tensor, p: Tensor, noise: Tensor, M: int) -> Tensor:
    """Slepian-Bangs: ``tr(W dR_i W dR_j)``, dR of rank two (positions), one (powers) or full (noise).

    Args:
        P: ``B^H W [B, D]`` [B, L, K, 4K]. dd: ``sigma^2 D^H W D`` [B, L, 3K, 3K]. C: [B, L, K, K].
        p: powers [B, K]. noise: sigma^2 [B]. M: antennas.
    """
    L, K = P.shape[1:3]
    bb, bd, p3, s2 = P[..., :K], P[..., K:], p.repeat_interleave(3, dim=1), noise[:, None]
    P2 = (C @ P) * (1.0 / p)[:, None, :, None]  # B^H W^2 [B, D]
    bb3 = bb.repeat_interleave(3, dim=-2)
    bd3 = bd.repeat_interleave(3, dim=-2)
    dd = (bb3.repeat_interleave(3, dim=-1) * dd.mT).real.sum(1) / noise[:, None, None]
    tt = 2.0 * ((bd3 * bd3.mT).real.sum(1) + dd) * p3.unsqueeze(-1) * p3.unsqueeze(-2)
    tp = 2.0 * (bb3 * bd.mT).real.sum(1) * p3.unsqueeze(-1) * p.unsqueeze(-2)
    ts = 2.0 * _own(P2[..., K:]).sum(1) * p3 * s2
    pp = square(bb).sum(1) * p.unsqueeze(-1) * p.unsqueeze(-2)
    ps = P2.diagonal(dim1=-2, dim2=-1).real.sum(1) * p * s2
    spread = ((C * C.mT).real.sum(1) / (p.unsqueeze(-1) * p.unsqueeze(-2))).sum((-2, -1))
    ss = (L * (M - K) / noise.square() + spread) * noise.square()
    rows = [
        torch.cat([tt, tp, ts.unsqueeze(-1)], dim=-1),
        torch.cat([tp.mT, pp, ps.unsqueeze(-1)], dim=-1),
        torch.cat([ts.unsqueeze(-2), ps.unsqueeze(-2), ss[:, None, None]], dim=-1),
    ]
    return torch.cat(rows, dim=-2)


def refine_gaussian(
    obs: Observation,
    start: GaussianParameters,
    geometry: ArrayGeometry,
    view: FieldOfView,
    iterations: int,
    hold_points: bool = False,
    responses: Tensor | None = None,
    informed: bool = True,
) -> Hypothesis:
    """Raise the Gaussian-symbol likelihood from `start` by Fisher scoring.

    Positions, powers and noise move together; with `hold_points` only powers and noise do. Converged scenes
    are not changed any more, and leave the batch once they are half of it. What the field of view knows is
    held, and the information of the hypothesis about it is infinite. Where `responses` at the start are given
    [B, L, M, 4K] (:func:`observed_jet`), those of what is found are kept; unless `informed`, its gradient and
    information are then left unknown, NaN.
    """
    x = pack(start)
    if responses is None:
        model_of = gaussian_model
        model = gaussian_model(obs, start, geometry)
    else:
        model_of = model_with_responses
        model = _from_responses(obs, start, responses)
    damping = Damping.initial(model.log_likelihood)
    converged = torch.zeros_like(model.log_likelihood, dtype=torch.bool)
    part = whole = _ScoringState(x, x[:, 3 * start.points.shape[1] :], model, damping, converged)
    rows = torch.arange(len(obs), device=x.device)
    for left in reversed(range(iterations)):
        if not left and not informed:
            model_of = value_with_responses
        part = _scoring_step(obs, part, geometry, view, hold_points, model_of)
        if 2 * int(part.converged.sum()) < len(rows):
            continue
        whole = tree_scatter(whole, rows, part)
        moving = (~part.converged).nonzero().squeeze(-1)
        rows, part, obs = rows[moving], tree_index(part, moving), obs[moving]
        if not len(rows):
            break
    whole = tree_scatter(whole, rows, part)
    information = with_known(whole.model.information, start.points.shape[1], view)
    return Hypothesis(unpack(whole.x), replace(whole.model, information=information))


@dataclass(frozen=True)
class _ScoringState:
    """Packed parameters x [B, 4K+1], powers and noise at the start, model at x, which scenes converged."""

    x: Tensor
    nuisance: Tensor
    model: GaussianModel
    damping: Damping
    converged: Tensor


def _scoring_step(
    obs: Observation,
    now: _ScoringState,
    geometry: ArrayGeometry,
    view: FieldOfView,
    hold_points: bool,
    model_of: Callable[[Observation, GaussianParameters, ArrayGeometry], GaussianModel],
) -> _ScoringState:
    """One damped step, kept where the likelihood rises and the scene has not converged."""
    params, model, K = unpack(now.x).points, now.model, now.x.shape[1] // 4
    low, high = (params, params) if hold_points else polar_limits(params, view)
    low = torch.cat([low.flatten(1), now.nuisance - LOG_RANGE], 1)
    high = torch.cat([high.flatten(1), now.nuisance + LOG_RANGE], 1)
    limit = now.x.new_tensor([*POINT_LIMIT * K, *[LOG_LIMIT] * (K + 1)])
    step = damped_step(now.x, -model.gradient, model.information, now.damping.level, low, high, limit)
    trial = unpack(torch.minimum(torch.maximum(now.x + step, low), high))
    moved = params if hold_points else clamp_to_view(trial.points, view)
    trial = GaussianParameters(moved, trial.log_power, trial.log_noise)
    candidate = model_of(obs, trial, geometry)
    gain = candidate.log_likelihood - model.log_likelihood
    better = (gain > 0) & ~now.converged
    damping = now.damping.updated(gain, predicted_gain(-model.gradient, model.information, step))
    converged = now.converged | (gain.abs() < CONVERGED) | (damping.level > STUCK)
    x = torch.where(better.unsqueeze(-1), pack(trial), now.x)
    return _ScoringState(x, now.nuisance, tree_where(better, candidate, model), damping, converged)


def pack(params: GaussianParameters) -> Tensor:
    """Gaussian parameters as one vector [B, 4K+1]."""
    return torch.cat([params.points.flatten(1), params.log_power, params.log_noise.unsqueeze(-1)], dim=-1)


def unpack(x: Tensor) -> GaussianParameters:
    """The inverse of :func:`pack`."""
    K = x.shape[1] // 4
    return GaussianParameters(x[:, : 3 * K].reshape(-1, K, 3), x[:, 3 * K : 4 * K], x[:, 4 * K])

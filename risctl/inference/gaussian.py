"""The Gaussian-symbol (unconditional) likelihood of joint positions, powers and noise, and its scoring model.

``y_l ~ CN(0, R_l)``, ``R_l = B_l diag(p) B_l^H + sigma^2 I``; up to a constant

    ``log L = -sum_l (log det R_l + y_l^H R_l^-1 y_l)``.

Symbols are averaged over instead of fitted, so K L complex unknowns become K powers: below about 15 dB
this is what reaches the bound, and its values for different K can be compared. Gradient and Fisher
information come from the K x K identity ``R^-1 = (I - B C B^H) / sigma^2`` with
``C = (B^H B + sigma^2 diag(p)^-1)^-1``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.observation import Observation
from risctl.physics.geometry import ArrayGeometry
from risctl.physics.polar import polar_jet


@dataclass(frozen=True)
class GaussianParameters:
    """Points in polar coordinates [B, K, 3], log-powers [B, K] and log noise variance [B]."""

    points: Tensor
    log_power: Tensor
    log_noise: Tensor


@dataclass(frozen=True)
class GaussianModel:
    """log L [B], its gradient [B, 4K+1] and Fisher information [B, 4K+1, 4K+1].

    Parameters: positions source by source, then log-powers, then the log noise variance.
    """

    log_likelihood: Tensor
    gradient: Tensor
    information: Tensor


@dataclass(frozen=True)
class Hypothesis:
    """Parameters of K sources in B scenes and the Gaussian model there."""

    at: GaussianParameters
    model: GaussianModel


@dataclass(frozen=True)
class _Whitened:
    """``V^H W V``, ``V^H W^2 V`` [B,L,4K,4K] and ``V^H W y`` [B,L,4K] (W_l = R_l^-1), and traces [B,L]."""

    Q: Tensor
    Q2: Tensor
    z: Tensor
    trace_w: Tensor
    trace_w2: Tensor
    energy_w2: Tensor
    log_likelihood: Tensor


def gaussian_model(obs: Observation, at: GaussianParameters, geometry: ArrayGeometry) -> GaussianModel:
    """Value, gradient and Fisher information of the Gaussian-symbol likelihood."""
    K = at.points.shape[1]
    a, da = polar_jet(at.points, geometry)
    V = obs.observe(torch.cat([a, da.flatten(1, 2)], dim=1))
    p, noise = at.log_power.exp(), at.log_noise.exp()
    w = _whiten(V, obs.y, p, noise, K)
    return GaussianModel(w.log_likelihood, _gradient(w, p, noise, K), _information(w, p, noise, K))


def _whiten(V: Tensor, y: Tensor, p: Tensor, noise: Tensor, K: int) -> _Whitened:
    M = y.shape[-1]
    s2 = noise[:, None, None, None]
    S = V[..., :K]
    G = V.mH @ V
    loaded = G[..., :K, :K] + torch.diag_embed(noise[:, None] / p).unsqueeze(1).to(G.dtype)
    C = torch.linalg.inv_ex(loaded)[0]
    T = C @ G[..., :K, :]
    x = C @ (S.mH @ y.unsqueeze(-1))
    r = y.unsqueeze(-1) - S @ x  # sigma^2 W y
    Q = (G - G[..., :, :K] @ T) / s2
    Q2 = (G - T.mH @ G[..., :K, :] - G[..., :, :K] @ T + T.mH @ G[..., :K, :K] @ T) / s2.square()
    shrink = C @ G[..., :K, :K]
    trace = shrink.diagonal(dim1=-2, dim2=-1).real.sum(-1)
    trace2 = (shrink * shrink.mT).sum((-2, -1)).real
    energy = r.abs().square().sum((-2, -1))
    fit = energy / noise[:, None] + (x.abs().square().squeeze(-1) / p.unsqueeze(1)).sum(-1)
    logdet = 2.0 * torch.linalg.cholesky_ex(loaded)[0].diagonal(dim1=-2, dim2=-1).real.log().sum(-1)
    logdet = logdet + (M - K) * noise.log()[:, None] + p.log().sum(-1, keepdim=True)
    return _Whitened(
        Q=Q,
        Q2=Q2,
        z=(V.mH @ r).squeeze(-1) / s2[..., 0],
        trace_w=(M - trace) / noise[:, None],
        trace_w2=(M - 2.0 * trace + trace2) / noise.square()[:, None],
        energy_w2=energy / noise.square()[:, None],
        log_likelihood=-(logdet + fit).sum(1),
    )


def _gradient(w: _Whitened, p: Tensor, noise: Tensor, K: int) -> Tensor:
    own = torch.arange(K, device=p.device).repeat_interleave(3)
    b, d = w.z[..., :K], w.z[..., K:]
    diagonal = w.Q[..., :K, K:][..., own, torch.arange(3 * K, device=p.device)]
    positions = 2.0 * ((d.conj() * b[..., own]).real - diagonal.real).sum(1) * p[:, own]
    powers = (b.abs().square() - w.Q[..., :K, :K].diagonal(dim1=-2, dim2=-1).real).sum(1) * p
    level = (w.energy_w2 - w.trace_w).sum(1) * noise
    return torch.cat([positions, powers, level.unsqueeze(-1)], dim=-1)


def _information(w: _Whitened, p: Tensor, noise: Tensor, K: int) -> Tensor:
    """Slepian-Bangs: ``tr(W dR_i W dR_j)``, dR of rank two (positions), one (powers) or full (noise)."""
    own = torch.arange(K, device=p.device).repeat_interleave(3)
    index = torch.arange(3 * K, device=p.device)
    ss, sd, dd = w.Q[..., :K, :K], w.Q[..., :K, K:], w.Q[..., K:, K:]
    sd3 = sd[..., own, :]
    ss3 = ss[..., own, :]
    p3, s2 = p[:, own], noise[:, None]
    tt = 2.0 * (sd3 * sd3.mT + ss3[..., own] * dd.mT).real.sum(1) * p3.unsqueeze(-1) * p3.unsqueeze(-2)
    tp = 2.0 * (ss3 * sd.mT).real.sum(1) * p3.unsqueeze(-1) * p.unsqueeze(-2)
    ts = 2.0 * w.Q2[..., :K, K:][..., own, index].real.sum(1) * p3 * s2
    pp = ss.abs().square().sum(1) * p.unsqueeze(-1) * p.unsqueeze(-2)
    ps = w.Q2[..., :K, :K].diagonal(dim1=-2, dim2=-1).real.sum(1) * p * s2
    level = w.trace_w2.sum(1)[:, None, None] * noise.square()[:, None, None]
    rows = [
        torch.cat([tt, tp, ts.unsqueeze(-1)], dim=-1),
        torch.cat([tp.mT, pp, ps.unsqueeze(-1)], dim=-1),
        torch.cat([ts.unsqueeze(-2), ps.unsqueeze(-2), level], dim=-1),
    ]
    return torch.cat(rows, dim=-2)


def starting_parameters(amplitudes: Tensor, points: Tensor, cost: Tensor, M: int) -> GaussianParameters:
    """Powers and noise from a least-squares fit: mean |x|^2, and the residual over its degrees of freedom.

    Args:
        amplitudes: [B, L, K]. points: [B, K, 3]. cost: residual energy [B]. M: antennas.
    """
    L, K = amplitudes.shape[1:]
    noise = (cost / (L * max(M - K, 1))).clamp_min(1e-30)
    power = torch.maximum(amplitudes.abs().square().mean(1), noise.unsqueeze(-1) * 1e-3)
    return GaussianParameters(points, power.log(), noise.log())


LOG_RANGE = math.log(1e8)  # powers and noise stay within this factor of where they started

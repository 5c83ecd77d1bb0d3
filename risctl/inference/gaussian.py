"""The Gaussian-symbol (unconditional) likelihood of joint positions, powers and noise, and its scoring model.

``y_l ~ CN(0, R_l)``, ``R_l = B_l diag(p) B_l^H + sigma^2 I``; up to a constant

    ``log L = -sum_l (log det R_l + y_l^H R_l^-1 y_l)``.

Symbols are averaged over instead of fitted, so K L complex unknowns become K powers: below about 15 dB
this is what reaches the bound, and its values for different K can be compared. Gradient and Fisher
information come from the K x K identity ``R^-1 = (I - B C B^H) / sigma^2`` with
``C = (B^H B + sigma^2 diag(p)^-1)^-1``, in which ``R^-1 B = B C diag(p)^-1`` needs no difference at all.
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

    params: GaussianParameters
    model: GaussianModel


@dataclass(frozen=True)
class _Whitened:
    """Products with ``W_l = R_l^-1`` of the columns ``b_k`` and their derivatives ``d_j``, j = 1..3K.

    Attributes:
        bb: ``B^H W B`` [B, L, K, K]. bd: ``B^H W D`` [B, L, K, 3K]. dd: ``sigma^2 D^H W D`` [B, L, 3K, 3K].
        bb2: ``b_k^H W^2 b_k``, real [B, L, K]. bd2: ``b_k^H W^2 d_j`` of a source's own j, real [B, L, 3K].
        b: ``B^H W y`` [B, L, K]. d: ``D^H W y`` [B, L, 3K].
        trace_w, trace_w2, energy_w2: sums over l of tr W, tr W^2 and ``|W y|^2`` [B].
    """

    bb: Tensor
    bd: Tensor
    dd: Tensor
    bb2: Tensor
    bd2: Tensor
    b: Tensor
    d: Tensor
    trace_w: Tensor
    trace_w2: Tensor
    energy_w2: Tensor
    log_likelihood: Tensor


def gaussian_model(obs: Observation, params: GaussianParameters, geometry: ArrayGeometry) -> GaussianModel:
    """Value, gradient and Fisher information of the Gaussian-symbol likelihood."""
    K = params.points.shape[1]
    a, da = polar_jet(params.points, geometry)
    V = obs.observe(torch.cat([a, da.flatten(1, 2)], dim=1))
    p, noise = params.log_power.exp(), params.log_noise.exp()
    w = _whiten(V, obs.y, p, noise, K)
    return GaussianModel(w.log_likelihood, _gradient(w, p, noise, K), _information(w, p, noise, K))


def _whiten(V: Tensor, y: Tensor, p: Tensor, noise: Tensor, K: int) -> _Whitened:
    L, M = y.shape[1:]
    inverse_p = (1.0 / p)[:, None, :, None]
    VH = V.mH.resolve_conj()
    G = VH @ V
    loaded = G[..., :K, :K] + torch.diag_embed(noise[:, None] / p).unsqueeze(1)
    C = torch.linalg.inv_ex(loaded)[0]
    T = C @ G[..., :K, :]
    x = C @ (VH[..., :K, :] @ y.unsqueeze(-1))
    r = y.unsqueeze(-1) - V[..., :K] @ x  # sigma^2 W y
    E = C * inverse_p.mT
    P = T * inverse_p  # B^H W [B, D]
    P2 = (C @ P) * inverse_p  # B^H W^2 [B, D]
    leftover = E.diagonal(dim1=-2, dim2=-1).real.sum((1, 2))  # tr W = (M - K) / sigma^2 + tr C diag(p)^-1
    spread = ((C * C.mT).real.sum(1) / (p.unsqueeze(-1) * p.unsqueeze(-2))).sum((-2, -1))
    energy = square(r).sum((1, 2, 3))
    fit = energy / noise + (square(x).sum(1).squeeze(-1) / p).sum(-1)
    logdet = 2.0 * torch.linalg.cholesky_ex(loaded)[0].diagonal(dim1=-2, dim2=-1).real.log().sum((1, 2))
    logdet = logdet + L * ((M - K) * noise.log() + p.log().sum(-1))
    return _Whitened(
        bb=P[..., :K],
        bd=P[..., K:],
        dd=G[..., K:, K:] - G[..., K:, :K] @ T[..., K:],
        bb2=P2.diagonal(dim1=-2, dim2=-1).real,
        bd2=_own(P2[..., K:]),
        b=x.squeeze(-1) * inverse_p.squeeze(-1),
        d=(VH[..., K:, :] @ r).squeeze(-1) / noise[:, None, None],
        trace_w=L * (M - K) / noise + leftover,
        trace_w2=L * (M - K) / noise.square() + spread,
        energy_w2=energy / noise.square(),
        log_likelihood=-(logdet + fit),
    )


def square(z: Tensor) -> Tensor:
    """``|z|^2`` without the square root of abs."""
    return z.real.square() + z.imag.square()


def _own(x: Tensor) -> Tensor:
    """Real parts [B, L, 3K] of a source's row at its own three columns of x [B, L, K, 3K]."""
    B, L, K, _ = x.shape
    return x.reshape(B, L, K, K, 3).diagonal(dim1=2, dim2=3).real.mT.reshape(B, L, 3 * K)


def _gradient(w: _Whitened, p: Tensor, noise: Tensor, K: int) -> Tensor:
    slope = (w.d.conj() * w.b.repeat_interleave(3, dim=-1)).real
    positions = 2.0 * (slope - _own(w.bd)).sum(1) * p.repeat_interleave(3, dim=1)
    powers = (square(w.b) - w.bb.diagonal(dim1=-2, dim2=-1).real).sum(1) * p
    level = (w.energy_w2 - w.trace_w) * noise
    return torch.cat([positions, powers, level.unsqueeze(-1)], dim=-1)


def _information(w: _Whitened, p: Tensor, noise: Tensor, K: int) -> Tensor:
    """Slepian-Bangs: ``tr(W dR_i W dR_j)``, dR of rank two (positions), one (powers) or full (noise)."""
    p3, s2 = p.repeat_interleave(3, dim=1), noise[:, None]
    bb3 = w.bb.repeat_interleave(3, dim=-2)
    bd3 = w.bd.repeat_interleave(3, dim=-2)
    dd = (bb3.repeat_interleave(3, dim=-1) * w.dd.mT).real.sum(1) / noise[:, None, None]
    tt = 2.0 * ((bd3 * bd3.mT).real.sum(1) + dd) * p3.unsqueeze(-1) * p3.unsqueeze(-2)
    tp = 2.0 * (bb3 * w.bd.mT).real.sum(1) * p3.unsqueeze(-1) * p.unsqueeze(-2)
    ts = 2.0 * w.bd2.sum(1) * p3 * s2
    pp = square(w.bb).sum(1) * p.unsqueeze(-1) * p.unsqueeze(-2)
    ps = w.bb2.sum(1) * p * s2
    level = (w.trace_w2 * noise.square())[:, None, None]
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


LOG_RANGE = math.log(1e8)  # powers and noise stay within this factor of their starting values

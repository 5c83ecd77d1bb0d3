"""Removal and exchange of single sources: changes of the Gaussian-symbol likelihood in closed form.

With ``S_k = b_k^H R_l^-1 b_k`` and ``Q_k = b_k^H R_l^-1 y_l`` of the whole model, removing source k with
all else unchanged costs (Tipping and Faul, AISTATS 2003)

    ``loss_k = sum_l p |Q_k|^2 / (1 - p S_k) + log(1 - p S_k)``.

In the K x K form of :mod:`risctl.inference.gaussian`, ``C = (B^H B + sigma^2 diag(p)^-1)^-1`` and
``x = C B^H y``, these are ``Q_k = x_k / p`` and ``1 - p S_k = sigma^2 C_kk / p``: no cancellation.

With source k of power p removed, a candidate c has (matrix inversion lemma)

    ``s = S_c + p |T_ck|^2 / (1 - p S_k)``, ``q = Q_c + p T_ck Q_k / (1 - p S_k)``,

``S_c = b_c^H R^-1 b_c``, ``Q_c = b_c^H R^-1 y``, ``T_ck = b_c^H R^-1 b_k``, and adds (Tipping and Faul,
AISTATS 2003) ``sum_l p_c |q|^2 / (1 + p_c s) - log(1 + p_c s)``, the largest over a few powers p_c.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.gaussian import GaussianParameters, square
from risctl.inference.observation import Observation
from risctl.physics.geometry import ArrayGeometry
from risctl.physics.polar import polar_steering

POWER_LADDER = (0.25, 0.5, 1.0, 2.0, 4.0)  # candidate powers, times the geometric mean of the others'
TINY = 1e-30


@dataclass(frozen=True)
class GaussianFit:
    """Posterior of the amplitudes of K sources given the snapshots of B scenes.

    Attributes:
        basis: ``B_l`` [B, L, M, K]. inverse: ``C_l`` [B, L, K, K].
        symbols: posterior means ``x_l`` of the amplitudes [B, L, K]. residual: ``y_l - B_l x_l`` [B, L, M],
            which is ``sigma^2 R_l^-1 y_l``.
        power: p [B, K]. noise: sigma^2 [B].
    """

    basis: Tensor
    inverse: Tensor
    symbols: Tensor
    residual: Tensor
    power: Tensor
    noise: Tensor

    @classmethod
    def compute(cls, obs: Observation, params: GaussianParameters, geometry: ArrayGeometry) -> GaussianFit:
        """Fit the amplitudes of the sources `params` to `obs`."""
        return cls.of_responses(obs.y, obs.observe(polar_steering(params.points, geometry)), params)

    @classmethod
    def of_responses(cls, y: Tensor, S: Tensor, params: GaussianParameters) -> GaussianFit:
        """The same from the snapshots y [B, L, M] and the responses S [B, L, M, K] of the sources."""
        p, noise = params.log_power.exp(), params.log_noise.exp()
        Sh = S.mH.resolve_conj()
        loaded = Sh @ S + torch.diag_embed(noise[:, None] / p).unsqueeze(1).to(S.dtype)
        C = torch.linalg.inv_ex(loaded)[0]
        x = C @ (Sh @ y.unsqueeze(-1))
        return cls(S, C, x.squeeze(-1), y - (S @ x).squeeze(-1), p, noise)

    def posterior_variance_ratio(self) -> Tensor:
        """Posterior over prior variance of the amplitudes, ``1 - p S_k`` in (0, 1], [B, L, K]."""
        variance = self.inverse.diagonal(dim1=-2, dim2=-1).real * self.noise[:, None, None]
        return (variance / self.power.unsqueeze(1)).clamp(TINY, 1.0)

    def losses(self) -> Tensor:
        """Decrease of the log-likelihood [B, K] when one source is removed, all else unchanged."""
        ratio, p = self.posterior_variance_ratio(), self.power.unsqueeze(1)
        return (square(self.symbols) / (p * ratio) + ratio.log()).sum(1)

    def residual_without(self, k: Tensor) -> Tensor:
        """``sigma^2 R_l^-1 y_l`` [B, L, M] with source k [B] of each scene removed.

        ``R_(-k)^-1 y = R^-1 y + R^-1 b_k p Q_k / (1 - p S_k)``, ``R^-1 b_k = B C e_k / p``.
        """
        rows = torch.arange(len(k), device=k.device)
        own, ratio = (x[rows, :, k] for x in (self.symbols, self.posterior_variance_ratio()))  # [B, L]
        scale = own * (self.noise[:, None] / (self.power[rows, k].unsqueeze(-1) * ratio))
        column = self.inverse[rows, :, :, k] * scale.unsqueeze(-1)
        return self.residual + (self.basis @ column.unsqueeze(-1)).squeeze(-1)


def drop_source(params: GaussianParameters, k: Tensor) -> GaussianParameters:
    """Parameters of B scenes without source k [B] of each."""
    B, K = params.log_power.shape
    keep = torch.arange(K, device=k.device) != k[:, None]
    points, powers = params.points[keep].view(B, K - 1, 3), params.log_power[keep].view(B, K - 1)
    return GaussianParameters(points, powers, params.log_noise)


def add_source(params: GaussianParameters, point: Tensor, log_power: Tensor) -> GaussianParameters:
    """Parameters of B scenes with one source more, last: polar `point` [B, 3], `log_power` [B]."""
    points = torch.cat([params.points, point.unsqueeze(1)], dim=1)
    powers = torch.cat([params.log_power, log_power.unsqueeze(1)], dim=1)
    return GaussianParameters(points, powers, params.log_noise)


def drop_responses(V: Tensor, k: Tensor) -> Tensor:
    """Responses and derivatives [B, L, M, 4K - 4] without those of source k [B]; V [B, L, M, 4K]."""
    B, L, M, P = V.shape
    column = torch.arange(P, device=V.device)
    owner = torch.where(column < P // 4, column, (column - P // 4) // 3)
    kept = column.expand(B, P)[owner != k[:, None]].view(B, 1, 1, P - 4)
    return V.gather(3, kept.expand(-1, L, M, -1))


def add_responses(V: Tensor, new: Tensor) -> Tensor:
    """Responses and derivatives [B, L, M, 4K + 4] with those of one more source, `new` [B, L, M, 4], last."""
    K = V.shape[3] // 4
    return torch.cat([V[..., :K], new[..., :1], V[..., K:], new[..., 1:]], dim=-1)


@dataclass(frozen=True)
class Exchanges:
    """Log-likelihood gains of exchanging each source for each candidate, in B scenes.

    Attributes:
        points: polar candidates [B, C, 3].
        gain: rise of the log-likelihood [B, K, C] when candidate c replaces source k at its best power.
        log_power: that power [B, K, C].
    """

    points: Tensor
    gain: Tensor
    log_power: Tensor

    def best(self) -> tuple[Tensor, Tensor, Tensor]:
        """Largest gain [B], the source removed [B] and the candidate added [B]."""
        gain, index = self.gain.flatten(1).max(dim=1)
        C = self.gain.shape[2]
        return gain, index // C, index % C

    def apply(self, params: GaussianParameters, k: Tensor, c: Tensor) -> GaussianParameters:
        """The sources `params` with candidate c [B] in place of source k [B]."""
        rows = torch.arange(len(k), device=k.device)
        return add_source(drop_source(params, k), self.points[rows, c], self.log_power[rows, k, c])


def candidate_responses(obs: Observation, points: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Responses ``b_c^H`` [B, L, C, M] of candidates at polar `points` [B, C, 3]."""
    return obs.observe(polar_steering(points, geometry)).mH.resolve_conj()


def score_exchanges(fit: GaussianFit, points: Tensor, bh: Tensor) -> Exchanges:
    """Gains of exchanging every source for every candidate: polar `points` [B, C, 3] and their responses."""
    S, Q, mixed = _whitened(fit, bh)
    p = fit.power[:, None, :]
    T = mixed.mT / p.unsqueeze(-1)  # [B, L, K, C]
    ratio = fit.posterior_variance_ratio()
    s = S.unsqueeze(-2) + square(T) * (p / ratio).unsqueeze(-1)
    q = Q.unsqueeze(-2) + T * (fit.symbols / ratio).unsqueeze(-1)
    gain, power = _best_power(s, square(q), fit.power)
    return Exchanges(points, gain - fit.losses().unsqueeze(-1), power)


def best_birth(fit: GaussianFit, points: Tensor, bh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The candidate whose addition to all sources gains most, all else unchanged.

    The gain ``sum_l p |Q_c|^2 / (1 + p S_c) - log(1 + p S_c)`` (Tipping and Faul, AISTATS 2003), the largest
    over the powers p of `POWER_LADDER`.

    Args:
        fit: K sources. points: polar candidates [B, C, 3]. bh: their responses [B, L, C, M].

    Returns:
        Rise of the log-likelihood [B], point [B, 3] and log-power [B].
    """
    S, Q, _ = _whitened(fit, bh)
    gain, log_power = _best_power(S.unsqueeze(2), square(Q).unsqueeze(2), fit.power)
    best, c = gain.squeeze(1).max(dim=1)
    rows = torch.arange(len(c), device=c.device)
    return best, points[rows, c], log_power[rows, 0, c]


def _whitened(fit: GaussianFit, bh: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``S_c`` and ``Q_c`` [B, L, C] of candidates, and ``b_c^H B C`` [B, L, C, K]."""
    noise = fit.noise[:, None, None]
    cross = bh @ fit.basis
    mixed = cross @ fit.inverse
    S = (square(bh).sum(-1) - (mixed * cross.conj()).real.sum(-1)).clamp_min(0.0) / noise
    return S, (bh @ fit.residual.unsqueeze(-1)).squeeze(-1) / noise, mixed


def _best_power(s: Tensor, q2: Tensor, power: Tensor) -> tuple[Tensor, Tensor]:
    """Largest gain [B, K, C] over the ladder and its log-power, from s and |q|^2 [B, L, K, C]."""
    level = power.log().mean(1)
    gains = []
    for step in POWER_LADDER:
        p = (level.exp() * step)[:, None, None, None]
        ps = p * s
        gains.append((p * q2 / (1.0 + ps) - ps.log1p()).sum(1))
    best, index = torch.stack(gains).max(dim=0)
    return best, level[:, None, None] + s.new_tensor(POWER_LADDER).log()[index]

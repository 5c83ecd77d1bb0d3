"""Likelihood gain of every exchange of one source for one candidate, in closed form.

With source k of power p removed, a candidate c has (matrix inversion lemma)

    ``s = S_c + p |T_ck|^2 / (1 - p S_k)``, ``q = Q_c + p T_ck Q_k / (1 - p S_k)``,

``S_c = b_c^H R^-1 b_c``, ``Q_c = b_c^H R^-1 y``, ``T_ck = b_c^H R^-1 b_k``, and adds (Tipping and Faul,
AISTATS 2003) ``sum_l p_c |q|^2 / (1 + p_c s) - log(1 + p_c s)``, the largest over a few powers p_c.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.elimination import GaussianFit, drop_source
from risctl.inference.gaussian import GaussianParameters, square
from risctl.inference.observation import Observation
from risctl.physics.geometry import ArrayGeometry
from risctl.physics.polar import polar_steering

POWER_LADDER = (0.25, 0.5, 1.0, 2.0, 4.0)  # candidate powers, times the geometric mean of the others'


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
        rest = drop_source(params, k)
        points = torch.cat([rest.points, self.points[rows, c].unsqueeze(1)], dim=1)
        powers = torch.cat([rest.log_power, self.log_power[rows, k, c].unsqueeze(1)], dim=1)
        return GaussianParameters(points, powers, params.log_noise)


@dataclass(frozen=True)
class CandidatePool:
    """Candidates of B scenes: polar points [B, C, 3] and responses ``b_c^H`` [B, L, C, M], computed once."""

    points: Tensor
    responses: Tensor

    @classmethod
    def compute(cls, obs: Observation, points: Tensor, geometry: ArrayGeometry) -> CandidatePool:
        """Responses of the candidates at polar `points`."""
        return cls(points, obs.observe(polar_steering(points, geometry)).mH.resolve_conj())


def score_exchanges(fit: GaussianFit, pool: CandidatePool) -> Exchanges:
    """Gains of exchanging every source for every candidate."""
    bh = pool.responses
    noise, p = fit.noise[:, None, None], fit.power[:, None, :]
    cross = bh @ fit.basis  # [B, L, C, K]
    mixed = cross @ fit.inverse
    S = (square(bh).sum(-1) - (mixed * cross.conj()).real.sum(-1)).clamp_min(0.0) / noise
    Q = (bh @ fit.residual.unsqueeze(-1)).squeeze(-1) / noise
    T = mixed.mT / p.unsqueeze(-1)  # [B, L, K, C]
    ratio = fit.posterior_variance_ratio()
    s = S.unsqueeze(-2) + square(T) * (p / ratio).unsqueeze(-1)
    q = Q.unsqueeze(-2) + T * (fit.symbols / ratio).unsqueeze(-1)
    gain, power = _best_power(s, square(q), fit.power)
    return Exchanges(pool.points, gain - fit.losses().unsqueeze(-1), power)


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

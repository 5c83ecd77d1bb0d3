"""Every exchange of one source for one candidate, scored in closed form.

With source k of power p taken away, a candidate c meets (matrix inversion lemma)

    ``s = S_c + p |T_ck|^2 / (1 - p S_k)``, ``q = Q_c + p T_ck Q_k / (1 - p S_k)``,

``S_c = b_c^H R^-1 b_c``, ``Q_c = b_c^H R^-1 y``, ``T_ck = b_c^H R^-1 b_k``, and brings (Tipping and Faul,
AISTATS 2003) ``sum_l p_c |q|^2 / (1 + p_c s) - log(1 + p_c s)``, the largest over a few powers p_c.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.elimination import Explained, without
from risctl.inference.gaussian import GaussianParameters, square
from risctl.inference.observation import Observation
from risctl.physics.geometry import ArrayGeometry
from risctl.physics.polar import polar_steering

POWER_LADDER = (0.25, 0.5, 1.0, 2.0, 4.0)  # candidate powers, times the geometric mean of the others'


@dataclass(frozen=True)
class Exchanges:
    """Candidates of B scenes and what each would bring in place of each source.

    Attributes:
        points: polar candidates [B, C, 3]. gain: rise of the log-likelihood [B, K, C] when candidate c takes
            the place of source k at its best power. log_power: that power [B, K, C].
    """

    points: Tensor
    gain: Tensor
    log_power: Tensor

    def best(self) -> tuple[Tensor, Tensor, Tensor]:
        """Largest gain [B], the source that leaves [B] and the candidate that comes [B]."""
        gain, index = self.gain.flatten(1).max(dim=1)
        C = self.gain.shape[2]
        return gain, index // C, index % C

    def carried_out(self, at: GaussianParameters, k: Tensor, c: Tensor) -> GaussianParameters:
        """The sources `at` with candidate c [B] in the place of source k [B]."""
        rows = torch.arange(len(k), device=k.device)
        rest = without(at, k)
        points = torch.cat([rest.points, self.points[rows, c].unsqueeze(1)], dim=1)
        powers = torch.cat([rest.log_power, self.log_power[rows, k, c].unsqueeze(1)], dim=1)
        return GaussianParameters(points, powers, at.log_noise)


@dataclass(frozen=True)
class Pool:
    """Candidates of B scenes: polar points [B, C, 3] and responses ``b_c^H`` [B, L, C, M], computed once."""

    points: Tensor
    responses: Tensor

    @classmethod
    def of(cls, obs: Observation, points: Tensor, geometry: ArrayGeometry) -> Pool:
        """The pool of polar `points`."""
        return cls(points, obs.observe(polar_steering(points, geometry)).mH.resolve_conj())


def exchanges(model: Explained, pool: Pool) -> Exchanges:
    """Score the exchange of every source for every candidate."""
    bh = pool.responses
    noise, p = model.noise[:, None, None], model.power[:, None, :]
    cross = bh @ model.basis  # [B, L, C, K]
    mixed = cross @ model.inverse
    S = (square(bh).sum(-1) - (mixed * cross.conj()).real.sum(-1)).clamp_min(0.0) / noise
    Q = (bh @ model.residual.unsqueeze(-1)).squeeze(-1) / noise
    T = mixed.mT / p.unsqueeze(-1)  # [B, L, K, C]
    left = model.kept_share()
    s = S.unsqueeze(-2) + square(T) * (p / left).unsqueeze(-1)
    q = Q.unsqueeze(-2) + T * (model.symbols / left).unsqueeze(-1)
    gain, power = _best_power(s, square(q), model.power)
    return Exchanges(pool.points, gain - model.losses().unsqueeze(-1), power)


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

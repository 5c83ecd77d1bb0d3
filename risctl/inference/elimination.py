"""What single sources are worth to the Gaussian-symbol likelihood, in closed form, and doing without them.

With ``S_k = b_k^H R_l^-1 b_k`` and ``Q_k = b_k^H R_l^-1 y_l`` of the whole model, taking source k away and
leaving all else costs (Tipping and Faul, AISTATS 2003)

    ``loss_k = sum_l p |Q_k|^2 / (1 - p S_k) + log(1 - p S_k)``.

In the K x K form of :mod:`risctl.inference.gaussian`, ``C = (B^H B + sigma^2 diag(p)^-1)^-1`` and
``x = C B^H y``, these are ``Q_k = x_k / p`` and ``1 - p S_k = sigma^2 C_kk / p``: no cancellation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.gaussian import GaussianParameters, square
from risctl.inference.observation import Observation
from risctl.physics.geometry import ArrayGeometry
from risctl.physics.polar import polar_steering

TINY = 1e-30


@dataclass(frozen=True)
class Explained:
    """How K sources explain the snapshots of B scenes.

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
    def by(cls, obs: Observation, at: GaussianParameters, geometry: ArrayGeometry) -> Explained:
        """Explain `obs` by the sources `at`."""
        S = obs.observe(polar_steering(at.points, geometry))
        p, noise = at.log_power.exp(), at.log_noise.exp()
        Sh = S.mH.resolve_conj()
        loaded = Sh @ S + torch.diag_embed(noise[:, None] / p).unsqueeze(1).to(S.dtype)
        C = torch.linalg.inv_ex(loaded)[0]
        x = C @ (Sh @ obs.y.unsqueeze(-1))
        return cls(S, C, x.squeeze(-1), obs.y - (S @ x).squeeze(-1), p, noise)

    def kept_share(self) -> Tensor:
        """``1 - p S_k`` in (0, 1] [B, L, K]: what of a source's symbol the snapshot leaves unknown."""
        variance = self.inverse.diagonal(dim1=-2, dim2=-1).real * self.noise[:, None, None]
        return (variance / self.power.unsqueeze(1)).clamp(TINY, 1.0)

    def losses(self) -> Tensor:
        """Fall of the log-likelihood [B, K] when a source is taken away, all else as it is."""
        left, p = self.kept_share(), self.power.unsqueeze(1)
        return (square(self.symbols) / (p * left) + left.log()).sum(1)

    def residual_without(self, k: Tensor) -> Tensor:
        """``sigma^2 R_l^-1 y_l`` [B, L, M] with source k [B] of each scene taken away.

        ``R_(-k)^-1 y = R^-1 y + R^-1 b_k p Q_k / (1 - p S_k)``, ``R^-1 b_k = B C e_k / p``.
        """
        index = k[:, None, None]
        column = self.inverse.gather(3, index.unsqueeze(-1).expand(*self.inverse.shape[:3], 1))
        own = self.symbols.gather(2, index.expand(*self.symbols.shape[:2], 1)).unsqueeze(-1)
        p = self.power.gather(1, k[:, None])[:, None, :, None]
        left = self.kept_share().gather(2, index.expand(*self.symbols.shape[:2], 1)).unsqueeze(-1)
        scale = own * (self.noise[:, None, None, None] / (p * left))
        return self.residual + (self.basis @ (column * scale)).squeeze(-1)


def without(at: GaussianParameters, k: Tensor) -> GaussianParameters:
    """The sources of B scenes but source k [B] of each."""
    B, K = at.log_power.shape
    keep = torch.arange(K, device=k.device) != k[:, None]
    points, powers = at.points[keep].view(B, K - 1, 3), at.log_power[keep].view(B, K - 1)
    return GaussianParameters(points, powers, at.log_noise)

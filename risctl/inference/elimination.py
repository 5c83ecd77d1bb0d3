"""Loss of Gaussian-symbol likelihood when one source is removed, in closed form.

With ``S_k = b_k^H R_l^-1 b_k`` and ``Q_k = b_k^H R_l^-1 y_l`` of the whole model, removing source k with
all else unchanged costs (Tipping and Faul, AISTATS 2003)

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
        S = obs.observe(polar_steering(params.points, geometry))
        p, noise = params.log_power.exp(), params.log_noise.exp()
        Sh = S.mH.resolve_conj()
        loaded = Sh @ S + torch.diag_embed(noise[:, None] / p).unsqueeze(1).to(S.dtype)
        C = torch.linalg.inv_ex(loaded)[0]
        x = C @ (Sh @ obs.y.unsqueeze(-1))
        return cls(S, C, x.squeeze(-1), obs.y - (S @ x).squeeze(-1), p, noise)

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
        index = k[:, None, None]
        column = self.inverse.gather(3, index.unsqueeze(-1).expand(*self.inverse.shape[:3], 1))
        own = self.symbols.gather(2, index.expand(*self.symbols.shape[:2], 1)).unsqueeze(-1)
        p = self.power.gather(1, k[:, None])[:, None, :, None]
        ratio = (
            self.posterior_variance_ratio().gather(2, index.expand(*self.symbols.shape[:2], 1)).unsqueeze(-1)
        )
        scale = own * (self.noise[:, None, None, None] / (p * ratio))
        return self.residual + (self.basis @ (column * scale)).squeeze(-1)


def drop_source(params: GaussianParameters, k: Tensor) -> GaussianParameters:
    """Parameters of B scenes without source k [B] of each."""
    B, K = params.log_power.shape
    keep = torch.arange(K, device=k.device) != k[:, None]
    points, powers = params.points[keep].view(B, K - 1, 3), params.log_power[keep].view(B, K - 1)
    return GaussianParameters(points, powers, params.log_noise)

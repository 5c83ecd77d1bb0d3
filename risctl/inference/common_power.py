"""The likelihood of sources with constant symbols: amplitudes of one common prior power, integrated out.

One coherent vector ``y = B x + w`` in C^n, ``B = Phi A(theta)``, ``x_k ~ CN(0, rho sigma^2)``, ``w ~ CN(0,
sigma^2 I)``. One amplitude says too little of its own variance to estimate one for each source, so they share
rho; a Rayleigh amplitude lies within 10 dB of its mean power nine times out of ten, which is wide enough for
sources of different strength. With sigma^2 integrated out under the prior 1 / sigma^2,

    ``log p(y | theta, rho) = -n log Q - log det(I + rho G)``,  ``Q = min_x |y - B x|^2 + |x|^2 / rho``,

``G = B^H B``, but for a constant. At the maximum over rho the gradient in theta is that with rho held:
``(2n/Q) Re x_k^* d^H r - 2 Re (C G')_kk``, with ``r = y - B x``, ``C = (G + I/rho)^-1`` and ``G' = B^H d``.
As rho goes to infinity this is the concentrated conditional likelihood ``-n log |P y|^2``; a finite rho keeps
two near sources from large amplitudes that cancel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.levenberg import QuadraticModel
from risctl.inference.observation import Observation
from risctl.physics.geometry import ArrayGeometry
from risctl.physics.polar import polar_jet, polar_steering

LOG_RATIOS = (0.0, math.log(1e9), 48)  # log(rho mean(G_kk)): from no signal to 90 dB over all n values
NEWTON_STEPS = 4
RANK = 1e-10  # eigenvalues of G below this share of the largest are held there: sources on one point


@dataclass(frozen=True)
class CommonPowerFit:
    """Amplitudes of K sources at known positions, and their likelihood; leading axes are [B, T].

    Attributes:
        log_likelihood: the largest over rho [...]. log_marginal: its mean over rho, log-uniform on
            `LOG_RATIOS` [...]. ratio: rho [...]. loss: Q [...]. These four are float64.
        amplitudes: posterior means x [..., K]. residual: r [..., n].
        basis: B [..., n, K]. inverse: C [..., K, K].
    """

    log_likelihood: Tensor
    log_marginal: Tensor
    ratio: Tensor
    loss: Tensor
    amplitudes: Tensor
    residual: Tensor
    basis: Tensor
    inverse: Tensor


@dataclass(frozen=True)
class CommonPowerModel(QuadraticModel):
    """Negative log-likelihood at K positions, with leading axes [B, T]; parameters are the 3K coordinates.

    Attributes:
        curvature: Fisher information with the amplitudes at their posterior means and eliminated [..., 3K,
            3K].
        information: the mean of the same over the posterior of the amplitudes.
        fit: the amplitudes.
    """

    information: Tensor
    fit: CommonPowerFit


def common_power_fit(
    obs: Observation, points: Tensor, num_values: int, geometry: ArrayGeometry
) -> CommonPowerFit:
    """Fit T hypotheses of each of B scenes.

    Args:
        obs: one snapshot a scene. points: polar, [B, T, K, 3], K > 0.
        num_values: n, of which the snapshot may be a summary with the same inner products.
    """
    return _fit(obs, _responses(obs, polar_steering(points, geometry)), num_values)


def common_power_model(
    obs: Observation, points: Tensor, num_values: int, geometry: ArrayGeometry
) -> CommonPowerModel:
    """Value, gradient and information of T hypotheses of each of B scenes; arguments as above."""
    K = points.shape[2]
    a, da = polar_jet(points, geometry)
    V = _responses(obs, torch.cat([a, da.flatten(2, 3)], dim=2))
    S, D = V[..., :K], V[..., K:]
    fit = _fit(obs, S, num_values)
    x, noise = (
        fit.amplitudes.repeat_interleave(3, dim=-1),
        (fit.loss / num_values).to(points.dtype)[..., None, None],
    )
    cross = S.mH @ D
    explained = fit.inverse @ cross
    own = explained.view(*explained.shape[:-1], K, 3).diagonal(dim1=-3, dim2=-2).mT.flatten(-2).real
    slope = (D.mH @ fit.residual.unsqueeze(-1)).squeeze(-1)
    gradient = 2.0 * own - 2.0 * (x.conj() * slope).real / noise.squeeze(-1)
    projected = D.mH @ D - cross.mH @ explained
    curvature = 2.0 * (x.conj().unsqueeze(-1) * projected * x.unsqueeze(-2)).real / noise
    spread = fit.inverse.mT.repeat_interleave(3, dim=-2).repeat_interleave(3, dim=-1)  # Cov(x)^T / sigma^2
    information = curvature + 2.0 * (spread * projected).real
    return CommonPowerModel(-fit.log_likelihood.to(points.dtype), gradient, curvature, information, fit)


def _responses(obs: Observation, vectors: Tensor) -> Tensor:
    """``Phi a`` [B, T, n, J] of surface vectors [B, T, J, N]."""
    seen = obs.observe(vectors.flatten(1, 2))[:, 0]
    return seen.view(*seen.shape[:2], *vectors.shape[1:3]).movedim(-2, 1)


def _fit(obs: Observation, S: Tensor, n: int) -> CommonPowerFit:
    y = obs.y[:, :, :, None]  # [B, 1, n, 1]
    G, z = S.mH @ S, S.mH @ y
    w, U = torch.linalg.eigh(G.to(torch.complex128))
    w = torch.maximum(w, w[..., -1:] * RANK)
    z = (U.mH @ z.to(U.dtype)).squeeze(-1)
    plain = y - S @ (U @ (z / w).unsqueeze(-1)).to(S.dtype)
    rest = torch.maximum(_energy(plain), _energy(y) * torch.finfo(plain.real.dtype).eps ** 2).double()
    profile = _RatioProfile(w, z.real.square() + z.imag.square(), rest, n)
    rho, marginal = profile.maximum()
    eigen = 1.0 / (w + 1.0 / rho.unsqueeze(-1))
    x = (U @ (eigen * z).unsqueeze(-1)).to(S.dtype)
    return CommonPowerFit(
        log_likelihood=profile.values(rho.log().unsqueeze(-1)).squeeze(-1),
        log_marginal=marginal,
        ratio=rho,
        loss=profile.loss(rho.unsqueeze(-1)).squeeze(-1),
        amplitudes=x.squeeze(-1),
        residual=(y - S @ x).squeeze(-1),
        basis=S,
        inverse=((U * eigen.unsqueeze(-2)) @ U.mH).to(S.dtype),
    )


def _energy(r: Tensor) -> Tensor:
    return (r.real.square() + r.imag.square()).sum((-2, -1))


@dataclass(frozen=True)
class _RatioProfile:
    """The likelihood as a function of rho, from the eigenvalues w of G [..., K].

    Attributes:
        weight: w. power: ``|u_k^H B^H y|^2`` [..., K]. rest: ``|P y|^2`` [...], the loss as rho grows. count:
            n.
    """

    weight: Tensor
    power: Tensor
    rest: Tensor
    count: int

    def loss(self, rho: Tensor) -> Tensor:
        """Q [..., R] at rho [..., R]; a sum of positive terms, so that no digits cancel at high SNR."""
        w = self.weight.unsqueeze(-2)
        shrunk = self.power.unsqueeze(-2) / (w * (1.0 + rho.unsqueeze(-1) * w))
        return self.rest.unsqueeze(-1) + shrunk.sum(-1)

    def values(self, log_rho: Tensor) -> Tensor:
        """Log-likelihoods [..., R] at log rho [..., R]."""
        rho = log_rho.exp()
        logdet = torch.log1p(rho.unsqueeze(-1) * self.weight.unsqueeze(-2)).sum(-1)
        return -self.count * self.loss(rho).log() - logdet

    def maximum(self) -> tuple[Tensor, Tensor]:
        """rho [...] of the largest likelihood, by scoring from a grid, and the log-mean over the grid."""
        low, high, size = LOG_RATIOS
        grid = torch.linspace(low, high, size, dtype=self.weight.dtype, device=self.weight.device)
        grid = grid - self.weight.mean(-1, keepdim=True).log()
        values = self.values(grid)
        best = grid.gather(-1, values.argmax(-1, keepdim=True))
        for _ in range(NEWTON_STEPS):
            rho = best.exp()
            seen = rho * self.weight / (1.0 + rho * self.weight)
            fit = (self.power * rho / (1.0 + rho * self.weight).square()).sum(-1, keepdim=True)
            slope = self.count * fit / self.loss(rho) - seen.sum(-1, keepdim=True)
            step = (slope / (seen.square().sum(-1, keepdim=True) + RANK)).clamp(-0.5, 0.5)
            best = torch.minimum(torch.maximum(best + step, grid[..., :1]), grid[..., -1:])
        return best.squeeze(-1).exp(), values.logsumexp(-1) - math.log(size)

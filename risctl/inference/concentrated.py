"""The concentrated conditional likelihood of joint source positions, and its Gauss-Newton model.

With the symbols eliminated by least squares snapshot by snapshot (variable projection; Golub and Pereyra,
SIAM J. Numer. Anal. 10(2), 1973; Kaufman, BIT 15, 1975) the negative log-likelihood, but for scale, is

    ``f(theta) = sum_l |P_l y_l|^2``,  ``P_l`` the projector off the columns of ``B_l = Phi_l A(theta)``,

with exact gradient ``-2 Re sum_l x_kl^* d_kl^H P_l y_l`` and Gauss-Newton matrix
``2 Re sum_l x_il^* x_jl d_il^H P_l d_jl``, which is also the Fisher information times sigma^2.
Everything is read off the small Gram matrices of ``[B_l, D_l]``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.levenberg import QuadraticModel, descend
from risctl.inference.observation import Observation
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.polar import polar_jet, polar_steering

# Relative diagonal load of the amplitude solve, in units of rounding: it keeps merged sources finite and
# leaves the maximum where it is, which the published load of 1e-3 does not.
LOAD = 10.0


@dataclass(frozen=True)
class AmplitudeFit:
    """Least-squares amplitudes of sources at known positions.

    Attributes:
        cost: residual energy [B]. amplitudes: complex [B, L, K]. residual: complex [B, L, M].
        gram: ``B_l^H B_l`` [B, L, K, K]. basis: ``B_l`` [B, L, M, K].
    """

    cost: Tensor
    amplitudes: Tensor
    residual: Tensor
    gram: Tensor
    basis: Tensor


def fit_amplitudes(obs: Observation, points: Tensor, geometry: ArrayGeometry) -> AmplitudeFit:
    """Amplitudes and residual of sources at polar `points` [B, K, 3]."""
    return fit_responses(obs.y, obs.observe(polar_steering(points, geometry)))


def fit_responses(y: Tensor, S: Tensor) -> AmplitudeFit:
    """The same from the snapshots y [B, L, M] and the responses S [B, L, M, K] of the sources."""
    gram = S.mH @ S
    x = (loaded_inverse(gram) @ (S.mH @ y.unsqueeze(-1))).squeeze(-1)
    residual = y - (S @ x.unsqueeze(-1)).squeeze(-1)
    return AmplitudeFit(residual.abs().square().sum((-2, -1)), x, residual, gram, S)


def loaded_inverse(gram: Tensor) -> Tensor:
    """Inverse of positive semidefinite matrices [..., K, K] with a relative diagonal load."""
    K = gram.shape[-1]
    level = gram.diagonal(dim1=-2, dim2=-1).real.mean(-1)[..., None, None]
    eye = torch.eye(K, dtype=gram.dtype, device=gram.device)
    info = torch.finfo(level.dtype)
    inverse: Tensor = torch.linalg.inv_ex(gram + eye * (level * (LOAD * info.eps) + info.tiny))[0]
    return inverse


def local_model(obs: Observation, points: Tensor, geometry: ArrayGeometry) -> QuadraticModel:
    """f, its gradient and its Gauss-Newton matrix at polar `points` [B, K, 3]."""
    K = points.shape[1]
    a, da = polar_jet(points, geometry)
    V = obs.observe(torch.cat([a, da.flatten(1, 2)], dim=1))
    S, D = V[..., :K], V[..., K:]
    G = V.mH @ V
    inverse, cross = loaded_inverse(G[..., :K, :K]), G[..., :K, K:]
    x = inverse @ (S.mH @ obs.y.unsqueeze(-1))
    r = obs.y.unsqueeze(-1) - S @ x
    x3 = x.squeeze(-1).repeat_interleave(3, dim=-1)
    slope = (D.mH @ r).squeeze(-1)  # d^H P y, from the residual itself: no cancellation at high SNR
    projected = G[..., K:, K:] - cross.mH @ (inverse @ cross)
    curvature = 2.0 * (x3.conj().unsqueeze(-1) * projected * x3.unsqueeze(-2)).real.sum(1)
    gradient = -2.0 * (x3.conj() * slope).real.sum(1)
    return QuadraticModel(r.abs().square().sum((-3, -2, -1)), gradient, curvature)


def refine(
    obs: Observation, points: Tensor, geometry: ArrayGeometry, view: FieldOfView, iterations: int
) -> tuple[Tensor, Tensor]:
    """Lower the concentrated conditional cost from polar `points` [B, K, 3].

    Returns:
        points [B, K, 3] and their cost [B].
    """
    return descend(lambda x: local_model(obs, x, geometry), points, view, iterations)

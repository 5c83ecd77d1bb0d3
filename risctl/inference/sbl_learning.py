"""Sparse Bayesian learning of source powers on a grid.

``y_l = B_l x_l + w_l`` with ``B_l = Phi_l A_G``, ``x_gl ~ CN(0, gamma_g)`` and ``w_l ~ CN(0, sigma^2 I)``:
one variance per grid point, shared by the snapshots (Tipping, J. Mach. Learn. Res. 1, 2001; Wipf and Rao,
IEEE Trans. Signal Process. 55(7), 2007). The marginal likelihood, but for a constant,

    ``log p(y) = -sum_l (log det S_l + y_l^H S_l^-1 y_l)``,  ``S_l = sigma^2 I + B_l diag(gamma) B_l^H``,

needs only M x M matrices. Where it is stationary each variance solves
``sum_l |b_gl^H S_l^-1 y_l|^2 = sum_l b_gl^H S_l^-1 b_gl``; the fixed point multiplies by the ratio of the
two sides. (Its root is a minorise-maximise step, which never lowers the likelihood, Wipf and Nagarajan, NIPS
2007; the ratio itself converges in half the steps.) The noise is one more variance, with the antennas'
unit vectors as its columns, and follows the same rule.

Responses are held as real parts above imaginary parts, so that all products are real.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.observation import Observation
from risctl.physics.grid import PolarGrid, real_rows

NOISE_SHARE = 0.3  # of the mean received power, to start from
NOISE_FLOOR = 1e-4  # of the same: below it the error is that of the grid, and float32 factors stay sound


@dataclass(frozen=True)
class GridPowers:
    """Source powers `gamma` [B, J] at the grid points `index` [B, J], and the noise variance [B]."""

    index: Tensor
    gamma: Tensor
    noise: Tensor


def grid_responses(obs: Observation, grid: PolarGrid) -> Tensor:
    """``[Re Phi_l a_g; Im Phi_l a_g]`` real [B, L, 2M, G]."""
    B = grid.correlate(obs.Phi.conj())
    return torch.cat([B.real, B.imag], dim=-2)


def initial_powers(responses: Tensor, y: Tensor, inside: Tensor) -> GridPowers:
    """The same power at all grid points `inside` [G] the field of view, adding up to the received power."""
    B, L, M2, G = responses.shape
    received = y.abs().square().mean((-2, -1)).clamp_min(torch.finfo(responses.dtype).tiny)
    energy = responses.flatten(1, 2).square().sum(1) * inside
    level = received * (1.0 - NOISE_SHARE) * (L * M2 / 2) / energy.sum(1)
    index = torch.arange(G, device=y.device).expand(B, G)
    return GridPowers(index, level.unsqueeze(-1) * inside, received * NOISE_SHARE)


def learn(
    responses: Tensor,
    y: Tensor,
    inside: Tensor,
    stages: Sequence[tuple[int, int]],
) -> GridPowers:
    """Fixed point from equal powers, on a grid that is thinned to the strongest points on the way.

    Args:
        responses: [B, L, 2M, G] from :func:`grid_responses`. y: [B, L, M].
        inside: grid points that may hold power, bool [G].
        stages: (points kept, iterations) in turn.
    """
    state = initial_powers(responses, y, inside)
    floor = state.noise * (NOISE_FLOOR / NOISE_SHARE)
    for keep, iterations in stages:
        responses, state = prune(responses, state, keep)
        scratch = torch.empty_like(responses)
        for _ in range(iterations):
            state = fixed_point_step(responses, y, state, floor, scratch)
    return state


def prune(responses: Tensor, state: GridPowers, keep: int) -> tuple[Tensor, GridPowers]:
    """The `keep` strongest points of each scene, in grid order; everything if there are no more than that."""
    if keep >= state.gamma.shape[1]:
        return responses, state
    rows = state.gamma.topk(keep, dim=1, sorted=False).indices.sort(dim=1).values
    L, M2 = responses.shape[1:3]
    thinned = responses.gather(3, rows[:, None, None].expand(-1, L, M2, -1))
    return thinned, GridPowers(state.index.gather(1, rows), state.gamma.gather(1, rows), state.noise)


def fixed_point_step(
    responses: Tensor, y: Tensor, state: GridPowers, floor: Tensor, scratch: Tensor
) -> GridPowers:
    """One step of all variances.

    Args:
        responses: [B, L, 2M, J]. y: [B, L, M]. floor: least noise variance [B].
        scratch: like `responses`; overwritten.
    """
    M = y.shape[-1]
    torch.mul(responses, state.gamma[:, None, None], out=scratch)
    T = scratch @ responses.mT  # of [Re; Im], whence B Gamma B^H
    S = torch.complex(T[..., :M, :M] + T[..., M:, M:], T[..., M:, :M] - T[..., :M, M:])
    S.diagonal(dim1=-2, dim2=-1).add_(state.noise[:, None, None])
    inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(S)[0])
    x = (inverse @ y.unsqueeze(-1)).squeeze(-1)  # S_l^-1 y_l
    fit = (real_rows(x.unsqueeze(-2)) @ responses).square_().sum((1, 2))
    # A Hermitian form of [Re; Im] has the real matrix [Re W, -Im W; Im W, Re W].
    load = torch.matmul(real_rows(inverse.conj()), responses, out=scratch).mul_(responses).sum((1, 2))
    gamma = state.gamma * (fit / load.clamp_min(torch.finfo(load.dtype).tiny))
    noise_fit = x.abs().square().sum((-2, -1))
    noise_load = inverse.diagonal(dim1=-2, dim2=-1).real.sum((-2, -1))
    noise = torch.maximum(state.noise * (noise_fit / noise_load), floor)
    return GridPowers(state.index, gamma, noise)

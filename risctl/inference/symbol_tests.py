"""Tests of the symbols of the fitted sources: independent, and of the same power in all snapshots.

The symbols ``x_l``, fitted by least squares, are complex normal with covariance
``diag(p) + sigma^2 (S_l^H S_l)^-1``, S_l the responses of the sources.
"""

from __future__ import annotations

import torch
from torch import Tensor

from risctl.inference.gaussian import square
from risctl.inference.score_tests import Residual, beta_tail

POWER_STEPS = 10  # of expectation maximisation of the powers of the symbols
CLOSE = 0.5  # squared coherence of the responses of two sources from which they are almost in one place
APART = 1e-4  # share of the variance of their correlation, below which nothing tells them apart


def symbols_test(rest: Residual) -> Tensor:
    """p-value [B] of the test for one snapshot whose symbols are too strong for sources of constant power.

    ``w_l = x_l^H (diag(p) + sigma^2 (S_l^H S_l)^-1)^-1 x_l``, with the powers p of highest likelihood, are
    gamma variables; the share of each in their sum has a beta distribution. The largest of L counts as the
    largest of L independent ones (Fisher, Proc. R. Soc. A 125, 1929, whose test it is for one source).
    """
    L, K = rest.symbols.shape[1:]
    if L < 2:
        return torch.full_like(rest.energy, torch.nan)
    w = (rest.symbols.conj() * weighted_symbols(rest, slice(None))[1]).real.sum(-1)
    largest = (w.amax(1) / w.sum(1)).clamp_max(1.0)
    one = beta_tail(largest, K, torch.full_like(largest, (L - 1.0) * K))
    return -torch.expm1(L * torch.log1p(-one.clamp_max(1.0 - 1e-15)))


def coherent_test(rest: Residual) -> Tensor:
    """p-value [B] of the test for correlated symbols of two sources almost in one place; NaN without them.

    A source whose wavefront no point in the field of view has, one far beyond it say, is fitted by two that
    are almost in one place, with symbols in proportion. With the inverse covariances A_l of the fitted
    symbols and ``g_l = A_l x_l`` the derivative of the log-likelihood by the covariance of two symbols is
    (score test of Rao, Proc. Cambridge Philos. Soc. 44, 1948)

        ``u = sum_l g_i g_j^* - A_ij``, ``v = E |u|^2 = sum_l A_ii A_jj``, ``w = E u^2 = sum_l A_ij^2``,

    and ``q = (v |u|^2 - Re w^* u^2) / (v^2 - |w|^2)`` exponential with mean one for many snapshots. ``q / L``
    is the squared sample correlation where there is no noise, so that the tail is ``(1 - q / L)^(L - 1)``;
    conservative where noise dominates, which the fitted powers then follow. The largest of n pairs counts as
    the largest of n independent ones.
    """
    L, K = rest.symbols.shape[1:]
    i, j = torch.triu_indices(K, K, 1, device=rest.symbols.device)
    own = rest.gram.diagonal(dim1=-2, dim2=-1).real
    close = square(rest.gram[:, i, j]) > CLOSE * own[:, i] * own[:, j]  # [B, n]
    p, rows = torch.full_like(rest.energy, torch.nan), close.any(-1).nonzero().squeeze(-1)
    if L < 2 or not len(rows):
        return p
    A, g = weighted_symbols(rest, rows)
    own = A.diagonal(dim1=-2, dim2=-1).real
    u = (g[..., i] * g[..., j].conj() - A[..., i, j]).sum(1)
    v, w = (own[..., i] * own[..., j]).sum(1), A[..., i, j].square().sum(1)  # E |u|^2 and E u^2
    q = v * square(u) - (w.conj() * u.square()).real
    q = q / (v.square() - square(w)).clamp_min(APART * v.square())
    one = (1.0 - (q / L).clamp_max(1.0)).pow(L - 1).masked_fill(~close[rows], 1.0).amin(-1)
    several = -torch.expm1(close[rows].sum(-1) * torch.log1p(-one.clamp_max(1.0 - 1e-15)))
    return p.index_copy(0, rows, several)


def weighted_symbols(rest: Residual, rows: Tensor | slice) -> tuple[Tensor, Tensor]:
    """Inverse covariance of the fitted symbols x of the scenes `rows`, and what it makes of them.

    Returns:
        ``A_l = (diag(p) + sigma^2 (S_l^H S_l)^-1)^-1`` [B, L, K, K], with the powers p of highest likelihood;
        ``A_l x_l`` [B, L, K].
    """
    x = rest.symbols[rows].unsqueeze(-1)
    noise = (2.0 * rest.energy[rows] / rest.freedom[rows])[:, None, None, None] * rest.inverse[rows]
    p = square(x).squeeze(-1).mean(1, keepdim=True)  # [B, 1, K]
    for _ in range(POWER_STEPS):  # from above: what is below the likeliest is so only for want of steps
        inverse = torch.linalg.inv_ex(torch.diag_embed(p).to(noise) + noise)[0]
        mean = p * (inverse @ x).squeeze(-1)
        spread = p - p.square() * inverse.diagonal(dim1=-2, dim2=-1).real
        p = (square(mean) + spread).mean(1, keepdim=True)
    inverse = torch.linalg.inv_ex(torch.diag_embed(p).to(noise) + noise)[0]
    return inverse, (inverse @ x).squeeze(-1)

"""Minimum-cost assignment of slots to sources, a batch at a time.

Dynamic programming over the subsets of slots used so far (Held & Karp's recursion for an assignment): with
``T[k, S]`` the least cost of giving the slots S to the first k sources,

    T[k+1, S] = min over j in S of T[k, S \\ {j}] + cost[k, j],

K_max steps over 2^K_max subsets for all scenes at once. Exact, as the Hungarian method is.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def assign(cost: Tensor) -> Tensor:
    """Permutation of least total cost.

    Args:
        cost: of giving slot j to source k, [..., k, j], K x K and finite. Rows of zeros leave a source out.

    Returns:
        Slot of every source, int64 [..., K]. Of equal assignments always the same one.
    """
    K = cost.shape[-1]
    without, inside = _subsets(K, cost.device)
    best = torch.full((*cost.shape[:-2], 1 << K), torch.inf, dtype=cost.dtype, device=cost.device)
    best[..., 0] = 0.0
    choices = []
    for k in range(K):
        candidates = best[..., without] + cost[..., k, :].unsqueeze(-2)
        best, choice = candidates.masked_fill(~inside, torch.inf).min(-1)
        choices.append(choice)
    return _backtrack(choices, K)


def _backtrack(choices: list[Tensor], K: int) -> Tensor:
    subset = torch.full_like(choices[0][..., :1], (1 << K) - 1)
    slots = []
    for choice in reversed(choices):
        slot = choice.gather(-1, subset)
        slots.append(slot)
        subset = subset - (1 << slot)
    return torch.cat(slots[::-1], dim=-1)


@lru_cache(maxsize=16)
def _subsets(K: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """For every subset S and slot j: the subset ``S \\ {j}``, and whether j is in S; [2^K, K]."""
    S = torch.arange(1 << K, device=device).unsqueeze(-1)
    bit = 1 << torch.arange(K, device=device)
    return S & ~bit, (S & bit) != 0

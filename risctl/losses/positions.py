"""`aux`, `peak`: distances between the predicted slots and the true sources.

    aux  = mean over sources k of sum_c smooth_l1(d_c),  d = (azimuth, elevation_factor elevation, log range)
           of source k less its slot's, the slots assigned so that the same sum is least,
    peak = sum_i w_i min_k c(i, k) + mean_k min_i [c(i, k) + e(i, k)],

c the chord between unit direction vectors (about the angle in rad, at most 2) and w_i the slots' power
shares, so that empty slots pull at nothing. Seen from the sources an empty slot is no hit either: where slot
i holds less than a tenth (`EMPTY_SHARE`) of source k's own share of the power, ``e = 2 (1 - share_i /
(EMPTY_SHARE share_k))``, as far away as a direction can be once it is empty altogether. Both terms are zero
at the truth.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from risctl.config import LossConfig
from risctl.losses.moments import GUARD, power_share
from risctl.losses.truth import Truth
from risctl.physics.geometry import direction

DEFAULTS = LossConfig()
EMPTY_SHARE = 0.1
LARGEST_CHORD = 2.0
SHORTEST_RANGE = 1e-6


def match_slots(position: Tensor, truth: Truth, loss: LossConfig = DEFAULTS) -> Tensor:
    """Slot of every true source by least total `aux` cost, int64 [B, K_max]; the slots left over past K."""
    with torch.no_grad():
        cost = _pair_costs(position, truth, loss)
        return assign(torch.where(truth.mask.unsqueeze(-1), cost, torch.zeros_like(cost)))


def matched_distance(position: Tensor, truth: Truth, loss: LossConfig) -> Tensor:
    """`aux` [B] of predicted (azimuth, elevation, range) [B, K_max, 3]."""
    cost = _pair_costs(position, truth, loss)
    slots = match_slots(position, truth, loss)
    return truth.mean_over_sources(cost.gather(-1, slots.unsqueeze(-1)).squeeze(-1))


def direction_chamfer(position: Tensor, power: Tensor, truth: Truth) -> Tensor:
    """`peak` [B] of predicted positions [B, K_max, 3] and slot powers [B, K_max]."""
    chord = _chords(position, truth)
    far = torch.full_like(chord, torch.inf)
    share = power_share(power)
    nearest_source = torch.where(truth.mask.unsqueeze(-1), chord, far).amin(-2)
    empty = 1.0 - share.unsqueeze(-2) / (EMPTY_SHARE * power_share(truth.power).unsqueeze(-1) + GUARD)
    nearest_slot = (chord + LARGEST_CHORD * empty.clamp_min(0.0)).amin(-1)
    return (share * nearest_source).sum(-1) + truth.mean_over_sources(nearest_slot)


def _pair_costs(position: Tensor, truth: Truth, loss: LossConfig) -> Tensor:
    """Smooth-L1 [B, k, j] of source k against slot j."""
    scale = torch.tensor([1.0, loss.elevation_factor, 1.0], dtype=position.dtype, device=position.device)
    source, slot = (_log_range(x) * scale for x in (truth.position, position))
    difference = source.unsqueeze(-2) - slot.unsqueeze(-3)
    zero = torch.zeros_like(difference)
    return smooth_l1_loss(difference, zero, reduction="none", beta=loss.aux_beta).sum(-1)


def _log_range(position: Tensor) -> Tensor:
    return torch.cat([position[..., :2], position[..., 2:].clamp_min(SHORTEST_RANGE).log()], dim=-1)


def _chords(position: Tensor, truth: Truth) -> Tensor:
    """Distances [B, k, j] of the unit vectors of source k and slot j; gradient zero where they coincide."""
    source = direction(truth.position[..., 0], truth.position[..., 1])
    slot = direction(position[..., 0], position[..., 1])
    difference: Tensor = torch.linalg.vector_norm(source.unsqueeze(-2) - slot.unsqueeze(-3), dim=-1)
    return difference


def assign(cost: Tensor) -> Tensor:
    """Permutation of least total cost, a batch at a time; exact, as the Hungarian method is.

    Dynamic programming over the subsets of slots used so far (Held and Karp's recursion for an assignment),
    K steps over 2^K subsets: with ``T[k, S]`` the least cost of giving the slots S to the first k sources,
    ``T[k+1, S] = min over j in S of T[k, S - {j}] + cost[k, j]``.

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
    subset = torch.full_like(choices[0][..., :1], (1 << K) - 1)
    slots = []
    for choice in reversed(choices):
        slot = choice.gather(-1, subset)
        slots.append(slot)
        subset = subset - (1 << slot)
    return torch.cat(slots[::-1], dim=-1)


@lru_cache(maxsize=16)
def _subsets(K: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """For every subset S and slot j: the subset ``S - {j}``, and whether j is in S; [2^K, K]."""
    S = torch.arange(1 << K, device=device).unsqueeze(-1)
    bit = 1 << torch.arange(K, device=device)
    return S & ~bit, (S & bit) != 0

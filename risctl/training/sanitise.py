"""Gradient values that are not finite: counted, then replaced, in that order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


def gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """The gradients that exist."""
    return [p.grad for p in parameters if p.grad is not None]


@torch.no_grad()
def count_nonfinite(parameters: Sequence[nn.Parameter]) -> int:
    """Number of gradient values that are not finite."""
    found = gradients(parameters)
    if not found or bool(torch.isfinite(torch.nn.utils.get_total_norm(found))):
        return 0  # one quick pass; a norm can overflow where no value does, hence the count
    return int(torch.stack([(~torch.isfinite(g)).sum() for g in found]).sum())


@torch.no_grad()
def sanitise(parameters: Sequence[nn.Parameter]) -> None:
    """Replace in place: nan by 0, +inf by 1, -inf by -1."""
    for g in gradients(parameters):
        torch.nan_to_num_(g, nan=0.0, posinf=1.0, neginf=-1.0)


@torch.no_grad()
def group_norms(groups: Mapping[str, Sequence[nn.Parameter]]) -> dict[str, float]:
    """Euclidean gradient norm of each group."""
    norms = {name: torch.nn.utils.get_total_norm(gradients(group)) for name, group in groups.items()}
    return {name: float(norm) for name, norm in norms.items()}


@torch.no_grad()
def clip_gradients(parameters: Sequence[nn.Parameter], limit: float) -> None:
    """Scale all gradients together so that their norm is at most `limit`."""
    torch.nn.utils.clip_grad_norm_(parameters, limit)

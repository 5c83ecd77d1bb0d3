"""`K`: cross-entropy of the source count."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy

from risctl.losses.truth import Truth


def count_cross_entropy(count_logits: Tensor, truth: Truth) -> Tensor:
    """``-log softmax(logits)[K]`` [B] in nats; logits [B, K_max] of K = 1..K_max."""
    return cross_entropy(count_logits, truth.num_sources - 1, reduction="none")

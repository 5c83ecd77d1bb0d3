"""Inputs of the count fusion: head, evidence of every count, and features of the scene.

Features of one scene, in this order:

- gain in log-likelihood and in evidence of each source after the first, ``asinh`` of nats;
- the head's log-probabilities;
- the presence logits of the most likely proposals, sorted;
- the log noise variance at each count over that at K_max, and the energy of y over it;
- at each count from 2 on the log-power of the weakest source over the total, and the distance of the closest
  pair in the steps of :data:`risctl.inference.levenberg.POINT_LIMIT` (half a beam, a range ring).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from risctl.inference.count import CountRule
from risctl.inference.gaussian import Hypothesis
from risctl.inference.levenberg import POINT_LIMIT

MIN_LOG_PROBABILITY = -12.0  # of a probability
LOGIT_LIMIT = 10.0
FAR = 20.0  # largest distance of a pair, in these steps


def head_log_probabilities(logits: Tensor) -> Tensor:
    """Log-probabilities [B, K_max] of the count head's logits, none below `MIN_LOG_PROBABILITY`."""
    return logits.float().log_softmax(1).clamp_min(MIN_LOG_PROBABILITY)


def evidences(hypotheses: Sequence[Hypothesis], rule: CountRule) -> Tensor:
    """Log-evidence of each count less that of the best [B, K_max], nats."""
    scores = rule.scores(hypotheses)
    return (scores - scores.amax(1, keepdim=True)).float()


def fusion_features(
    y: Tensor, hypotheses: Sequence[Hypothesis], evidence: Tensor, head: Tensor, presence: Tensor
) -> Tensor:
    """The figures of B scenes [B, F], F being :func:`num_features`.

    Args:
        y: snapshots [B, L, M]. hypotheses: fitted, for 1..K_max sources. evidence, head: [B, K_max].
        presence: logits of the P proposals [B, P].
    """
    likelihood = torch.stack([h.model.log_likelihood for h in hypotheses], dim=1)
    noise = torch.stack([h.params.log_noise for h in hypotheses], dim=1)
    level = y.abs().square().mean((1, 2)).log().unsqueeze(1) - noise[:, -1:]
    several = hypotheses[1:]
    weakest = [h.params.log_power.amin(1) - h.params.log_power.logsumexp(1) for h in several]
    columns = [
        likelihood.diff(dim=1).asinh(),
        evidence.diff(dim=1).asinh(),
        head,
        presence.clamp(-LOGIT_LIMIT, LOGIT_LIMIT).sort(dim=1, descending=True).values,
        noise[:, :-1] - noise[:, -1:],
        level,
        *(x.unsqueeze(1) for x in weakest),
        *(closest_pair(h.params.points).unsqueeze(1) for h in several),
    ]
    return torch.cat([x.float() for x in columns], dim=1)


def num_features(max_sources: int, proposals: int) -> int:
    """Number of features F for K_max counts and P proposals."""
    return 5 * (max_sources - 1) + max_sources + proposals + 1


def closest_pair(points: Tensor) -> Tensor:
    """Distance [B] of the closest two of the polar points [B, K, 3], in half beams and range rings."""
    scale = points.new_tensor(POINT_LIMIT)
    away = torch.cdist(points / scale, points / scale)
    same = torch.eye(points.shape[1], dtype=torch.bool, device=points.device)
    return away.masked_fill(same, FAR).flatten(1).amin(1).clamp_max(FAR)

"""Evidence on a scene and its sources: what the calibrated probabilities are computed from.

The units of y, H and codes cancel: gains are log-likelihood ratios, powers are relative to each other. L and
M are among the features, so that one fit serves measurements of other dimensions. Positions are in metres,
their deviations in rad and metres, and their distances in steps that suit the default surface: on another one
the probabilities are those of scenes unlike the ones fitted to.

Features of a scene with hypotheses of K = 0 .. K_max sources, in this order (``asinh`` of nats):

- gain in log-likelihood and in evidence of each source; loss by the removal of the least one at each count;
- the log noise variance at each count below K_max over that at K_max, and the energy of y over it; log L,
  log M;
- at each count from 2 on: log-power of the weakest source over the total, deviation of the log-powers,
  distance of the closest pair in the steps of :data:`risctl.inference.levenberg.POINT_LIMIT` (half a beam, a
  ring);
- of a network: the head's log-probabilities, and the presence logits of the most likely proposals, sorted.

Features of a source of the hypothesis of k sources: see :func:`source_features`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.count import CountRule
from risctl.inference.gaussian import Hypothesis
from risctl.inference.levenberg import POINT_LIMIT
from risctl.inference.observation import Observation
from risctl.inference.posterior import SourcePosterior, source_posterior
from risctl.physics.polar import polar_direction

MIN_LOG_PROBABILITY = -12.0
LOGIT_LIMIT = 10.0
FAR = 20.0  # largest distance of a pair, in these steps
FAR_AWAY = 8.0  # metres, the same between hypotheses
NUM_SOURCE_FEATURES = 20


@dataclass(frozen=True)
class Proposals:
    """What a network says of B scenes.

    Attributes:
        head: logits of K = 1 .. K_max [B, K_max].
        points: its polar proposals [B, R, 3].
        presence: their logits [B, R].
    """

    head: Tensor
    points: Tensor
    presence: Tensor


@dataclass(frozen=True)
class CountHypotheses:
    """Hypotheses of K = 0 .. K_max sources in B scenes, and what bears on the choice between them.

    Attributes:
        hypotheses: fitted. losses: decrease of the log-likelihood without each source, per hypothesis [B, K].
        posteriors: of the positions, per hypothesis.
        evidence: log-evidence of each count less the largest [B, K_max + 1].
        shape: L, M. level: log mean |y|^2 [B]. network: proposals of a network, or None.
    """

    hypotheses: Sequence[Hypothesis]
    losses: Sequence[Tensor]
    posteriors: Sequence[SourcePosterior]
    evidence: Tensor
    shape: tuple[float, int]
    level: Tensor
    network: Proposals | None = None

    @classmethod
    def of(
        cls,
        obs: Observation,
        hypotheses: Sequence[Hypothesis],
        losses: Sequence[Tensor],
        rule: CountRule,
        cutoff: float,
        network: Proposals | None = None,
    ) -> "CountHypotheses":
        """What was found in `obs`; `hypotheses` start at K = 0, `cutoff` is in metres."""
        scores = rule.scores(hypotheses)
        posteriors = [source_posterior(h, rule.view, cutoff) for h in hypotheses]
        level = obs.y.abs().square().mean((1, 2)).log()
        snapshots = float(obs.weight[0]) * obs.y.shape[1]
        evidence = (scores - scores.amax(1, keepdim=True)).float()
        return cls(hypotheses, losses, posteriors, evidence, (snapshots, obs.y.shape[2]), level, network)

    @property
    def max_sources(self) -> int:
        """K_max."""
        return len(self.hypotheses) - 1


def head_log_probabilities(logits: Tensor) -> Tensor:
    """Log-probabilities [B, K_max] of the count head's logits, none below `MIN_LOG_PROBABILITY`."""
    return logits.float().log_softmax(1).clamp_min(MIN_LOG_PROBABILITY)


def count_features(found: CountHypotheses) -> Tensor:
    """The figures of B scenes [B, F], F being :func:`num_count_features`."""
    likelihood = torch.stack([h.model.log_likelihood for h in found.hypotheses], dim=1)
    noise = torch.stack([h.params.log_noise for h in found.hypotheses], dim=1)
    several = found.hypotheses[2:]
    powers = [h.params.log_power for h in several]
    columns = [
        likelihood.diff(dim=1).asinh(),
        found.evidence.diff(dim=1).asinh(),
        torch.stack([loss.amin(1) for loss in found.losses[1:]], dim=1).asinh(),
        noise[:, :-1] - noise[:, -1:],
        (found.level - noise[:, -1]).unsqueeze(1),
        _dimensions(found).expand(len(noise), -1),
        *((p.amin(1) - p.logsumexp(1)).unsqueeze(1) for p in powers),
        *(p.std(1).unsqueeze(1) for p in powers),
        *(closest_pair(h.params.points).unsqueeze(1) for h in several),
    ]
    if found.network is not None:
        presence = found.network.presence.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
        columns += [head_log_probabilities(found.network.head), presence.sort(dim=1, descending=True).values]
    return torch.cat([x.float() for x in columns], dim=1)


def num_count_features(max_sources: int, proposals: int | None) -> int:
    """Number of figures of a scene for K_max and the network's number of proposals (None: no network)."""
    return 7 * max_sources + (0 if proposals is None else max_sources + proposals)


def source_features(found: CountHypotheses, k: int) -> Tensor:
    """The figures [B, k, F] of the sources of the hypothesis of k >= 1 sources, F = `NUM_SOURCE_FEATURES`.

    In this order: loss by its removal (``asinh`` of nats, and per snapshot), its rank by loss; log of the
    posterior's deviations and of its mean squared error, the mass within the cut-off, log range; log-power
    over the mean; distance of the closest other source, and of the closest of the hypotheses of k - 1 and k
    + 1 sources, in beam steps and in metres; the presence a network sees there; the scene's SNR, log L, log
    M, k over K_max.
    """
    post, loss, params = found.posteriors[k], found.losses[k], found.hypotheses[k].params
    B = len(loss)
    same = torch.eye(k, dtype=torch.bool, device=loss.device)
    rank = loss.argsort(dim=1, descending=True).argsort(dim=1)
    own = [
        loss.asinh(),
        (loss / found.shape[0]).asinh(),
        rank / found.max_sources,
        *post.std.clamp_min(1e-6).log().unbind(-1),
        post.spread.clamp_min(1e-8).log(),
        post.near.clamp(1e-6, 1.0 - 1e-6).logit(),
        -post.points[..., 2].log(),
        params.log_power - params.log_power.mean(1, keepdim=True),
        _steps(post.points, post.points).masked_fill(same, FAR).amin(2).clamp_max(FAR),
        *_persistence(found, k - 1, post.points),
        *_persistence(found, k + 1, post.points),
        _support(found, post.points),
    ]
    level = found.level - found.hypotheses[-1].params.log_noise
    scene = [
        level,
        *_dimensions(found).expand(B, -1).unbind(1),
        torch.full_like(level, k / found.max_sources),
    ]
    return torch.stack([x.float() for x in (*own, *(x.unsqueeze(1).expand(B, k) for x in scene))], dim=-1)


def closest_pair(points: Tensor) -> Tensor:
    """Distance [B] of the closest two of the polar points [B, K, 3], in half beams and range rings."""
    same = torch.eye(points.shape[1], dtype=torch.bool, device=points.device)
    return _steps(points, points).masked_fill(same, FAR).flatten(1).amin(1).clamp_max(FAR)


def _steps(a: Tensor, b: Tensor) -> Tensor:
    """Distances [B, I, J] of polar points [B, I, 3] and [B, J, 3] in half beams and range rings."""
    scale = a.new_tensor(POINT_LIMIT)
    return torch.cdist(a / scale, b.to(a) / scale)


def cartesian(points: Tensor) -> Tensor:
    """Positions [..., 3] in metres of polar points [..., 3]."""
    return polar_direction(points) / points[..., 2:]


def _persistence(found: CountHypotheses, k: int, points: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of each of the points [B, K, 3] from the closest source of the hypothesis of k: steps,
    metres."""
    if not 1 <= k <= found.max_sources:
        return torch.full_like(points[..., 0], FAR), torch.full_like(points[..., 0], FAR_AWAY)
    others = found.posteriors[k].points
    metres = torch.cdist(cartesian(points), cartesian(others)).amin(2).clamp_max(FAR_AWAY)
    return _steps(points, others).amin(2).clamp_max(FAR), metres


def _support(found: CountHypotheses, points: Tensor) -> Tensor:
    """``log sum_j exp(presence_j - d_j^2 / 2)`` [B, K] over a network's proposals at d_j steps; 0 without
    one."""
    if found.network is None:
        return torch.zeros_like(points[..., 0])
    presence = found.network.presence.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)
    near = _steps(points, found.network.points)
    return (presence.unsqueeze(1) - 0.5 * near.square()).logsumexp(-1).clamp_min(-LOGIT_LIMIT)


def _dimensions(found: CountHypotheses) -> Tensor:
    L, M = found.shape
    return found.level.new_tensor([math.log(L), math.log(M)])

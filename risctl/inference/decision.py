"""What is reported: probabilities of counts and sources, a stated loss, a limit on false alarms.

1. **Is there a source at all?** Under noise alone the ratio of marginal likelihoods
   ``p(y | one source) / p(y | none)`` has mean one, so that it exceeds ``1 / false_alarm`` with probability
   at most ``false_alarm`` (Markov's inequality; Ville 1939), whatever L, M, N, the channel, the codes and
   the noise level. Laplace's approximation (:mod:`risctl.inference.count`) stands for the marginal
   likelihoods.
2. **What is believed.** A calibrated fusion (:mod:`risctl.model.fusion`) gives P(K = 0 .. K_max), and for
   each source of each hypothesis the probability pi that a true source lies within `CUTOFF` of it, each true
   source counting once, that one lies inside the gate of `GATE_DEG`, and the mean squared error e2 if one
   lies within `CUTOFF`.
3. **What is reported**, by ``inference.decision``:

   - ``gospa``: of the most probable K >= 1, the sources that lower the expected squared GOSPA distance
     (cut-off c, p = 2, alpha = 2; Rahmathullah et al., FUSION 2017). Reporting one changes it by ``c^2/2 -
     pi (c^2 - e2)``, so that it is reported if ``pi (c^2/2 - e2) > (1 - pi) c^2/2``. (To choose the
     hypothesis by its gain as well favours those whose gain is overrated: GOSPA at 5 dB and the calibration
     of what is reported get worse.)
   - ``count``: the most probable K >= 1, and all sources of its hypothesis: the least probability of a wrong
     count.
   - ``recall``: as many, but those of all hypotheses most probable to hit, no two inside one gate: the most
     expected hits at that count. They are reported as they were found, without the final polish.

Positions are posterior means (:mod:`risctl.inference.posterior`) throughout.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from risctl.config import InferenceConfig
from risctl.inference.count import CountRule, is_noise, to_estimates
from risctl.inference.estimates import Estimates
from risctl.inference.fusion import CountHypotheses, count_features, head_log_probabilities, source_features
from risctl.inference.gaussian import Hypothesis
from risctl.inference.observation import tree_index
from risctl.inference.posterior import SourcePosterior, source_posterior
from risctl.model.fusion import LoadedFusion, SourceBelief
from risctl.physics.bounds import invert_information
from risctl.physics.geometry import FieldOfView
from risctl.physics.polar import from_polar
from risctl.physics.scenes import rows_by_count

CUTOFF = 2.0  # metres: a report closer to a true source than this is worth something
GATE_DEG = 5.0  # in azimuth and in elevation: a hit
EVIDENCE_WEIGHT = 0.5  # of the evidence, the head's log-probability having 1, if no fusion was fitted


@dataclass(frozen=True)
class Beliefs:
    """Probabilities of what was found in B scenes.

    Attributes:
        log_count: log-probability of K = 0 .. K_max [B, K_max + 1]; a mere score of a network's hypotheses
            without calibration.
        sources: of the sources of each hypothesis, from K = 1 on; empty without calibration.
        known: whether `log_count` is a probability.
    """

    log_count: Tensor
    sources: Sequence[SourceBelief]
    known: bool


@dataclass(frozen=True)
class Deciding:
    """How an estimator decides what it reports.

    Attributes:
        inference: of which ``decision``, ``count_by`` and ``false_alarm`` are read.
        rule: evidence of a count, and the field of view. fusion: calibrated probabilities, or None.
    """

    inference: InferenceConfig
    rule: CountRule
    fusion: LoadedFusion | None = None

    def counts(self, found: CountHypotheses, beliefs: Beliefs) -> Tensor:
        """The number of sources [B] whose hypothesis is reported, or of which some are; 0: noise alone."""
        by = self.inference.count_by
        if by == "evidence":
            score = found.evidence[:, 1:]
        elif by == "head" and found.network is not None:
            score = head_log_probabilities(found.network.head)
        else:
            score = beliefs.log_count[:, 1:]
        noise = is_noise(found.hypotheses[0], found.hypotheses[1:], self.rule, self.inference.false_alarm)
        return (score.argmax(dim=1) + 1).masked_fill(noise, 0)


def believe(found: CountHypotheses, fusion: LoadedFusion | None) -> Beliefs:
    """The probabilities by a fitted fusion; without one, those of the evidence, with the head's as a
    score."""
    if fusion is None:
        score = found.evidence
        if found.network is not None:
            score = EVIDENCE_WEIGHT * score + pad(head_log_probabilities(found.network.head), (1, 0))
        return Beliefs(score.log_softmax(1), (), found.network is None)
    log_count = fusion.network(head_scores(found), found.evidence, count_features(found))
    sources = [
        fusion.network.sources(log_count, source_features(found, k), found.posteriors[k].spread, CUTOFF)
        for k in range(1, found.max_sources + 1)
    ]
    return Beliefs(log_count, sources, True)


def head_scores(found: CountHypotheses) -> Tensor:
    """Log-probabilities of K = 1 .. K_max by the network's head [B, K_max]; zeros without a network."""
    if found.network is None:
        return torch.zeros_like(found.evidence[:, 1:])
    return head_log_probabilities(found.network.head)


def gospa_gain(belief: SourceBelief) -> Tensor:
    """Expected decrease [B, K] of the squared GOSPA distance by reporting each source, m^2."""
    return belief.near.sigmoid() * (CUTOFF**2 - belief.error) - CUTOFF**2 / 2


def answer(
    found: CountHypotheses,
    deciding: Deciding,
    given: Tensor | None,
    polish: Callable[[Hypothesis, Tensor], Hypothesis] | None = None,
) -> Estimates:
    """Decide and report for B scenes.

    Args:
        found: hypotheses. deciding: how.
        given: the number of sources of each scene [B], all of which are reported; None: it is decided on.
        polish: refines a hypothesis of the scenes with these indices before its positions are reported.
    """
    beliefs, null, decision = (
        believe(found, deciding.fusion),
        found.hypotheses[0],
        deciding.inference.decision,
    )
    result = Estimates.empty(len(found.evidence), found.max_sources, found.evidence.device)
    result.noise_var[:] = null.params.log_noise.double().exp()
    counts = deciding.counts(found, beliefs) if given is None else given
    if given is None and decision == "recall" and beliefs.sources:
        result.put(torch.arange(len(result), device=counts.device), report_hits(found, beliefs, counts))
    else:
        for K, here in rows_by_count(counts):
            hypothesis, belief, keep = tree_index(found.hypotheses[K], here), None, None
            if beliefs.sources:
                belief = tree_index(beliefs.sources[K - 1], here)
                if decision == "gospa" and given is None:
                    keep = gospa_gain(belief) > 0.0
            hypothesis = hypothesis if polish is None else polish(hypothesis, here)
            result.put(here, report(hypothesis, deciding.rule.view, belief, keep))
    if beliefs.known:
        result.count_probability[:] = beliefs.log_count.double().exp()
    return result


def explanation(
    found: CountHypotheses,
    deciding: Deciding,
    given: Tensor | None,
    polish: Callable[[Hypothesis, Tensor], Hypothesis] | None = None,
) -> Estimates:
    """The sources that explain B scenes best: those of the most probable count, at their most likely.

    Whatever is reported, it is these that goodness of fit is tested with. Arguments as of :func:`answer`.
    """
    beliefs, null = believe(found, deciding.fusion), found.hypotheses[0]
    result = Estimates.empty(len(found.evidence), found.max_sources, found.evidence.device)
    result.noise_var[:] = null.params.log_noise.double().exp()
    noise = is_noise(null, found.hypotheses[1:], deciding.rule, deciding.inference.false_alarm)
    counts = (beliefs.log_count[:, 1:].argmax(dim=1) + 1).masked_fill(noise, 0) if given is None else given
    for K, here in rows_by_count(counts):
        hypothesis = tree_index(found.hypotheses[K], here)
        result.put(here, to_estimates(hypothesis if polish is None else polish(hypothesis, here)))
    return result


def report(
    hypothesis: Hypothesis, view: FieldOfView, belief: SourceBelief | None, keep: Tensor | None
) -> Estimates:
    """Posterior means of the sources of a hypothesis, those to `keep` [B, K], with their probabilities."""
    post = source_posterior(hypothesis, view, CUTOFF)
    near = None if belief is None else belief.near.double().sigmoid()
    noise = hypothesis.params.log_noise.double().exp()
    power = hypothesis.params.log_power.double().exp()
    return Estimates.ranked(post.points, power, stated_std(hypothesis, post), noise, near, keep)


def stated_std(hypothesis: Hypothesis, post: SourcePosterior) -> Tensor:
    """Deviations [B, K, 3] of the posterior; infinite where the measurements say nothing."""
    B, K, _ = post.points.shape
    _, lost = invert_information(hypothesis.model.information.double())
    lost_y, lost_z, lost_q = lost[:, : 3 * K].reshape(B, K, 3).unbind(-1)
    return post.std.masked_fill(torch.stack([lost_y | lost_z, lost_z, lost_q], dim=-1), torch.inf)


def report_hits(found: CountHypotheses, beliefs: Beliefs, counts: Tensor) -> Estimates:
    """The `counts` [B] sources, out of all hypotheses, that most probably hit."""
    points = torch.cat([post.points for post in found.posteriors[1:]], dim=1)
    chosen, used = best_hits(
        points, torch.cat([b.hit for b in beliefs.sources], dim=1), counts, found.max_sources
    )

    def pick(parts: Sequence[Tensor]) -> Tensor:
        values = torch.cat(list(parts), dim=1).double()
        index = chosen if values.dim() == 2 else chosen.unsqueeze(-1).expand(-1, -1, values.shape[2])
        return values.gather(1, index)

    pairs = list(zip(found.hypotheses[1:], found.posteriors[1:], strict=True))
    noise = torch.stack([h.params.log_noise for h in found.hypotheses], dim=1).double().exp()
    return Estimates.ranked(
        pick([points]),
        pick([h.params.log_power for h, _ in pairs]).exp(),
        pick([stated_std(h, post) for h, post in pairs]),
        noise.gather(1, counts.unsqueeze(1)).squeeze(1),
        pick([b.near for b in beliefs.sources]).sigmoid(),
        used,
    )


def best_hits(points: Tensor, logit: Tensor, counts: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The most probable of the candidates, no two inside one gate.

    Args:
        points: polar [B, I, 3]. logit: of a hit [B, I]. counts: how many [B], `most` at most.

    Returns:
        Indices [B, most], and which of them are used, bool [B, most].
    """
    apart, rows = angles_apart(points), torch.arange(len(points), device=points.device)
    chosen, used = [], []
    for j in range(most):
        best = logit.argmax(dim=1)
        chosen.append(best)
        used.append((j < counts) & torch.isfinite(logit[rows, best]))
        logit = logit.masked_fill(apart[rows, best] <= math.radians(GATE_DEG), -torch.inf)
    return torch.stack(chosen, dim=1), torch.stack(used, dim=1)


def angles_apart(points: Tensor) -> Tensor:
    """The larger of the differences in azimuth and elevation [B, I, I] of polar points [B, I, 3], radians."""
    azimuth, elevation, _ = from_polar(points)
    pairs = [(x.unsqueeze(2) - x.unsqueeze(1)).abs() for x in (azimuth, elevation)]
    return torch.maximum(*pairs)

"""The learned estimator: the network's proposals, the covariance it predicts, and what the likelihood says.

Measurements go through :func:`risctl.model.predict`, the same function and the same knobs as in the training
step. Peaks of the network's presence map and of the MUSIC spectrum of ``R_blend`` are where the likelihood
moves (:mod:`risctl.inference.moves`) start from; they end with the best hypothesis found for every count,
and the count is told from head and evidence together (:mod:`risctl.model.fusion`). Every stage can be
switched off: without moves the count head decides, positions are the network's own or MUSIC's on ``R_blend``,
and a few steps of polish follow, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from risctl.config import CovarianceConfig, InferenceConfig, PhysicsConfig
from risctl.covariance import leading_subspace
from risctl.errors import InputError
from risctl.inference.batching import batches
from risctl.inference.count import CountRule, answers, fit_nuisance
from risctl.inference.estimates import Estimates
from risctl.inference.fusion import evidences, figures, head_log_probabilities, num_figures
from risctl.inference.gaussian import Hypothesis
from risctl.inference.greedy import Search
from risctl.inference.moves import MoveSearch, MoveSettings
from risctl.inference.music import MusicSearch
from risctl.inference.observation import Observation
from risctl.inference.records import take
from risctl.model import Forward, Network, Prediction, predict
from risctl.model.fusion import LoadedFusion
from risctl.model.slots import decode
from risctl.physics import ArrayGeometry, FieldOfView
from risctl.physics.grid import PolarGrid
from risctl.physics.polar import clamp_to_view, to_polar

MOVE_OVERSAMPLING, MOVE_RINGS = (
    1.5,
    6,
)  # of the grid the moves look for sources on: they refine what they find
SPECTRUM_PEAKS = 5  # local maxima of the MUSIC spectrum that the moves may use
EVIDENCE_PRICE = -1.0  # of a source, nats, in the evidence that head or fusion is weighed against
HEAD_SHARE = 0.5  # weight of the evidence beside the head's log-probability where no fusion was fitted
LEAST_RANGE = 1e-3


@dataclass(frozen=True)
class Found:
    """What the moves know of B scenes.

    Attributes:
        hypotheses: fitted, for 1..K_max sources. head, evidence: log-probabilities and log-evidence of each
            count [B, K_max]. figures: what the fusion looks at [B, F].
    """

    hypotheses: Sequence[Hypothesis]
    head: Tensor
    evidence: Tensor
    figures: Tensor


@dataclass(frozen=True)
class LearnedEstimator:
    """Positions and count from a trained network.

    Attributes:
        network: in evaluation mode. covariance: the knobs it was trained with.
        search: geometry and field of view. grid: lattice of MUSIC. rule: evidence of a count.
        max_sources: K_max. inference: which stages, and their settings.
        fusion: fitted to the network, or None. batch: scenes worked on at a time.
    """

    network: Network
    covariance: CovarianceConfig
    search: Search
    grid: PolarGrid
    rule: CountRule
    max_sources: int
    inference: InferenceConfig
    fusion: LoadedFusion | None = None
    batch: int = 64
    name: str = "learned"

    @cached_property
    def peaks(self) -> MusicSearch:
        """The peak search on this estimator's grids."""
        return MusicSearch(self.search, self.grid, self.inference.range_grid)

    @cached_property
    def moves(self) -> MoveSearch:
        """The likelihood moves, on a grid of their own."""
        geometry, view = self.search.geometry, self.search.view
        grid = PolarGrid.build(geometry, view, MOVE_OVERSAMPLING, MOVE_RINGS)
        return MoveSearch(self.search, grid, MoveSettings())

    @torch.no_grad()
    def forward(self, y: Tensor, H: Tensor, codes: Tensor) -> Forward:
        """Prediction and covariances of B scenes."""
        return predict(self.network, y, H, codes, self.covariance)

    @torch.no_grad()
    def __call__(self, y: Tensor, H: Tensor, codes: Tensor, num_sources: Tensor | None = None) -> Estimates:
        """Locate the sources of B scenes; see :class:`risctl.inference.estimates.Estimator`."""
        result = Estimates.empty(y.shape[0], self.max_sources, y.device)
        for part in batches(y, H, codes, num_sources, self.max_sources, self.batch):
            forward = self.forward(part.obs.y, part.obs.H, part.obs.codes)
            if self.inference.moves:
                self._by_moves(part.obs, forward, part.num_sources, part.rows, result)
            else:
                self._by_head(part.obs, forward, part.num_sources, part.rows, result)
        return result

    def find(self, obs: Observation, forward: Forward) -> Found:
        """The best hypothesis of every count, and what tells the counts apart."""
        points, presence = self._proposals(forward)
        hypotheses = self.moves.hypotheses(obs, points, self.max_sources)
        head = head_log_probabilities(forward.prediction.count_logits)
        evidence = evidences(hypotheses, self.rule)
        return Found(hypotheses, head, evidence, figures(obs.y, hypotheses, evidence, head, presence))

    def count(self, found: Found) -> Tensor:
        """The number of sources of each scene, int64 [B]."""
        by = self.inference.count_by
        if by == "head":
            score = found.head
        elif by == "evidence":
            score = found.evidence
        elif self.fusion is not None:
            score = self.fusion.network(found.head, found.evidence, found.figures)
        else:
            score = found.head + HEAD_SHARE * found.evidence
        return score.argmax(dim=1) + 1

    def _by_moves(
        self, obs: Observation, forward: Forward, counts: Tensor | None, rows: Tensor, result: Estimates
    ) -> None:
        """Write the answers of the moves, at the given counts or at those found, into `rows` of `result`."""
        found = self.find(obs, forward)
        counts = self.count(found) if counts is None else counts
        for K in torch.unique(counts[counts > 0]).tolist():
            here = (counts == K).nonzero().squeeze(-1)
            answer = take(found.hypotheses[K - 1], here)
            if self.inference.nf_mle_iters:
                answer = self.search.polish(obs[here], answer.at, self.moves.settings.final_steps)
            result.put(rows[here], answers(answer.at, answer.model))

    def _by_head(
        self, obs: Observation, forward: Forward, counts: Tensor | None, rows: Tensor, result: Estimates
    ) -> None:
        """Write the answers of network or MUSIC, at the given counts or the head's, into `rows`."""
        counts = forward.prediction.count_logits.argmax(dim=1) + 1 if counts is None else counts
        for K in torch.unique(counts[counts > 0]).tolist():
            here = (counts == K).nonzero().squeeze(-1)
            part, points = obs[here], self._points(forward, here, K)
            found = fit_nuisance(part, points, self.search.geometry, self.search.view)
            if self.inference.nf_mle_iters:
                polished = self.search.polish(part, found[0], self.inference.nf_mle_iters)
                found = polished.at, polished.model
            result.put(rows[here], answers(*found))

    def _points(self, forward: Forward, rows: Tensor, K: int) -> Tensor:
        """Polar points [B, K, 3] of K sources in scenes `rows`, from the network or from ``R_blend``."""
        if self.inference.start == "network":
            return self._slots(forward.prediction, K)[0][rows]
        return self.peaks.locate(forward.covariances.blend.F[rows], K)

    def _proposals(self, forward: Forward) -> tuple[Tensor, Tensor]:
        """Polar points [B, P, 3], the likeliest first, and presence logits of the network's own."""
        points, presence = self._slots(forward.prediction, max(self.inference.proposals, self.max_sources))
        if self.inference.start == "network":
            return points, presence
        F = forward.covariances.blend.F
        if self.inference.start == "music":
            return self.peaks.locate(F, self.max_sources), presence
        U, _ = leading_subspace(F, self.max_sources)
        spectrum = self.moves.grid.energy(U.mT)
        return torch.cat([points, self.moves.lattice.strongest_maxima(spectrum, SPECTRUM_PEAKS)], 1), presence

    def _slots(self, prediction: Prediction, count: int) -> tuple[Tensor, Tensor]:
        """The network's `count` likeliest points [B, count, 3] and their presence logits [B, count].

        A network without maps has its K_max slots and no more.
        """
        view = self.search.view
        if prediction.maps is not None:
            slots = decode(prediction.maps, count, view)
            return slots.points, slots.presence
        azimuth, elevation, range_ = prediction.position.unbind(-1)
        points = clamp_to_view(to_polar(azimuth, elevation, range_.clamp_min(LEAST_RANGE)), view)
        return points[:, :count], prediction.power[:, :count].clamp_min(1e-6).log()


def build_learned(
    network: Network,
    covariance: CovarianceConfig,
    physics: PhysicsConfig,
    inference: InferenceConfig,
    device: torch.device | str = "cpu",
    fusion: LoadedFusion | None = None,
) -> LearnedEstimator:
    """The estimator of a trained network.

    Args:
        network: on `device`, in evaluation mode. covariance: the knobs it was trained with.
        physics: of the scenes: surface and field of view are those of the training.
        inference: stages, grids and polish. device: where it computes. fusion: fitted to the network.

    Raises:
        InputError: the count is to be the fusion's, and there is none, or it was fitted to other proposals.
    """
    if inference.count_by == "fusion" and fusion is None:
        expected = "best, head or evidence for a model without a count fusion (risctl calibrate fits one)"
        raise InputError("inference.count_by", "", expected, "fusion")
    proposals = max(inference.proposals, physics.max_sources)
    if fusion is not None and fusion.state.figures != num_figures(physics.max_sources, proposals):
        fitted = fusion.state.figures - num_figures(physics.max_sources, 0)
        raise InputError(
            "inference", "proposals", f"{fitted}, which the count fusion was fitted to", proposals
        )
    geometry, view = ArrayGeometry.from_config(physics, device), FieldOfView.from_config(physics)
    grid = PolarGrid.build(geometry, view, inference.grid_oversampling, inference.range_rings)
    rule = CountRule.of(physics, "evidence", EVIDENCE_PRICE)
    if inference.count_by == "evidence":
        rule = CountRule.of(physics, inference.count_rule, inference.count_price)
    search = Search(geometry, view)
    return LearnedEstimator(network, covariance, search, grid, rule, physics.max_sources, inference, fusion)

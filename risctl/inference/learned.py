"""The learned estimator: proposals and covariance of a trained network, refined on the likelihood.

Measurements go through :func:`risctl.model.predict`, the same function with the same settings as in the
training step. Peaks of the network's presence map and of the MUSIC spectrum of ``R_blend`` are the starting
points of the likelihood moves (:mod:`risctl.inference.moves`), which return the best hypothesis found for
every count; the count is decided from head and evidence together (:mod:`risctl.model.fusion`). Every stage
can be switched off: without moves the count head decides, positions are the network's own or MUSIC's on
``R_blend``, and a few steps of polish follow, or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from risctl.config import CovarianceConfig, InferenceConfig, PhysicsConfig
from risctl.covariance import leading_subspace
from risctl.errors import InputError, MeasurementError
from risctl.inference.count import CountRule, fit_nuisance, to_estimates
from risctl.inference.estimates import Estimates
from risctl.inference.fusion import evidences, fusion_features, head_log_probabilities, num_features
from risctl.inference.gaussian import Hypothesis
from risctl.inference.greedy import Search
from risctl.inference.moves import MoveSearch, MoveSettings
from risctl.inference.music import MusicSearch
from risctl.inference.observation import Observation, batches, tree_index
from risctl.model import Forward, Network, Prediction, predict
from risctl.model.fusion import LoadedFusion
from risctl.model.load import LoadedModel
from risctl.model.slots import decode
from risctl.physics.geometry import Device
from risctl.physics.grid import PolarGrid
from risctl.physics.polar import clamp_to_view, to_polar
from risctl.physics.scenes import rows_by_count

MOVE_OVERSAMPLING, MOVE_RINGS = 1.5, 6  # grid of the moves, coarser than MUSIC's: its peaks are refined
SPECTRUM_PEAKS = 5  # local maxima of the MUSIC spectrum among the proposals
EVIDENCE_PRICE = -1.0  # nats per source in the evidence that is combined with head or fusion
EVIDENCE_WEIGHT = 0.5  # of the evidence, the head's log-probability having 1, if no fusion was fitted
MIN_RANGE = 1e-3
BATCH, ACCELERATOR_BATCH = 64, 2048  # scenes at a time


@dataclass(frozen=True)
class CountHypotheses:
    """Best fit for each K = 1..K_max, with the scores that choose K, for B scenes.

    Attributes:
        hypotheses: fitted, for 1..K_max sources.
        head: log-probability of each count by the network's head [B, K_max].
        evidence: log-evidence of each count less the largest [B, K_max].
        features: input of the count fusion [B, F].
    """

    hypotheses: Sequence[Hypothesis]
    head: Tensor
    evidence: Tensor
    features: Tensor


@dataclass(frozen=True)
class LearnedEstimator:
    """Positions and count from a trained network.

    Attributes:
        network: in evaluation mode. covariance: the settings it was trained with.
        peaks: MUSIC search on the surface. rule: evidence of a count. max_sources: K_max.
        inference: which stages, and their settings. fusion: count fusion fitted to the network, or None.
        batch: scenes worked on at a time.
    """

    network: Network
    covariance: CovarianceConfig
    peaks: MusicSearch
    rule: CountRule
    max_sources: int
    inference: InferenceConfig
    fusion: LoadedFusion | None = None
    batch: int = BATCH
    name: str = "learned"

    @classmethod
    def from_model(
        cls, model: LoadedModel, physics: PhysicsConfig, inference: InferenceConfig, device: Device
    ) -> LearnedEstimator:
        """The estimator of a model read from a checkpoint; see :func:`build_learned`."""
        return build_learned(model.network, physics, model.covariance, inference, device, model.fusion)

    @property
    def search(self) -> Search:
        """Surface model and field of view."""
        return self.peaks.search

    @cached_property
    def moves(self) -> MoveSearch:
        """The search by likelihood moves, on its own grid."""
        grid = PolarGrid.build(self.search.geometry, self.search.view, MOVE_OVERSAMPLING, MOVE_RINGS)
        return MoveSearch(self.search, grid, MoveSettings())

    @torch.no_grad()
    def forward(self, y: Tensor, H: Tensor, codes: Tensor) -> Forward:
        """Prediction and covariances of B scenes."""
        return predict(self.network, y, H, codes, self.covariance)

    @torch.no_grad()
    def __call__(
        self,
        y: Tensor,
        H: Tensor | None,
        codes: Tensor | None,
        num_sources: Tensor | None = None,
        Phi: Tensor | None = None,
    ) -> Estimates:
        """Locate the sources of B scenes; see :class:`risctl.inference.estimates.Estimator`."""
        result = Estimates.empty(y.shape[0], self.max_sources, y.device)
        size = self.batch
        for obs, rows, counts in batches(y, H, codes, num_sources, self.max_sources, size, Phi):
            self._locate(obs, counts, rows, result)
        return result

    def _locate(self, obs: Observation, counts: Tensor | None, rows: Tensor, result: Estimates) -> None:
        """Estimate at the given or the estimated counts, into `rows` of `result`.

        With moves these are the best hypotheses found; without, positions of the network or of MUSIC, at the
        count of the head.
        """
        if obs.H is None or obs.codes is None:
            raise MeasurementError("the network reads H and codes, got a Phi that is not made of them")
        forward, steps = self.forward(obs.y, obs.H, obs.codes), self.inference.nf_mle_iters
        found = self.count_hypotheses(obs, forward) if self.inference.moves else None
        if counts is None and found is not None:
            counts = self.count(found)
        elif counts is None:
            counts = forward.prediction.count_logits.argmax(dim=1) + 1
        for K, here in rows_by_count(counts):
            part = obs[here]
            if found is not None:
                best = tree_index(found.hypotheses[K - 1], here)
            else:
                points = self._points(forward, here, K)
                best = fit_nuisance(part, points, self.search.geometry, self.search.view)
            if steps:
                most = steps if found is None else self.moves.settings.final_steps
                best = self.search.polish(part, best.params, most)
            if steps and found is not None:
                best = self.search.converge(part, best)
            result.put(rows[here], to_estimates(best))

    def count_hypotheses(self, obs: Observation, forward: Forward) -> CountHypotheses:
        """The best hypothesis for every count, and the scores that choose between them."""
        points, presence = self._proposals(forward)
        hypotheses = self.moves.hypotheses(obs, points, self.max_sources)
        head = head_log_probabilities(forward.prediction.count_logits)
        evidence = evidences(hypotheses, self.rule)
        features = fusion_features(obs.y, hypotheses, evidence, head, presence)
        return CountHypotheses(hypotheses, head, evidence, features)

    def count(self, found: CountHypotheses) -> Tensor:
        """The number of sources per scene, int64 [B]."""
        by = self.inference.count_by
        if by == "head":
            score = found.head
        elif by == "evidence":
            score = found.evidence
        elif self.fusion is not None:
            score = self.fusion.network(found.head, found.evidence, found.features)
        else:
            score = found.head + EVIDENCE_WEIGHT * found.evidence
        return score.argmax(dim=1) + 1

    def _points(self, forward: Forward, rows: Tensor, K: int) -> Tensor:
        """Polar points [B, K, 3] of K sources in scenes `rows`, from the network or from ``R_blend``."""
        if self.inference.start == "network":
            return self._slots(forward.prediction, K)[0][rows]
        return self.peaks.locate(forward.covariances.blend.F[rows], K)

    def _proposals(self, forward: Forward) -> tuple[Tensor, Tensor]:
        """Polar points [B, P, 3], most likely first, and the presence logits of the network's."""
        points, presence = self._slots(forward.prediction, max(self.inference.proposals, self.max_sources))
        if self.inference.start == "network":
            return points, presence
        F = forward.covariances.blend.F
        if self.inference.start == "music":
            return self.peaks.locate(F, self.max_sources), presence
        U, _ = leading_subspace(F, self.max_sources)
        spectrum = self.moves.grid.energy(U.mT)
        return torch.cat([points, self.moves.grid.strongest_maxima(spectrum, SPECTRUM_PEAKS)], 1), presence

    def _slots(self, prediction: Prediction, count: int) -> tuple[Tensor, Tensor]:
        """The network's `count` most likely points [B, count, 3] and their presence logits [B, count].

        A network without maps has K_max slots only.
        """
        view = self.search.view
        if prediction.maps is not None:
            slots = decode(prediction.maps, count, view)
            return slots.points, slots.presence
        azimuth, elevation, range_ = prediction.position.unbind(-1)
        points = clamp_to_view(to_polar(azimuth, elevation, range_.clamp_min(MIN_RANGE)), view)
        return points[:, :count], prediction.power[:, :count].clamp_min(1e-6).log()


def build_learned(
    network: Network,
    physics: PhysicsConfig,
    covariance: CovarianceConfig,
    inference: InferenceConfig,
    device: Device = "cpu",
    fusion: LoadedFusion | None = None,
) -> LearnedEstimator:
    """The estimator of a trained network.

    Args:
        network: on `device`, in evaluation mode.
        physics: of the scenes: surface and field of view are those of the training.
        covariance: the settings it was trained with.
        inference: stages, grids and refinement.
        device: where it computes.
        fusion: count fusion fitted to the network.

    Raises:
        InputError: the count is to be the fusion's, and there is none, or it was fitted to other proposals.
    """
    if inference.count_by == "fusion" and fusion is None:
        expected = "best, head or evidence for a model without a fitted count fusion"
        raise InputError("configuration", "inference.count_by", expected, "fusion")
    proposals = max(inference.proposals, physics.max_sources)
    if fusion is not None and fusion.state.figures != num_features(physics.max_sources, proposals):
        fitted = fusion.state.figures - num_features(physics.max_sources, 0)
        expected = f"{fitted}, which the count fusion was fitted to"
        raise InputError("configuration", "inference.proposals", expected, proposals)
    rule = CountRule.from_config(physics, "evidence", EVIDENCE_PRICE)
    if inference.count_by == "evidence":
        rule = CountRule.from_config(physics, inference.count_rule, inference.count_price)
    peaks = MusicSearch.build(Search.from_config(physics, device), inference)
    batch = BATCH if torch.device(device).type == "cpu" else ACCELERATOR_BATCH
    return LearnedEstimator(network, covariance, peaks, rule, physics.max_sources, inference, fusion, batch)

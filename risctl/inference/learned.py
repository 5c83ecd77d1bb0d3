"""The learned estimator: proposals and covariance of a trained network, refined on the likelihood.

Measurements go through :func:`risctl.model.predict`, the same function with the same settings as in the
training step. Peaks of the network's presence map and of the MUSIC spectrum of ``R_blend`` are the starting
points of the likelihood moves (:mod:`risctl.inference.moves`), which return the best hypothesis found for
every count; the count is decided from head and evidence together (:mod:`risctl.model.fusion`). Every stage
can be switched off: without moves the count head decides, positions are the network's own or MUSIC's on
``R_blend``, and polish follows, or none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from risctl.config import CovarianceConfig, InferenceConfig, PhysicsConfig
from risctl.covariance import leading_subspace
from risctl.errors import InputError, MeasurementError
from risctl.inference.batched import ExplainingEstimator
from risctl.inference.converge import Once
from risctl.inference.count import CountRule, fit_nuisance, is_noise, noise_only, to_estimates
from risctl.inference.decision import CUTOFF, Deciding, answer, explanation
from risctl.inference.estimates import Estimates
from risctl.inference.fusion import CountHypotheses, Proposals, num_count_features
from risctl.inference.gaussian import Hypothesis
from risctl.inference.greedy import Search
from risctl.inference.moves import MoveSearch, MoveSettings
from risctl.inference.music import MusicSearch
from risctl.inference.observation import Observation, tree_index
from risctl.model import Forward, Network, Prediction, predict
from risctl.model.fusion import LoadedFusion
from risctl.model.load import LoadedModel
from risctl.model.slots import decode
from risctl.physics.geometry import Device
from risctl.physics.grid import PolarGrid
from risctl.physics.polar import clamp_to_view, to_polar
from risctl.physics.scenes import rows_by_count

MOVE_OVERSAMPLING, MOVE_RINGS = 2.0, 8  # grid of the moves: peaks are interpolated
SPECTRUM_PEAKS = 5  # local maxima of the MUSIC spectrum among the proposals
MIN_RANGE = 1e-3
BATCH, ACCELERATOR_BATCH = 256, 2048  # scenes at a time


@dataclass(frozen=True)
class LearnedEstimator(ExplainingEstimator):
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

    def _locate(
        self,
        obs: Observation,
        counts: Tensor | None,
        rows: Tensor,
        result: Estimates,
        best: Estimates | None = None,
    ) -> None:
        """Estimate into `rows` of `result`, and what explains the scenes into those of `best`.

        With moves these are the best hypotheses found; without, positions of the network or of MUSIC, at the
        count of the head.
        """
        if obs.H is None or obs.codes is None:
            raise MeasurementError("the network reads H and codes, got a Phi that is not made of them")
        if self.inference.moves:
            polish = Once(partial(self._polish, obs)) if self.inference.nf_mle_iters else None
            found = self.find(obs)
            result.put(rows, answer(found, self.deciding, counts, polish))
            if best is not None:
                best.put(rows, explanation(found, self.deciding, counts, polish))
            return
        for table in (result,) if best is None else (result, best):
            self._locate_by_network(obs, counts, rows, table)

    def _polish(self, obs: Observation, hypothesis: Hypothesis, rows: Tensor) -> Hypothesis:
        """The hypothesis of the scenes `rows`, converged."""
        return self.search.converge(obs[rows], hypothesis)

    def _locate_by_network(
        self, obs: Observation, counts: Tensor | None, rows: Tensor, result: Estimates
    ) -> None:
        """Positions of the network or of MUSIC, at the count of the head if none is given."""
        assert obs.H is not None
        assert obs.codes is not None
        forward = self.forward(obs.y, obs.H, obs.codes)
        given, null = counts is not None, noise_only(obs)
        result.noise_var[rows] = null.params.log_noise.double().exp()
        if counts is None:
            counts = forward.prediction.count_logits.argmax(dim=1) + 1
        for K, here in rows_by_count(counts):
            part, search, points = obs[here].double(), self.search.double(), self._points(forward, here, K)
            best = fit_nuisance(part, points.double(), search.geometry, search.view)
            if self.inference.nf_mle_iters:
                best = search.polish(part, best.params, self.inference.nf_mle_iters)
                best = search.converge(part, best)
            seen = torch.ones_like(here, dtype=torch.bool)
            if not given:
                seen = ~is_noise(tree_index(null, here), [best], self.rule, self.inference.false_alarm)
            result.put(rows[here[seen]], to_estimates(tree_index(best, seen)))

    @cached_property
    def deciding(self) -> Deciding:
        """How it decides what to report."""
        return Deciding(self.inference, self.rule, self.fusion)

    @torch.no_grad()
    def find(self, obs: Observation) -> CountHypotheses:
        """The best hypothesis for every count, and what bears on the choice between them."""
        assert obs.H is not None
        assert obs.codes is not None
        forward = self.forward(obs.y, obs.H, obs.codes)
        points, presence = self._slots(forward.prediction, max(self.inference.proposals, self.max_sources))
        states = self.moves.states(obs, self._starts(forward, points), self.max_sources)
        hypotheses = [noise_only(obs), *(state.hypothesis for state in states)]
        losses = [obs.y.real.new_empty(len(obs), 0), *(state.fit.losses() for state in states)]
        network = Proposals(forward.prediction.count_logits, points, presence)
        return CountHypotheses.of(obs, hypotheses, losses, self.rule, CUTOFF, network)

    def _points(self, forward: Forward, rows: Tensor, K: int) -> Tensor:
        """Polar points [B, K, 3] of K sources in scenes `rows`, from the network or from ``R_blend``."""
        if self.inference.start == "network":
            return self._slots(forward.prediction, K)[0][rows]
        return self.peaks.locate(forward.covariances.blend.F[rows], K)

    def _starts(self, forward: Forward, points: Tensor) -> Tensor:
        """Where the moves start [B, P, 3], most likely first: `points` of the network, MUSIC's, or both."""
        if self.inference.start == "network":
            return points
        F = forward.covariances.blend.F
        if self.inference.start == "music":
            return self.peaks.locate(F, self.max_sources)
        U, _ = leading_subspace(F, self.max_sources)
        spectrum = self.moves.grid.energy(U.mT)
        peaks = self.moves.grid.interpolated_maxima(spectrum, SPECTRUM_PEAKS)
        return torch.cat([points, clamp_to_view(peaks, self.search.view)], 1)

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
    if not inference.moves:
        fusion = None  # it weighs what the moves find
    if fusion is not None and fusion.state.figures != num_count_features(physics.max_sources, proposals):
        fitted = fusion.state.figures - num_count_features(physics.max_sources, 0)
        expected = f"{fitted}, which the count fusion was fitted to"
        raise InputError("configuration", "inference.proposals", expected, proposals)
    rule = CountRule.choose(physics, inference, calibrated=True)
    peaks = MusicSearch.build(Search.from_config(physics, device), inference)
    batch = BATCH if torch.device(device).type == "cpu" else ACCELERATOR_BATCH
    return LearnedEstimator(network, covariance, peaks, rule, physics.max_sources, inference, fusion, batch)

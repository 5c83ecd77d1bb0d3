"""Likelihood moves: from a network's proposals to the most likely sources, for every count.

The Gaussian-symbol likelihood has many optima. Greedy search and swap moves (:mod:`risctl.inference.greedy`)
find the highest without a starting point, at a hundred joint refinements per scene. Nearly all proposals of a
network are close to a source, so that a few moves are enough:

1. The strongest proposals, one more than K_max, are refined jointly: the largest hypothesis that is wanted
   then comes about by a removal, like the others.
2. For a pool of candidates, all proposals and the peaks of the residual without the least source, the gain
   of exchanging each source for each candidate is computed in closed form
   (:mod:`risctl.inference.exchange`). Peaks are interpolated: between the points of the lattice a weak source
   has half its energy. The best exchange is refined if its gain exceeds a threshold and kept if the
   likelihood rises enough, a few times over. Then the peaks are looked for anew, once: a weak source shows
   only when the strong ones are right.
3. The source whose removal costs least is dropped (:mod:`risctl.inference.exchange`), the others are
   refined and exchanges tried again, down to one source.

Two proposals on one source need no rule of their own: removing either costs almost nothing, so it is the
first to be exchanged or dropped, and so is a source whose power has collapsed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from risctl.inference.count import gaussian_start
from risctl.inference.exchange import (
    GaussianFit,
    add_responses,
    candidate_responses,
    drop_responses,
    drop_source,
    score_exchanges,
)
from risctl.inference.gaussian import Hypothesis, observed_jet
from risctl.inference.greedy import Search
from risctl.inference.observation import Observation, tree_index, tree_scatter
from risctl.physics.grid import PolarGrid
from risctl.physics.polar import clamp_to_view


@dataclass(frozen=True)
class MoveSettings:
    """Steps, rounds and thresholds of the search, chosen on validation scenes.

    Attributes:
        spare: sources above K_max to start from. With none, the best likelihood is missed three times as
            often in scenes of K_max sources of unequal power.
        start_steps: joint refinement steps of the proposals.
        join_steps: the same after an exchange.
        drop_steps: the same after a source was dropped.
        peaks: residual peaks per scene among the candidates.
        rounds: most exchanges per scene from the start, before and after the peaks are renewed.
        lower_rounds: the same at each smaller count.
        screen: predicted gain, nats, above which an exchange is refined; less than `margin`, because
            refinement adds to it.
        margin: gain after refinement, nats, above which an exchange is kept. At low SNR peaks of the noise
            rival true sources, and the network's proposals are more reliable than a small gain.
    """

    spare: int = 1
    start_steps: int = 2
    join_steps: int = 1
    drop_steps: int = 2
    peaks: int = 12
    rounds: int = 2
    lower_rounds: int = 1
    screen: float = 1.0
    margin: float = 2.0


@dataclass(frozen=True)
class MoveState:
    """Current sources, their likelihood terms, and candidates [B, C, 3] with their responses [B, L, C, M]."""

    obs: Observation
    hypothesis: Hypothesis
    fit: GaussianFit
    candidates: Tensor
    responses: Tensor

    def without_responses(self) -> MoveState:
        """The same without the sources' responses, which only moves need."""
        model = replace(self.hypothesis.model, responses=None)
        return replace(self, hypothesis=replace(self.hypothesis, model=model))


def responses_of(hypothesis: Hypothesis) -> Tensor:
    """Responses of the sources of a refined hypothesis and their derivatives, [B, L, M, 4K]."""
    assert hypothesis.model.responses is not None
    return hypothesis.model.responses


def fit_of(obs: Observation, hypothesis: Hypothesis) -> GaussianFit:
    """The amplitudes of a refined hypothesis."""
    K = hypothesis.params.points.shape[1]
    return GaussianFit.of_responses(obs, responses_of(hypothesis)[..., :K], hypothesis.params)


@dataclass(frozen=True)
class MoveSearch:
    """Search by likelihood moves, vectorised over the scenes of a batch.

    Attributes:
        search: geometry and field of view. grid: lattice for the residual peaks.
        settings: steps, rounds and thresholds.
    """

    search: Search
    grid: PolarGrid
    settings: MoveSettings = MoveSettings()

    def states(self, obs: Observation, proposals: Tensor, max_sources: int) -> list[MoveState]:
        """The best state found for each K = 1, ..., `max_sources`; refined, not yet converged.

        Args:
            obs: B scenes. proposals: polar points [B, P, 3], most likely first, P >= `max_sources`.

        Raises:
            ValueError: if there are fewer proposals than `max_sources`.
        """
        most = max(max_sources, min(max_sources + self.settings.spare, proposals.shape[1]))
        states = [self.start(obs, proposals, most, informed=most == max_sources)]
        for _ in range(most - 1):
            states.append(self.drop_weakest(states[-1]))
        return [state.without_responses() for state in states[::-1][:max_sources]]

    def start(
        self, obs: Observation, proposals: Tensor, max_sources: int, informed: bool = True
    ) -> MoveState:
        """State with `max_sources` sources: the first proposals, refined and improved by exchanges.

        Unless `informed`, gradient and information of its hypothesis may be NaN.
        """
        if proposals.shape[1] < max_sources:
            raise ValueError(f"expected at least {max_sources} proposals per scene, got {proposals.shape[1]}")
        geometry = self.search.geometry
        first = gaussian_start(obs, proposals[:, :max_sources], geometry)
        V = observed_jet(obs, first.points, geometry)
        hypothesis = self.search.polish(obs, first, self.settings.start_steps, V, informed)
        responses = candidate_responses(obs, proposals, geometry)
        state = MoveState(obs, hypothesis, fit_of(obs, hypothesis), proposals, responses)
        for _ in range(2):
            state = self.with_peaks(state, proposals.shape[1])
            state = self.exchange(state, self.settings.rounds, informed)
        return state

    def with_peaks(self, state: MoveState, proposals: int) -> MoveState:
        """State with the residual's peaks among the candidates, after the first `proposals`."""
        peaks = self.residual_peaks(state.obs, state.fit)
        new = peaks, candidate_responses(state.obs, peaks, self.search.geometry)
        old = state.candidates[:, :proposals], state.responses[:, :, :proposals]
        candidates, responses = torch.cat([old[0], new[0]], 1), torch.cat([old[1], new[1]], 2)
        return replace(state, candidates=candidates, responses=responses)

    def drop_weakest(self, state: MoveState) -> MoveState:
        """State after the source of least loss was dropped, the others refined and exchanges tried."""
        weakest, now = state.fit.losses().argmin(1), state.hypothesis
        rest = drop_source(now.params, weakest)
        V = drop_responses(responses_of(now), weakest)
        hypothesis = self.search.polish(state.obs, rest, self.settings.drop_steps, V)
        fit = fit_of(state.obs, hypothesis)
        return self.exchange(replace(state, hypothesis=hypothesis, fit=fit), self.settings.lower_rounds)

    def exchange(self, state: MoveState, rounds: int, informed: bool = True) -> MoveState:
        """State after at most `rounds` exchanges per scene, in no scene less likely than before."""
        hypothesis, fit, local = state.hypothesis, state.fit, state
        active = torch.arange(len(state.obs), device=state.obs.y.device)
        for _ in range(rounds):
            rows, local = self._best_exchange(local, informed)
            if not len(rows):
                break
            active = active[rows]
            hypothesis = tree_scatter(hypothesis, active, local.hypothesis)
            fit = tree_scatter(fit, active, local.fit)
        return replace(state, hypothesis=hypothesis, fit=fit)

    def _best_exchange(self, state: MoveState, informed: bool) -> tuple[Tensor, MoveState]:
        """Indices of the scenes in which the best exchange is kept, and their state after it."""
        scored = score_exchanges(state.fit, state.candidates, state.responses)
        gain, k, c = scored.best()
        tried = (gain > self.settings.screen).nonzero().squeeze(-1)
        if not len(tried):
            return tried, tree_index(state, tried)
        obs, start = state.obs[tried], tree_index(scored.apply(state.hypothesis.params, k, c), tried)
        new = observed_jet(obs, start.points[:, -1:], self.search.geometry)
        V = add_responses(drop_responses(responses_of(state.hypothesis)[tried], k[tried]), new)
        refined = self.search.polish(obs, start, self.settings.join_steps, V, informed)
        rise = refined.model.log_likelihood - state.hypothesis.model.log_likelihood[tried]
        better = rise > self.settings.margin
        rows, obs, taken = tried[better], obs[better], tree_index(refined, better)
        return rows, MoveState(obs, taken, fit_of(obs, taken), state.candidates[rows], state.responses[rows])

    def residual_peaks(self, obs: Observation, fit: GaussianFit) -> Tensor:
        """Polar points [B, peaks, 3] of the residual's peaks, with the source of least loss removed.

        The largest local maxima of ``sum_l |a_g^H Phi_l^H R_l^-1 y_l|^2``. Its expectation varies little over
        the field of view, and candidates are scored exactly afterwards.
        """
        rest = fit.residual_without(fit.losses().argmin(1))
        energy = self.grid.energy(obs.back_project(rest))
        return clamp_to_view(self.grid.interpolated_maxima(energy, self.settings.peaks), self.search.view)

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
   likelihood rises enough. Then the peaks are looked for anew, once: a weak source shows only when the
   strong ones are right.
3. The source whose removal costs least is dropped (:mod:`risctl.inference.exchange`) and the others are
   refined, down to one source; at the largest counts an exchange is tried again.
4. Where the least source of a hypothesis is in doubt, the best candidate is also added to the hypothesis of
   one source less (a birth), refined, and the result is taken if it is more likely: removals may leave one
   estimate between two sources. Smaller counts come first.

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
    add_source,
    best_birth,
    candidate_responses,
    drop_responses,
    drop_source,
    score_exchanges,
)
from risctl.inference.gaussian import GaussianParameters, Hypothesis, observed_jet
from risctl.inference.greedy import Search
from risctl.inference.observation import Observation, tree_index, tree_scatter
from risctl.physics.grid import PolarGrid
from risctl.physics.polar import clamp_to_view


@dataclass(frozen=True)
class MoveSettings:
    """Steps and thresholds of the search, chosen on validation scenes.

    Attributes:
        spare: sources above K_max to start from. With none, the best likelihood is missed three times as
            often in scenes of K_max sources of unequal power.
        start_steps: joint refinement steps of the proposals.
        join_steps: the same after an exchange or a birth.
        drop_steps: the same after a source was dropped.
        peaks: residual peaks per scene among the candidates.
        screen: predicted gain, nats, above which an exchange is refined, and predicted loss up to which a
            birth is; less than `margin`, because refinement adds to the gain.
        margin: gain after refinement, nats, above which an exchange or a birth is kept. At low SNR peaks of
            the noise rival true sources, and the network's proposals are more reliable than a small gain.
        lower_exchanges: removals after which an exchange is tried. Good proposals need none, those of a
            network far from what it was trained on do.
        births: largest counts at which a birth is tried.
        doubt: losses of the least source, nats, between which it is. One of more is a true source, one of
            less is noise.
    """

    spare: int = 1
    start_steps: int = 2
    join_steps: int = 1
    drop_steps: int = 2
    peaks: int = 12
    screen: float = 1.0
    margin: float = 2.0
    lower_exchanges: int = 2
    births: int = 3
    doubt: tuple[float, float] = (3.0, 100.0)


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


def fit_of(y: Tensor, hypothesis: Hypothesis) -> GaussianFit:
    """The amplitudes of a refined hypothesis in the snapshots y [B, L, M]."""
    K = hypothesis.params.points.shape[1]
    return GaussianFit.of_responses(y, responses_of(hypothesis)[..., :K], hypothesis.params)


@dataclass(frozen=True)
class MoveSearch:
    """Search by likelihood moves, vectorised over the scenes of a batch.

    Attributes:
        search: geometry and field of view. grid: lattice for the residual peaks.
        settings: steps and thresholds.
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
        for dropped in range(most - 1):
            state = self.drop_weakest(states[-1])
            states.append(self.exchange(state) if dropped < self.settings.lower_exchanges else state)
        found = states[::-1][:max_sources]
        for k in range(max(1, max_sources - self.settings.births), max_sources):
            found[k] = self.birth(found[k - 1], found[k])
        return [state.without_responses() for state in found]

    def start(
        self, obs: Observation, proposals: Tensor, max_sources: int, informed: bool = True
    ) -> MoveState:
        """State with `max_sources` sources: the first proposals, refined and improved by exchanges.

        Unless `informed`, gradient and information of its hypothesis may be NaN.
        """
        if proposals.shape[1] < max_sources:
            raise ValueError(f"expected at least {max_sources} proposals per scene, got {proposals.shape[1]}")
        geometry = self.search.geometry
        V = observed_jet(obs, proposals[:, :max_sources], geometry)
        first = gaussian_start(obs, proposals[:, :max_sources], geometry, V[..., :max_sources])
        hypothesis = self.search.polish(obs, first, self.settings.start_steps, V, informed)
        responses = candidate_responses(obs, proposals, geometry)
        state = MoveState(obs, hypothesis, fit_of(obs.y, hypothesis), proposals, responses)
        for _ in range(2):
            state = self.with_peaks(state, proposals.shape[1])
            state = self.exchange(state, informed)
        return state

    def with_peaks(self, state: MoveState, proposals: int) -> MoveState:
        """State with the residual's peaks among the candidates, after the first `proposals`."""
        peaks = self.residual_peaks(state.obs, state.fit.residual_without(state.fit.losses().argmin(1)))
        new = peaks, candidate_responses(state.obs, peaks, self.search.geometry)
        old = state.candidates[:, :proposals], state.responses[:, :, :proposals]
        candidates, responses = torch.cat([old[0], new[0]], 1), torch.cat([old[1], new[1]], 2)
        return replace(state, candidates=candidates, responses=responses)

    def drop_weakest(self, state: MoveState) -> MoveState:
        """State after the source of least loss was dropped and the others were refined."""
        weakest, now = state.fit.losses().argmin(1), state.hypothesis
        rest = drop_source(now.params, weakest)
        V = drop_responses(responses_of(now), weakest)
        hypothesis = self.search.polish(state.obs, rest, self.settings.drop_steps, V)
        return replace(state, hypothesis=hypothesis, fit=fit_of(state.obs.y, hypothesis))

    def birth(self, lower: MoveState, upper: MoveState) -> MoveState:
        """The state `upper` of K sources, or `lower` and one source more in scenes where that is better."""
        (least, most), loss = self.settings.doubt, upper.fit.losses().amin(1)
        rows = ((loss > least) & (loss < most)).nonzero().squeeze(-1)
        if not len(rows):
            return upper
        obs, fit = lower.obs[rows], tree_index(lower.fit, rows)
        peaks = self.residual_peaks(obs, fit.residual)
        responses = candidate_responses(obs, peaks, self.search.geometry)
        gain, point, power = best_birth(fit, peaks, responses)
        rise = (lower.hypothesis.model.log_likelihood - upper.hypothesis.model.log_likelihood)[rows] + gain
        tried = rise > -self.settings.screen
        if not bool(tried.any()):
            return upper
        rows = rows[tried]
        rest = tree_index(lower.hypothesis, rows)
        start = add_source(rest.params, point[tried], power[tried])
        return self._join(upper, rows, start, responses_of(rest), informed=True)

    def exchange(self, state: MoveState, informed: bool = True) -> MoveState:
        """State after the best exchange of each scene, in no scene less likely than before."""
        scored = score_exchanges(state.fit, state.candidates, state.responses)
        gain, k, c = scored.best()
        rows = (gain > self.settings.screen).nonzero().squeeze(-1)
        if not len(rows):
            return state
        start = tree_index(scored.apply(state.hypothesis.params, k, c), rows)
        V = drop_responses(responses_of(state.hypothesis)[rows], k[rows])
        return self._join(state, rows, start, V, informed)

    def _join(
        self, state: MoveState, rows: Tensor, start: GaussianParameters, V: Tensor, informed: bool
    ) -> MoveState:
        """State with the sources `start` of the scenes `rows`, refined, where they are better.

        Args:
            V: responses of all of them but the last, which joined. informed: see :meth:`start`.
        """
        obs, before = state.obs[rows], state.hypothesis.model.log_likelihood[rows]
        new = observed_jet(obs, start.points[:, -1:], self.search.geometry)
        refined = self.search.polish(obs, start, self.settings.join_steps, add_responses(V, new), informed)
        better = refined.model.log_likelihood - before > self.settings.margin
        kept, rows = tree_index(refined, better), rows[better]
        fit = tree_scatter(state.fit, rows, fit_of(state.obs.y[rows], kept))
        return replace(state, hypothesis=tree_scatter(state.hypothesis, rows, kept), fit=fit)

    def residual_peaks(self, obs: Observation, residual: Tensor) -> Tensor:
        """Polar points [B, peaks, 3] of the peaks of a residual ``sigma^2 R_l^-1 y_l`` [B, L, M].

        The largest local maxima of ``sum_l |a_g^H Phi_l^H R_l^-1 y_l|^2``. Its expectation varies little over
        the field of view, and candidates are scored exactly afterwards.
        """
        energy = self.grid.energy(obs.back_project(residual))
        return clamp_to_view(self.grid.interpolated_maxima(energy, self.settings.peaks), self.search.view)

"""Likelihood moves: from a network's proposals to the most likely sources, for every count.

The Gaussian-symbol likelihood has many optima. Greedy search and swap moves (:mod:`risctl.inference.greedy`)
find the highest from nothing, at a hundred joint refinements a scene. A network's proposals are nearly all in
the right place, so that a few moves are enough:

1. The strongest K_max proposals are refined jointly.
2. A pool of candidates, all proposals and the peaks of the residual without the least source, is held
   against every source in closed form (:mod:`risctl.inference.exchange`). The best exchange is tried where it
   promises something and kept where the likelihood rises enough, a few times over.
3. The source whose absence costs least is taken away (:mod:`risctl.inference.elimination`), the others are
   refined and exchanges tried again, down to one source.

Two proposals on one source need no rule of their own: either of them costs next to nothing, so it is the
first to be exchanged or taken away, and so is a source whose power has collapsed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from risctl.inference.count import gaussian_start
from risctl.inference.elimination import Explained, without
from risctl.inference.exchange import Pool, exchanges
from risctl.inference.gaussian import Hypothesis
from risctl.inference.greedy import Search
from risctl.inference.observation import Observation
from risctl.inference.records import replace_rows, take
from risctl.physics.grid import PolarGrid
from risctl.physics.lattice import Lattice


@dataclass(frozen=True)
class MoveSettings:
    """How hard the search tries; measured on validation scenes.

    Attributes:
        start_steps, join_steps, drop_steps: of joint refinement, of the proposals, after an exchange, after a
            drop.
        final_steps: most steps until the chosen hypothesis has settled.
        peaks: residual peaks a scene among the candidates.
        rounds, lower_rounds: most exchanges a scene at K_max sources, and at each smaller count.
        screen: nats the closed form must promise for an exchange to be tried; less than `margin`, because
            refinement adds to it.
        margin: nats by which the likelihood must rise for an exchange to be kept. At low SNR peaks of the
            noise rival true sources, and the network's word is better than a small gain.
    """

    start_steps: int = 2
    join_steps: int = 2
    drop_steps: int = 2
    final_steps: int = 8
    peaks: int = 12
    rounds: int = 4
    lower_rounds: int = 1
    screen: float = 1.0
    margin: float = 2.0


@dataclass(frozen=True)
class Standing:
    """Where the search stands in B scenes: the sources it has, what they explain, and the candidates."""

    obs: Observation
    found: Hypothesis
    explained: Explained
    pool: Pool


@dataclass(frozen=True)
class MoveSearch:
    """Search by likelihood moves, all scenes of a batch side by side.

    Attributes:
        search: geometry and field of view. grid: lattice on which residual peaks are looked for.
        settings: steps, rounds and thresholds.
    """

    search: Search
    grid: PolarGrid
    settings: MoveSettings = MoveSettings()

    @cached_property
    def lattice(self) -> Lattice:
        """Neighbours on the grid."""
        return Lattice.of(self.grid)

    def hypotheses(self, obs: Observation, proposals: Tensor, max_sources: int) -> list[Hypothesis]:
        """The hypotheses for K = 1, ..., `max_sources`, comparable but not yet settled to the last digit.

        Args:
            obs: B scenes. proposals: polar points [B, P, 3], the likeliest first, P >= `max_sources`.

        Raises:
            ValueError: if there are fewer proposals than `max_sources`.
        """
        standing = self.start(obs, proposals, max_sources)
        found = [standing.found]
        for _ in range(max_sources - 1):
            standing = self.with_one_fewer(standing)
            found.append(standing.found)
        return found[::-1]

    def start(self, obs: Observation, proposals: Tensor, max_sources: int) -> Standing:
        """The first `max_sources` proposals, refined, and improved by exchanges."""
        if proposals.shape[1] < max_sources:
            raise ValueError(f"expected at least {max_sources} proposals a scene, got {proposals.shape[1]}")
        geometry = self.search.geometry
        first = gaussian_start(obs, proposals[:, :max_sources], geometry)
        found = self.search.polish(obs, first, self.settings.start_steps)
        explained = Explained.by(obs, found.at, geometry)
        candidates = torch.cat([proposals, self.residual_peaks(obs, explained)], dim=1)
        standing = Standing(obs, found, explained, Pool.of(obs, candidates, geometry))
        return self.exchanged(standing, self.settings.rounds)

    def with_one_fewer(self, standing: Standing) -> Standing:
        """Without the source of least loss, the others refined and exchanged where that pays."""
        rest = without(standing.found.at, standing.explained.losses().argmin(1))
        found = self.search.polish(standing.obs, rest, self.settings.drop_steps)
        explained = Explained.by(standing.obs, found.at, self.search.geometry)
        return self.exchanged(replace(standing, found=found, explained=explained), self.settings.lower_rounds)

    def exchanged(self, standing: Standing, rounds: int) -> Standing:
        """`standing` after at most `rounds` exchanges a scene, nowhere less likely."""
        found, explained, local = standing.found, standing.explained, standing
        active = torch.arange(len(standing.obs), device=standing.obs.y.device)
        for _ in range(rounds):
            rows, local = self._best_exchange(local)
            if not len(rows):
                break
            active = active[rows]
            found = replace_rows(found, active, local.found)
            explained = replace_rows(explained, active, local.explained)
        return replace(standing, found=found, explained=explained)

    def _best_exchange(self, standing: Standing) -> tuple[Tensor, Standing]:
        """The scenes (indices) in which the best exchange is kept, and where they stand after it."""
        scored = exchanges(standing.explained, standing.pool)
        gain, k, c = scored.best()
        tried = (gain > self.settings.screen).nonzero().squeeze(-1)
        if not len(tried):
            return tried, take(standing, tried)
        obs, start = standing.obs[tried], take(scored.carried_out(standing.found.at, k, c), tried)
        found = self.search.polish(obs, start, self.settings.join_steps)
        rise = found.model.log_likelihood - standing.found.model.log_likelihood[tried]
        better = rise > self.settings.margin
        rows, obs, found = tried[better], obs[better], take(found, better)
        explained = Explained.by(obs, found.at, self.search.geometry)
        return rows, Standing(obs, found, explained, take(standing.pool, rows))

    def residual_peaks(self, obs: Observation, explained: Explained) -> Tensor:
        """Polar points [B, peaks, 3] where what is left without the least source points to.

        The largest local maxima of ``sum_l |a_g^H Phi_l^H R_l^-1 y_l|^2``. Its expectation varies little over
        the field of view, and candidates are scored exactly afterwards.
        """
        rest = explained.residual_without(explained.losses().argmin(1))
        energy = self.grid.energy(obs.back_project(rest))
        energy = energy / energy.amax(1, keepdim=True).clamp_min(torch.finfo(energy.dtype).tiny)
        return self.lattice.strongest_maxima(energy, self.settings.peaks)

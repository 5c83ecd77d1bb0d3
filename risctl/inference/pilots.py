"""NOMP for sources with constant symbols: greedy search, swap moves both ways, count by evidence.

The snapshots of a scene are one coherent vector (:mod:`risctl.inference.stacked`), and its likelihood has one
common power (:mod:`risctl.inference.common_power`). Sources are detected one by one on the polar grid,
several candidates being refined for each; swap moves drop each source in turn, detect anew and keep what is
more likely. Backward elimination from each count to the one below then gives every hypothesis a second start:
greedy search and swaps alone leave a tenth of the scenes with five sources in a local optimum. Posterior
means are reported (:mod:`risctl.inference.pilot_posterior`).

A hypothesis of K sources has the evidence ``log p(y | theta) - log(prior volume / posterior volume) + log
K!`` (Laplace's method; the K! orders of the sources are one hypothesis, and each has its own optimum). The
information in it is the mean over the posterior of the amplitudes: two sources on one point may have any
amplitudes that add up to the same, and their second moments, not their means, say how well such a pair is
located.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from risctl.config import CovarianceConfig, InferenceConfig, PhysicsConfig
from risctl.errors import MeasurementError
from risctl.inference.batched import ExplainingEstimator
from risctl.inference.common_power import common_power_fit, common_power_model
from risctl.inference.count import noise_stands, position_widths, to_estimates, volume_ratio
from risctl.inference.estimates import Estimates
from risctl.inference.gaussian import GaussianModel, GaussianParameters, Hypothesis, square
from risctl.inference.greedy import Search
from risctl.inference.levenberg import QuadraticModel, descend
from risctl.inference.observation import Observation, tree_index, tree_map
from risctl.inference.pilot_posterior import pilot_posterior
from risctl.inference.stacked import stack_snapshots
from risctl.physics.bounds import invert_information, with_known
from risctl.physics.geometry import Device
from risctl.physics.grid import PolarGrid
from risctl.physics.scenes import rows_by_count

ADDED = 3  # candidates refined for one more source
EXCHANGED = 4  # candidates refined in place of each source dropped
JOIN_STEPS = 5  # refinement of all sources with a candidate among them
FINAL_STEPS = 12  # in double precision
SWAP_GAIN = 0.05  # nats by which the likelihood must rise for an exchange to be kept
CONDENSE = 2  # times N values in a snapshot, above which a QR decomposition pays
# Nats a source on top of `inference.count_price`: the Rayleigh prior takes weak sources for more likely than
# they are.
SPARE_PRICE = 1.5


@dataclass(frozen=True)
class PilotHypothesis(Hypothesis):
    """Sources with constant symbols; the information [B, 3K, 3K] is that of the positions.

    Attributes:
        log_evidence: of that number of sources, but for the prior of the count, nats [B].
    """

    log_evidence: Tensor


@dataclass(frozen=True)
class PilotRule:
    """Score by which source counts are compared.

    Attributes:
        rule: ``evidence``, or ``penalty`` (log-likelihood less a fixed price per source).
        price: nats per source.
    """

    rule: str
    price: float

    def scores(self, silence: Tensor, hypotheses: Sequence[PilotHypothesis]) -> Tensor:
        """Scores [B, n + 1] of no source, with log-likelihood `silence` [B], and of the `hypotheses`."""
        penalty = self.rule == "penalty"
        price = self.price + (0.0 if penalty else SPARE_PRICE)
        values = [h.model.log_likelihood if penalty else h.log_evidence for h in hypotheses]
        prices = [price * h.params.points.shape[1] for h in hypotheses]
        return torch.stack([silence, *(v - p for v, p in zip(values, prices, strict=True))], dim=1)


def log_bayes_factors(silence: Tensor, hypotheses: Sequence[PilotHypothesis]) -> Tensor:
    """``log p(y | hypothesis) / p(y | no source)`` [B, n], nats; over all noise variances in both."""
    return torch.stack([h.log_evidence for h in hypotheses], dim=1) - silence.unsqueeze(1)


@dataclass(frozen=True)
class PilotDetector:
    """Likelihood gain of one more source at every grid point.

    Attributes:
        obs: one snapshot a scene. grid: the lattice. num_values: n. norms: ``|Phi a_g|^2`` [B, 1, G].
    """

    obs: Observation
    grid: PolarGrid
    num_values: int
    norms: Tensor

    @classmethod
    def compute(cls, obs: Observation, grid: PolarGrid, num_values: int) -> PilotDetector:
        """Responses of the grid: the costly part, once per scene."""
        return cls(obs, grid, num_values, grid.energy(obs.Phi.conj()))

    def __getitem__(self, rows: Tensor) -> PilotDetector:
        return PilotDetector(self.obs[rows], self.grid, self.num_values, self.norms[rows])

    def candidates(self, search: Search, points: Tensor, count: int) -> Tensor:
        """The grid points [B, T, count, 3] of the largest local maxima of the gain, given `points` [B, T, K,
        3].

        A source of power rho at g multiplies the loss by ``1 - rho |q|^2 / (1 + rho s) / Q`` and the
        determinant by ``1 + rho s``, with ``s = b^H (I + rho B B^H)^-1 b`` and ``q = b^H (I + rho B B^H)^-1
        y``.
        """
        Phi, T = self.obs.Phi, points.shape[1]
        if points.shape[2]:
            fit = common_power_fit(self.obs, points, self.num_values, search.geometry)
            factor = torch.linalg.cholesky_ex(fit.inverse)[0]
            rows = (fit.basis @ factor).mT @ Phi.conj()  # [B, T, K, N]
            s = (self.norms - self.grid.energy(rows)).clamp_min(0.0)
            q2 = square(self.grid.correlate(fit.residual.unsqueeze(-2) @ Phi.conj())).squeeze(-2)
            rho, loss = (x.to(s.dtype).unsqueeze(-1) for x in (fit.ratio, fit.loss))
            level = 1.0 + rho * s
            fall = (rho * q2 / (level * loss)).clamp_max(1.0 - 1e-6)
            gain = -self.num_values * torch.log1p(-fall) - level.log()
        else:
            q2 = square(self.grid.correlate(self.obs.back_project(self.obs.y)))
            gain = (q2 / self.norms.clamp_min(torch.finfo(q2.dtype).tiny)).expand(-1, T, -1)
        gain = gain.flatten(0, 1)
        low = gain.amin(1, keepdim=True)
        share = (gain - low) / (gain.masked_fill(~self.grid.inside, -torch.inf).amax(1, keepdim=True) - low)
        found = self.grid.strongest_maxima(share, min(count, self.grid.num_points))
        return found.view(-1, T, *found.shape[1:])


@dataclass(frozen=True)
class PilotSearch:
    """Search for the most likely sources of every count, vectorised over scenes and hypotheses.

    Attributes:
        search: geometry and field of view. swap_rounds: most exchanges per scene and count.
    """

    search: Search
    swap_rounds: int

    def hypotheses(self, detector: PilotDetector, max_sources: int) -> list[Tensor]:
        """The most likely points [B, K, 3] found for K = 1, ..., `max_sources`, by way of one more."""
        points, found = detector.obs.y.real.new_empty(len(detector.obs), 0, 3), []
        for _ in range(min(max_sources + 1, detector.num_values - 1)):
            points, cost = self._best(detector, self._extended(detector, points.unsqueeze(1), ADDED))
            points, cost = self.swap(detector, points, cost)
            found.append((points, cost))
        for k in range(len(found) - 1, 0, -1):
            points, cost = self._best(detector, without_each(found[k][0]))
            kept, least = found[k - 1]
            rows = (cost < least - SWAP_GAIN).nonzero().squeeze(-1)
            if len(rows):
                points, cost = self.swap(detector[rows], points[rows], cost[rows])
                found[k - 1] = kept.index_copy(0, rows, points), least.index_copy(0, rows, cost)
        return [points for points, _ in found[:max_sources]]

    def swap(self, detector: PilotDetector, points: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
        """Exchange sources while that lowers the cost [B] of `points` [B, K, 3]; both afterwards."""
        active = torch.arange(len(points), device=points.device)
        for _ in range(self.swap_rounds if points.shape[1] > 1 else 0):
            here = detector[active]
            trial, least = self._best(here, self._extended(here, without_each(points[active]), EXCHANGED))
            better = cost[active] - least > SWAP_GAIN
            active = active[better]
            if not len(active):
                break
            points, cost = (
                points.index_copy(0, active, trial[better]),
                cost.index_copy(0, active, least[better]),
            )
        return points, cost

    def _extended(self, detector: PilotDetector, points: Tensor, count: int) -> Tensor:
        """Each of the `points` [B, T, K, 3] with each of its best candidates, [B, T count, K + 1, 3]."""
        fresh = detector.candidates(self.search, points, count).unsqueeze(-2)
        old = points.unsqueeze(2).expand(-1, -1, fresh.shape[2], -1, -1)
        return torch.cat([old, fresh], dim=-2).flatten(1, 2)

    def _best(self, detector: PilotDetector, trials: Tensor) -> tuple[Tensor, Tensor]:
        """The most likely of the `trials` [B, T, K, 3] after refinement, [B, K, 3], and its cost [B]."""
        refined, cost = self.refine(detector.obs, trials, detector.num_values, JOIN_STEPS)
        least, best = cost.min(dim=1)
        return refined[torch.arange(len(best), device=best.device), best], least

    def refine(self, obs: Observation, trials: Tensor, num_values: int, steps: int) -> tuple[Tensor, Tensor]:
        """Trials [B, T, K, 3] after `steps` damped Gauss-Newton steps, and their cost [B, T]."""
        shape = trials.shape[:2]

        def evaluate(points: Tensor) -> QuadraticModel:
            m = common_power_model(obs, points.view(trials.shape), num_values, self.search.geometry)
            return QuadraticModel(m.cost.flatten(), m.gradient.flatten(0, 1), m.curvature.flatten(0, 1))

        points, cost = descend(evaluate, trials.flatten(0, 1), self.search.view, steps)
        return points.view(trials.shape), cost.view(shape)


def condensed(obs: Observation) -> Observation:
    """A shorter snapshot with the same inner products: the triangular factor of Phi, and what is outside it.

    ``Phi = Q R`` makes ``[Q^H y; |y - Q Q^H y|]`` and ``[R; 0]`` equivalent to y and Phi in every likelihood
    that is told the number of values.
    """
    n, N = obs.Phi.shape[2:]
    if n <= CONDENSE * N:
        return obs
    Q, R = torch.linalg.qr(obs.Phi[:, 0])
    z = obs.y @ Q.conj()
    rest = (obs.y - z @ Q.mT).norm(dim=-1, keepdim=True).to(z.dtype)
    return Observation.of_matrices(torch.cat([z, rest], -1), torch.cat([R, R[:, :1] * 0], 1).unsqueeze(1))


def without_each(points: Tensor) -> Tensor:
    """The K sets of K - 1 sources [B, K, K - 1, 3] that leave out one of the `points` [B, K, 3]."""
    B, K, _ = points.shape
    keep = ~torch.eye(K, dtype=torch.bool, device=points.device)
    return points.unsqueeze(1).expand(-1, K, -1, -1)[:, keep].view(B, K, K - 1, 3)


@dataclass(frozen=True)
class PilotNompEstimator(ExplainingEstimator):
    """NOMP for constant symbols; it reports posterior means, and says which sources are most likely.

    Attributes:
        search: the search. grid: detection lattice. rule: how counts are compared. max_sources: K_max.
        false_alarm: probability, at most, of a source in noise alone.
        static_path: take out an unknown vector that is the same in all snapshots.
        batch: scenes worked on at a time.
    """

    search: PilotSearch
    grid: PolarGrid
    rule: PilotRule
    max_sources: int
    false_alarm: float
    static_path: bool
    batch: int = 32
    name: str = "nomp"

    @classmethod
    def from_config(
        cls, physics: PhysicsConfig, covariance: CovarianceConfig, inference: InferenceConfig, device: Device
    ) -> PilotNompEstimator:
        """The estimator of a configuration; it reads no `covariance`."""
        search = Search.from_config(physics, device)
        rule = PilotRule(inference.count_rule, inference.count_price)
        moves, grid = PilotSearch(search, inference.swap_rounds), search.grid(inference)
        return cls(moves, grid, rule, physics.max_sources, inference.false_alarm, physics.static_path)

    def _locate(
        self,
        obs: Observation,
        counts: Tensor | None,
        rows: Tensor,
        result: Estimates,
        best: Estimates | None = None,
    ) -> None:
        """Estimate into `rows` of `result`, and the most likely sources into those of `best`.

        Raises:
            MeasurementError: fewer measured values than sources and noise need.
        """
        stacked = stack_snapshots(obs, self.static_path)
        n, most = int(stacked.y.shape[-1]), self.max_sources if counts is None else int(counts.max())
        if counts is None:  # a perfect fit has an infinite likelihood
            most = min(most, math.floor((n - 1) / self._values_a_source))
        if counts is not None and most == 0:
            return  # nothing but noise
        if not 0 < most < n:
            raise MeasurementError(f"expected more measured values in a scene than {n} for {most} sources")
        detector = PilotDetector.compute(condensed(stacked), self.grid, n)
        points, fine = self.search.hypotheses(detector, most), stacked.double()
        every: list[PilotHypothesis] = []
        if counts is None:
            every = [self.fitted(fine, p) for p in points]
            counts, probability = self._count(fine, every, rows, result)
        for K, here in rows_by_count(counts):
            seen = fine[here]
            hypothesis = tree_index(every[K - 1], here) if every else self.fitted(seen, points[K - 1][here])
            result.put(rows[here], to_estimates(self.expected(seen, hypothesis)))
            if best is not None:
                best.put(rows[here], to_estimates(hypothesis))
        if every:  # after the sources, which come without one
            result.count_probability[rows] = 0.0
            result.count_probability[rows, : most + 1] = probability

    @property
    def _values_a_source(self) -> float:
        """Complex values that a source's amplitude and unknown coordinates fit."""
        return 1.0 + (3 - sum(self.search.search.view.known)) / 2.0

    def _count(
        self, obs: Observation, found: Sequence[PilotHypothesis], rows: Tensor, result: Estimates
    ) -> tuple[Tensor, Tensor]:
        """The most probable count [B] and the probabilities [B, n + 1]; the noise into `rows` of `result`."""
        energy = square(obs.y).sum((1, 2))
        silence = -obs.y.shape[-1] * energy.log()
        scores = self.rule.scores(silence, found)
        result.noise_var[rows] = energy / obs.y.shape[-1]
        noise = noise_stands(log_bayes_factors(silence, found), self.false_alarm)
        return (scores[:, 1:].argmax(dim=1) + 1).masked_fill(noise, 0), scores.softmax(dim=1)

    def fitted(self, obs: Observation, points: Tensor) -> PilotHypothesis:
        """Refined sources with their evidence and information, from `points` [B, K, 3]; obs complex128.

        Powers are ``|x_k|^2``; the noise variance is what is left over its degrees of freedom.
        """
        search, n = PilotSearch(self.search.search.double(), 0), int(obs.y.shape[-1])
        points = search.refine(obs, points.double().unsqueeze(1), n, FINAL_STEPS)[0]
        model = tree_map(lambda x: x[:, 0], common_power_model(obs, points, n, search.search.geometry))
        fit, K, view = model.fit, points.shape[2], search.search.view
        noise = square(fit.residual).sum(-1) / max(n - self._values_a_source * K, 1.0)
        power = square(fit.amplitudes).clamp_min(torch.finfo(noise.dtype).tiny)
        scale = fit.loss / (n * noise)
        params = GaussianParameters(points[:, 0], power.log(), noise.log())
        information = with_known(model.curvature * scale[:, None, None], K, view)
        likelihood = GaussianModel(fit.log_likelihood, -model.gradient, information)
        occam = volume_ratio(model.information, position_widths(points[:, 0], view))
        return PilotHypothesis(params, likelihood, fit.log_marginal - occam + math.lgamma(K + 1))

    def expected(self, obs: Observation, found: PilotHypothesis) -> PilotHypothesis:
        """A hypothesis at its posterior means, the information scaled to the posterior's deviations."""
        search, J = self.search.search.double(), found.model.information
        points, std = pilot_posterior(obs, found.params.points, J, search.geometry, search.view)
        own = invert_information(J)[0].diagonal(dim1=-2, dim2=-1).clamp_min(0.0).sqrt()
        scale = own / std.flatten(1)
        model = replace(found.model, information=J * scale.unsqueeze(-1) * scale.unsqueeze(-2))
        return replace(found, params=replace(found.params, points=points), model=model)

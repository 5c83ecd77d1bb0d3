"""Goodness of fit: do the measurements come from the fitted sources plus white noise of any level?

With ``Phi_l A`` fitted, the residual ``r_l = P_l y_l`` (P_l the projector off the columns of ``Phi_l A``)
does not depend on the symbols. Under the model it is white, and once the directions in which positions can
still move are taken out, too, ``r / |r|`` is uniform on a sphere whatever the noise level. Departures are
looked for, most by the locally most powerful statistic for them, a quadratic form ``T = r^T A r / r^T r``:

* gains: the elements have gains ``1 + delta``, so that the residual holds ``Z delta`` with
  ``Z_l = P_l Phi_l diag(A x_l)``; ``A = Z Z^T``. A surface with errors, a wrong order, sign or wavelength.
* energy: the residual is strong in the snapshots in which the fitted sources are, ``A = diag(|A x_l|^2)``.
* static: one and the same vector is added to all snapshots; ``A = Z Z^T`` with ``Z_l = P_l``.
* antennas: it is correlated over the antennas (John, Biometrika 58, 1971): interference, a transposed array.
* snapshots: residuals of different variance in different snapshots (Bartlett, Proc. R. Soc. A 160, 1937): a
  source that is not in the model, interference, snapshots that failed.
* outside: one more source, outside the field of view (rows for columns put sources there, too).
* inside: one more source in the field of view, where as many are found as can be.
* symbols: the fitted sources are too strong in one of the snapshots (a recording that holds one snapshot).
* coherent: two sources almost in one place have correlated symbols. They stand for one, whose wavefront no
  point in the field of view has.
* limits: sources on a limit of the field of view that the residual would move across it.

Their smallest p-value decides on a scene, each with its share of the level. Scenes of a file share their
hardware: each test is combined over them by Fisher's rule (that of symbols by the smallest, that of limits by
its sum), there is one for a delta that is common to them, and the smallest decides again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from risctl.inference.estimates import Estimates
from risctl.inference.observation import Observation
from risctl.inference.score_tests import (
    antennas_test,
    energy_test,
    gain_test,
    gamma_tail,
    inside_test,
    limits_statistic,
    limits_tail,
    outside_test,
    residual,
    snapshots_test,
    static_test,
    trace,
)
from risctl.inference.symbol_tests import coherent_test, symbols_test
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.grid import PolarGrid
from risctl.physics.polar import polar_limits, polar_steering, to_polar

LEVEL = 0.01  # p-value below which a scene or a file is marked
CUT_OFF = math.sqrt(2.0 / (math.pi - 2.0))  # mean over deviation of a normal density cut off at its top
EDGE = 1e-3  # relative distance from a limit of the field of view within which an estimate is at it
FINEST = 0.05  # least step of direction cosines outside the field of view
HALF_SPACE = 0.98  # largest sine of an angle from broadside there
DEPTH = 0.1  # of the interval of 1/r: the curvature there
TOLERANCE = 0.05  # relative error of the mean of -2 log p that is not held against a file
# Of the level: static, snapshots, antennas, outside, symbols, gains, energy, coherent
WEIGHTS = (0.5, 1.0, 0.5, 1.0, 0.25, 3.0, 1.0, 0.5)
SYMBOLS, ENERGY = 4, 6  # their places
FILE_WEIGHTS = (*WEIGHTS, 1.0, 1.0, 1.0)  # inside, gains that are common to all scenes, limits
INDEPENDENCE = 0.9  # number of independent tests that the tests of a scene are like, over theirs
INSIDE_SHARE, LIMITS_SHARE = 20.0, 4.0  # of the level of a scene, times their inverse
FAINT = 1e-3  # energy of the second path over that of the first
LEAST = 1e-12  # p-values below it are not told apart


@dataclass(frozen=True)
class Fit:
    """How well the model fits B scenes, and what is to be said of their sources.

    Attributes:
        misfit_p: p-value of each scene, float64 [B]; NaN where nothing is left to test.
        file_p: p-value of all scenes together, which share their hardware; NaN as above.
        count_at_maximum: scenes with as many sources as can be found, bool [B].
        at_edge: sources on the edge of the field of view in any coordinate, bool [B, K_max].
        one_path: scenes that are seen through one path only, bool [B]; see :func:`through_one_path`.
        likelier_convention: by which the scenes are likelier; empty: none.
    """

    misfit_p: Tensor
    file_p: float
    count_at_maximum: Tensor
    at_edge: Tensor
    one_path: Tensor
    likelier_convention: str = ""

    @property
    def misfit(self) -> Tensor:
        """Scenes that the model does not fit, bool [B]."""
        return self.misfit_p < LEVEL

    @property
    def file_misfit(self) -> bool:
        """Whether the model does not fit the file."""
        return self.file_p < LEVEL

    def scene_flags(self) -> list[list[str]]:
        """Names of the flags of every scene."""
        named = {name: getattr(self, name).tolist() for name in ("misfit", "count_at_maximum", "one_path")}
        return [[name for name, set_ in named.items() if set_[i]] for i in range(len(self.misfit_p))]

    def source_flags(self) -> list[list[list[str]]]:
        """Names of the flags of every source, K_max lists a scene."""
        return [[["at_edge"] if edge else [] for edge in scene] for scene in self.at_edge.tolist()]


@dataclass(frozen=True)
class Scores:
    """The tests of B scenes, and what of them adds up over the scenes of a file.

    Attributes:
        p: p-values [B, 10] of the tests of each scene, those of inside and of the limits last; NaN: not a
            test.
        limits: statistic of the test of limits, summed over the scenes, and how many moves it sums.
        count_at_maximum: [B]. at_edge: [B, K_max]. one_path: [B]; as in :class:`Fit`.
        gains: score of element gains common to all scenes, real and imaginary parts [2 N].
        information: its covariance under the model [2 N, 2 N].
    """

    p: Tensor
    limits: tuple[float, int]
    count_at_maximum: Tensor
    at_edge: Tensor
    one_path: Tensor
    gains: Tensor
    information: Tensor

    @property
    def misfit_p(self) -> Tensor:
        """p-value of each scene [B]."""
        return of_scenes(self.p)


def goodness_of_fit(
    obs: Observation, estimates: Estimates, geometry: ArrayGeometry, view: FieldOfView
) -> Scores:
    """Test whether B scenes come from the estimated sources plus white noise.

    Args:
        obs: the scenes, with any measurement matrices ``Phi`` [B, L, M, N].
        estimates: of any estimator; K = 0 is tested for white noise.
        geometry: the surface that was assumed.
        view: field of view that was searched.
    """
    fine = geometry.to(obs.y.device, torch.float64)
    B, N = len(obs), obs.Phi.shape[-1]
    p = torch.full((B, 10), torch.nan, dtype=torch.float64, device=obs.y.device)
    gains, information, limits = p.new_zeros(2 * N), p.new_zeros(2 * N, 2 * N), p.new_zeros(B, 2)
    directions = outside(fine, view)
    for K in torch.unique(estimates.num_sources).tolist():
        rows = (estimates.num_sources == K).nonzero().squeeze(-1)
        points = to_polar(*(x[rows, :K] for x in (estimates.azimuth, estimates.elevation, estimates.range)))
        part = obs[rows]
        rest = residual(part, points, fine)
        if rest is None:
            continue
        found = [static_test(rest), snapshots_test(rest), antennas_test(rest)]
        found += [outside_test(part, rest, directions)]
        if K:
            gain = gain_test(part, rest)
            out = torch.stack(limits_statistic(rest, points, view), dim=-1)
            limits[rows] = out.masked_fill(rest.exact.unsqueeze(-1), 0.0)
            found += [symbols_test(rest), gain.p, energy_test(rest), coherent_test(rest)]
            found.append(torch.full_like(gain.p, torch.nan))
            if estimates.azimuth.shape[1] == K:
                found[-1] = inside_test(part, rest, fine, view, lattice(geometry, part, view))
            found.append(limits_tail(*limits[rows].unbind(-1)))
            gains, information = gains + gain.score, information + gain.information
        p[rows, : len(found)] = torch.stack(found, dim=-1).masked_fill(rest.exact.unsqueeze(-1), 1.0)
    full = estimates.num_sources >= estimates.azimuth.shape[1]
    total = float(limits[:, 0].sum()), int(limits[:, 1].sum())
    alone = through_one_path(obs, estimates.noise_var)
    return Scores(p, total, full, at_edge(estimates, view), alone, gains, information)


def through_one_path(obs: Observation, noise_var: Tensor) -> Tensor:
    """Scenes [B] whose snapshots hold one number: of the paths to the antennas only one is above the noise.

    One source then has many explanations that fit, in other directions too.
    """
    front = obs.Phi if obs.H is None else obs.H.unsqueeze(1)
    gram = (front @ front.mH).mean(1).to(torch.complex128)
    M, values = gram.shape[-1], torch.linalg.eigvalsh(gram)
    second = values[:, -2] / values[:, -1] if M > 1 else torch.zeros_like(values[:, 0])
    snr = (obs.y.abs().square().mean((1, 2)) / noise_var - 1.0).clamp_min(0.0)
    return (second < FAINT) & ~(second * M * snr > 0.5)


def outside(geometry: ArrayGeometry, view: FieldOfView) -> Tensor:
    """Steering vectors [G, N] of directions outside the field of view, about a beam apart."""
    cosines, margin = [], []
    for axis, known in ((1, None), (2, view.known_elevation)):
        values = torch.unique(geometry.positions[:, axis])
        side = float(values[-1] - values[0]) * len(values) / max(len(values) - 1, 1)
        step = max(geometry.wavelength / max(side, 1e-9), FINEST)
        margin.append(0.5 * step)
        count = int(HALF_SPACE / step)
        at = step * torch.arange(-count, count + 1).to(geometry.positions)
        cosines.append(at if known is None and side > 0 else at.new_tensor([math.sin(known or 0.0)]))
    u_y, u_z = (x.flatten() for x in torch.meshgrid(*cosines, indexing="ij"))
    q = 1.0 / view.range_max + DEPTH * (1.0 / view.range_min - 1.0 / view.range_max)
    if view.known_range is not None:
        q = 1.0 / view.known_range
    points = torch.stack([u_y, u_z, torch.full_like(u_y, q)], dim=-1)
    low, high = polar_limits(points, view)
    beyond = (torch.maximum(low - points, points - high)[:, :2] > low.new_tensor(margin)).any(-1)
    visible = u_y.square() + u_z.square() < HALF_SPACE**2
    return polar_steering(points[beyond & visible], geometry)


def lattice(geometry: ArrayGeometry, obs: Observation, view: FieldOfView) -> PolarGrid:
    """Where one more source is looked for, in the precision of `obs`."""
    return PolarGrid.build(geometry.to(obs.y.device, obs.y.real.dtype), view, 2.0, 8)


def smallest(p: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """The p-value [B] of the smallest of several p [B, n] of independent tests (Tippett); NaN: not a test.

    With `weights` that of the smallest ``p / weight``: a level shared out unequally (Genovese, Roeder and
    Wasserman, Biometrika 93(3), 2006).
    """
    weight = p.new_tensor(weights) if weights is not None else torch.ones_like(p[0])
    least = (p.nan_to_num(torch.inf) / weight).amin(-1, keepdim=True)
    beyond = torch.log1p(-(weight * least).clamp_max(1.0 - 1e-15)).masked_fill(p.isnan(), 0.0)
    return torch.expm1(beyond.sum(-1)).abs().masked_fill(p.isnan().all(-1), torch.nan)


def of_scenes(p: Tensor) -> Tensor:
    """p-value [B] of scenes from those of their tests [B, 10].

    With that of energy, which is correlated with that of gains, they behave like `INDEPENDENCE` times as many
    that are independent. Those of inside and limits are far from uniform on the model, as few scenes have as
    many sources as can be found, and few sources are on a limit: their shares come on top of the level.
    """
    like = torch.where(p[:, ENERGY].isnan(), 1.0, INDEPENDENCE)
    apart = -torch.expm1(like * torch.log1p(-smallest(p[:, :-2], WEIGHTS).clamp_max(1.0 - 1e-15)))
    return torch.fmin(apart, torch.fmin(INSIDE_SHARE * p[:, -2], LIMITS_SHARE * p[:, -1]))


def together(p: Tensor) -> float:
    """Fisher's combination of the p-values [B] of independent scenes; NaN: not tested.

    A p-value is an approximation. The excess of ``-2 log p`` over its expectation, 2, counts from
    `TOLERANCE` on, or many ideal scenes would make a file suspicious.
    """
    p = p[~p.isnan()]
    if not len(p):
        return math.nan
    statistic = -2.0 * p.clamp_min(LEAST).log().sum() / (1.0 + TOLERANCE)
    return float(torch.special.gammaincc(torch.tensor(float(len(p)), dtype=p.dtype), statistic / 2.0))


def common_gains(gains: Tensor, information: Tensor) -> Tensor:
    """p-value of the test for one set of element gains in all scenes, from score and covariance; NaN: none.

    ``T = |score|^2`` is a sum of chi-squares with the covariance's eigenvalues as weights.
    """
    scale = trace(information)
    if not float(scale) > 0:
        return torch.full_like(scale, torch.nan)
    W = information / scale
    W2 = W @ W
    variance, third, fourth = 2.0 * trace(W2), 8.0 * trace(W2 @ W), 48.0 * trace(W2 @ W2)
    z = (gains.square().sum() / scale - 1.0) / variance.sqrt()
    return gamma_tail(z, third / variance**1.5, fourth / variance.square())


def combine(parts: Sequence[Scores]) -> Fit:
    """The fit of all scenes of a file from the scores of its parts."""
    p, full, edge, alone = (
        torch.cat([getattr(part, name) for part in parts])
        for name in ("p", "count_at_maximum", "at_edge", "one_path")
    )
    scenes = of_scenes(p)
    if len(p) == 1:
        return Fit(scenes, float(scenes), full, edge, alone)
    gains = torch.stack([part.gains for part in parts]).sum(0)
    information = torch.stack([part.information for part in parts]).sum(0)
    beyond, moves = (
        p.new_tensor(sum(values)) for values in zip(*(part.limits for part in parts), strict=True)
    )
    over = [together(p[:, i]) for i in range(p.shape[1] - 1)]
    over[SYMBOLS] = float(smallest(p[:, SYMBOLS].unsqueeze(0)))
    over += [float(common_gains(gains, information)), float(limits_tail(beyond, moves))]
    return Fit(scenes, float(smallest(p.new_tensor([over]), FILE_WEIGHTS)), full, edge, alone)


def stated(estimates: Estimates, fit: Fit, view: FieldOfView, calibrated: bool = False) -> Estimates:
    """The estimates with the deviations that may be stated; infinite: unknown.

    A deviation comes from the model. It is withheld in a scene that the model does not fit or that is seen
    through one path, in all scenes of a file that it does not fit, and where it exceeds the width of the
    field of view. On a `calibrated` surface the file is not asked: what is left of the elements' errors is
    common to its scenes and shows in many of them, and the deviations hold the part of it that moves sources.
    """
    doubtful = (fit.misfit | fit.one_path).unsqueeze(-1)
    if not calibrated:
        doubtful = doubtful | fit.file_misfit
    widths = {
        "std_azimuth": 2.0 * view.azimuth,
        "std_elevation": 2.0 * view.elevation,
        "std_range": view.range_max - view.range_min,
    }
    given = {name: getattr(estimates, name) for name in widths}
    kept = {
        name: std.masked_fill((doubtful & ~std.isnan()) | (std > widths[name]), torch.inf)
        for name, std in given.items()
    }
    return replace(estimates, **kept)


def at_edge(estimates: Estimates, view: FieldOfView) -> Tensor:
    """Sources on the edge of the field of view in azimuth, elevation or range, bool [B, K_max].

    A posterior mean is never on a limit. That of a normal density cut off there is nearer to it than
    `CUT_OFF` deviations if, and only if, the density is largest on the limit.
    """
    sides = (
        (view.azimuth - estimates.azimuth.abs(), view.azimuth, estimates.std_azimuth),
        (view.elevation - estimates.elevation.abs(), view.elevation, estimates.std_elevation),
        (estimates.range - view.range_min, view.range_min, estimates.std_range),
        (view.range_max - estimates.range, view.range_max, estimates.std_range),
    )
    _, known_elevation, known_range = view.known
    edge = torch.zeros_like(estimates.azimuth, dtype=torch.bool)
    for (distance, limit, std), known in zip(
        sides, (False, known_elevation, known_range, known_range), strict=True
    ):
        width = CUT_OFF * torch.where(std.isfinite(), std, 0.0)
        edge |= (distance < width.clamp_min(EDGE * limit)) & (not known)
    return edge

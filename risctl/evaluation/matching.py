"""Assignment of estimates to sources: least total cost by direction, the gate, and the GOSPA distance."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from risctl.evaluation.positions import BoolArray, FloatArray, IntArray, Positions, great_circle, wrap

# One metre of range counts as a tenth of a degree. The bounds on range and angle are of the order of 1 m and
# 1 deg, so range decides only between sources whose directions coincide within the angular error.
RANGE_WEIGHT = math.radians(0.1)

# A pair costs at most this many gates. Without a ceiling one far-off estimate drags the sum, and the cheapest
# assignment may leave a source unmatched that has an estimate right beside it. Two gates is more than any
# pair inside the gate can cost, so what lies inside is never made equal to what lies outside.
CEILING_GATES = 2.0


def pairing_cost(truth: Positions, estimate: Positions, gate: float) -> FloatArray:
    """Cost of every pair of one scene, shape (K, K_hat), radians.

    c_ij = min(great-circle angle + RANGE_WEIGHT |r_i - r_j|, CEILING_GATES gate).
    `truth` has shape (K,), `estimate` (K_hat,), neither padded; `gate` in radians.
    """
    rows, columns = truth[:, None], estimate[None, :]
    cost = great_circle(rows, columns) + RANGE_WEIGHT * np.abs(rows.range - columns.range)
    return np.minimum(cost, CEILING_GATES * gate)


def match_scene(truth: Positions, estimate: Positions, gate: float) -> tuple[IntArray, IntArray]:
    """The assigned pairs of one scene as (source indices, estimate indices), min(K, K_hat) of them."""
    sources, estimates = linear_sum_assignment(pairing_cost(truth, estimate, gate))
    return np.asarray(sources, dtype=np.int64), np.asarray(estimates, dtype=np.int64)


def match_scenes(truth: Positions, estimate: Positions, gate: float) -> IntArray:
    """The estimate slot assigned to every true slot, shape (B, K); -1 where there is none.

    `truth` (B, K) and `estimate` (B, K_hat) are padded with NaN; used slots need not come first.
    """
    assigned = np.full(truth.azimuth.shape, -1, dtype=np.int64)
    for scene in range(len(assigned)):
        used = np.flatnonzero(truth.present[scene])
        found = np.flatnonzero(estimate.present[scene])
        sources, estimates = match_scene(truth[scene, used], estimate[scene, found], gate)
        assigned[scene, used[sources]] = found[estimates]
    return assigned


def inside_gate(truth: Positions, estimate: Positions, gate: float) -> BoolArray:
    """Whether the estimate is within `gate` rad of the truth in azimuth and in elevation (NaN: no)."""
    azimuth = np.abs(wrap(estimate.azimuth - truth.azimuth)) <= gate
    elevation = np.abs(estimate.elevation - truth.elevation) <= gate
    return np.asarray(azimuth & elevation)


@dataclass(frozen=True)
class Links:
    """Assigned slots by scene: one row per source, then one per unassigned estimate; -1 is none."""

    scene: IntArray
    source: IntArray
    slot: IntArray

    def of_sources(self, truth: Positions) -> Positions:
        """The assigned truth, (rows,); NaN where there is no source."""
        return truth.map(lambda values: pick(values, self.scene, self.source))

    def of_estimates(self, estimate: Positions) -> Positions:
        """The assigned estimates, (rows,); NaN where there is none."""
        return estimate.map(lambda values: pick(values, self.scene, self.slot))


def link(truth: Positions, estimate: Positions, gate: float) -> Links:
    """Assign estimates to sources in every scene; unassigned estimates are listed too."""
    assigned = match_scenes(truth, estimate, gate)
    scene, source = np.nonzero(truth.present)
    slot = assigned[scene, source]
    left = estimate.present.copy()
    left[scene[slot >= 0], slot[slot >= 0]] = False
    left_scene, left_slot = np.nonzero(left)
    scenes = np.concatenate([scene, left_scene])
    order = np.argsort(scenes, kind="stable")
    sources = np.concatenate([source, np.full(len(left_slot), -1)])
    return Links(scenes[order], sources[order], np.concatenate([slot, left_slot])[order])


def pick(values: FloatArray, scene: IntArray, slot: IntArray) -> FloatArray:
    """values[scene, slot] of an array (B, K, ...), NaN where the slot is -1."""
    nothing = np.full((len(values), 1, *values.shape[2:]), np.nan)
    padded = np.concatenate([values, nothing], axis=1)
    return padded[scene, np.where(slot < 0, values.shape[1], slot)]


def paired(truth: FloatArray, estimate: FloatArray, cutoff: float, power: float = 2.0) -> BoolArray:
    """Which of the estimates [K_hat, 3] have a partner among the sources [K, 3] in the GOSPA distance."""
    separation = np.linalg.norm(truth[:, None, :] - estimate[None, :, :], axis=-1)
    rows, columns = linear_sum_assignment(np.minimum(separation, cutoff) ** power)
    found = np.zeros(len(estimate), dtype=bool)
    found[columns] = separation[rows, columns] < cutoff
    return found


@dataclass(frozen=True)
class Gospa:
    """The distance in metres, and the parts of its p-th power: distance^p = localisation + missed + false."""

    distance: float
    localisation: float
    missed: float
    false: float


def gospa(truth: FloatArray, estimate: FloatArray, cutoff: float, power: float = 2.0) -> Gospa:
    """GOSPA distance with alpha = 2 between point sets of shapes (K, 3) and (K_hat, 3), metres.

    d^p = min over partial assignments of  sum over pairs of |x - y|^p  +  c^p/2 (number missed + number
    false). A pair further apart than the cutoff c costs more than one missed and one false source, so the
    minimum is a full assignment on min(|x - y|, c)^p whose pairs at or beyond c are then taken apart.
    Rahmathullah, García-Fernández, Svensson, "Generalized optimal sub-pattern assignment metric",
    FUSION 2017.
    """
    separation = np.linalg.norm(truth[:, None, :] - estimate[None, :, :], axis=-1)
    cost = np.minimum(separation, cutoff) ** power
    rows, columns = linear_sum_assignment(cost)
    near = separation[rows, columns] < cutoff  # as in `paired`
    localisation = float(cost[rows, columns][near].sum())
    pairs = int(near.sum())
    missed = cutoff**power / 2 * (len(truth) - pairs)
    false = cutoff**power / 2 * (len(estimate) - pairs)
    distance = (localisation + missed + false) ** (1 / power)
    return Gospa(float(distance), localisation, float(missed), float(false))

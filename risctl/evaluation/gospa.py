"""Generalised optimal sub-pattern assignment (GOSPA): one distance between two sets of positions.

Rahmathullah, García-Fernández, Svensson, "Generalized optimal sub-pattern assignment metric", FUSION 2017.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from risctl.evaluation.positions import FloatArray


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
    """
    separation = np.linalg.norm(truth[:, None, :] - estimate[None, :, :], axis=-1)
    cost = np.minimum(separation, cutoff) ** power
    rows, columns = linear_sum_assignment(cost)
    near = separation[rows, columns] < cutoff
    localisation = float(cost[rows, columns][near].sum())
    pairs = int(near.sum())
    missed = cutoff**power / 2 * (len(truth) - pairs)
    false = cutoff**power / 2 * (len(estimate) - pairs)
    distance = (localisation + missed + false) ** (1 / power)
    return Gospa(float(distance), localisation, float(missed), float(false))

"""The figures of a reference: how near the search comes when it is told the truth."""

from __future__ import annotations

import numpy as np

from risctl.config import PhysicsConfig
from risctl.evaluation.metrics import mean, median, share
from risctl.evaluation.positions import FloatArray, Positions, great_circle
from risctl.evaluation.results import ReferenceFigures
from risctl.evaluation.rows import EstimatorRows
from risctl.evaluation.score import at_limit

ANGLE_TARGET, RANGE_TARGET, EDGE_TARGET = 0.2, 0.2, 0.01  # degrees, metres, share of the estimates


def reference_figures(name: str, told: str, rows: EstimatorRows, physics: PhysicsConfig) -> ReferenceFigures:
    """Return the figures of a reference over all its scenes."""
    sources = rows.sources
    assigned = sources.select((sources.source >= 0) & np.isfinite(sources.error[:, 2]))
    angle = np.degrees(great_circle(_positions(assigned.truth), _positions(assigned.estimate)))
    middle = median(angle), median(np.abs(assigned.error[:, 2]))
    true = _positions(sources.truth[sources.source >= 0])
    pegged = share(int(rows.scenes.num_pegged.sum()), int(rows.scenes.num_estimated.sum()))
    return ReferenceFigures(
        name=name,
        told=told,
        scenes=len(rows.scenes),
        sources=len(assigned),
        median_angle_deg=middle[0],
        median_range_m=middle[1],
        within_a_degree=mean(angle < 1.0),
        edge_pegged_share=pegged,
        edge_share_of_truth=mean(at_limit(true, physics)),
        met=_below(middle[0], ANGLE_TARGET)
        and _below(middle[1], RANGE_TARGET)
        and _below(pegged, EDGE_TARGET),
    )


def _below(value: float | None, target: float) -> bool:
    return value is not None and value < target


def _positions(table: FloatArray) -> Positions:
    """Return columns azimuth and elevation (deg), range (m) as positions."""
    return Positions(np.radians(table[:, 0]), np.radians(table[:, 1]), table[:, 2])

"""NOMP on arrays that are no panels attains its bound."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pytest
import torch

from risctl.config import CovarianceConfig, InferenceConfig, PhysicsConfig
from risctl.inference import Estimates, build_estimator
from risctl.inference.nomp import NompEstimator
from risctl.physics import ArrayGeometry, FieldOfView, Scenes, simulate_scenes
from risctl.physics.bounds import Bounds, scene_bounds
from tests.inference.test_nomp import angle_errors
from tests.physics.layouts import layout_physics

SCENES = 400


LAYOUTS = ["random", "ring", "spiral", "line"]
BIASED = pytest.mark.xfail(reason="posterior means are biased where the range is uncertain", strict=True)


@lru_cache
def reported_and_likely(name: str, K: int) -> tuple["Figures", "Figures"]:
    """Figures of what NOMP reports, posterior means, and of its most likely positions, at 20 dB."""
    physics = layout_physics(name, min_sources=K, max_sources=K, snr_values_db=[20.0])
    scenes = simulate_scenes(physics, np.random.Generator(np.random.SFC64(17)), SCENES)
    estimator = build_estimator("nomp", physics, CovarianceConfig(), InferenceConfig())
    assert isinstance(estimator, NompEstimator)
    reported, likely = estimator.explained(scenes.y, scenes.H, scenes.codes, scenes.num_sources.long())
    view = FieldOfView.from_config(physics)
    bounds = scene_bounds(scenes, ArrayGeometry.from_config(physics), view=view)
    return figures(reported, scenes, bounds, view), figures(likely, scenes, bounds, view)


@pytest.mark.slow
@pytest.mark.parametrize("K", [1, 2, 3])
@pytest.mark.parametrize("name", LAYOUTS)
def test_the_most_likely_positions_attain_the_bound_of_any_layout(name: str, K: int) -> None:
    """Recall at least 0.98, RMSE at most 1.10 times the bound; the means err less in range."""
    reported, likely = reported_and_likely(name, K)
    assert reported.recall >= 0.98
    assert likely.ratio <= 1.10, likely
    assert reported.range_rmse <= likely.range_rmse


@pytest.mark.slow
@pytest.mark.parametrize("K", [1, 2, 3])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=BIASED if n in ("ring", "line") else ()) for n in LAYOUTS]
)
def test_what_is_reported_attains_the_bound_of_any_layout(name: str, K: int) -> None:
    """RMSE at most 1.10 times the bound, which allows for no bias."""
    reported, _ = reported_and_likely(name, K)
    assert reported.ratio <= 1.10, reported


@pytest.mark.parametrize("known", [{"known_elevation_deg": 0.0}, {"known_range_m": float("inf")}])
def test_two_sources_are_found_where_a_coordinate_is_known(known: dict[str, float]) -> None:
    """An information without end about one coordinate must not cost the others their digits."""
    physics = PhysicsConfig(min_sources=2, max_sources=2, snr_values_db=(20.0,), **known)
    scenes = simulate_scenes(physics, np.random.Generator(np.random.SFC64(17)), 20)
    estimator = build_estimator("nomp", physics, CovarianceConfig(), InferenceConfig())
    found = estimator(scenes.y, scenes.H, scenes.codes, scenes.num_sources.long())
    assert float(angle_errors(scenes, found)[scenes.source_mask].max()) < 2.0


class Figures(NamedTuple):
    """Share of sources found within 5 degrees; largest RMSE over bound of a coordinate; RMSE of the range, m.

    Sources whose range the bound leaves open by more than half a metre are left out of the ratio alone: the
    edge of the view cuts their errors off.
    """

    recall: float
    ratio: float
    range_rmse: float


def figures(found: Estimates, scenes: Scenes, bounds: Bounds, view: FieldOfView) -> Figures:
    """Figures of the estimates of all scenes."""
    hits, errors, limits = 0, [], []
    names = ("azimuth", "elevation", "range")
    truth = torch.stack([getattr(scenes, n).double() for n in names], -1)
    answer = torch.stack([getattr(found, n) for n in names], -1)
    bound = torch.stack([getattr(bounds, n) for n in names], -1)
    total = int(scenes.num_sources.sum())
    for i, K in enumerate(scenes.num_sources.tolist()):
        free = list(range(K))
        for k in range(K):
            distance = (answer[i, free] - truth[i, k]).abs()[:, :2].amax(1)
            best = int(distance.argmin())
            if float(torch.rad2deg(distance[best])) < 5.0:
                hits += 1
                errors.append(answer[i, free[best]] - truth[i, k])
                limits.append(bound[i, k])
            free.pop(best)
    error, limit = torch.stack(errors), torch.stack(limits)
    inside = limit[:, 2] < 0.5
    rmse, root = (x[inside].square().mean(0).sqrt() for x in (error, limit))
    free = ~torch.tensor(view.known)
    return Figures(hits / total, float((rmse / root)[free].amax()), float(error[:, 2].square().mean().sqrt()))

"""Convergence in double precision: to the same maximum from different starts, and never to a lower one."""

import torch

from risctl.inference.converge import LOSS, converge
from risctl.inference.count import gaussian_start
from risctl.inference.gaussian import GaussianParameters, Hypothesis, gaussian_model
from risctl.inference.greedy import Search
from risctl.inference.observation import Observation
from tests.inference.conftest import make_scenes, observe, true_points


def _scenes() -> tuple[Search, Observation, torch.Tensor]:
    physics, scenes = make_scenes(
        24, seed=9, min_sources=2, max_sources=2, snr_min_db=5, snr_max_db=20, range_max=4.0
    )
    rows = torch.arange(24)
    return Search.from_config(physics), observe(scenes, rows), true_points(scenes, rows, 2).float()


def _from(search: Search, obs: Observation, points: torch.Tensor) -> tuple[Hypothesis, Hypothesis]:
    polished = search.polish(obs, gaussian_start(obs, points, search.geometry), 4)
    return polished, converge(obs, polished, search.geometry, search.view)


def test_two_starts_end_at_one_maximum() -> None:
    search, obs, points = _scenes()
    _, one = _from(search, obs, points)
    shifted = points + points.new_tensor([0.01, -0.01, 0.0])
    _, other = _from(search, obs, shifted)
    step = (one.params.points - other.params.points).flatten(1)
    J = one.model.information[:, :6, :6]
    distance = (step * (J @ step.unsqueeze(-1)).squeeze(-1)).sum(-1).clamp_min(0.0).sqrt()
    assert distance.median() < 1e-5
    assert (distance < 1e-3).double().mean() > 0.9  # the others have found another maximum


def test_the_gradient_vanishes_in_the_metric_of_the_information() -> None:
    search, obs, points = _scenes()
    polished, found = _from(search, obs, points)
    fine = obs.double()
    model = gaussian_model(fine, found.params, search.double().geometry)
    inside = (found.params.points[..., 2] > 1.01 / search.view.range_max).all(1)
    g = model.gradient[inside].unsqueeze(-1)
    decrement = (g.mT @ torch.linalg.solve(model.information[inside], g)).flatten().sqrt()
    assert decrement.median() < 1e-4
    before = polished.model.log_likelihood.double()
    assert (found.model.log_likelihood > before - 10 * LOSS).all()


def test_without_a_maximum_the_start_is_kept() -> None:
    search, obs, points = _scenes()
    polished, _ = _from(search, obs, points)
    broken = GaussianParameters(
        polished.params.points, polished.params.log_power * torch.nan, polished.params.log_noise
    )
    found = converge(obs, Hypothesis(broken, polished.model), search.geometry, search.view)
    torch.testing.assert_close(found.params.points, polished.params.points.double())

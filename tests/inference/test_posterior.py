"""Posterior means of positions: against brute-force integrals, inside the view, exact if all is certain."""

import math

import pytest
import torch

from risctl.config import PhysicsConfig
from risctl.inference.gaussian import GaussianModel, GaussianParameters, Hypothesis
from risctl.inference.posterior import range_nodes, source_posterior, truncated_mean
from risctl.physics import FieldOfView
from risctl.physics.polar import from_polar, polar_direction

VIEW = FieldOfView.from_config(PhysicsConfig())


def hypothesis(point: list[float], std: list[float], pull: list[float] | None = None) -> Hypothesis:
    """One source whose likelihood is normal about `point` with deviations `std`; `pull`: its gradient."""
    points = torch.tensor([[point]], dtype=torch.float64)
    J = torch.zeros(1, 5, 5, dtype=torch.float64)
    J[0].diagonal()[:3] = torch.tensor(std, dtype=torch.float64) ** -2
    J[0].diagonal()[3:] = 100.0
    gradient = torch.zeros(1, 5, dtype=torch.float64)
    if pull is not None:
        gradient[0, :3] = torch.tensor(pull, dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.float64)
    params = GaussianParameters(points, torch.zeros(1, 1, dtype=torch.float64), zero)
    return Hypothesis(params, GaussianModel(zero, gradient, J))


@pytest.mark.parametrize(("r", "std_q"), [(1.0, 0.01), (4.0, 0.05), (9.5, 0.05), (9.9, 0.3), (0.6, 1.0)])
def test_the_range_is_the_mean_of_a_uniform_prior_times_the_likelihood(r: float, std_q: float) -> None:
    found = source_posterior(hypothesis([0.2, 0.1, 1 / r], [1e-3, 1e-3, std_q]), VIEW, 2.0)
    far, near = 1 / VIEW.range_max, 1 / VIEW.range_min
    wide = ((std_q**-2) + 12 / (near - far) ** 2) ** -0.5
    grid = torch.linspace(VIEW.range_min, VIEW.range_max, 200_001, dtype=torch.float64)
    weight = (-0.5 * ((1 / grid - 1 / r) / wide) ** 2).exp()
    weight /= weight.sum()
    mean = float((weight * grid).sum())
    std = float((weight * (grid - mean) ** 2).sum().sqrt())
    assert 1 / float(found.points[0, 0, 2]) == pytest.approx(mean, rel=1e-2)
    assert float(found.std[0, 0, 2]) == pytest.approx(std, rel=3e-2)
    assert float(found.spread[0, 0]) == pytest.approx(std**2, rel=7e-2, abs=1e-4)
    near_mass = float(weight[(grid - mean).abs() < 2.0].sum())
    assert float(found.near[0, 0]) == pytest.approx(near_mass, abs=0.02)


def test_a_source_held_at_the_far_limit_does_not_stick_to_it() -> None:
    at_wall = 1 / VIEW.range_max
    held = hypothesis([0.1, 0.0, at_wall], [1e-3, 1e-3, 0.02], [0.0, 0.0, -1 / 0.02])
    r = 1 / float(source_posterior(held, VIEW, 2.0).points[0, 0, 2])
    assert 8.0 < r < 9.7
    free = hypothesis([0.1, 0.0, at_wall], [1e-3, 1e-3, 0.02])
    assert 1 / float(source_posterior(free, VIEW, 2.0).points[0, 0, 2]) < r  # it was pulled outwards


def test_a_direction_held_at_a_limit_moves_inside() -> None:
    edge = math.sin(VIEW.elevation)
    found = source_posterior(hypothesis([0.1, edge, 0.2], [0.01, 0.01, 1e-3], [0.0, 100.0, 0.0]), VIEW, 2.0)
    _, elevation, _ = from_polar(found.points)
    assert VIEW.elevation - 0.01 < float(elevation[0, 0]) < VIEW.elevation - 1e-3


def test_where_nothing_is_uncertain_it_is_the_maximum() -> None:
    found = source_posterior(hypothesis([0.3, -0.2, 0.25], [1e-5, 1e-5, 1e-5]), VIEW, 2.0)
    assert torch.allclose(found.points[0, 0], torch.tensor([0.3, -0.2, 0.25]).double(), atol=1e-7)
    assert float(found.near[0, 0]) == pytest.approx(1.0)


def test_deviations_are_no_wider_than_the_field_of_view() -> None:
    found = source_posterior(hypothesis([0.0, 0.0, 0.2], [1e3, 1e3, 1e3]), VIEW, 2.0)
    width = torch.tensor([2 * VIEW.azimuth, 2 * VIEW.elevation, VIEW.range_max - VIEW.range_min])
    assert bool((found.std[0, 0] <= width / math.sqrt(12) * 1.01).all())
    assert bool((polar_direction(found.points)[..., 0] > 0).all())


def test_the_mean_of_a_truncated_normal_density() -> None:
    one = torch.ones(1, dtype=torch.float64)
    half = float(truncated_mean(0 * one, one, 0 * one, 10 * one))
    assert half == pytest.approx(math.sqrt(2 / math.pi), rel=2e-3)
    r, weight = range_nodes(0.3 * one, 0.1 * one, VIEW)
    assert float(weight.sum()) == pytest.approx(1.0)
    assert float(r.min()) >= VIEW.range_min
    assert float(r.max()) <= VIEW.range_max


def test_an_information_matrix_that_rounding_made_indefinite_gives_finite_deviations() -> None:
    """As with five sources in eight measured values."""
    sound = hypothesis([0.2, 0.1, 0.3], [1e-3, 1e-3, 0.01])
    J = sound.model.information.clone()
    J[0, 0, 1] = J[0, 1, 0] = 1e6 + 100.0  # of 1e6 on the diagonal
    broken = Hypothesis(sound.params, GaussianModel(sound.model.log_likelihood, sound.model.gradient, J))
    assert float(torch.linalg.eigvalsh(J).min()) < 0
    found = source_posterior(broken, VIEW, 2.0)
    assert all(bool(torch.isfinite(x).all()) for x in (found.points, found.std, found.spread, found.near))
    assert 0.01 < float(found.std[0, 0, 0]) < 2.0  # one direction across the two is not seen at all

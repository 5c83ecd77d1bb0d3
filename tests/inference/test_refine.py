"""Refinement: never worse, inside the field of view, and at the optimum where it ends."""

import itertools

import pytest
import torch

from risctl.inference.concentrated import local_model, refine
from risctl.inference.count import gaussian_start
from risctl.inference.exchange import add_responses, drop_responses, drop_source
from risctl.inference.gaussian import gaussian_model, observed_jet, refine_gaussian
from risctl.inference.levenberg import damped_step
from risctl.physics import ArrayGeometry, FieldOfView
from risctl.physics.polar import clamp_to_view, from_polar, polar_limits
from tests.inference.conftest import make_scenes, observe, true_points, with_count


@pytest.mark.parametrize("K", [1, 3, 5])
def test_cost_never_rises(geometry: ArrayGeometry, view: FieldOfView, K: int) -> None:
    _, scenes = make_scenes(60, seed=1, stratified=True, snr_values_db=(0.0, 20.0))
    rows = with_count(scenes, K)
    obs = observe(scenes, rows)
    generator = torch.Generator().manual_seed(K)
    start = true_points(scenes, rows, K).float()
    start = clamp_to_view(start + 0.1 * torch.randn(start.shape, generator=generator), view)
    first = local_model(obs, start, geometry).cost
    costs = [refine(obs, start, geometry, view, steps)[1] for steps in (0, 1, 3, 10)]
    assert torch.equal(costs[0], first)
    for before, after in itertools.pairwise(costs):
        assert bool((after <= before).all())

    params = gaussian_start(obs, start, geometry)
    value = gaussian_model(obs, params, geometry).log_likelihood
    for steps in (1, 3, 10):
        model = refine_gaussian(obs, params, geometry, view, steps).model
        assert bool((model.log_likelihood >= value).all())
        value = model.log_likelihood


@pytest.mark.parametrize("informed", [True, False])
def test_given_responses_save_work_and_change_nothing(
    geometry64: ArrayGeometry, view: FieldOfView, informed: bool
) -> None:
    """Also those that a removal and an addition of sources leave; what is kept is that of what is found."""
    _, scenes = make_scenes(12, seed=4, min_sources=3, max_sources=3, snr_values_db=(10.0,))
    obs = observe(scenes, torch.arange(12), torch.complex128)
    truth = true_points(scenes, torch.arange(12), 3)
    three, gone = gaussian_start(obs, truth, geometry64), torch.arange(12) % 3
    start, V = drop_source(three, gone), observed_jet(obs, three.points, geometry64)
    V = drop_responses(V, gone)
    torch.testing.assert_close(V, observed_jet(obs, start.points, geometry64))
    new = observed_jet(obs, truth[:, :1], geometry64)
    both = observed_jet(obs, torch.cat([start.points, truth[:, :1]], dim=1), geometry64)
    torch.testing.assert_close(add_responses(V, new), both)

    plain = refine_gaussian(obs, start, geometry64, view, 3)
    found = refine_gaussian(obs, start, geometry64, view, 3, False, V, informed)
    torch.testing.assert_close(found.params.points, plain.params.points)
    torch.testing.assert_close(found.model.log_likelihood, plain.model.log_likelihood)
    if informed:
        torch.testing.assert_close(found.model.information, plain.model.information)
    assert found.model.responses is not None
    torch.testing.assert_close(found.model.responses, observed_jet(obs, found.params.points, geometry64))
    assert plain.model.responses is None


def test_noise_free_sources_are_recovered_exactly(geometry64: ArrayGeometry, view: FieldOfView) -> None:
    """SNR to infinity: the error goes to zero with it."""
    _, scenes = make_scenes(20, seed=2, min_sources=3, max_sources=3, snr_values_db=(100.0,))
    rows = torch.arange(20)
    obs, truth = observe(scenes, rows, torch.complex128), true_points(scenes, rows, 3)
    points, _ = refine(obs, clamp_to_view(truth + 0.01, view), geometry64, view, 30)
    error = (torch.stack(from_polar(points)) - torch.stack(from_polar(truth))).abs()
    assert error[:2].max() < 1e-5  # the data themselves are complex64
    assert error[2].quantile(0.9) < 1e-4


def test_gradient_vanishes_at_the_end_unless_held(
    geometry64: ArrayGeometry, view: FieldOfView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("risctl.inference.gaussian.CONVERGED", 0.0)
    _, scenes = make_scenes(20, seed=3, min_sources=2, max_sources=2, snr_values_db=(15.0,))
    rows = torch.arange(20)
    obs, truth = observe(scenes, rows, torch.complex128), true_points(scenes, rows, 2)
    found = refine_gaussian(obs, gaussian_start(obs, truth, geometry64), geometry64, view, 40)
    params, model = found.params, found.model
    low, high = (x.flatten(1) for x in polar_limits(params.points, view))
    x = params.points.flatten(1)
    inner = ((x > low + 1e-3) & (x < high - 1e-3)).all(1)
    assert int(inner.sum()) >= 12
    step = torch.linalg.solve(model.information, model.gradient.unsqueeze(-1)).squeeze(-1)
    distance = (step * model.gradient).sum(-1)  # squared, in standard deviations
    assert bool((distance[inner] < 1e-6).all())


def test_points_stay_in_the_field_of_view(geometry: ArrayGeometry, view: FieldOfView) -> None:
    _, scenes = make_scenes(40, seed=4, snr_values_db=(-5.0,), min_sources=5)
    rows = torch.arange(40)
    obs = observe(scenes, rows)
    points, _ = refine(obs, true_points(scenes, rows, 5).float(), geometry, view, 12)
    azimuth, elevation, range_ = from_polar(points.double())
    assert azimuth.abs().max() <= view.azimuth + 1e-6
    assert elevation.abs().max() <= view.elevation + 1e-6
    assert view.range_min - 1e-6 <= range_.min() <= range_.max() <= view.range_max + 1e-5


def test_held_points_do_not_move(geometry: ArrayGeometry, view: FieldOfView) -> None:
    _, scenes = make_scenes(8, seed=5, min_sources=3, max_sources=3)
    rows = torch.arange(8)
    obs, points = observe(scenes, rows), true_points(scenes, rows, 3).float()
    start = gaussian_start(obs, points, geometry)
    found = refine_gaussian(obs, start, geometry, view, 6, hold_points=True)
    params, model = found.params, found.model
    assert torch.equal(params.points, points)
    before = gaussian_model(obs, start, geometry).log_likelihood
    assert bool((model.log_likelihood >= before).all())
    assert bool((model.log_likelihood > before + 1e-3).any())


def test_newton_step_is_exact_on_a_quadratic() -> None:
    generator = torch.Generator().manual_seed(0)
    A = torch.randn(5, 4, 4, generator=generator, dtype=torch.float64)
    H = A @ A.mT + torch.eye(4, dtype=torch.float64)
    x, best = torch.randn(2, 5, 4, generator=generator, dtype=torch.float64)
    gradient = (H @ (x - best).unsqueeze(-1)).squeeze(-1)
    wide = torch.full((5, 4), 1e9, dtype=torch.float64)
    step = damped_step(x, gradient, H, torch.zeros(5, dtype=torch.float64), -wide, wide, wide[0])
    assert torch.allclose(x + step, best, atol=1e-5)


def test_a_parameter_on_its_limit_does_not_hold_up_the_others() -> None:
    H = torch.tensor([[[2.0, 0.9], [0.9, 1.0]]], dtype=torch.float64)
    x = torch.zeros(1, 2, dtype=torch.float64)
    gradient = torch.tensor([[5.0, -1.0]], dtype=torch.float64)  # the first would move below its limit 0
    wide = torch.full((1, 2), 1e9, dtype=torch.float64)
    low = torch.tensor([[0.0, -1e9]], dtype=torch.float64)
    step = damped_step(x, gradient, H, torch.zeros(1, dtype=torch.float64), low, wide, wide[0])
    assert step[0, 0] == 0
    assert float(step[0, 1]) == pytest.approx(1.0, rel=1e-5)

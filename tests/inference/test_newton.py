"""Newton's method in a box: against an independent minimiser, and where Fisher scoring does not settle."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from risctl.config import PhysicsConfig
from risctl.inference.converge import climb_likelihood, converge
from risctl.inference.count import gaussian_start
from risctl.inference.gaussian import GaussianParameters, gaussian_model
from risctl.inference.greedy import Search
from risctl.inference.newton import Slope, angles_box, climb, from_angles, to_angles
from risctl.physics.polar import to_polar
from tests.inference.conftest import make_scenes, observe, true_points


def _valley(z: torch.Tensor, bend: torch.Tensor) -> torch.Tensor:
    """Rosenbrock's valley, upside down, of several problems [B, 2]."""
    return -((z[:, 0] - bend).square() + 20.0 * (z[:, 1] - z[:, 0].square()).square())


def test_the_maximum_in_a_box_is_that_of_an_independent_minimiser() -> None:
    bend = torch.linspace(-1.0, 2.0, 7, dtype=torch.float64)

    def evaluate(rows: torch.Tensor, z: torch.Tensor) -> Slope:
        z = z.detach().requires_grad_()
        value = _valley(z, bend[rows])
        (gradient,) = torch.autograd.grad(value.sum(), z)
        metric = torch.diag(z.new_tensor([2.0, 40.0])).expand(len(z), 2, 2)
        return Slope(value.detach(), gradient, metric)

    low, high = (torch.tensor(x, dtype=torch.float64).expand(7, 2) for x in ((-0.8, -2.0), (1.1, 0.9)))
    found = climb(evaluate, torch.zeros(7, 2, dtype=torch.float64), low, high, 1e-6)
    for i, b in enumerate(bend):
        best = minimize(
            lambda z, b=b: -float(_valley(torch.from_numpy(z)[None], b)),
            np.zeros(2),
            method="L-BFGS-B",
            bounds=[(-0.8, 1.1), (-2.0, 0.9)],
            options={"ftol": 1e-15, "gtol": 1e-10},
        )
        np.testing.assert_allclose(found[i].numpy(), best.x, atol=2e-6)


def test_angles_are_the_inverse_of_direction_cosines() -> None:
    points = to_polar(*(torch.tensor([x], dtype=torch.float64) for x in (0.3, -0.2, 4.0)))
    torch.testing.assert_close(from_angles(to_angles(points)), points)


@pytest.mark.parametrize("snr_db", [-5.0, pytest.param(5.0, marks=pytest.mark.slow)])
def test_every_hypothesis_settles_even_one_too_large_at_low_snr(snr_db: float) -> None:
    """Four sources where there are one to five, from poor starts: another Newton step moves none of them."""
    physics, scenes = make_scenes(40, seed=3, snr_min_db=snr_db, snr_max_db=snr_db)
    rows, search = torch.arange(40), Search.from_config(physics)
    obs = observe(scenes, rows)
    low, high = angles_box(torch.empty(0), search.view)
    start = from_angles(low + (high - low) * torch.rand(40, 4, 3, generator=torch.Generator().manual_seed(0)))
    polished = search.polish(obs, gaussian_start(obs, start, search.geometry), 4)
    found = converge(obs, polished, search.geometry, search.view)
    fine = search.double().geometry
    again = climb_likelihood(obs.double(), found.params, fine, search.view)
    shift = to_angles(again.params.points) - to_angles(found.params.points)
    J = found.model.information[:, :12, :12]
    length = (shift.flatten(1).unsqueeze(1) @ J @ shift.flatten(1).unsqueeze(-1)).flatten().sqrt()
    power = found.params.log_power - found.params.log_noise.unsqueeze(-1)
    seen = (power > -8.0).all(1)  # the position of a source that has lost its power is nowhere
    assert int(seen.sum()) > 30
    assert float(length[seen].max()) < 1e-3
    rise = found.model.log_likelihood - polished.model.log_likelihood
    assert float(rise.min()) > -1e-2


def test_a_source_on_the_limit_of_azimuth_is_optimal_along_it() -> None:
    """The limit is curved in direction cosines, where scoring goes to and fro across it."""
    _, scenes = make_scenes(60, seed=5, min_sources=1, max_sources=1, snr_min_db=10, snr_max_db=10)
    azimuth, narrow = scenes.azimuth[:, 0].abs(), PhysicsConfig(azimuth_limit_deg=40.0)
    rows, search = ((azimuth > 0.71) & (azimuth < 0.8)).nonzero().flatten(), Search.from_config(narrow)
    obs, points = observe(scenes, rows), true_points(scenes, rows, 1)
    low, high = angles_box(points, search.view)
    points = from_angles(torch.minimum(torch.maximum(to_angles(points), low), high)).float()
    polished = search.polish(obs, gaussian_start(obs, points, search.geometry), 6)
    found = converge(obs, polished, search.geometry, search.view)
    assert len(rows) > 3
    fine, edge = search.double().geometry, to_angles(found.params.points)[..., 0].abs()
    torch.testing.assert_close(edge, torch.full_like(edge, search.view.azimuth))
    for moved in (-1e-4, 1e-4):
        other = to_angles(found.params.points) + torch.tensor([0.0, moved, 0.0])
        params = GaussianParameters(from_angles(other), found.params.log_power, found.params.log_noise)
        model = gaussian_model(obs.double(), params, fine)
        assert (model.log_likelihood < found.model.log_likelihood + 1e-4).all()

"""Closed-form losses and gains against differences of log-likelihoods, in float64."""

import math

import pytest
import torch
from torch import Tensor

from risctl.inference.exchange import (
    POWER_LADDER,
    Exchanges,
    GaussianFit,
    add_source,
    best_birth,
    candidate_responses,
    drop_source,
    score_exchanges,
)
from risctl.inference.gaussian import GaussianParameters, gaussian_model
from risctl.inference.observation import Observation
from risctl.physics import ArrayGeometry
from tests.inference.conftest import make_scenes, observe, true_points, with_count

Setting = tuple[Observation, GaussianParameters, Tensor]


@pytest.fixture(scope="module", params=[-5.0, 30.0], ids=["low", "high"])
def setting(request: pytest.FixtureRequest) -> Setting:
    """Four scenes, four sources a little off the truth with wrong powers, and six candidates."""
    _, scenes = make_scenes(20, seed=21, stratified=True, snr_values_db=(request.param,))
    rows = with_count(scenes, 4)[:4]
    generator = torch.Generator().manual_seed(1)
    points = true_points(scenes, rows, 4) + 0.02
    power = scenes[rows].power[:, :4].double().log() + torch.randn(4, 4, generator=generator).double()
    params = GaussianParameters(points, power, scenes[rows].noise_var.double().log() + 0.3)
    candidates = torch.rand(4, 6, 3, generator=generator).double() * 0.8 + torch.tensor([-0.4, -0.4, 0.2])
    candidates[:, 0] = points[:, 1] + 1e-3  # beside a source already there
    return observe(scenes, rows, torch.complex128), params, candidates


def changed(params: GaussianParameters, k: int, point: Tensor, log_power: Tensor) -> GaussianParameters:
    points, powers = params.points.clone(), params.log_power.clone()
    points[:, k], powers[:, k] = point, log_power
    return GaussianParameters(points, powers, params.log_noise)


def scores(setting: Setting, geometry: ArrayGeometry) -> Exchanges:
    obs, params, candidates = setting
    fit = GaussianFit.compute(obs, params, geometry)
    return score_exchanges(fit, candidates, candidate_responses(obs, candidates, geometry))


def test_loss_is_the_likelihood_lost(setting: Setting, geometry64: ArrayGeometry) -> None:
    obs, params, _ = setting
    losses = GaussianFit.compute(obs, params, geometry64).losses()
    whole = gaussian_model(obs, params, geometry64).log_likelihood
    for k in range(4):
        rest = drop_source(params, torch.full((4,), k))
        expected = whole - gaussian_model(obs, rest, geometry64).log_likelihood
        assert torch.allclose(losses[:, k], expected, rtol=1e-8, atol=1e-8)


def test_sources_taken_away_differ_by_scene(setting: Setting) -> None:
    _, params, _ = setting
    gone = torch.tensor([3, 0, 2, 1])
    rest = drop_source(params, gone)
    for b, k in enumerate(gone.tolist()):
        keep = [i for i in range(4) if i != k]
        assert torch.equal(rest.points[b], params.points[b, keep])
        assert torch.equal(rest.log_power[b], params.log_power[b, keep])


def test_residuals_are_the_whitened_snapshots(setting: Setting, geometry64: ArrayGeometry) -> None:
    """``sigma^2 R_l^-1 y_l`` with M x M solves, of the model and of the model without a source."""
    obs, params, _ = setting
    fit = GaussianFit.compute(obs, params, geometry64)
    eye = torch.eye(obs.y.shape[-1], dtype=torch.complex128)

    def direct(p: Tensor) -> Tensor:
        R = fit.basis @ (p[:, None, :, None] * fit.basis.mH)
        s2 = fit.noise[:, None, None, None]
        solved: Tensor = torch.linalg.solve(R + s2 * eye, obs.y.unsqueeze(-1))
        return (s2 * solved).squeeze(-1)

    scale = float(obs.y.abs().max())
    assert torch.allclose(fit.residual, direct(fit.power), atol=1e-9 * scale)
    gone = torch.tensor([3, 0, 2, 1])
    p = fit.power.scatter(1, gone[:, None], 0.0)
    assert torch.allclose(fit.residual_without(gone), direct(p), atol=1e-9 * scale)


def test_gain_of_an_exchange_is_the_likelihood_gained(setting: Setting, geometry64: ArrayGeometry) -> None:
    """Of every source for every candidate, the best of the ladder's powers."""
    obs, params, candidates = setting
    scored = scores(setting, geometry64)
    assert scored.gain.shape == (4, 4, 6)
    whole = gaussian_model(obs, params, geometry64).log_likelihood
    level = params.log_power.mean(1)
    for k in range(4):
        for c in range(6):
            options = [level + float(torch.tensor(step, dtype=torch.float64).log()) for step in POWER_LADDER]
            trials = [changed(params, k, candidates[:, c], power) for power in options]
            values = torch.stack([gaussian_model(obs, t, geometry64).log_likelihood for t in trials])
            best, index = (values - whole).max(dim=0)
            assert torch.allclose(scored.gain[:, k, c], best, rtol=1e-7, atol=1e-6)
            chosen = torch.stack(options).gather(0, index[None]).squeeze(0)
            assert torch.allclose(scored.log_power[:, k, c], chosen)


def test_the_best_exchange_is_carried_out(setting: Setting, geometry64: ArrayGeometry) -> None:
    """The promise of the closed form is the rise of the likelihood at the exchanged sources."""
    obs, params, _ = setting
    scored = scores(setting, geometry64)
    gain, k, c = scored.best()
    assert torch.equal(gain, scored.gain.amax((1, 2)))
    after = gaussian_model(obs, scored.apply(params, k, c), geometry64).log_likelihood
    before = gaussian_model(obs, params, geometry64).log_likelihood
    assert torch.allclose(after - before, gain, rtol=1e-7, atol=1e-6)


def test_the_best_birth_is_the_likelihood_gained(setting: Setting, geometry64: ArrayGeometry) -> None:
    """The best of all candidates at all of the ladder's powers, and what it promises."""
    obs, params, candidates = setting
    fit = GaussianFit.compute(obs, params, geometry64)
    gain, point, power = best_birth(fit, candidates, candidate_responses(obs, candidates, geometry64))
    whole, level = gaussian_model(obs, params, geometry64).log_likelihood, params.log_power.mean(1)
    trials = [
        gaussian_model(obs, add_source(params, candidates[:, c], level + math.log(step)), geometry64)
        for c in range(6)
        for step in POWER_LADDER
    ]
    best = torch.stack([trial.log_likelihood - whole for trial in trials]).amax(0)
    assert torch.allclose(gain, best, rtol=1e-7, atol=1e-6)
    after = gaussian_model(obs, add_source(params, point, power), geometry64).log_likelihood
    assert torch.allclose(after - whole, gain, rtol=1e-7, atol=1e-6)


def test_a_source_twice_or_without_power_costs_nothing(setting: Setting, geometry64: ArrayGeometry) -> None:
    obs, params, _ = setting
    silent = changed(params, 2, params.points[:, 2], torch.full((4,), -60.0).double())
    assert bool((GaussianFit.compute(obs, silent, geometry64).losses()[:, 2].abs() < 1e-6).all())
    twice = changed(params, 2, params.points[:, 0], params.log_power[:, 0])
    losses = GaussianFit.compute(obs, twice, geometry64).losses()
    assert bool(torch.isfinite(losses).all())
    alone = GaussianFit.compute(obs, drop_source(twice, torch.full((4,), 2)), geometry64).losses()
    assert bool((losses[:, 2] <= losses[:, 0] + 1e-9).all())
    assert bool((losses[:, 0] < alone[:, 0]).all())

"""Features behind the probabilities: number, order, meaning, and no unit."""

import math

import pytest
import torch

from risctl.inference.count import CountRule, gaussian_start, noise_only
from risctl.inference.decision import CUTOFF
from risctl.inference.exchange import GaussianFit
from risctl.inference.fusion import (
    NUM_SOURCE_FEATURES,
    CountHypotheses,
    Proposals,
    closest_pair,
    count_features,
    head_log_probabilities,
    num_count_features,
    source_features,
)
from risctl.inference.gaussian import Hypothesis, gaussian_model
from risctl.inference.observation import Observation
from risctl.physics import ArrayGeometry
from risctl.physics.polar import to_polar
from tests.inference.conftest import make_scenes


def fitted(scale: float = 1.0, network: bool = True) -> CountHypotheses:
    physics, scenes = make_scenes(6, seed=2, snr_min_db=10.0, max_sources=3, min_sources=3)
    obs = Observation.build(scenes.y * scale, scenes.H, scenes.codes)
    geometry = ArrayGeometry.from_config(physics)
    points = to_polar(scenes.azimuth, scenes.elevation, scenes.range)
    hypotheses, losses = [noise_only(obs)], [torch.empty(6, 0)]
    for k in (1, 2, 3):
        params = gaussian_start(obs, points[:, :k], geometry)
        hypotheses.append(Hypothesis(params, gaussian_model(obs, params, geometry)))
        losses.append(GaussianFit.compute(obs, params, geometry).losses())
    presence = torch.tensor([[1.0, 50.0, -3.0, 2.0]]).expand(6, -1)
    says = (
        Proposals(torch.arange(18.0).view(6, 3) / 9, points[:, [0, 1, 2, 0]], presence) if network else None
    )
    return CountHypotheses.of(
        obs, hypotheses, losses, CountRule.from_config(physics, "evidence", -1.0), CUTOFF, says
    )


def test_features_have_the_stated_number_and_order() -> None:
    found = fitted()
    x = count_features(found)
    assert x.shape == (6, num_count_features(3, 4))
    assert x.dtype == torch.float32
    one, two = found.hypotheses[1].model.log_likelihood, found.hypotheses[2].model.log_likelihood
    assert torch.allclose(x[:, 1], (two - one).asinh().float())
    assert torch.allclose(x[:, 13:15], torch.tensor([16.0, 16.0]).log())
    assert found.network is not None
    assert torch.equal(x[:, -7:-4], head_log_probabilities(found.network.head))
    assert x[0, -4:].tolist() == [10.0, 2.0, 1.0, -3.0]
    for k in (1, 2, 3):
        assert source_features(found, k).shape == (6, k, NUM_SOURCE_FEATURES)
        assert bool(torch.isfinite(source_features(found, k)).all())


def test_features_have_no_unit() -> None:
    found, scaled = fitted(network=False), fitted(2.0**10, network=False)
    assert torch.allclose(count_features(found), count_features(scaled), atol=2e-3)
    for k in (1, 2, 3):
        a, b = source_features(found, k), source_features(scaled, k)
        assert torch.allclose(a, b, atol=2e-2)


def test_evidence_is_relative_to_the_best() -> None:
    evidence = fitted().evidence
    assert torch.equal(evidence.amax(1), torch.zeros(6))
    assert (evidence.argmax(1) == 3).all()  # three sources at 10 dB or more, each where it is


def test_a_head_that_is_certain_stays_finite() -> None:
    found = head_log_probabilities(torch.tensor([[1e4, 0.0, -1e4]]))
    assert found.tolist() == [[0.0, -12.0, -12.0]]


def test_the_closest_pair_counts_in_half_beams() -> None:
    points = torch.tensor([[[0.0, 0.0, 0.5], [0.16, 0.0, 0.5], [0.5, 0.3, 1.0]]])
    assert math.isclose(float(closest_pair(points)), 2.0, rel_tol=1e-5)
    assert float(closest_pair(points * 100)) == 20.0


def test_noise_alone_is_the_gaussian_likelihood_without_a_source() -> None:
    _, scenes = make_scenes(3, seed=5)
    obs = Observation.build(scenes.y, scenes.H, scenes.codes)
    null = noise_only(obs)
    noise = torch.distributions.Normal(0.0, (null.params.log_noise.exp() / 2).sqrt()[:, None, None])
    both = noise.log_prob(obs.y.real) + noise.log_prob(obs.y.imag)
    constant = obs.y[0].numel() * math.log(math.pi)
    assert torch.allclose(null.model.log_likelihood, both.sum((1, 2)) + constant, rtol=1e-4)
    assert float(null.model.information[0, 0, 0]) == pytest.approx(obs.y[0].numel())

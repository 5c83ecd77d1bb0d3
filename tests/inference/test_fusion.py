"""Features of the count fusion: shape, order and meaning."""

import math

import torch

from risctl.inference.count import CountRule, gaussian_start
from risctl.inference.fusion import (
    closest_pair,
    evidences,
    fusion_features,
    head_log_probabilities,
    num_features,
)
from risctl.inference.gaussian import Hypothesis, gaussian_model
from risctl.inference.observation import Observation
from risctl.physics import ArrayGeometry
from risctl.physics.polar import to_polar
from tests.inference.conftest import make_scenes


def fitted() -> tuple[Observation, list[Hypothesis], CountRule]:
    physics, scenes = make_scenes(6, seed=2, snr_min_db=10.0, max_sources=3, min_sources=3)
    obs, geometry = Observation.build(scenes.y, scenes.H, scenes.codes), ArrayGeometry.from_config(physics)
    points = to_polar(scenes.azimuth, scenes.elevation, scenes.range)
    hypotheses = []
    for k in (1, 2, 3):
        params = gaussian_start(obs, points[:, :k], geometry)
        hypotheses.append(Hypothesis(params, gaussian_model(obs, params, geometry)))
    return obs, hypotheses, CountRule.from_config(physics, "evidence", -1.0)


def test_features_have_the_stated_number_and_order() -> None:
    obs, hypotheses, rule = fitted()
    evidence, head = evidences(hypotheses, rule), head_log_probabilities(torch.randn(6, 3))
    presence = torch.tensor([[1.0, 50.0, -3.0, 2.0]]).expand(6, -1)
    x = fusion_features(obs.y, hypotheses, evidence, head, presence)
    assert x.shape == (6, num_features(3, 4))
    assert x.dtype == torch.float32
    gains = hypotheses[1].model.log_likelihood - hypotheses[0].model.log_likelihood
    assert torch.allclose(x[:, 0], gains.asinh().float())
    assert torch.equal(x[:, 4:7], head)
    assert x[0, 7:11].tolist() == [10.0, 2.0, 1.0, -3.0]


def test_evidence_is_relative_to_the_best() -> None:
    _, hypotheses, rule = fitted()
    evidence = evidences(hypotheses, rule)
    assert torch.equal(evidence.amax(1), torch.zeros(6))
    assert (evidence.argmax(1) == 2).all()  # three sources at 10 dB or more, each where it is


def test_a_head_that_is_certain_stays_finite() -> None:
    found = head_log_probabilities(torch.tensor([[1e4, 0.0, -1e4]]))
    assert found.tolist() == [[0.0, -12.0, -12.0]]


def test_the_closest_pair_counts_in_half_beams() -> None:
    points = torch.tensor([[[0.0, 0.0, 0.5], [0.16, 0.0, 0.5], [0.5, 0.3, 1.0]]])
    assert math.isclose(float(closest_pair(points)), 2.0, rel_tol=1e-5)
    assert float(closest_pair(points * 100)) == 20.0

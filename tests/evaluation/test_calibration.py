"""Fitting the probabilities: what tells counts and sources apart is found, from data and seed alone."""

import math
import os

import pytest
import torch

from risctl.config import CovarianceConfig, InferenceConfig, PhysicsConfig
from risctl.data import SceneStream
from risctl.evaluation.calibration import (
    Batch,
    CountData,
    collect_counts,
    count_accuracy,
    fit_fusion,
    other_kinds,
    own_columns,
    source_labels,
)
from risctl.evaluation.reliability import calibration_error
from risctl.inference.decision import CUTOFF
from risctl.inference.nomp import NompEstimator
from risctl.physics.polar import to_polar
from tests.inference.conftest import make_scenes


def _data(scenes: int, seed: int) -> CountData:
    """The head guesses; the evidence is right only where the second figure is positive, else one too low. A
    source is true with a probability that its only figure gives."""
    g = torch.Generator().manual_seed(seed)
    K = torch.randint(0, 4, (scenes,), generator=g)
    figures = torch.randn(scenes, 4, generator=g) * 3.0 + 5.0
    seen = torch.where(figures[:, 1] > 5.0, K, (K - 1).clamp_min(0))
    evidence = torch.nn.functional.one_hot(seen, 4).float() * 4.0 - 4.0
    head = torch.randn(scenes, 3, generator=g).log_softmax(1)
    logit = torch.randn(scenes, 6, generator=g) * 2.0
    near = (torch.rand(scenes, 6, generator=g) < logit.sigmoid()).float()
    error = torch.where(near > 0, 0.5, CUTOFF**2)
    spread = torch.ones(scenes, 6)
    figures = torch.cat([figures, evidence], 1)
    rest = (logit.unsqueeze(2), spread, near, near, error, K, torch.zeros(scenes), torch.ones(scenes) > 0)
    return CountData(head, evidence, figures, *rest)


def test_it_learns_when_to_believe_whom_and_what_the_chances_are() -> None:
    validation = _data(1500, 2)
    fit = fit_fusion(_data(5000, 1), validation, seed=0)
    assert count_accuracy(validation.evidence, validation) < 0.7
    assert fit.accuracy > 0.85
    assert fit.epoch > 0
    assert fit.calibration_error < 0.05
    log_count = fit.network(validation.head, validation.evidence, validation.figures)
    belief = fit.network.sources(log_count, validation.sources[:, 3:], validation.spread[:, 3:], CUTOFF)
    stated, truth = belief.near.detach(), validation.sources[:, 3:, 0]
    assert (stated - truth).abs().median() < 0.3  # logits
    assert (belief.error - 0.5).abs().median() < 0.1  # not the spread of 1 that the posterior stated


def test_it_follows_from_data_and_seed_and_leaves_other_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train, validation = _data(600, 1), _data(300, 2)
    first, second = (fit_fusion(train, validation, seed=3).network.state_dict() for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = fit_fusion(train, validation, seed=4).network.state_dict()
    assert not torch.equal(first["count.net.0.weight"], other["count.net.0.weight"])


def test_a_true_source_counts_once() -> None:
    _, scenes = make_scenes(2, seed=3, min_sources=1, max_sources=2)
    azimuth, elevation, range_ = scenes.azimuth[:, :1], scenes.elevation[:, :1], scenes.range[:, :1]
    one = to_polar(azimuth.double(), elevation.double(), range_.double())
    twice = torch.cat([one, one], dim=1)
    twice[:, 1, 2] = 1.0 / (range_[:, 0] + 0.4)
    near, hit, error = source_labels(twice, scenes)
    assert near[0].tolist() == [1.0, 0.0] or int(scenes.num_sources[0]) == 2
    assert hit.tolist() == [[1.0, 1.0]] * 2
    assert float(error[0, 0]) < 1e-6
    assert float(source_labels(twice[:, 1:], scenes)[2][0, 0]) == pytest.approx(0.16, rel=1e-3)


def test_the_other_kinds_differ_in_dimensions_and_prior_and_can_be_simulated() -> None:
    kinds = other_kinds(PhysicsConfig(), 24, seed=1)
    assert {kind.max_coherence for kind in kinds} == {0.5, 1.0}
    assert max(kind.num_snapshots for kind in kinds) == 128 > 16 > min(kind.num_snapshots for kind in kinds)
    assert {kind.num_antennas for kind in kinds} >= {4, 16, 32}
    assert all(1 <= kind.power_spread_db <= 12 for kind in kinds)
    for kind in (*kinds, *other_kinds(PhysicsConfig(max_sources=8), 24, seed=1)):
        PhysicsConfig.model_validate(kind.model_dump())


def test_the_columns_of_each_hypothesis_do_not_overlap() -> None:
    assert own_columns(3) == [slice(0, 1), slice(1, 3), slice(3, 6)]


def test_the_calibration_error_is_the_mean_gap() -> None:
    assert calibration_error([0.95] * 100, [1.0] * 95 + [0.0] * 5) == pytest.approx(0.0, abs=1e-12)
    assert calibration_error([0.9] * 10 + [0.1] * 10, [0.5] * 10 + [0.1] * 10) == pytest.approx(0.2)
    assert math.isnan(calibration_error([], []))


@pytest.mark.slow
def test_workers_leave_no_file_open_for_what_they_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tensor of another process holds a file descriptor, of which a process has a thousand by default."""
    monkeypatch.setattr("risctl.evaluation.calibration.CHUNK", 1)
    physics = PhysicsConfig(num_snapshots=4, num_antennas=4, max_sources=2)
    finder = NompEstimator.from_config(physics, CovarianceConfig(), InferenceConfig(), "cpu")
    before, most = len(os.listdir("/proc/self/fd")), []
    batch = Batch(SceneStream(physics, 3, "train"), 0, 40, size=1)
    collect_counts(finder, [batch], 2, lambda done: most.append(len(os.listdir("/proc/self/fd"))))
    assert len(most) == 40
    assert max(most) - before < 150  # 11 of each part if they were kept: 440

"""What is reported: noise alone, the stated loss, the most hits; probabilities come with it."""

import math

import pytest
import torch

from risctl.config import Config, InferenceConfig
from risctl.data import SceneStream
from risctl.evaluation.calibration import source_labels
from risctl.inference import build_estimator
from risctl.inference.count import noise_stands
from risctl.inference.decision import CUTOFF, best_hits, gospa_gain
from risctl.model.fusion import SourceBelief
from risctl.physics.polar import to_polar
from risctl.runs import load_model
from tests.inference.conftest import make_scenes

DECISIONS = ("gospa", "count", "recall")


@pytest.mark.parametrize("name", ["nomp", "sbl", "music", "learned"])
@pytest.mark.parametrize(("L", "M"), [(16, 16), (4, 6), pytest.param(32, 8, marks=pytest.mark.slow)])
def test_noise_alone_has_no_source(name: str, L: int, M: int) -> None:
    model = load_model() if name == "learned" else None
    config = Config()
    physics, scenes = make_scenes(24, seed=1, num_snapshots=L, num_antennas=M)
    g = torch.Generator().manual_seed(L)
    y = torch.randn(24, L, M, 2, generator=g)
    noise = torch.view_as_complex(y) * 1e-4
    inference = InferenceConfig(swap_rounds=0)
    estimator = build_estimator(name, physics, config.covariance, inference, model=model)
    found = estimator(noise, scenes.H, scenes.codes)
    assert int((found.num_sources > 0).sum()) == 0
    assert torch.allclose(found.noise_var, noise.abs().square().mean((1, 2)).double(), rtol=1e-4)
    none = found.count_probability[:, 0]
    assert int((none > found.count_probability[:, 1:].amax(1)).sum()) > 16  # of 24 the most probable count
    if L * M > 24:  # 24 values hardly tell a weak source from none
        assert float(none.median()) > 0.7
    asked = estimator(noise, scenes.H, scenes.codes, torch.full((24,), 2))
    assert asked.num_sources.tolist() == [2] * 24  # told otherwise


def test_the_stated_probability_of_a_false_alarm_is_a_limit_of_the_bayes_factor() -> None:
    """Of one source, `FIRST_WEIGHT` of the prior; of a mixture, of all hypotheses together."""
    factors = torch.tensor([3.0, 4.0, 5.0]).unsqueeze(1)  # limits: log 10 = 2.3, log 100 = 4.6
    assert noise_stands(factors, 0.1).tolist() == [False, False, False]
    assert noise_stands(factors, 0.01).tolist() == [True, True, False]
    several = torch.tensor([[-50.0, 9.0], [4.8, -50.0], [4.6, torch.nan]])
    assert noise_stands(several, 0.01).tolist() == [False, False, True]


def test_a_source_is_reported_if_that_lowers_the_expected_loss() -> None:
    for pi, e2 in ((0.9, 1.5), (0.6, 0.2), (0.55, 1.0), (0.3, 0.1)):
        logit = torch.tensor([[math.log(pi / (1 - pi))]])
        belief = SourceBelief(logit, torch.zeros(1, 1), torch.tensor([[e2]]))
        expected = pi * (CUTOFF**2 / 2 - e2) - (1 - pi) * CUTOFF**2 / 2
        assert float(gospa_gain(belief)) == pytest.approx(expected, abs=1e-5)


def test_hits_are_the_most_probable_outside_each_others_gates() -> None:
    degrees = torch.tensor([[[0.0, 0.0], [3.0, 1.0], [20.0, 0.0], [-30.0, 10.0]]]).deg2rad()
    points = to_polar(degrees[..., 0], degrees[..., 1], torch.full((1, 4), 3.0))
    logit = torch.tensor([[2.0, 1.9, 0.0, 1.0]])
    chosen, used = best_hits(points, logit, torch.tensor([2]), most=4)
    assert chosen[0, :2].tolist() == [0, 3]
    assert used[0].tolist() == [True, True, False, False]
    _, used = best_hits(points, logit, torch.tensor([4]), most=4)
    assert used[0].tolist() == [True, True, True, False]  # the second is in the first one's gate


def test_the_decisions_of_the_shipped_model() -> None:
    config, model = Config(), load_model()
    scenes = SceneStream(config.physics.model_copy(update={"snr_max_db": 5.0}), 3, "val").scenes(0, 128)
    right, reported, loss = {}, {}, {}
    for decision in DECISIONS:
        inference = config.inference.model_copy(update={"decision": decision})
        estimator = build_estimator("learned", config.physics, config.covariance, inference, model=model)
        found = estimator(scenes.y, scenes.H, scenes.codes)
        used = torch.arange(5) < found.num_sources[:, None]
        assert torch.equal(torch.isfinite(found.azimuth), used)
        assert torch.equal(torch.isfinite(found.probability), used)
        assert bool(((found.probability[used] >= 0) & (found.probability[used] <= 1)).all())
        assert torch.allclose(found.count_probability.sum(1), torch.ones(128).double(), atol=1e-6)
        right[decision] = float((found.num_sources == scenes.num_sources.long()).double().mean())
        reported[decision] = float(found.num_sources.double().mean())
        places = to_polar(found.azimuth, found.elevation, found.range)
        _, _, error = source_labels(places.nan_to_num(0.5), scenes)
        gain = torch.where(used, CUTOFF**2 / 2 - error, 0.0).sum(1)  # of the squared GOSPA distance
        loss[decision] = -float(gain.mean())
    assert loss["gospa"] < min(loss["count"], loss["recall"]) - 0.2
    assert right["count"] > right["gospa"] + 0.05
    assert reported["gospa"] < reported["count"]

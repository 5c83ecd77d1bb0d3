"""What is read off R_blend, with a network that knows the answer and with one that does not."""

from dataclasses import dataclass, fields, replace

import pytest
import torch
from torch import Tensor

from risctl.config import CovarianceConfig, InferenceConfig, ModelConfig, PhysicsConfig
from risctl.covariance import leading_subspace, snapshot_factor
from risctl.errors import InputError
from risctl.inference import Estimates, LearnedEstimator, build_learned
from risctl.inference.fusion import NUM_SOURCE_FEATURES, num_count_features
from risctl.model import Prediction, build_network
from risctl.model.fusion import CountFusion, FusionState, LoadedFusion
from risctl.physics import ArrayGeometry, Scenes, steering_vector
from risctl.runs import load_model
from tests.inference.conftest import make_scenes

QUICK = InferenceConfig(range_grid=121, nf_mle_iters=3)
CONFIG = CovarianceConfig()


@dataclass(frozen=True)
class Told:
    """In place of the network: a fixed answer to each of some scenes, recognised by their snapshots."""

    answer: Prediction
    scenes: Scenes

    def __call__(self, y: Tensor, H: Tensor, codes: Tensor) -> Prediction:
        rows = (y[:, None, 0, 0] == self.scenes.y[None, :, 0, 0]).long().argmax(dim=1)
        parts = {f.name: getattr(self.answer, f.name) for f in fields(self.answer)}
        return Prediction(**{k: None if x is None else x[rows] for k, x in parts.items()})


def truth_of(s: Scenes, geometry: ArrayGeometry) -> Prediction:
    A = steering_vector(s.azimuth, s.elevation, s.range.clamp_min(0.5), geometry)
    A = (A * (s.power.sqrt() * s.source_mask).unsqueeze(-1)).mT.to(torch.complex64)
    logits = torch.nn.functional.one_hot(s.num_sources.long() - 1, A.shape[-1]).float() * 10.0
    position = torch.stack([s.azimuth, s.elevation, s.range], dim=-1)
    return Prediction(A, torch.zeros_like(A), logits, position, s.power)


def oracle_estimator(
    num_scenes: int = 20,
    inference: InferenceConfig = QUICK,
    covariance: CovarianceConfig = CONFIG,
    **changes: object,
) -> tuple[LearnedEstimator, Scenes]:
    physics, scenes = make_scenes(num_scenes, seed=5, **changes)
    oracle = Told(truth_of(scenes, ArrayGeometry.from_config(physics)), scenes)
    return build_learned(oracle, physics, covariance, inference), scenes


def errors_deg(found: Estimates, scenes: Scenes) -> Tensor:
    """Azimuth error of every true source to the nearest estimate, degrees."""
    gap = (found.azimuth.unsqueeze(1) - scenes.azimuth.double().unsqueeze(2)).abs()
    return torch.rad2deg(gap.nan_to_num(torch.inf).amin(dim=2)[scenes.source_mask])


def share_found(estimator: LearnedEstimator, scenes: Scenes, count: Tensor | None = None) -> float:
    """Share of the true sources with an estimate within 5 degrees of azimuth."""
    found = estimator(scenes.y, scenes.H, scenes.codes, count)
    return float((errors_deg(found, scenes) < 5.0).double().mean())


def test_a_network_that_knows_finds_everything() -> None:
    estimator, scenes = oracle_estimator(snr_min_db=15.0)
    found = estimator(scenes.y, scenes.H, scenes.codes)
    assert torch.equal(found.num_sources, scenes.num_sources.long())
    errors = errors_deg(found, scenes)
    assert float(errors.median()) < 0.2
    assert float((errors < 5.0).double().mean()) > 0.97


def test_the_polish_brings_peaks_of_the_snapshots_nearer() -> None:
    medians, of_snapshots = [], CovarianceConfig(beta=1.0)
    for steps in (0, 3):
        inference = QUICK.model_copy(update={"nf_mle_iters": steps, "moves": False, "start": "music"})
        estimator, scenes = oracle_estimator(30, inference, of_snapshots, snr_min_db=15.0)
        medians.append(float(errors_deg(estimator(scenes.y, scenes.H, scenes.codes), scenes).median()))
    assert medians[1] < 0.6 * medians[0], medians


def test_counts_that_are_given_are_kept() -> None:
    estimator, scenes = oracle_estimator()
    given = torch.arange(20) % 6
    found = estimator(scenes.y, scenes.H, scenes.codes, given)
    assert torch.equal(found.num_sources, given)
    assert torch.equal((~found.azimuth.isnan()).sum(1), given)


def test_scenes_are_worked_on_alone() -> None:
    estimator, scenes = oracle_estimator()
    together = estimator(scenes.y, scenes.H, scenes.codes)
    for i in (0, 7, 19):
        one = scenes[i : i + 1]
        alone = estimator(one.y, one.H, one.codes)
        a, b = alone.azimuth[0], together.azimuth[i]
        torch.testing.assert_close(a, b, equal_nan=True, rtol=1e-4, atol=1e-4)


def test_a_fresh_network_keeps_no_graph_and_answers_within_the_field_of_view() -> None:
    physics, scenes = make_scenes(6)
    network = build_network(physics, ModelConfig(width=8, depth=1), seed=0).eval()
    estimator = build_learned(network, physics, CONFIG, QUICK)
    forward = estimator.forward(scenes.y, scenes.H, scenes.codes)
    assert not forward.covariances.blend.F.requires_grad
    assert not forward.prediction.position.requires_grad
    found = estimator(scenes.y, scenes.H, scenes.codes)
    here = ~found.azimuth.isnan()
    assert bool((here.sum(1) == found.num_sources).all())
    assert bool((torch.rad2deg(found.azimuth[here]).abs() <= 60.0 + 1e-3).all())
    assert bool((found.range[here] <= 10.0 + 1e-3).all())


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_beta_decides_whose_subspace_is_read(beta: float) -> None:
    """At beta 0 the blend is the prediction, at beta 1 the snapshots, the load apart."""
    knobs = CovarianceConfig(beta=beta)
    estimator, scenes = oracle_estimator(4, covariance=knobs)
    made = estimator.forward(scenes.y, scenes.H, scenes.codes).covariances
    U, _ = leading_subspace(made.blend.F, 1)
    other = made.pred.F if beta == 0.0 else snapshot_factor(scenes.y, scenes.H, scenes.codes, knobs)
    V, _ = leading_subspace(other, 1)
    overlap = (U.mH @ V).abs().flatten()
    torch.testing.assert_close(overlap, torch.ones(4), rtol=1e-4, atol=1e-4)


STAGES = (
    {"moves": False, "start": "network", "nf_mle_iters": 0},
    {"moves": False, "start": "music", "nf_mle_iters": 0},
    {"moves": False, "start": "network"},
    {"start": "network"},
    {"start": "music"},
    {"count_by": "head"},
    {"count_by": "evidence"},
    {"nf_mle_iters": 0},
)


@pytest.mark.parametrize("changes", STAGES, ids=str)
def test_every_stage_can_be_switched_off(changes: dict[str, object]) -> None:
    """With a network that knows, all ways lead to the sources."""
    estimator, scenes = oracle_estimator(12, QUICK.model_copy(update=changes), snr_min_db=15.0)
    assert share_found(estimator, scenes, scenes.num_sources.long()) > 0.9


def test_moves_find_what_the_network_missed() -> None:
    """Every second slot of the network is somewhere else; the likelihood tells."""
    estimator, scenes = oracle_estimator(15, snr_min_db=15.0)
    answer = estimator.network(scenes.y, scenes.H, scenes.codes)
    position = answer.position.clone()
    position[:, 1::2] = torch.tensor([0.9, -0.4, 3.0])
    wrong, by_evidence = replace(answer, position=position), QUICK.model_copy(update={"count_by": "evidence"})
    misled = build_learned(Told(wrong, scenes), PhysicsConfig(), CONFIG, by_evidence)
    still = replace(misled, inference=QUICK.model_copy(update={"moves": False, "start": "network"}))
    assert share_found(misled, scenes) > 0.95 > 0.8 > share_found(still, scenes)


@pytest.mark.parametrize("start", ["network", "music"])
def test_a_calibrated_model_starts_where_it_is_told(start: str) -> None:
    """Its probabilities read the network's own proposals, wherever the moves start."""
    model, (physics, scenes) = load_model(), make_scenes(6, seed=7, snr_values_db=(20.0,))
    inference = InferenceConfig(start=start, decision="count")
    found = LearnedEstimator.from_model(model, physics, inference, "cpu")(scenes.y, scenes.H, scenes.codes)
    assert torch.equal(found.num_sources, scenes.num_sources.long())
    still = inference.model_copy(update={"moves": False, "proposals": 12})
    assert LearnedEstimator.from_model(model, physics, still, "cpu").fusion is None  # reads no proposals


def test_a_fusion_of_other_proposals_is_refused() -> None:
    figures = num_count_features(5, 8)
    network = CountFusion(figures, NUM_SOURCE_FEATURES, 5, 4)
    made_for = {"weights_hash": "0" * 32, "search": {}, "fitted": {}, "source_figures": NUM_SOURCE_FEATURES}
    state = FusionState(figures=figures, max_sources=5, hidden=4, **made_for)
    physics, fitted = PhysicsConfig(), LoadedFusion(network, state)
    model = ModelConfig(width=8, depth=1, map_rows=4, map_columns=8, map_ranges=2)
    oracle = build_network(physics, model, seed=0)
    assert build_learned(oracle, physics, CONFIG, QUICK, fusion=fitted).fusion is fitted
    with pytest.raises(InputError, match="proposals: expected 8"):
        build_learned(oracle, physics, CONFIG, QUICK.model_copy(update={"proposals": 9}), fusion=fitted)
    with pytest.raises(InputError, match="count_by"):
        build_learned(oracle, physics, CONFIG, QUICK.model_copy(update={"count_by": "fusion"}))

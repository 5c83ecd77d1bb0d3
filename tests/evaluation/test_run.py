"""The evaluation as a whole: theory recovered, and nothing that depends on batches, workers or company."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from risctl.config import Config, EvaluationConfig, PhysicsConfig
from risctl.errors import InputError, RisctlError
from risctl.evaluation import Evaluation, evaluate
from risctl.evaluation.chunks import answers_of, largest_coherence, truth_of
from risctl.evaluation.results import find
from risctl.inference import Estimates, build_estimator
from risctl.physics import ArrayGeometry, Scenes, simulate_scenes, steering_vector
from tests.evaluation.conftest import HeldScenes, OracleEstimator, Run, assert_same_rows

Oracle = Callable[..., Any]


def test_errors_drawn_from_the_bound_come_out_at_the_bound() -> None:
    physics = PhysicsConfig(max_sources=2, snr_values_db=(30.0,), stratified=True, ris_columns=8, ris_rows=8)
    scenes = simulate_scenes(physics, np.random.default_rng(2), 300)
    efficient = OracleEstimator(scenes, ArrayGeometry.from_config(physics, dtype=torch.float64), seed=3)
    config = EvaluationConfig(snr_values_db=(30.0,), bootstrap=200)
    results = evaluate(HeldScenes(scenes), {"efficient": efficient}, physics, config, batch=300).results
    cell = results.cell("efficient")
    assert cell.recall.value == 1.0
    for stats in (cell.azimuth_deg, cell.elevation_deg, cell.range_m):
        # 450 sources: the standard error of the normalised ratio is 0.033, of the shares 0.022 and 0.01.
        assert stats.normalised_ratio == pytest.approx(1.0, abs=0.11)
        assert stats.within_1_sigma == pytest.approx(0.683, abs=0.08)
        assert stats.within_2_sigma == pytest.approx(0.954, abs=0.04)
        assert stats.ratio.low is not None
        assert stats.ratio.low < 1.15


def test_cells_cover_every_bin_and_count(evaluated: Evaluation) -> None:
    results = evaluated.results
    assert len(results.cells) == 2 * 3 * 4
    for estimator in ("good", "poor"):
        whole = results.cell(estimator)
        by_bin = [results.cell(estimator, snr) for snr in (0.0, 20.0)]
        by_count = [results.cell(estimator, None, k) for k in (1, 2, 3)]
        for part in (by_bin, by_count):
            assert sum(cell.scenes for cell in part) == whole.scenes == 60
            assert sum(cell.matched_sources for cell in part) == whole.matched_sources
    assert results.cell("poor").count_accuracy.value == pytest.approx(45 / 60)
    assert sum(map(sum, find(results.confusion, estimator="poor", snr_db=None).scenes)) == 60
    with pytest.raises(KeyError):
        results.cell("nobody")


def test_bins_without_scenes_are_there_and_null(run: Run) -> None:
    config = EvaluationConfig(snr_values_db=(0.0, 20.0, 60.0), bootstrap=10)
    cell = run(evaluation=config).results.cell("good", 60.0)
    assert (cell.scenes, cell.recall.value, cell.azimuth_deg.rmse) == (0, None, None)


def test_the_batch_changes_nothing(evaluated: Evaluation, run: Run, oracle: Oracle) -> None:
    again = run({"good": oracle(), "poor": oracle(scale=2.0, drop_every=4, seed=1)}, batch=60)
    for name, rows in again.rows.items():
        np.testing.assert_array_equal(rows.sources.error, evaluated.rows[name].sources.error)
        np.testing.assert_allclose(rows.sources.bound, evaluated.rows[name].sources.bound, rtol=1e-9)


def test_the_company_changes_nothing(evaluated: Evaluation, run: Run) -> None:
    alone = run().results
    assert alone.cells == tuple(cell for cell in evaluated.results.cells if cell.estimator == "good")


def test_the_number_of_workers_changes_nothing(run: Run, physics: PhysicsConfig) -> None:
    config, done = Config(), []
    nomp = {"nomp": build_estimator("nomp", physics, config.covariance, config.inference)}
    few = EvaluationConfig(snr_values_db=(0.0, 20.0), bootstrap=20)
    some = {"num_scenes": 20, "batch": 6, "evaluation": few}
    here, there = run(nomp, **some), run(nomp, **some, workers=2, progress=lambda *count: done.append(count))
    assert_same_rows(here, there)
    one, other = (x.results.model_dump(exclude={"timings"}) for x in (here, there))
    assert one == other
    assert done == [(6, 20), (12, 20), (18, 20), (20, 20)]
    timing = find(there.results.timings, estimator="nomp")
    assert timing.workers == 2
    assert timing.cpu_seconds > 0


def test_timing_is_of_the_calls_alone(evaluated: Evaluation) -> None:
    timing = find(evaluated.results.timings, estimator="good")
    assert timing.scenes == 60
    assert timing.threads_per_worker == 1
    assert timing.cpu_seconds_per_scene == pytest.approx(timing.cpu_seconds / 60)


@pytest.mark.parametrize("known", [True, False])
def test_the_count_is_told_only_when_asked(known: bool, run: Run, oracle: Oracle, scenes: Scenes) -> None:
    estimator = oracle()
    assert run({"o": estimator}, batch=60, num_sources_known=known).results.num_sources_known is known
    assert all((told is None) is not known for told in estimator.told)
    if known:
        assert torch.cat(estimator.told).tolist() == scenes.num_sources.tolist()


def test_some_of_the_scenes(run: Run) -> None:
    assert run(num_scenes=10, batch=4).rows["good"].scenes.scene.tolist() == list(range(10))
    assert run(num_scenes=10**6).results.scenes == 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_scenes": 0}, "scenes: expected at least one, got 0"),
        ({"estimators": {}}, "estimators: expected at least one, got none"),
        ({"workers": 2, "device": "cuda"}, "workers: expected 1 on cuda, got 2"),
    ],
)
def test_requests_that_make_no_sense(change: dict[str, Any], message: str, run: Run) -> None:
    with pytest.raises(InputError, match=message):
        run(**change)


def test_a_broken_estimate_names_estimator_and_scene(run: Run, oracle: Oracle) -> None:
    good = oracle()

    def broken(*measured: Any) -> Estimates:
        estimates = good(*measured)
        estimates.azimuth[1, 0] = torch.nan
        return estimates

    with pytest.raises(RisctlError, match="estimator broken: scene 1: "):
        run({"broken": broken})


def test_threads_are_given_back(run: Run, oracle: Oracle) -> None:
    before, seen = torch.get_num_threads(), []

    def watching(*measured: Any) -> Estimates:
        seen.append(torch.get_num_threads())
        return oracle()(*measured)

    run({"o": watching}, batch=60)
    assert set(seen) == {1}
    assert torch.get_num_threads() == before


def test_unused_slots_are_nan(scenes: Scenes, physics: PhysicsConfig, oracle: Oracle) -> None:
    truth = truth_of(scenes, 0, physics)
    used = scenes.source_mask.numpy()
    assert (truth.positions.present == used).all()
    assert (np.isfinite(truth.bound).all(axis=-1) == used).all()
    estimates = oracle()(scenes.y, scenes.H, scenes.codes)
    assert (answers_of(estimates).positions.present == used).all()


def test_coherence_is_with_the_nearest_neighbour(scenes: Scenes, physics: PhysicsConfig) -> None:
    geometry = ArrayGeometry.from_config(physics, dtype=torch.float64)
    coherence = largest_coherence(scenes, geometry)
    for i in range(6):
        K = int(scenes.num_sources[i])
        at = (scenes.azimuth[i, :K], scenes.elevation[i, :K], scenes.range[i, :K])
        A = steering_vector(*(part.double() for part in at), geometry).numpy()
        others = [[abs(np.vdot(A[j], A[k])) for k in range(K) if k != j] for j in range(K)]
        expected = [max(row, default=0.0) for row in others]
        np.testing.assert_allclose(coherence[i, :K], expected, rtol=1e-9)
        assert (coherence[i, K:] == 0).all()
    assert coherence.max() <= physics.max_coherence + 1e-5

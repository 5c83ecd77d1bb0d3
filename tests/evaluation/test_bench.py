"""The measuring code: what it counts, and that the fast way and the naive baseline compute the same."""

import pytest
import torch

from risctl.config import CovarianceConfig, PhysicsConfig
from risctl.covariance import LowRank, covariances, snapshot_factor
from risctl.evaluation import bench, bench_covariance, timing
from risctl.evaluation.bench import Plan
from risctl.evaluation.timing import Figure


@pytest.mark.parametrize(
    ("more", "value", "met", "speed_up"),
    [(True, 10.0, True, 5.0), (True, 1.0, False, 0.5), (False, 1.0, True, 2.0), (False, 10.0, False, 0.2)],
)
def test_a_figure_is_judged_by_its_target_and_reference_if_any(
    more: bool, value: float, met: bool, speed_up: float
) -> None:
    figure = Figure("x", "u", value, value, value, 1, more_is_better=more, target=4.0, reference=2.0)
    assert figure.met is met
    assert figure.speed_up == pytest.approx(speed_up)
    unjudged = Figure("x", "u", value, value, value, 1)
    assert (unjudged.met, unjudged.speed_up) == (None, None)


def test_short_work_is_repeated_within_a_sample() -> None:
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1

    samples = timing.cpu_seconds(work, repeats=3)
    assert len(samples) == 3
    assert calls > 1000
    assert min(samples) >= 0
    assert max(samples) < timing.MIN_SECONDS


def test_rates_and_costs_are_medians() -> None:
    rate = timing.speed("r", "x/s", 12, [3.0, 1.0, 2.0])
    assert (rate.low, rate.value, rate.high, rate.more_is_better) == (4.0, 6.0, 12.0, True)
    each = timing.cost("c", 2, [3.0, 1.0, 2.0])
    assert (each.low, each.value, each.high, each.more_is_better) == (0.5, 1.0, 1.5, False)


def test_the_example_scenes_have_equally_many_of_each_count() -> None:
    scenes = bench.example_scenes(PhysicsConfig(num_snapshots=4), 10)
    assert torch.bincount(scenes.num_sources.long()).tolist() == [0, 2, 2, 2, 2, 2]
    assert scenes.snr_db.unique().tolist() == [bench.SNR_DB]


SMALL = PhysicsConfig(ris_columns=5, ris_rows=4, max_sources=2, num_snapshots=6)


def test_the_fast_spectrum_is_the_naive_one() -> None:
    scenes = bench.example_scenes(SMALL, 3)
    factors = snapshot_factor(scenes.y, scenes.H, scenes.codes, CovarianceConfig())
    grid = bench.music_grid(SMALL, Plan(oversampling=1.0))
    fast = bench.spectrum(factors, 2, grid)
    naive = bench.dense_spectrum(factors, 2, grid.steering())
    assert fast.shape == (3, grid.num_points)
    torch.testing.assert_close(fast, naive, rtol=1e-3, atol=1e-3)


def test_dense_covariance_and_factors_compute_the_same() -> None:
    scenes, knobs = bench.example_scenes(SMALL, 3), CovarianceConfig()
    measured = (scenes.y, scenes.H, scenes.codes)
    dense = bench_covariance.dense_sample_covariance(*measured, knobs)
    torch.testing.assert_close(LowRank(snapshot_factor(*measured, knobs)).dense(), dense, rtol=0, atol=1e-3)
    A = bench_covariance.true_steering(scenes, SMALL)
    blend = covariances(*measured, A, A, knobs).blend
    R, directions = blend.dense(), bench_covariance.look_directions(SMALL)
    assert directions.shape == (512, 20)
    values, dense_null = (
        bench_covariance.dense_eigenvalues(R, 2),
        bench_covariance.dense_denominator(R, directions, 2),
    )
    torch.testing.assert_close(blend.eigenvalues(2), values, rtol=1e-4, atol=0)
    torch.testing.assert_close(blend.music_denominator(directions, 2), dense_null, rtol=1e-4, atol=1e-5)

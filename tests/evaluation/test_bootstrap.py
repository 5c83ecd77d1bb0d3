"""The bootstrap against theory: the spread of a mean, and the coverage of intervals of a binomial share."""

import numpy as np
import pytest

from risctl.evaluation import bootstrap
from risctl.evaluation.bootstrap import percentile_interval, ratio, resampled_sums, resampling_weights


def test_every_resample_draws_as_many_scenes_as_there_are() -> None:
    weights = np.concatenate(list(resampling_weights(17, 40, np.random.default_rng(0))))
    assert weights.shape == (40, 17)
    assert (weights.sum(axis=1) == 17).all()


def test_weights_are_multinomial() -> None:
    weights = np.concatenate(list(resampling_weights(10, 40_000, np.random.default_rng(1))))
    assert weights.mean() == 1.0
    assert weights.var(axis=0) == pytest.approx(0.9, rel=0.05)
    assert np.cov(weights.T)[0, 1:] == pytest.approx(-0.1, abs=0.03)


def test_blocks_do_not_change_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).normal(size=(30, 4))
    whole = resampled_sums(values, 25, np.random.default_rng(3))
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", 90)
    np.testing.assert_allclose(resampled_sums(values, 25, np.random.default_rng(3)), whole, rtol=1e-12)


def test_spread_of_a_resampled_mean_is_the_standard_error() -> None:
    values = np.random.default_rng(4).normal(size=(400, 1))
    means = resampled_sums(values, 4000, np.random.default_rng(5)) / 400
    assert means.mean() == pytest.approx(values.mean(), abs=4 * 0.05 / np.sqrt(4000))
    assert means.std() == pytest.approx(values.std() / 20, rel=0.05)


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_intervals_of_a_binomial_share_cover_it_as_often_as_they_say(share: float) -> None:
    rng, covered, trials = np.random.default_rng(6), 0, 600
    for _ in range(trials):
        hits = (rng.random((150, 1)) < share).astype(float)
        low, high = percentile_interval(resampled_sums(hits, 400, rng)[:, 0] / 150)
        assert low is not None
        assert high is not None
        covered += low <= share <= high
    # Standard error of the coverage 0.009; the percentile bootstrap itself is about 0.01 short at n = 150.
    assert covered / trials == pytest.approx(0.95, abs=0.035)


def test_no_scenes_and_no_resamples() -> None:
    assert resampled_sums(np.zeros((0, 3)), 5, np.random.default_rng(0)).shape == (5, 3)
    assert resampled_sums(np.ones((4, 3)), 0, np.random.default_rng(0)).shape == (0, 3)
    assert percentile_interval(np.empty(0)) == (None, None)
    assert percentile_interval(np.array([np.nan])) == (None, None)


def test_ratio_of_nothing_is_nan_without_a_warning() -> None:
    np.testing.assert_array_equal(ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0])), [0.5, np.nan])

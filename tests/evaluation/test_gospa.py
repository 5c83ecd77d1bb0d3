"""GOSPA against the minimum over all partial assignments, by hand, and as a metric."""

import itertools

import numpy as np
import pytest

from risctl.evaluation.matching import gospa


def brute_force(truth: np.ndarray, estimate: np.ndarray, cutoff: float, power: float) -> float:
    """The definition: every partial assignment, alpha = 2."""
    best = np.inf
    for pairs in range(min(len(truth), len(estimate)) + 1):
        for rows in itertools.combinations(range(len(truth)), pairs):
            for columns in itertools.permutations(range(len(estimate)), pairs):
                apart = np.linalg.norm(truth[list(rows)] - estimate[list(columns)], axis=1)
                alone = len(truth) + len(estimate) - 2 * pairs
                best = min(best, float((apart**power).sum() + cutoff**power / 2 * alone))
    return float(best ** (1 / power))


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("sizes", [(0, 0), (0, 2), (3, 0), (1, 1), (3, 3), (4, 2), (2, 4)])
def test_distance_is_the_least_over_all_partial_assignments(sizes: tuple[int, int], power: float) -> None:
    rng = np.random.default_rng(10 * sizes[0] + sizes[1])
    for scale in (0.3, 1.0, 3.0):
        truth, estimate = (rng.normal(size=(n, 3)) * scale for n in sizes)
        result = gospa(truth, estimate, cutoff=2.0, power=power)
        assert result.distance == pytest.approx(brute_force(truth, estimate, 2.0, power), abs=1e-12)
        parts = result.localisation + result.missed + result.false
        assert parts == pytest.approx(result.distance**power, abs=1e-12)


def test_by_hand() -> None:
    truth = np.array([[1.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    estimate = np.array([[1.0, 0.5, 0.0], [5.0, 3.0, 0.0]])
    result = gospa(truth, estimate, cutoff=2.0)
    # The first pair is 0.5 m apart; the second 3 m, beyond the cut-off: one missed, one false.
    assert (result.localisation, result.missed, result.false) == pytest.approx((0.25, 2.0, 2.0))
    assert result.distance == pytest.approx(4.25**0.5)


def test_a_missed_and_a_false_source_cost_half_the_cutoff_power_each() -> None:
    point, none = np.ones((1, 3)), np.empty((0, 3))
    assert gospa(point, none, cutoff=3.0) == gospa(none, point, cutoff=3.0).__class__(4.5**0.5, 0.0, 4.5, 0.0)
    assert gospa(none, point, cutoff=3.0).false == pytest.approx(4.5)


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_it_is_a_metric(power: float) -> None:
    rng = np.random.default_rng(4)
    for _ in range(60):
        a, b, c = (rng.normal(size=(rng.integers(4), 3)) for _ in range(3))

        def distance(x: np.ndarray, y: np.ndarray) -> float:
            return gospa(x, y, cutoff=1.5, power=power).distance

        assert distance(a, a) == 0.0
        assert distance(a, b) == pytest.approx(distance(b, a))
        assert distance(a, c) <= distance(a, b) + distance(b, c) + 1e-12

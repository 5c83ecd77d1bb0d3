"""Assignment against brute force over permutations, the gate, and what is left over."""

import itertools
import math

import numpy as np
import pytest

from risctl.evaluation.matching import inside_gate, link, match_scene, match_scenes, pairing_cost, pick
from risctl.evaluation.positions import Positions, great_circle, wrap

GATE = math.radians(5.0)


def random_positions(rng: np.random.Generator, *shape: int, spread: float = 1.0) -> Positions:
    return Positions(
        rng.uniform(-spread, spread, shape), rng.uniform(-0.5, 0.5, shape), rng.uniform(0.5, 10.0, shape)
    )


def degrees(azimuth: list[float], elevation: list[float] | None = None, range_: float = 3.0) -> Positions:
    azimuths = np.radians(azimuth)
    elevations = np.radians(elevation) if elevation else np.zeros(len(azimuth))
    return Positions(azimuths, elevations, np.full(len(azimuth), range_))


def cheapest(cost: np.ndarray) -> float:
    """Minimum over all injections of the smaller side into the larger."""
    cost = cost if cost.shape[0] <= cost.shape[1] else cost.T
    rows, columns = cost.shape
    return min(sum(cost[i, p[i]] for i in range(rows)) for p in itertools.permutations(range(columns), rows))


@pytest.mark.parametrize("sizes", [(1, 1), (2, 4), (4, 2), (5, 5), (3, 5)])
@pytest.mark.parametrize("spread", [0.1, 1.0])
def test_assignment_is_the_cheapest_of_all_permutations(sizes: tuple[int, int], spread: float) -> None:
    rng = np.random.default_rng(sum(sizes))
    for _ in range(20):
        truth, found = (random_positions(rng, n, spread=spread) for n in sizes)
        rows, columns = match_scene(truth, found, GATE)
        cost = pairing_cost(truth, found, GATE)
        assert len(rows) == len(set(rows)) == len(set(columns)) == min(sizes)
        assert cost[rows, columns].sum() == pytest.approx(cheapest(cost), abs=1e-12)


@pytest.mark.parametrize("sizes", [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_assign(sizes: tuple[int, int]) -> None:
    truth, found = (random_positions(np.random.default_rng(0), n) for n in sizes)
    assert [len(part) for part in match_scene(truth, found, GATE)] == [0, 0]


def test_a_far_off_estimate_does_not_steal_a_source_from_the_one_beside_it() -> None:
    # Without a ceiling both assignments cost 59.5 and 60.5 deg, and the worse one is cheaper.
    rows, columns = match_scene(degrees([0.0, 10.0]), degrees([9.5, 60.0]), GATE)
    assert dict(zip(rows.tolist(), columns.tolist(), strict=True)) == {0: 1, 1: 0}


def test_range_decides_between_sources_in_one_direction() -> None:
    truth = Positions(np.zeros(2), np.zeros(2), np.array([1.0, 6.0]))
    found = Positions(np.radians([0.2, -0.2]), np.zeros(2), np.array([5.5, 1.2]))
    assert match_scene(truth, found, GATE)[1].tolist() == [1, 0]


def test_range_does_not_decide_against_direction() -> None:
    truth = Positions(np.radians([0.0, 8.0]), np.zeros(2), np.array([1.0, 9.0]))
    found = Positions(np.radians([0.5, 7.5]), np.zeros(2), np.array([9.0, 1.0]))
    assert match_scene(truth, found, GATE)[1].tolist() == [0, 1]


def test_used_slots_need_not_come_first() -> None:
    nan = math.nan
    truth = Positions(*(np.array([[nan, 0.1, nan, 0.5]]),) * 3)
    found = Positions(*(np.array([[0.5, nan, 0.1]]),) * 3)
    assert match_scenes(truth, found, GATE).tolist() == [[-1, 2, -1, 0]]


def test_links_list_every_source_and_every_estimate_once() -> None:
    nan = math.nan
    truth = Positions(*(np.array([[0.1, 0.5, nan], [0.3, nan, nan]]),) * 3)
    found = Positions(*(np.array([[0.5, nan, nan], [0.9, 0.3, nan]]),) * 3)
    links = link(truth, found, GATE)
    assert links.scene.tolist() == [0, 0, 1, 1]
    assert links.source.tolist() == [0, 1, 0, -1]
    assert links.slot.tolist() == [-1, 0, 1, 0]
    np.testing.assert_array_equal(links.of_sources(truth).azimuth, [0.1, 0.5, 0.3, nan])
    np.testing.assert_array_equal(links.of_estimates(found).azimuth, [nan, 0.5, 0.3, 0.9])


def test_pick_takes_trailing_axes_along() -> None:
    values = np.arange(12.0).reshape(2, 2, 3)
    picked = pick(values, np.array([1, 0]), np.array([0, -1]))
    np.testing.assert_array_equal(picked, [[6.0, 7.0, 8.0], [np.nan] * 3])


@pytest.mark.parametrize(
    ("azimuth", "elevation", "inside"),
    [(4.99, 0.0, True), (5.01, 0.0, False), (0.0, -4.99, True), (0.0, -5.01, False), (4.9, 4.9, True)],
)
def test_gate_is_a_box(azimuth: float, elevation: float, inside: bool) -> None:
    assert inside_gate(degrees([0.0]), degrees([azimuth], [elevation]), GATE).tolist() == [inside]


def test_gate_is_shut_for_what_is_not_there() -> None:
    missing = Positions(*(np.array([np.nan]),) * 3)
    assert not inside_gate(degrees([0.0]), missing, GATE).any()
    assert not inside_gate(missing, degrees([0.0]), GATE).any()


def test_every_pair_inside_the_gate_costs_less_than_the_ceiling() -> None:
    truth = Positions(np.zeros(1), np.zeros(1), np.array([0.5]))
    corner = Positions(np.full(1, GATE), np.full(1, GATE), np.array([10.0]))
    assert pairing_cost(truth, corner, GATE).item() < 2 * GATE


def test_great_circle_is_the_angle_between_unit_vectors() -> None:
    rng = np.random.default_rng(3)
    a, b = (random_positions(rng, 50) for _ in range(2))
    units = [p.cartesian() / p.range[:, None] for p in (a, b)]
    np.testing.assert_allclose(great_circle(a, b), np.arccos((units[0] * units[1]).sum(-1)), rtol=1e-9)
    tiny = Positions(a.azimuth + 1e-9, a.elevation, a.range)
    np.testing.assert_allclose(great_circle(a, tiny), 1e-9 * np.cos(a.elevation), rtol=1e-6)


def test_wrap_folds_onto_the_principal_interval() -> None:
    angles = np.array([0.0, math.pi, -math.pi, 3.5 * math.pi, np.nan])
    np.testing.assert_allclose(wrap(angles), [0.0, -math.pi, -math.pi, -0.5 * math.pi, np.nan], atol=1e-12)

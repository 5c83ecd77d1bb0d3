"""Raw rows by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest

from risctl.config import EvaluationConfig, PhysicsConfig
from risctl.errors import RisctlError
from risctl.evaluation.positions import Positions
from risctl.evaluation.rows import EstimatorRows
from risctl.evaluation.score import Answers, Truth, at_limit, errors, nearest, score

NAN = math.nan
PHYSICS, EVALUATION = PhysicsConfig(), EvaluationConfig(gospa_cutoff=2.0)


def stated(found: Positions) -> tuple[np.ndarray, np.ndarray]:
    """A probability of 0.75 for every source, and of 0.6 for one source a scene."""
    chances = np.tile(np.array([0.3, 0.6, 0.1]), (len(found.azimuth), 1))
    return np.where(found.present, 0.75, np.nan), chances


def positions(azimuth_deg: object, elevation_deg: object, range_: object) -> Positions:
    return Positions(np.radians(azimuth_deg), np.radians(elevation_deg), np.array(range_, dtype=float))


def one_source(first: int) -> Truth:
    ones = np.ones((1, 1))
    return Truth(first, np.zeros(1), positions([[0.0]], [[0.0]], [[1.0]]), ones, ones, np.ones((1, 1, 4)))


@pytest.fixture(scope="module")
def rows() -> EstimatorRows:
    """Scene 7: two sources, one found 1 deg off; scene 8: one source, found, and a ghost at the edge."""
    truth = Truth(
        first=7,
        snr_db=np.array([9.0, 18.0]),
        positions=positions([[10.0, -20.0], [0.0, NAN]], [[0.0, 5.0], [0.0, NAN]], [[2.0, 4.0], [3.0, NAN]]),
        power=np.array([[1.0, 10.0], [0.1, NAN]]),
        coherence=np.array([[0.3, 0.3], [0.0, NAN]]),
        bound=np.arange(16.0).reshape(2, 2, 4),
    )
    found = positions([[11.0, NAN], [60.0, 0.0]], [[0.0, NAN], [0.0, 1.0]], [[2.5, NAN], [5.0, 3.0]])
    std = positions([[0.5, NAN], [0.1, 0.2]], [[0.6, NAN], [0.3, 0.4]], [[0.7, NAN], [0.8, 0.9]])
    return score(truth, Answers(np.array([1, 2]), found, std, *stated(found)), PHYSICS, EVALUATION)


def test_a_row_a_scene(rows: EstimatorRows) -> None:
    s = rows.scenes
    columns = (s.scene, s.snr_bin_db, s.num_sources, s.num_estimated, s.num_matched, s.num_pegged)
    assert [x.tolist() for x in columns] == [[7, 8], [10, 20], [2, 1], [1, 2], [1, 1], [0, 1]]


def test_gospa_of_a_scene(rows: EstimatorRows) -> None:
    # Scene 8: 3 m away, 1 deg apart in elevation: 2 * 3 * sin(0.5 deg); one false source, c^2/2 = 2.
    localisation = (6 * math.sin(math.radians(0.5))) ** 2
    assert rows.scenes.gospa_parts[1] == pytest.approx([localisation, 0.0, 2.0])
    assert rows.scenes.gospa[1] == pytest.approx(math.sqrt(localisation + 2.0))


def test_a_row_a_source_then_what_is_left_over(rows: EstimatorRows) -> None:
    sources = rows.sources
    assert sources.scene.tolist() == [7, 7, 8, 8]
    assert sources.source.tolist() == [0, 1, 0, -1]
    assert sources.matched.tolist() == [True, False, True, False]
    assert sources.pegged.tolist() == [False, False, False, True]
    assert sources.num_sources.tolist() == [2, 2, 1, 1]
    assert sources.num_estimated.tolist() == [1, 1, 2, 2]
    np.testing.assert_allclose(sources.power_db, [0.0, 10.0, -10.0, NAN])
    np.testing.assert_allclose(sources.coherence, [0.3, 0.3, 0.0, NAN])


def test_columns_are_in_degrees_and_metres(rows: EstimatorRows) -> None:
    sources = rows.sources
    np.testing.assert_allclose(sources.truth[0], [10.0, 0.0, 2.0])
    np.testing.assert_allclose(sources.truth[3], [NAN] * 3)
    np.testing.assert_allclose(sources.estimate[:, 0], [11.0, NAN, 0.0, 60.0], atol=1e-12)
    np.testing.assert_allclose(sources.std[0], [0.5, 0.6, 0.7])
    np.testing.assert_allclose(sources.std[2], [0.2, 0.4, 0.9])
    np.testing.assert_array_equal(sources.bound[[0, 1, 2]], [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]])
    assert np.isnan(sources.bound[3]).all()


def test_errors_are_estimate_minus_truth(rows: EstimatorRows) -> None:
    # Law of cosines for the distance of scene 7's first source.
    distance = math.sqrt(2.0**2 + 2.5**2 - 2 * 2.0 * 2.5 * math.cos(math.radians(1.0)))
    assert rows.sources.error[0] == pytest.approx([1.0, 0.0, 0.5, distance], abs=1e-12)
    assert np.isnan(rows.sources.error[[1, 3]]).all()


def test_azimuth_errors_do_not_jump_by_a_turn() -> None:
    error = errors(positions([179.0], [0.0], [1.0]), positions([-179.0], [0.0], [1.0]))
    assert error[0, 0] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("azimuth", "elevation", "range_", "pegged"),
    [
        (0.0, 0.0, 5.0, False),
        (60.0, 0.0, 5.0, True),
        (-59.95, 0.0, 5.0, True),
        (59.9, 0.0, 5.0, False),
        (0.0, 29.98, 5.0, True),
        (0.0, -31.0, 5.0, True),
        (0.0, 0.0, 0.5, True),
        (0.0, 0.0, 0.501, False),
        (0.0, 0.0, 9.995, True),
        (NAN, NAN, NAN, False),
    ],
)
def test_edge_of_the_field_of_view(azimuth: float, elevation: float, range_: float, pegged: bool) -> None:
    assert at_limit(positions([azimuth], [elevation], [range_]), PHYSICS).tolist() == [pegged]


def test_plane_waves_count_as_from_the_far_limit() -> None:
    physics = PhysicsConfig(known_range_m=math.inf, known_elevation_deg=0.0)
    truth = replace(one_source(0), positions=positions([[0.0]], [[0.0]], [[math.inf]]))
    found = positions([[1.0]], [[0.0]], [[math.inf]])
    answers = Answers(np.array([1]), found, positions([[0.1]], [[0.0]], [[0.0]]), *stated(found))
    rows = score(truth, answers, physics, EVALUATION)
    assert rows.sources.error[0, :3].tolist() == pytest.approx([1.0, 0.0, 0.0])
    assert rows.sources.error[0, 3] == pytest.approx(20 * math.sin(math.radians(0.5)))
    assert not rows.sources.pegged.any()


def test_bins_are_the_nearest_values() -> None:
    values = np.array([-30.0, -2.6, -2.4, 2.4, 17.6, 99.0])
    assert nearest(values, (-5.0, 0.0, 20.0)).tolist() == [-5.0, -5.0, 0.0, 0.0, 20.0, 20.0]


@pytest.mark.parametrize("bad", [NAN, math.inf])
def test_an_estimate_that_is_not_finite_is_an_error_that_names_the_scene(bad: float) -> None:
    truth = one_source(first=3)
    found = positions([[0.0, 1.0]], [[0.0, 1.0]], [[1.0, bad]])
    with pytest.raises(RisctlError, match="scene 3: 1 finite positions for 2 sources"):
        score(truth, Answers(np.array([2]), found, found, *stated(found)), PHYSICS, EVALUATION)


def test_no_estimates_at_all() -> None:
    truth = one_source(first=0)
    nothing = positions(np.empty((1, 0)), np.empty((1, 0)), np.empty((1, 0)))
    rows = score(truth, Answers(np.array([0]), nothing, nothing, *stated(nothing)), PHYSICS, EVALUATION)
    assert rows.scenes.num_matched.tolist() == [0]
    assert rows.scenes.gospa_parts.tolist() == [[0.0, 2.0, 0.0]]

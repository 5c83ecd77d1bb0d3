"""Files of new users, right and wrong ones: the answer is right, or marked; once each was neither."""

import numpy as np
import pytest

import risctl
from tests.runs import others
from tests.runs.others import TWO, Arrays, conjugated, simulated

SCENES = 10
FILE = simulated(TWO, 20.0, 1, 3)


def locate(file: Arrays, **how: object) -> risctl.Located:
    return risctl.locate(file.y, file.H, file.codes, **how)  # type: ignore[arg-type]


def assert_right(located: risctl.Located) -> None:
    """Both sources of `TWO` are found, within the deviations that are stated."""
    for i in range(len(located)):
        assert located.num_sources[i] == 2
        order = np.argsort(-located.azimuth[i, :2])
        found = (np.degrees(located.azimuth), np.degrees(located.elevation), located.range)
        std = (np.degrees(located.std_azimuth), np.degrees(located.std_elevation), located.std_range)
        error = np.abs(np.stack([x[i, order] for x in found], axis=1) - TWO)
        assert (error / np.stack([x[i, order] for x in std], axis=1)).max() < 4.5
        assert error.max() < 1.0


@pytest.mark.parametrize(
    ("of_y", "of_H"), [(1, 1), (1e-9, 1), (1e-10, 1e-5), (1, 1e5), (1, 1e7), (1e12, 1), (1e-30, 1e-10)]
)
@pytest.mark.parametrize("estimator", [None, "nomp"])
def test_any_unit_is_answered(of_y: float, of_H: float, estimator: str | None) -> None:
    assert_right(locate(FILE.scaled(of_y, of_H), estimator=estimator))


@pytest.mark.parametrize(
    ("snapshots", "antennas"),
    [(4, 16), (8, 16), (64, 16), (16, 64), (64, 8), (64, 4)],
)
def test_any_number_of_snapshots_and_antennas_is_answered(snapshots: int, antennas: int) -> None:
    config = risctl.load_config("quick", overrides=["inference.decision=count"])
    file = simulated(TWO, 25.0, 8, 5, snapshots=snapshots, antennas=antennas)
    assert_right(locate(file, config=config))


WRONG = {
    "y conjugated": conjugated(simulated(2, 20.0, SCENES, 3), "y"),
    "H conjugated": conjugated(simulated(2, 20.0, SCENES, 3), "H"),
    "codes conjugated": conjugated(simulated(2, 20.0, SCENES, 3), "codes"),
    "the other sign of the phase": conjugated(simulated(2, 20.0, SCENES, 3), "H", "codes"),
    "rows for columns": others.rows_for_columns(simulated(2, 20.0, SCENES, 3)),
    "rows for columns at 10 dB": others.rows_for_columns(simulated(2, 10.0, SCENES, 3)),
    "200 m": simulated(((20.0, 5.0, 200.0),), 10.0, SCENES, 8),
    "outside": simulated(((75.0, 5.0, 4.0),), 20.0, SCENES, 7),
    "interferer outside": simulated((*TWO, (80.0, 0.0, 5.0)), 20.0, SCENES, 9, powers_db=(0.0, 0.0, 20.0)),
    "one live snapshot": others.one_live_snapshot(SCENES),
    "seven sources": simulated(7, 20.0, SCENES, 10),
    "seven sources at 10 dB": simulated(7, 10.0, SCENES, 10),
    "phase errors at 20 dB": others.phase_errors(SCENES),
    "phase errors at 10 dB": others.phase_errors(SCENES, snr_db=10.0),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_file_that_does_not_fit_is_marked(kind: str) -> None:
    located = locate(WRONG[kind])
    assert located.misfit_p_of_all < 1e-3
    assert located.doubts()[0].startswith("misfit (")


@pytest.mark.parametrize("K", [1, 3, 5])
def test_a_scene_by_another_convention_is_told_which(K: int) -> None:
    """At 10 dB what five wrong sources leave looks like noise; the right convention is much likelier."""
    located = locate(conjugated(simulated(K, 10.0, 1, 20 + K), "codes"))
    assert located.likelier_convention == "codes conjugated"
    assert located.flags[0][0] == "misfit"
    assert located.doubts()[0].endswith("; they are likelier with codes conjugated")
    assert np.isnan(located.std_range).all() or np.isinf(located.std_range[np.isfinite(located.range)]).all()


@pytest.mark.parametrize("batch", [None, 3])
def test_a_file_tells_a_convention_that_no_scene_of_it_tells(batch: int | None) -> None:
    """At 5 dB a scene has too few nats; the gains of further scenes add up, in whatever parts they come."""
    scenes = simulated(3, 5.0, SCENES, 23)
    assert locate(conjugated(scenes, "codes"), batch=batch).likelier_convention == "codes conjugated"
    assert locate(scenes, batch=batch).likelier_convention == ""


@pytest.mark.parametrize("kind", ["one live snapshot", "phase errors at 10 dB", "seven sources", "outside"])
def test_no_convention_is_named_where_another_thing_is_wrong(kind: str) -> None:
    assert not locate(WRONG[kind]).likelier_convention


def test_one_live_snapshot_is_noticed_by_what_the_sources_send() -> None:
    """Whatever the search finds: noise in 15 snapshots is fitted by sources that are silent there."""
    located = locate(WRONG["one live snapshot"], estimator="nomp")
    assert located.misfit_p_of_all < 1e-3
    assert sum("misfit" in flags for flags in located.flags) >= 8


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
def test_a_file_that_fits_is_not_marked(snr_db: float) -> None:
    for K in (1, 3, 5):
        located = locate(simulated(K, snr_db, SCENES, 20 + K))
        assert located.misfit_p_of_all > 0.01
        assert sum("misfit" in flags for flags in located.flags) <= 1


@pytest.mark.parametrize("estimator", [None, "nomp"])
def test_a_channel_of_one_path_is_marked(estimator: str | None) -> None:
    located = locate(simulated(TWO, 20.0, 4, 3, scattered=False), estimator=estimator)
    assert all("one_path" in flags for flags in located.flags)
    assert not np.isfinite(located.std_azimuth).any()
    assert any(line.startswith("path (") for line in located.doubts())
    assert not any("one_path" in flags for flags in locate(FILE, estimator=estimator).flags)


def test_seven_sources_are_as_many_as_can_be_counted() -> None:
    assert all("count_at_maximum" in flags for flags in locate(WRONG["seven sources"]).flags)


def test_a_source_far_beyond_the_field_of_view_is_at_its_edge() -> None:
    for estimator in (None, "nomp"):
        located = locate(simulated(((20.0, 5.0, 200.0),), 20.0, SCENES, 8), estimator=estimator)
        assert all(any("at_edge" in flags for flags in scene) for scene in located.source_flags)
        assert sum("misfit" in flags for flags in located.flags) >= 8  # two sources in one place are one


def test_as_many_sources_as_antennas_cannot_be_tested_which_is_said() -> None:
    for estimator in (None, "nomp", "sbl", "music"):
        located = locate(simulated(2, 20.0, SCENES, 3, antennas=2), estimator=estimator)
        for i, K in enumerate(located.num_sources):
            assert np.isfinite(located.positions[i, :K]).all()
            assert K < 2 or np.isnan(located.misfit_p[i])
        said = [line.split()[0] for line in located.doubts()]
        assert ("untested" in said) == bool(np.isnan(located.misfit_p).any())


SLOW = pytest.mark.slow  # tests/inference/test_decision.py has these estimators


@pytest.mark.parametrize(
    "estimator", [None, *(pytest.param(name, marks=SLOW) for name in ("nomp", "sbl", "music"))]
)
def test_noise_alone_has_no_source(estimator: str | None) -> None:
    located = locate(others.noise_alone(40), estimator=estimator)
    assert (located.num_sources > 0).sum() <= 2
    assert located.misfit_p_of_all > 0.01
    assert "no source" in str(located)


def test_no_deviation_is_wider_than_the_field_of_view() -> None:
    for kind in ("H conjugated", "y conjugated"):
        std = np.degrees(locate(WRONG[kind]).std_azimuth)
        assert not (std[np.isfinite(std)] > 120.0).any()

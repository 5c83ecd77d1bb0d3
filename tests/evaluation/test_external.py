"""Functions from outside and answers in a file are scored exactly as our own estimators are."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from risctl.cli.app import main
from risctl.config import Config, PhysicsConfig
from risctl.data import write_measurements
from risctl.errors import InputError
from risctl.evaluation import (
    ExternalEstimator,
    accuracy_table,
    closeness_table,
    count_table,
    detection_table,
    median_table,
    read_answers,
    timing_table,
    write_evaluation,
)
from risctl.evaluation.results import find
from risctl.inference import build_estimator
from tests.evaluation.conftest import Run, assert_same_rows

TABLES = (detection_table, accuracy_table, median_table, count_table, closeness_table)


@pytest.fixture
def nomp(physics: PhysicsConfig) -> Any:
    config = Config(physics=physics)
    return build_estimator("nomp", config.physics, config.covariance, config.inference)


def nomp_of_one_scene(nomp: Any, y: Any, H: Any, codes: Any, num_sources: int | None = None) -> Any:
    known = None if num_sources is None else torch.tensor([num_sources])
    found = nomp(*(torch.from_numpy(part)[None] for part in (y, H, codes)), known)
    used = slice(int(found.num_sources))
    places = (found.azimuth, found.elevation, found.range)
    stds = (found.std_azimuth, found.std_elevation, found.std_range)
    positions, std = (torch.stack(columns, dim=-1)[0, used].numpy() for columns in (places, stds))
    return {"positions": positions, "std": std, "power": found.power[0, used]}


@pytest.mark.parametrize(("known", "workers"), [(True, 1), pytest.param(False, 2, marks=pytest.mark.slow)])
def test_a_function_of_one_scene_is_scored_as_the_estimator_behind_it(
    run: Run, nomp: Any, known: bool, workers: int
) -> None:
    options = {"num_scenes": 12, "batch": 1, "num_sources_known": known}
    ours = ExternalEstimator("x", partial(nomp_of_one_scene, nomp))
    same = run({"x": ours}, workers=workers, **options)
    stated = ("probable_count", "count_probability", "probability")  # a function of a scene states none
    assert_same_rows(same, run({"x": nomp}, **options), but=stated)
    assert find(same.results.timings, estimator="x").cpu_seconds > 0


def test_plain_positions_have_no_deviations_and_may_be_many_or_none(run: Run, tmp_path: Path) -> None:
    place = [[0.1 * k, 0.0, 3.0 + k] for k in range(9)]  # three times as many as there can be
    evaluation = run({"x": ExternalEstimator("x", lambda *_: place)})
    cell = evaluation.results.cell("x")
    assert cell.estimated_sources == 9 * 60
    assert find(evaluation.results.confusion, estimator="x", snr_db=None).estimated_counts[-1] == 9
    assert (cell.azimuth_deg.with_std, cell.azimuth_deg.within_1_sigma) == (0, None)
    for table in TABLES:
        assert table(evaluation.results).rows
    write_evaluation(tmp_path, evaluation)
    nothing = run({"x": ExternalEstimator("x", lambda *_: [])}).results.cell("x")
    assert (nothing.estimated_sources, nothing.recall.value) == (0, 0.0)


def test_a_function_gets_copies_of_its_scene(run: Run, scenes: Any) -> None:
    before, shapes = scenes.y.clone(), set()

    def spoil(y: Any, H: Any, codes: Any) -> Any:
        shapes.add((y.shape, H.shape, codes.shape, y.dtype.name))
        y[:] = 0
        return [[0.0, 0.0, 1.0]]

    run({"x": ExternalEstimator("x", spoil)})
    L, M = scenes.y.shape[1:]
    N = scenes.H.shape[2]
    assert shapes == {((L, M), (M, N), (L, N), "complex64")}
    assert torch.equal(scenes.y, before)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([1.0, 2.0, 3.0], r"expected an array \[K, 3\] of azimuth \(rad\).*got shape \[3\]"),
        ([[1.0, 0.2]], r"got shape \[1, 2\]"),
        ([[1.0, 0.2, 3.0], [1.0]], "got rows of unequal length"),
        ("north", "got str of dtype"),
        ([[1j, 0.0, 1.0]], "got list of dtype complex128"),
        (None, "got NoneType of dtype object"),
        ([[0.0, np.nan, 1.0]], "source 0, elevation: expected -1.571 to 1.571 rad, got nan"),
        ([[0.0, 0.0, 1.0], [-40.0, 0.0, 1.0]], "source 1, azimuth: expected -6.283 to 6.283 rad, got -40"),
        ([[0.0, 0.0, 0.0]], "source 0, range: expected .* m, got 0"),
        ({"positions": [[0.0, 0.0, 1.0]], "std": [0.1]}, r"std \[1, 3\], none negative, got shape \[1\]"),
        ({"positions": [[0.0, 0.0, 1.0]], "power": [-1.0]}, "power: expected none negative, got -1"),
        ({"positions": [], "sigma": []}, "expected positions, std and power, got 'sigma'"),
        ({"std": []}, "got NoneType of dtype object"),
    ],
)
def test_what_is_no_list_of_positions_is_refused_with_estimator_and_scene(
    run: Run, found: Any, message: str
) -> None:
    def from_scene_20(y: Any, H: Any, codes: Any, count: list[int] = []) -> Any:  # noqa: B006  (a counter)
        count.append(1)
        return found if len(count) > 20 else []

    with pytest.raises(InputError, match=f"^estimator theirs: scene 20.*{message}") as caught:
        run({"x": ExternalEstimator("theirs", from_scene_20)})
    assert "\n" not in str(caught.value)


def test_a_function_that_cannot_be_given_the_count_is_refused(run: Run) -> None:
    with pytest.raises(InputError, match="estimator x: expected a parameter num_sources"):
        run({"x": ExternalEstimator("x", lambda y, H, codes: [])}, num_sources_known=True)


@pytest.fixture
def answered(scenes: Any, physics: PhysicsConfig, tmp_path: Path) -> Path:
    """What `risctl locate --estimator nomp` says of the scenes."""
    measured, out = tmp_path / "m.npz", tmp_path / "answers.json"
    write_measurements(measured, scenes.y, scenes.H, scenes.codes)
    words = ["--device", "cpu", "physics.ris_columns=8", "physics.ris_rows=8", "physics.max_sources=3"]
    assert main(["locate", str(measured), "--estimator", "nomp", "--out", str(out), *words]) == 0
    return out


@pytest.mark.slow
def test_answers_of_locate_have_the_figures_of_its_estimator(run: Run, nomp: Any, answered: Path) -> None:
    stored = run({"x": read_answers(answered, "x")}, batch=64).results  # as `locate`
    expected = run({"x": nomp}, batch=64).results
    for table in TABLES:
        assert table(stored) == table(expected)
    assert stored.confusion == expected.confusion
    for one, other in zip(stored.cells, expected.cells, strict=True):
        # The file has degrees, and `locate` scales the snapshots: equal to rounding.
        assert (one.matched_sources, one.recall) == (other.matched_sources, other.recall)
        for of in ("azimuth_deg", "elevation_deg", "range_m"):
            assert getattr(one, of).rmse == pytest.approx(getattr(other, of).rmse, rel=1e-4)
    assert timing_table(stored).rows == (("x", "–", "–", "1", "1", "cpu"),)
    again = run({"x": read_answers(answered, "x")}, batch=64, workers=2, num_sources_known=True).results
    assert again.cells == stored.cells


def test_order_other_keys_and_what_is_unknown_do_not_matter(run: Run, answered: Path) -> None:
    expected, document = run({"x": read_answers(answered, "x")}).results, json.loads(answered.read_text())
    document["comment"], document["scenes"] = "ours", document["scenes"][::-1]
    assert document["schema_version"] == 2
    document["schema_version"] = 1
    for scene in document["scenes"]:
        for key in ("num_sources", "count_probability", "misfit_p", "noise_var", "flags"):
            del scene[key]
        for source in scene["sources"]:
            source |= {"power_db": None, "std_range_m": None, "label": "car"}
            del source["std_azimuth_deg"], source["std_elevation_deg"]
        if len(scene["sources"]) == 1:
            scene["sources"] = scene["sources"][0]  # as MATLAB's jsonencode writes a list of one
    answered.write_text(json.dumps(document))
    cell = run({"x": read_answers(answered, "x")}).results.cell("x")
    assert cell.recall == expected.cell("x").recall
    assert cell.range_m.rmse == expected.cell("x").range_m.rmse
    assert (cell.range_m.with_std, cell.range_m.within_1_sigma) == (0, None)


SOURCE = {"azimuth_deg": 1.0, "elevation_deg": 2.0, "range_m": 3.0}
SCENES = [{"index": 0, "sources": [SOURCE]}, {"index": 1, "sources": []}]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "expected a JSON document"),
        ("[" * 10**5, "expected a JSON document"),
        ([], "expected an object with `scenes`, got list"),
        ({"schema_version": 9, "scenes": []}, "schema_version: expected 1 or 2, got 9"),
        ({}, "scenes: expected a list of objects, got none"),
        ({"scenes": [3]}, "scenes: expected a list of objects, got list"),
        ({"scenes": SCENES[1:]}, r"scenes\[0\].index: expected an index from 0 to 0, got 1"),
        ({"scenes": [{"sources": []}]}, r"scenes\[0\].index: expected an index from 0 to 0, got None"),
        ({"scenes": [SCENES[0], SCENES[0]]}, r"scenes\[1\].index: expected every index once, got 0 again"),
        ({"scenes": [{"index": 0}]}, r"scenes\[0\].sources: expected a list of objects, got none"),
        ({"scenes": [SCENES[0] | {"num_sources": 2}]}, r"scenes\[0\].num_sources: expected 1, as .*, got 2"),
        ({"azimuth_deg": None}, r"scenes\[0\].sources\[0\].azimuth_deg: expected degrees .*, got none"),
        ({"azimuth_deg": "1"}, r"azimuth_deg: expected degrees within \+-360, got '1'"),
        ({"elevation_deg": 91}, r"elevation_deg: expected degrees within \+-90, got 91"),
        ({"range_m": -3}, r"range_m: expected metres above 0, up to 1e9, got -3"),
        ({"range_m": 10**400}, r"range_m: expected metres above 0, up to 1e9, got 1000"),
        ({"range_m": float("nan")}, r"range_m: expected metres above 0, up to 1e9, got nan"),
        ({"std_range_m": -1}, r"std_range_m: expected metres from 0 to 1e9, got -1"),
        ({"power_db": True}, r"power_db: expected decibels within \+-3000, got True"),
    ],
)
def test_a_file_that_holds_no_answers_is_one_line_with_the_place(
    document: Any, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "theirs.json"
    if isinstance(document, dict) and document.keys() & {*SOURCE, "std_range_m", "power_db"}:
        document = {"scenes": [{"index": 0, "sources": [SOURCE | document]}]}
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(InputError, match=rf"theirs\.json: (.*\.)?{message}") as caught:
        read_answers(path, "x")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_answers_must_be_of_the_scenes_of_the_data(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "theirs.json"
    with pytest.raises(InputError, match=r"theirs\.json: expected an existing file, got nothing"):
        read_answers(path, "x")
    path.write_text(json.dumps({"scenes": SCENES}))
    with pytest.raises(InputError, match=r"theirs\.json: scenes: expected 60, as the data has, got 2"):
        run({"x": read_answers(path, "x")})
    assert run({"x": read_answers(path, "x")}, num_scenes=2).results.cell("x").estimated_sources == 1
    anywhere = {"index": 0, "sources": [SOURCE | {"range_m": None}]}  # as `locate` says of plane waves
    path.write_text(json.dumps({"scenes": [anywhere, SCENES[1]]}))
    answers = read_answers(path, "x")
    answers.check(2, 60, plane_waves=True)
    with pytest.raises(InputError, match=r"index=0.*range_m: expected metres above 0, up to 1e9, got none"):
        run({"x": answers}, num_scenes=2)

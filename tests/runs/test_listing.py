"""Runs on disk: listed, compared, judged, removed."""

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from risctl import runs
from risctl.config import load_config, reference_directory
from risctl.config.layers import Layers
from risctl.data.atomic import held
from risctl.errors import InputError
from risctl.evaluation.bootstrap import percentile_interval
from risctl.evaluation.paired import (
    _detected,
    _draw,
    _Raw,
    _weights,
    paired_differences,
    same_scenes,
)
from risctl.runs import RunDirectory, write_json
from risctl.runs.gate import GATE_SCENES, fingerprints
from risctl.runs.names import RESULTS_FILE
from tests.runs.tiny import SURFACE

SMALL = Layers(overrides=(*SURFACE, "evaluation.snr_values_db=[0, 20]", "evaluation.bootstrap=10"))


def _made(command: str = "eval", exit_status: int = 0) -> Path:
    with RunDirectory.create(command, "quick", load_config("quick"), {}) as run:
        if exit_status:
            run.end("failed", exit_status, "no room")
    return run.path


def _evaluated(*words: str, estimators: tuple[str, ...] = ("music", "nomp")) -> Path:
    layers = replace(SMALL, overrides=(*SMALL.overrides, *words))
    return runs.evaluate(runs.EvaluationRequest(layers, None, estimators, 16, plots=False)).run


def test_runs_are_listed_with_what_came_of_them(trained: Path) -> None:
    Path("runs/train").mkdir(parents=True)
    shutil.copytree(trained, Path("runs/train") / trained.name)
    failed, living = _made(exit_status=5), RunDirectory.create("hpo", "search", load_config("search"), {})
    killed = _made("overfit")
    write_json(
        killed / "status.json", {"command": "overfit", "state": "running", "started": "2026-01-01T00:00"}
    )
    (killed / ".20260101T000000Z_x.tmp").mkdir()
    damaged = _made("demo")
    (damaged / "status.json").write_text("{")
    found = {run.path: run for run in runs.list_runs()}
    assert found[Path("runs/train") / trained.name].state == "done"
    assert found[Path("runs/train") / trained.name].headline.startswith("validation loss ")
    assert (found[failed].state, found[failed].headline) == ("failed", "no room")
    assert (found[living.path].state, found[killed].state) == ("running", "killed")
    assert found[damaged].state == "damaged"
    assert [run.started for run in runs.list_runs()] == sorted(
        (r.started for r in found.values()), reverse=True
    )


def test_what_failed_or_was_killed_is_removed_and_nothing_else() -> None:
    done, failed = _made(), _made(exit_status=5)
    living = RunDirectory.create("eval", "quick", load_config("quick"), {})
    reference = Path(shutil.copytree(failed, "runs/reference/model"))
    assert [run.path for run in runs.removable()] == [failed]
    assert runs.removable(older_than_days=1.0) == []
    runs.remove_runs(runs.removable())
    assert not failed.exists()
    assert all(path.exists() for path in (done, living.path, reference))
    for refused, words in ((living.path, "running"), (reference, "came with risctl"), (Path(), "none")):
        with pytest.raises(InputError, match=words):
            runs.removable([refused])
    listed = runs.removable([done])
    with held(done), pytest.raises(InputError, match="running"):  # resumed since
        runs.remove_runs(listed)
    runs.remove_runs(listed)
    assert not done.exists()


def test_a_difference_of_paired_scenes_is_that_of_the_figures() -> None:
    first = _evaluated()
    second = _evaluated("inference.swap_rounds=0", "inference.range_rings=4")
    found = runs.compare_runs(first, second)
    assert found.settings == {"inference.swap_rounds": (3, 0), "inference.range_rings": (8, 4)}
    assert {d.estimator for d in found.paired} == {"music", "nomp"}
    cells = [runs.read_document(run / "eval/results.json")["cells"] for run in (first, second)]
    for difference in found.paired:
        if difference.figure == "recall":
            for value, part in zip((difference.first, difference.second), cells, strict=True):
                (cell,) = (
                    c
                    for c in part
                    if (c["estimator"], c["snr_db"], c["num_sources"])
                    == (difference.estimator, difference.snr_db, None)
                )
                assert value == pytest.approx(cell["recall"]["value"])
    same = runs.compare_runs(first, _evaluated("inference.sbl_iterations=9")).paired
    assert {(d.low, d.high) for d in same if d.first is not None} == {(0, 0)}
    other = _evaluated("data.seed=9")
    assert runs.compare_runs(first, other).paired == ()
    assert runs.compare_runs(first, other).figures


def test_two_estimators_of_one_run_are_compared() -> None:
    run = _evaluated()
    found = {(d.figure, d.snr_db): d for d in runs.compare_runs(run, run, ("nomp", "music")).paired}
    assert {d.estimator for d in found.values()} == {"nomp / music"}
    cells = runs.read_document(run / "eval/results.json")["cells"]
    for (figure, snr), difference in found.items():
        if figure == "GOSPA, m":
            for name, value in (("nomp", difference.first), ("music", difference.second)):
                (cell,) = (
                    c for c in cells if (c["estimator"], c["snr_db"], c["num_sources"]) == (name, snr, None)
                )
                assert value == pytest.approx(cell["gospa"]["mean"])
    assert not any("detected" in figure for figure, _ in found)  # another K_max than that of NOMP's fit
    for names in (("nomp", "nobody"), ("nobody", "nomp")):
        with pytest.raises(InputError, match="nobody"):
            runs.compare_runs(run, run, names)
    with pytest.raises(InputError, match="an evaluation of the scenes of"):
        runs.compare_runs(run, _evaluated("data.seed=9"), ("nomp", "music"))


def test_detection_at_a_rate_of_false_alarms_is_that_of_the_reports_before_the_first_too_many() -> None:
    generator = np.random.default_rng(4)
    scenes, reports = 50, 200
    place, probability = generator.integers(scenes, size=reports), generator.random(reports)
    matched = generator.random(reports) < probability
    counts = np.full(scenes, 6.0)
    raw = _Raw(
        {"scene": np.arange(scenes), "num_sources": counts},
        {},
        {"scene": place, "probability": probability, "matched": matched.astype(float)},
    )
    weights = _weights(scenes, 1)[:3]
    for rate in (0.01, 0.3, 1.0, 99.0):
        found = _detected(raw, np.ones(scenes, bool), weights, np.full((3, 1), rate), "matched")[:, 0]
        for drawn, share in zip(weights, found, strict=True):
            hits = false = 0.0
            for i in np.argsort(-probability):
                false += drawn[place[i]] * (not matched[i])
                if false / scenes > rate:
                    assert share == pytest.approx(hits / (drawn @ counts))
                    break
                hits += drawn[place[i]] * matched[i]
            else:
                assert np.isnan(share)


def test_errors_are_compared_on_the_sources_that_both_found(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    shutil.copytree(_evaluated(estimators=("nomp",)) / "eval", first)
    shutil.copytree(first, second)
    path = second / "sources.csv"
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    for i, row in enumerate(rows):
        if row["error_azimuth_deg"]:
            row["error_azimuth_deg"] = str(2 * float(row["error_azimuth_deg"]))
        if i % 3 == 0:
            row["matched"] = "0"
    with path.open("w") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert same_scenes(first, second)
    by_figure = {d.figure: d for d in paired_differences(first, second) if d.snr_db is None}
    azimuth, distance = by_figure["azimuth RMSE, deg"], by_figure["range RMSE, m"]
    assert azimuth.first is not None
    assert azimuth.second == pytest.approx(2 * azimuth.first)
    assert distance.first == distance.second
    kept = [r for r in rows if r["matched"] == "1" and r["source"] != "-1"]
    expected = np.sqrt(np.mean([float(r["error_range_m"]) ** 2 for r in kept]))
    assert distance.first == pytest.approx(expected)


def test_the_interval_holds_the_mean_of_a_normal_difference_as_often_as_it_says() -> None:
    generator, held = np.random.default_rng(0), 0
    for seed in range(200):
        difference = 0.3 + generator.standard_normal(200)
        ones = np.ones(200)
        low, high = percentile_interval(_draw(difference, ones, _weights(200, seed), False))
        assert low is not None
        assert high is not None
        held += low <= 0.3 <= high
    assert 0.90 <= held / 200 <= 0.99


def _results(
    model: Path, range_m: float = 0.5, count: float = 0.9, pegged: float = 0.03
) -> dict[str, object]:
    """The shipped results with the figures that a verdict reads replaced."""
    document = json.loads((reference_directory().parent / "eval" / RESULTS_FILE).read_text())
    cells = [cell for cell in document["cells"] if cell["num_sources"] is None]
    for cell in cells:
        cell["edge_pegged_share"] = pegged if cell["estimator"] == "learned" else 0.03
        cell["recall"]["value"], cell["count_accuracy"]["value"] = 0.99, count
        for key, rmse in (("azimuth_deg", 0.4), ("elevation_deg", 0.3), ("range_m", range_m)):
            cell[key]["rmse"] = rmse
    (ceiling,) = document["references"]
    ceiling |= {"median_angle_deg": 1e-6, "edge_pegged_share": 0.004, "edge_share_of_truth": 0.004}
    return {**document, "cells": cells, "checkpoint": str(model / "checkpoints/best.safetensors")}


def _measured(model: Path, **results: float) -> None:
    """Write every document that a verdict reads, all of them good."""
    config = load_config(None, model / "config.json")
    gate = {
        "verdict": "ready",
        "is_gate": True,
        "fingerprints": fingerprints(config, GATE_SCENES),
        "checks": [{"name": "validation loss", "value": 0.2, "wanted": "below 0.5", "met": True}],
    }
    search = {"verdict": {"go": True, "findings": []}, "spread": 0.2, "finished": 24, "asked": 24}
    search |= {"best": None, "trials": [], "importance": []}
    equal = {"group": "g", "name": "n", "got": 0.0, "expected": "0", "passed": True}
    alignment = {"model": str(model), "passed": True, "findings": [equal]}
    documents = {
        "overfit/a/overfit.json": gate,
        "hpo/a/search.json": search,
        "check-alignment/a/alignment.json": alignment,
        "eval/a/eval/results.json": _results(model, **results),
    }
    for name, document in documents.items():
        Path("runs", name).parent.mkdir(parents=True, exist_ok=True)
        write_json(Path("runs", name), document)


def test_without_measurements_every_line_says_what_to_type(run: Path) -> None:
    found = runs.judge_model()
    assert found.model == run  # the newest training
    absent = {line.name: line for line in found.lines if line.met is None}
    assert set(absent) == {
        "overfit gate", "search", "alignment", "ceiling", "accuracy", "K right", "at edge"
    }  # fmt: skip
    assert absent["overfit gate"].source.startswith("risctl overfit ")
    assert absent["accuracy"].source == f"risctl eval {run} --scenes 600 --estimators learned,nomp,ceiling"
    assert not found.go
    measured = {line.name: line.met for line in found.lines if line.met is not None}
    assert set(measured) == {"validation loss", "largest rise"}


def test_everything_measured_and_good_is_go(run: Path) -> None:
    _measured(run)
    found = runs.judge_model(run)
    assert [line for line in found.lines if not line.met] == []
    assert found.headline == "go: every criterion holds"
    assert len(found.lines) == 9


@pytest.mark.parametrize(
    ("results", "missed"),
    [
        ({"range_m": 1.2}, "accuracy"),
        ({"count": 0.3}, "K right"),
        ({"pegged": 0.05}, "at edge"),
    ],
)
def test_a_figure_beyond_its_limit_is_no_go(results: dict[str, float], missed: str, run: Path) -> None:
    _measured(run, **results)
    found = runs.judge_model(run)
    assert [line.name for line in found.lines if not line.met] == [missed]
    assert found.headline == f"no-go: missed: {missed}"


def test_the_newest_document_of_this_model_counts(run: Path) -> None:
    _measured(run, range_m=1.2)
    good, other = _results(run), _results(run, count=0.1) | {"checkpoint": "elsewhere.safetensors"}
    for name, document in (("b", good), ("c", other)):
        path = Path("runs/eval", name, "eval/results.json")
        path.parent.mkdir(parents=True)
        write_json(path, document)
        os.utime(path, (2e9, 2e9))
    assert runs.judge_model(run).go
    with pytest.raises(InputError, match="a checkpoint, or a run directory with one"):
        runs.judge_model(Path("nowhere"))

"""Evaluations in run directories: complete, streamed or from a dataset, by one process or two."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from risctl import runs
from risctl.config import PhysicsConfig, load_config
from risctl.config.layers import Layers
from risctl.data import write_dataset
from risctl.errors import DamagedFileError, InputError
from risctl.evaluation import read_results
from tests.runs.tiny import status_of

SMALL = Layers(
    overrides=(
        "physics.num_snapshots=6",
        "physics.max_sources=2",
        "evaluation.snr_values_db=[10, 20]",
        "evaluation.bootstrap=20",
        "inference.swap_rounds=0",
    ),
    seed=5,
)


def _request(layers: Layers = SMALL, **how: Any) -> runs.EvaluationRequest:
    return runs.EvaluationRequest(
        layers, **{"estimators": ("music",), "scenes": 8, "batch": 4, "plots": False} | how
    )


def test_a_streamed_evaluation_leaves_a_complete_run() -> None:
    evaluated = runs.evaluate(_request(plots=True))
    run = evaluated.run
    assert run.parent == Path("runs/eval")
    assert status_of(run)["state"] == "done"
    config = load_config(None, run / "config.json")
    assert config.physics.stratified
    assert config.physics.snr_values_db == (10.0, 20.0)
    assert (config.evaluation.scenes, config.evaluation.estimators, config.data.seed) == (8, ("music",), 5)
    provenance = runs.read_document(run / "provenance.json")
    assert provenance["dataset"]["path"] is None
    assert provenance["dataset"]["hash"]
    results = read_results(run / "eval" / "results.json")
    assert results == evaluated.evaluation.results
    assert [results.cell("music", snr, k).scenes for snr in (10.0, 20.0) for k in (1, 2)] == [2, 2, 2, 2]
    names = {path.name for path in (run / "eval").iterdir()}
    pictures = {"rmse.png", "rates.png", "confusion.png", "scene.png", "spectrum.png"}
    assert names >= {"results.json", "cells.csv", "scenes.csv", "sources.csv"} | pictures
    assert sorted((run / "eval").iterdir()) == sorted(evaluated.files)


@pytest.mark.slow
def test_workers_change_nothing_but_the_time() -> None:
    one, two = (
        runs.evaluate(_request(known_num_sources=True, workers=workers)).evaluation.results
        for workers in (1, 2)
    )
    assert one.cells == two.cells
    assert one.num_sources_known


def test_a_dataset_brings_its_own_physics() -> None:
    physics = PhysicsConfig(num_snapshots=5, max_sources=2)
    write_dataset("d", physics, seed=3, split="test", num_scenes=64)
    evaluated = runs.evaluate(_request(data=Path("d")))
    config = load_config(None, evaluated.run / "config.json")
    assert (config.physics, config.data.seed, config.evaluation.scenes) == (physics, 3, 8)
    assert evaluated.evaluation.results.scenes == 8
    with pytest.raises(InputError, match=r"^scenes: expected at most the 64 scenes"):
        runs.evaluate(_request(Layers(), data=Path("d"), scenes=65))


def test_a_damaged_shard_fails_before_work_starts() -> None:
    write_dataset("d", PhysicsConfig(num_snapshots=4), seed=0, split="test", num_scenes=128, shard_scenes=64)
    shard = Path("d/shard-00001.safetensors")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DamagedFileError, match=shard.name):
        runs.evaluate(_request(Layers(), data=Path("d")))
    assert not Path("runs").exists()


def test_scenes_without_a_source_are_evaluated_and_not_trained_on() -> None:
    layers = replace(SMALL, overrides=("physics.min_sources=0", *SMALL.overrides[2:]))
    request = _request(layers, estimators=("learned", "nomp"), scenes=12)
    results = runs.evaluate(request).evaluation.results
    none = [cell for cell in results.cells if cell.num_sources == 0]
    assert {cell.estimator for cell in none} == {"learned", "nomp"}
    assert all(cell.recall.value is None for cell in none)
    with pytest.raises(InputError, match=r"physics\.min_sources: expected 1 or more for a training, got 0"):
        runs.prepare_training(layers).plan  # noqa: B018
    assert runs.check_alignment(runs.prepare_check(layers)).report.passed


def test_a_function_that_no_worker_finds_is_refused_at_once() -> None:
    with pytest.raises(InputError, match="workers: expected 1, or mine at the top of a module, got 2"):
        _request(beside={"mine": lambda y, H, codes: []}, workers=2)


def test_an_oracle_is_listed_apart() -> None:
    results = runs.evaluate(_request(estimators=("music", "ceiling"))).evaluation.results
    assert results.estimators == ("music",)
    (reference,) = results.references
    assert (reference.name, reference.scenes) == ("ceiling", 8)
    assert reference.median_angle_deg is not None
    assert reference.median_angle_deg < 0.2

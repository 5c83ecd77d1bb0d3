"""`eval`: a run directory with figures, tables, pictures; streamed or from a dataset; one process or two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from risctl.cli.app import main
from risctl.config import PhysicsConfig, load_config
from risctl.data import write_dataset
from risctl.evaluation import read_results

Capture = pytest.CaptureFixture[str]
SMALL = (
    "physics.num_snapshots=6",
    "physics.max_sources=2",
    "evaluation.snr_values_db=[10, 20]",
    "evaluation.bootstrap=20",
    "inference.swap_rounds=0",
)
FAST = ("--estimators", "music", "--device", "cpu", "--batch", "4")


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _evaluate(arguments: tuple[str, ...], capsys: Capture) -> dict[str, Any]:
    assert main(["eval", *FAST, "--json", *arguments]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_a_streamed_evaluation_leaves_a_complete_run(capsys: Capture) -> None:
    document = _evaluate((*SMALL, "--scenes", "8", "--seed", "5"), capsys)
    run = Path(document["run"])
    assert json.loads((run / "status.json").read_text())["state"] == "done"
    config = load_config(None, run / "config.json")
    assert config.physics.stratified
    assert config.physics.snr_values_db == (10.0, 20.0)
    assert (config.evaluation.scenes, config.evaluation.estimators, config.data.seed) == (8, ("music",), 5)
    provenance = json.loads((run / "provenance.json").read_text())
    assert provenance["dataset"]["path"] is None
    assert provenance["dataset"]["hash"]
    results = read_results(run / "eval" / "results.json")
    assert results.model_dump(mode="json") == document["results"]
    assert [results.cell("music", snr, k).scenes for snr in (10.0, 20.0) for k in (1, 2)] == [2, 2, 2, 2]
    names = {path.name for path in (run / "eval").iterdir()}
    pictures = {"rmse.png", "rates.png", "confusion.png", "scene.png", "spectrum.png"}
    assert names >= {"results.json", "cells.csv", "scenes.csv", "sources.csv"} | pictures
    assert sorted(map(str, (run / "eval").iterdir())) == sorted(document["files"])


def test_the_screen_ends_with_path_headline_and_next_command(capsys: Capture) -> None:
    assert main(["eval", *FAST, "--no-plots", "--scenes", "4", *SMALL]) == 0
    result, headline, following = capsys.readouterr().out.splitlines()[-3:]
    assert "runs/eval/" in result
    assert "bound" in headline
    assert "risctl" in following
    assert not list(Path("runs").rglob("*.png"))


def test_workers_change_nothing_but_the_time(capsys: Capture) -> None:
    arguments = (*SMALL, "--no-plots", "--scenes", "8", "--known-num-sources")
    one = _evaluate(arguments, capsys)["results"]
    two = _evaluate((*arguments, "--workers", "2"), capsys)["results"]
    assert one["cells"] == two["cells"]
    assert one["num_sources_known"]


def test_a_dataset_brings_its_own_physics(capsys: Capture) -> None:
    physics = PhysicsConfig(num_snapshots=5, max_sources=2)
    write_dataset("d", physics, seed=3, split="test", num_scenes=64)
    document = _evaluate(("--data", "d", "--no-plots", "--scenes", "8"), capsys)
    config = load_config(None, Path(document["run"]) / "config.json")
    assert (config.physics, config.data.seed, config.evaluation.scenes) == (physics, 3, 8)
    assert document["results"]["scenes"] == 8
    assert main(["eval", *FAST, "--data", "d", "--scenes", "65"]) == 2
    assert "at most the 64 scenes" in capsys.readouterr().err


def test_dry_run_writes_nothing(capsys: Capture, tmp_path: Path) -> None:
    document = _evaluate((*SMALL, "--dry-run"), capsys)
    assert document["config"]["physics"]["stratified"]
    assert document["needs"]["disk_bytes"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_shard_fails_before_work_starts(capsys: Capture) -> None:
    physics = PhysicsConfig(num_snapshots=4)
    write_dataset("d", physics, seed=0, split="test", num_scenes=128, shard_scenes=64)
    shard = Path("d/shard-00001.safetensors")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert main(["eval", *FAST, "--data", "d", "--no-plots", "--scenes", "8"]) == 4
    assert shard.name in capsys.readouterr().err
    assert not Path("runs").exists()

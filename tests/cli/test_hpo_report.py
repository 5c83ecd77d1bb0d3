"""How a search ends: files, what a person reads, the verdict and its exit status."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from risctl.cli.documents import Document, Ending
from risctl.cli.hpo_report import conclude

from risctl.cli import hpo_pictures
from risctl.config import diff_configs, load_config
from risctl.search import SearchOutcome, importance, trial_config
from tests.cli.searches import config, outcome, params, plan, record, trials

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def _without_pictures(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pictures take longer than all the rest, and then the shuffles."""
    monkeypatch.setattr(hpo_pictures, "draw_search", lambda *_: [])
    monkeypatch.setattr(importance, "SHUFFLES", 1)
    return


pytestmark = pytest.mark.usefixtures("_without_pictures")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


def _document(ending: Document | Ending) -> Document:
    assert isinstance(ending, dict)
    return ending


def _conclude(tmp_path: Path, found: SearchOutcome, count: int = 12) -> Document | Ending:
    return conclude(tmp_path, plan(count), found)


def test_a_search_worth_it_is_go(tmp_path: Path, capsys: Capture) -> None:
    document = _document(_conclude(tmp_path, outcome()))
    assert document["verdict"]["go"]
    shown = capsys.readouterr().out
    parts = ("The best trial", "beside the preset", "What mattered", "Go or no-go", "headline: go: best")
    parts += ("training.lr", "0 preset", "even in the logarithm", f"train --config {tmp_path / 'best.toml'}")
    for part in parts:
        assert part in shown, part


def test_the_document_is_what_the_file_holds(tmp_path: Path) -> None:
    document = _document(_conclude(tmp_path, outcome()))
    written = json.loads((tmp_path / "search.json").read_text())
    assert written == {"schema_version": 1} | json.loads(json.dumps(document, default=str))
    assert written["finished"] == written["asked"] == 12
    assert written["spread"] > 0.1
    assert written["preset"]["number"] == 0
    assert [trial["number"] for trial in written["trials"]] == list(range(12))
    assert all(Path(path).exists() for path in written["files"])


def test_the_tables_hold_every_trial_and_epoch(tmp_path: Path) -> None:
    found = outcome()
    _conclude(tmp_path, found)
    rows = _rows(tmp_path / "trials.csv")
    assert [row["state"] for row in rows] == [trial.state for trial in found.trials]
    assert [float(row["loss"]) for row in rows] == [trial.value for trial in found.trials]
    assert float(rows[-1]["best_so_far"]) == found.best.value  # type: ignore[union-attr]
    assert float(rows[3]["training.lr"]) == found.trials[3].params["training.lr"]
    assert rows[0]["median_angle_deg_high_snr"] == "2.5"
    epochs = _rows(tmp_path / "epochs.csv")
    assert len(epochs) == sum(len(trial.epochs) for trial in found.trials)
    assert {row["epoch"] for row in epochs} == {"1", "2", "3", "4"}
    mattered = _rows(tmp_path / "importance.csv")
    assert {row["parameter"] for row in mattered} == {key for key in params(0) if "inference" not in key}
    assert mattered[0]["parameter"] == "training.lr"
    assert float(mattered[0]["rank_correlation"]) < -0.9


def test_the_best_preset_is_the_trial_itself(tmp_path: Path) -> None:
    found = outcome()
    _conclude(tmp_path, found)
    assert found.best is not None
    trained = trial_config(config(), found.best.params)
    loaded = load_config("quick", tmp_path / "best.toml")
    assert [key for key in diff_configs(trained, loaded) if not key.startswith("search.")] == []
    assert loaded.training.lr == found.best.params["training.lr"]
    assert (loaded.training.epochs, loaded.training.beta_jitter) == (4, 0.02)
    assert (tmp_path / "best.toml").read_text().startswith("# The best of a search")


def test_what_was_found_goes_over_a_preset_of_another_length(tmp_path: Path) -> None:
    found = outcome()
    _conclude(tmp_path, found)
    assert found.best is not None
    full, over = load_config("full"), load_config("full", tmp_path / "found.toml")
    changed = {key for key in diff_configs(full, over) if key.partition(".")[0] != "physics"}
    assert {"training.lr", "model.width", "inference.range_grid"} <= changed
    assert (over.training.epochs, over.data, over.training.curriculum) == (160, full.data, True)
    assert {key: value for key, value in found.best.params.items() if diff(over, key) != value} == {}


def diff(loaded: Any, key: str) -> Any:
    section, _, name = key.partition(".")
    return loaded.model_dump()[section][name]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (outcome([record(0, 0.5), record(1, 0.6), record(2, 0.7)]), "nothing was better"),
        (
            outcome([record(0, 0.9), record(1, 0.89), record(2, 0.88)]),
            "relative spread of trial losses: 2.3%",
        ),
        (outcome([record(0, 0.9), record(1, 0.5)]), "trials finished: 2 of 3"),
        (
            outcome([*trials(3), record(3, None, "failed", reason="a loss is not finite")]),
            "trials with NaN or Inf: 1",
        ),
        (outcome([*trials(3), record(3, None, "failed", reason="killed twice")]), "trials that crashed: 1"),
        (outcome([record(1, 0.9), record(2, 0.5), record(3, 0.4)]), "was not measured"),
        (outcome(trials(3), gave_up="too many trials failed"), "given up: too many"),
    ],
)
def test_anything_else_is_no_go_with_its_reason(tmp_path: Path, found: SearchOutcome, said: str) -> None:
    ending = _conclude(tmp_path, found, 3)
    assert isinstance(ending, Ending)
    assert ending.exit_status == 3
    assert said in ending.message
    assert "\n" not in ending.message


def test_a_stopped_search_reports_what_it_has(tmp_path: Path, capsys: Capture) -> None:
    ending = _conclude(tmp_path, outcome([*trials(3), record(3, 0.8, "running")], stopped_by=2))
    assert isinstance(ending, Ending)
    assert ending.exit_status == 130
    assert ending.message.endswith(f"go on with: risctl hpo --resume {tmp_path}")
    assert ending.document["finished"] == 3
    assert (tmp_path / "best.toml").exists()
    assert "headline: stopped after 3 trials: best" in capsys.readouterr().out


def test_a_shared_search_is_resumed_with_its_database(tmp_path: Path) -> None:
    shared = outcome(trials(3), stopped_by=2, storage_url="postgresql+psycopg://me@host/db?sslmode=require")
    ending = _conclude(tmp_path, shared)
    assert isinstance(ending, Ending)
    words = shlex.split(ending.message.partition("go on with: ")[2])
    assert words[:3] == ["risctl", "hpo", "--resume"]
    assert words[4:] == ["--storage", shared.storage_url]


def test_a_search_without_a_complete_trial_has_no_preset_to_offer(tmp_path: Path, capsys: Capture) -> None:
    ending = _conclude(tmp_path, outcome([record(0, None, "failed", reason="killed twice")]), 1)
    assert isinstance(ending, Ending)
    assert ending.exit_status == 3
    assert not (tmp_path / "best.toml").exists()
    shown = capsys.readouterr().out
    assert "no trial completed" in shown
    assert "not known from fewer than" in shown


def test_many_trials_are_shown_by_their_best(tmp_path: Path, capsys: Capture) -> None:
    found = outcome(tuple(record(i, 1.0 + 0.01 * i) for i in range(40)))
    conclude(tmp_path, plan(40), found)
    shown = capsys.readouterr().out
    assert "The best 30 of 40 trials" in shown
    assert len(_rows(tmp_path / "trials.csv")) == 40

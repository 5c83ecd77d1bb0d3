"""`risctl hpo` from the command line to the files of its run, with an engine that only tells a story."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import risctl.search
from risctl.cli import hpo_pictures, hpo_run
from risctl.cli.app import main
from risctl.errors import StorageError
from risctl.search import SearchOutcome, SearchPlan, TrialRecord, importance
from tests.cli.searches import WORDS, events, outcome, record, trials
from tests.cli.tiny import ask, status_of

Capture = pytest.CaptureFixture[str]
Engine = Callable[..., SearchOutcome]


class Story:
    """An engine whose trials are known beforehand; it remembers how it was called."""

    def __init__(self, found: SearchOutcome) -> None:
        self.found = found
        self.plan: SearchPlan | None = None
        self.resume: bool | None = None
        self.error: Exception | None = None
        self.earlier: tuple[TrialRecord, ...] = ()

    def __call__(
        self, plan: SearchPlan, _run: Path, listeners: Any, _stop: Any, resume: bool
    ) -> SearchOutcome:
        self.plan, self.resume = plan, resume
        if self.error is not None:
            raise self.error
        for worker, part in ((-1, self.earlier), (0, self.found.trials[len(self.earlier) :])):
            for event in events(part, worker):
                for listener in listeners:
                    listener(event)
        return self.found


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Story:
    """A search of twelve trials, without pictures and without the check that every training makes."""
    monkeypatch.chdir(tmp_path)
    told = Story(outcome())
    monkeypatch.setattr(risctl.search, "run_search", told)
    monkeypatch.setattr(hpo_pictures, "draw_search", lambda *_: [])
    monkeypatch.setattr(importance, "SHUFFLES", 1)
    monkeypatch.setattr(hpo_run, "check_first_trial", lambda _prepared: None)
    return told


def _hpo(capsys: Capture, *arguments: str, status: int = 0) -> dict[str, Any]:
    return ask(capsys, "hpo", *WORDS, "--force", *arguments, status=status)


def test_a_search_leaves_a_run_that_says_everything(story: Story, capsys: Capture) -> None:
    document = _hpo(capsys, "--trials", "12", "--workers", "2")
    run = Path(document["run"])
    assert run.parent == Path("runs/hpo")
    assert "_search_" in run.name
    status = status_of(run)
    assert (status["command"], status["state"], status["exit_status"]) == ("hpo", "done", 0)
    assert (status["finished"], status["trials"]) == (12, 12)
    assert status["best_value"] == document["best"]["value"]
    provenance = json.loads((run / "provenance.json").read_text())
    assert provenance["study"]["name"].startswith("risctl-wide-")
    assert provenance["workers"] == {"count": 2, "devices": ["cpu"]}
    assert provenance["seeds"] == {"data.seed": 0, "training.seed": 0, "sampler": 0}
    config = json.loads((run / "config.json").read_text())
    assert config["search"]["trials"] == 12
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    kinds = [line["event"] for line in lines]
    assert [kinds.count(kind) for kind in ("trial_started", "trial_ended")] == [12, 12]
    assert kinds.count("trial_epoch") == sum(len(trial.epochs) for trial in story.found.trials)


def test_the_engine_gets_what_was_asked_for(story: Story, capsys: Capture) -> None:
    _hpo(capsys, "--trials", "12", "--workers", "3", "--seed", "4", "--threads", "2", "--study", "mine")
    plan = story.plan
    assert plan is not None
    assert (plan.trials, plan.workers, plan.seed, plan.threads) == (12, 3, 4, 2)
    assert (plan.study_name, plan.storage_url, story.resume) == ("mine", None, False)


def test_progress_goes_to_stderr_and_the_report_to_stdout(story: Story, capsys: Capture) -> None:
    assert main(["hpo", *WORDS, "--force", "--trials", "12"]) == 0
    captured = capsys.readouterr()
    assert "trial 3: complete, loss " in captured.err
    assert "Go or no-go" in captured.out
    assert captured.out.splitlines()[-1].startswith("next:     risctl train --config runs/hpo/")


def test_no_go_is_status_three_with_its_document(story: Story, capsys: Capture) -> None:
    story.found = outcome([record(0, 0.5), record(1, 0.7)])
    document = _hpo(capsys, "--trials", "2", status=3)
    assert not document["verdict"]["go"]
    status = status_of(document["run"])
    assert (status["state"], status["exit_status"]) == ("failed", 3)
    assert "nothing was better" in status["message"]


def test_a_stopped_search_is_interrupted_and_goes_on(story: Story, capsys: Capture) -> None:
    whole = story.found
    story.found = outcome([*whole.trials[:3], record(3, 0.8, "running")], stopped_by=15)
    document = _hpo(capsys, "--trials", "12", status=143)
    run = document["run"]
    assert (status_of(run)["state"], status_of(run)["finished"]) == ("interrupted", 3)
    story.found, story.earlier = whole, whole.trials[:3]
    again = ask(capsys, "hpo", "--resume", run)
    assert again["run"] == run
    assert story.resume
    assert story.plan is not None
    assert story.plan.trials == 12
    assert (status_of(run)["state"], status_of(run)["finished"]) == ("done", 12)
    assert len(json.loads(Path(run, "provenance.json").read_text())["resumed"]) == 1
    lines = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    ended = [line["number"] for line in lines if line["event"] == "trial_ended"]
    assert ended == list(range(12))  # those that had ended before are not written again


def test_a_search_that_goes_on_keeps_its_settings_but_may_have_more_trials(
    story: Story, capsys: Capture
) -> None:
    story.found = outcome(trials(3))
    run = _hpo(capsys, "--trials", "3")["run"]
    name = story.plan.study_name if story.plan else None
    story.found = outcome()
    assert ask(capsys, "hpo", "--resume", run, "--trials", "12")["asked"] == 12
    assert story.plan is not None
    assert story.plan.study_name == name
    assert json.loads(Path(run, "config.json").read_text())["search"]["trials"] == 12
    for word in ("training.weight_decay=0.5", "search.spaces.wide.training.lr.low=1e-5", "search.patience=2"):
        assert word.partition("=")[0] in _refused(capsys, run, word)
    assert "as the run began" in _refused(capsys, run, "--study", "other")
    refused = _refused(capsys, run, "--storage", "postgresql+psycopg://u:secret@h/d")
    assert refused.startswith("--storage: expected none (the study is in the run)")
    assert "secret" not in refused
    assert story.plan.trials == 12


def _refused(capsys: Capture, run: str, *arguments: str) -> str:
    return str(ask(capsys, "hpo", "--resume", run, *arguments, status=2)["error"]["message"])


def test_a_run_that_lost_its_studys_name_is_damaged(story: Story, capsys: Capture) -> None:
    run = Path(_hpo(capsys, "--trials", "12")["run"])
    provenance = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps(provenance | {"study": None}))
    assert "name of a study" in ask(capsys, "hpo", "--resume", str(run), status=4)["error"]["message"]


def test_a_database_that_is_none_is_refused_before_anything_is_written(story: Story, capsys: Capture) -> None:
    error = ask(capsys, "hpo", *WORDS, "--force", "--storage", "nonsense", "--dry-run", status=2)["error"]
    assert error["message"].startswith("--storage: expected postgresql+psycopg://")
    assert not Path("runs").exists()


def test_the_run_of_another_command_is_refused(story: Story, capsys: Capture) -> None:
    run = Path(_hpo(capsys, "--trials", "12")["run"])
    status = json.loads((run / "status.json").read_text()) | {"command": "train"}
    (run / "status.json").write_text(json.dumps(status))
    assert "a run of hpo" in _refused(capsys, str(run))


def test_a_search_with_nothing_left_to_do_says_what_it_found(story: Story, capsys: Capture) -> None:
    run = _hpo(capsys, "--trials", "12")["run"]
    story.earlier = story.found.trials
    assert ask(capsys, "hpo", "--resume", run)["best"]["number"] == story.found.best.number  # type: ignore[union-attr]


def test_the_password_of_the_database_is_nowhere(
    story: Story, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql+psycopg://me:secret@host/studies"
    monkeypatch.setattr(sys, "argv", ["risctl", "hpo", "--storage", url, f"--storage={url}"])
    story.found = replace(story.found, storage_url="postgresql+psycopg://me:***@host/studies")
    document = _hpo(capsys, "--storage", url, "--trials", "12")
    assert story.plan is not None
    assert story.plan.storage_url == url
    files = [path for path in Path(document["run"]).rglob("*") if path.is_file()]
    assert not [path for path in files if b"secret" in path.read_bytes()]
    assert "secret" not in json.dumps(document)
    provenance = json.loads(Path(document["run"], "provenance.json").read_text())
    assert provenance["study"]["storage"] == "postgresql+psycopg://me:***@host/studies"
    assert "me:***@host" in provenance["argv"][3]


def test_the_database_can_come_from_the_environment(
    story: Story, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RISCTL_STORAGE", "postgresql+psycopg://me@host/studies")
    run = _hpo(capsys, "--trials", "12")["run"]
    assert story.plan is not None
    assert story.plan.storage_url == "postgresql+psycopg://me@host/studies"
    monkeypatch.setenv("RISCTL_STORAGE", "postgresql+psycopg://me@elsewhere/studies")
    assert "got postgresql+psycopg://me@elsewhere/studies" in _refused(capsys, run)
    monkeypatch.delenv("RISCTL_STORAGE")
    assert "postgresql+psycopg://me@host/studies, with --resume" in _refused(capsys, run)


def test_an_error_of_the_engine_ends_the_run_with_its_status(story: Story, capsys: Capture) -> None:
    story.error = StorageError("the database does not answer")
    assert (
        ask(capsys, "hpo", *WORDS, "--force", status=5)["error"]["message"] == "the database does not answer"
    )
    run = next(Path("runs/hpo").iterdir())
    assert (status_of(run)["state"], status_of(run)["exit_status"]) == ("failed", 5)


def test_without_a_gate_the_command_refuses(story: Story, capsys: Capture) -> None:
    document = ask(capsys, "hpo", *WORDS, status=3)
    assert "type: risctl overfit physics.ris_columns=6" in document["error"]["message"]
    assert story.plan is None
    assert not Path("runs").exists()


def test_a_dry_run_writes_nothing_and_says_how_long(story: Story, capsys: Capture) -> None:
    document = ask(capsys, "hpo", *WORDS, "--dry-run", "--trials", "6", "--workers", "4")
    assert story.plan is None
    assert not Path("runs").exists()
    assert (document["trials"], document["workers"], document["gate"]) == (6, 4, None)
    preset, largest = document["trial"]["preset"], document["trial"]["largest network"]
    assert preset["steps"] == 4 * (160 // 64)
    assert preset["validated"] == 4 * 64
    assert largest["parameters"] > preset["parameters"] > 0
    assert document["needs"]["parameters"] == largest["parameters"]
    assert document["seconds"]["preset"] == pytest.approx(2 * preset["seconds"])
    assert document["needs"]["disk_bytes"] > 6 * 40 * largest["parameters"]


def test_help_imports_no_heavy_library() -> None:
    code = (
        "import sys; from risctl.cli.app import main; status = main(['hpo', '--help']);"
        "heavy = {'torch', 'numpy', 'scipy', 'optuna', 'matplotlib', 'sqlalchemy'} & set(sys.modules);"
        "sys.exit(f'imported: {heavy}' if heavy else status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--storage" in done.stdout

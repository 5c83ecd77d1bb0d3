"""`hpo`: flags, the gate's command, what is printed, exit statuses; the engine only tells a story."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from risctl import runs
from risctl.cli.app import main
from risctl.hpo import TrialRecord
from risctl.runs.gate import GATE_SCENES, Gate, fingerprints
from risctl.runs.records import recorded_outcome
from tests.cli.command import Capture, ask, refused
from tests.runs.searches import WORDS, Story, outcome, record, tell, trials
from tests.runs.tiny import status_of

URL = "postgresql+psycopg://me@host/studies"


@pytest.fixture(autouse=True)
def story(monkeypatch: pytest.MonkeyPatch) -> Story:
    return tell(monkeypatch)


def _hpo(capsys: Capture, *arguments: str, status: int = 0) -> dict[str, Any]:
    return ask(capsys, "hpo", *WORDS, "--force", "--trials", "12", *arguments, status=status)


def _shown(capsys: Capture, *arguments: str, status: int = 0) -> tuple[str, str]:
    """Return what a search says on stdout and on stderr."""
    assert main(["hpo", *WORDS, "--force", "--trials", "12", *arguments]) == status
    return capsys.readouterr()


def test_the_engine_gets_what_was_asked_for(story: Story, capsys: Capture) -> None:
    document = _hpo(capsys, "--workers", "3", "--seed", "4", "--threads", "2", "--study", "mine")
    plan = story.plan
    assert plan is not None
    assert (plan.trials, plan.workers, plan.seed, plan.threads) == (12, 3, 4, 2)
    assert (plan.study_name, plan.storage_url, story.resume) == ("mine", None, False)
    assert document == runs.read_document(Path(document["run"]) / "search.json")


def test_progress_goes_to_stderr_and_the_report_to_stdout(capsys: Capture) -> None:
    out, err = _shown(capsys)
    assert "trial 3: complete, loss " in err
    parts = ("The best trial", "beside the preset", "What mattered", "Go or no-go", "headline: go: best")
    for part in (*parts, "training.lr", "0 preset", "0.0001 to 0.0004, log"):
        assert part in out, part
    (run,) = Path("runs/hpo").iterdir()
    assert out.splitlines()[-1] == f"next:     risctl train --preset full --config {run}/best.toml"


def test_no_go_is_status_three_with_its_document(story: Story, capsys: Capture) -> None:
    story.found = outcome([record(0, 0.5), record(1, 0.7)])
    assert not _hpo(capsys, status=3)["verdict"]["go"]
    _, err = _shown(capsys, status=3)
    assert err.splitlines()[-1].startswith("risctl: hpo: no-go: ")


def test_a_stopped_search_says_how_to_go_on(story: Story, capsys: Capture) -> None:
    whole = story.found
    story.found = outcome([*whole.trials[:3], record(3, 0.8, "running")], stopped_by=15)
    out, err = _shown(capsys, status=143)
    (run,) = Path("runs/hpo").iterdir()
    message = f"stopped with 3 trials finished; go on with: risctl hpo --resume {run}"
    assert err.splitlines()[-1] == f"risctl: {message}"
    assert "headline: stopped after 3 trials: best" in out
    story.found = whole
    again = ask(capsys, "hpo", "--resume", str(run))
    assert (again["run"], story.resume, status_of(run)["state"]) == (str(run), True, "done")
    story.found = outcome(trials(3), stopped_by=2, storage_url=f"{URL}?sslmode=require")
    _, err = _shown(capsys, "--storage", URL, status=130)
    words = shlex.split(err.splitlines()[-1].partition("go on with: ")[2])
    assert words[:3] == ["risctl", "hpo", "--resume"]
    assert words[4:] == ["--storage", f"{URL}?sslmode=require"]


def test_the_flags_of_a_search_that_goes_on_are_named_in_what_is_refused(capsys: Capture) -> None:
    resume = ("hpo", "--resume", _hpo(capsys)["run"])
    assert "as the run began" in refused(capsys, *resume, "--study", "other")
    message = refused(capsys, *resume, "--storage", URL)
    assert message.startswith("risctl: --storage: expected none (the study is in the run)")
    assert "training.weight_decay" in refused(capsys, *resume, "training.weight_decay=0.5")


def test_the_database_can_come_from_the_environment(
    story: Story, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RISCTL_STORAGE", URL)
    run = _hpo(capsys)["run"]
    assert story.plan is not None
    assert story.plan.storage_url == URL
    monkeypatch.setenv("RISCTL_STORAGE", "postgresql+psycopg://me@elsewhere/studies")
    assert "got postgresql+psycopg://me@elsewhere/studies" in refused(capsys, "hpo", "--resume", run)
    monkeypatch.delenv("RISCTL_STORAGE")
    assert f"--storage: expected {URL}, for {run}, got none" in refused(capsys, "hpo", "--resume", run)


@pytest.mark.parametrize("verdict", ["ready", "debug"])
def test_without_a_passed_gate_it_runs_first(
    verdict: str, story: Story, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[runs.PreparedTraining] = []

    def gate(prepared: runs.PreparedTraining, *_: object) -> runs.Judged:
        judged.append(prepared)
        run = Path("runs/overfit/now")
        run.mkdir(parents=True)
        marks = fingerprints(prepared.config, GATE_SCENES)
        document = {"verdict": verdict, "is_gate": True, "departures": [], "fingerprints": marks}
        runs.write_json(run / "overfit.json", document)
        ended = recorded_outcome(run, [])
        return runs.Judged(runs.Trained(run, prepared.config, ended, []), Gate(verdict, ()), document)

    monkeypatch.setattr(runs, "overfit", gate, raising=False)
    found = main(["hpo", *WORDS, "--trials", "12"])
    out = capsys.readouterr().out
    assert "no overfit gate was passed for these settings: it runs first" in out
    assert len(judged) == 1
    if verdict == "debug":
        assert (found, story.plan) == (3, None)
        return
    assert found == 0
    assert story.plan is not None
    assert gate_words(judged[0]) == gate_words(story.plan)
    assert main(["hpo", *WORDS, "--trials", "12"]) == 0
    assert len(judged) == 1  # it is known now


def gate_words(of: Any) -> dict[str, str]:
    return fingerprints(of.config, GATE_SCENES)


def test_a_dry_run_writes_nothing_and_says_how_long(story: Story, capsys: Capture) -> None:
    document = ask(capsys, "hpo", *WORDS, "--dry-run", "--trials", "6", "--workers", "4")
    assert story.plan is None
    assert not Path("runs").exists()
    assert (document["trials"], document["workers"], document["gate"]) == (6, 4, None)
    flags = ask(capsys, "hpo", *WORDS, "--dry-run", "--space", "narrow", "--epochs", "3")["config"]["search"]
    assert (flags["space"], flags["epochs"]) == ("narrow", 3)
    preset, largest = document["trial"]["preset"], document["trial"]["largest network"]
    assert preset["steps"] == 4 * (160 // 64)
    assert preset["validated"] == 4 * 64
    assert largest["parameters"] > preset["parameters"] > 0
    assert document["needs"]["parameters"] == largest["parameters"]
    assert document["seconds"]["preset"] == pytest.approx(2 * preset["seconds"])
    assert document["needs"]["disk_bytes"] > 6 * 40 * largest["parameters"]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            [record(0, None, "failed", reason="killed twice")],
            ("no trial completed", "not known from fewer than"),
        ),
        ([record(i, 1.0 + 0.01 * i) for i in range(40)], ("The best 30 of 40 trials",)),
    ],
)
def test_few_and_many_trials(
    found: list[TrialRecord], said: tuple[str, ...], story: Story, capsys: Capture
) -> None:
    story.found = outcome(found)
    out, _ = _shown(capsys, status=3)
    for part in said:
        assert part in out

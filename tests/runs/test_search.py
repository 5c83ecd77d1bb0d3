"""Searches in run directories: what they need before they start, what they leave, how they go on."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from risctl import runs
from risctl.config import Config, diff_configs, load_config
from risctl.config.layers import Layers, Machine
from risctl.config.search import setting
from risctl.errors import CheckFailedError, DamagedFileError, InputError, StorageError
from risctl.hpo import SearchOutcome
from risctl.runs.gate import GATE_SCENES, fingerprints
from risctl.runs.search import worker_devices
from risctl.runs.search_report import report
from tests.runs.searches import WORDS, Story, config, outcome, params, plan, record, tell, trials
from tests.runs.tiny import status_of

URL = "postgresql+psycopg://me:secret@host/studies"
HIDDEN = "postgresql+psycopg://me:***@host/studies"


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> Story:
    return tell(monkeypatch)


def _prepare(*words: str, **changes: Any) -> runs.PreparedSearch:
    how = {"need_gate": False, "machine": Machine("cpu", 1)} | changes
    return runs.prepare_search(Layers(overrides=(*WORDS, *words)), **how)


def _resume(run: Path, *words: str, **changes: Any) -> runs.PreparedSearch:
    return runs.prepare_search(Layers(overrides=words), resume=run, **changes)


def _write_gate(found: Config, verdict: str = "ready") -> None:
    path = Path("runs/overfit/now")
    path.mkdir(parents=True, exist_ok=True)
    document = {"verdict": verdict, "is_gate": True, "fingerprints": fingerprints(found, GATE_SCENES)}
    runs.write_json(path / "overfit.json", document)


def test_without_a_passed_gate_nothing_starts_and_the_settings_it_needs_are_named() -> None:
    with pytest.raises(runs.GateNotPassedError) as refused:
        _prepare(need_gate=True)
    assert refused.value.settings["model.width"] == 8
    assert not Path("runs").exists()
    words = [f"{key}={runs.toml_value(value)}" for key, value in refused.value.settings.items()]
    assert fingerprints(load_config("overfit", overrides=words), 512) == fingerprints(config(), 512)


def test_a_passed_gate_opens_and_a_failed_or_another_networks_does_not() -> None:
    _write_gate(config())
    assert runs.passed_gate(config()) is not None
    assert _prepare(need_gate=True).plan.trials == 24
    for gate in ((config(), "debug"), (load_config("search"),)):
        _write_gate(*gate)
        with pytest.raises(CheckFailedError):
            _prepare(need_gate=True)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("training.epochs=3", "search.epochs"),
        ("training.curriculum=true", "off in trials"),
        ("training.seed=3", "the seed of the search"),
        ("data.source=store", "stream"),
        ("model.width=64", "values that include 64"),
        ("training.lr=0.01", "values that include 0.01"),
        ("data.train_scenes=70", "at most the 70 scenes"),
        ("search.space=wild", "one of narrow, wide"),
    ],
)
def test_what_could_not_run_is_refused(word: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        _prepare(word)


def test_a_preset_without_a_space_is_refused() -> None:
    with pytest.raises(InputError, match="a search space"):
        runs.prepare_search(Layers("quick"), need_gate=False)


def test_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="worker processes"):
        _prepare()


def test_the_plan_is_what_was_asked_for() -> None:
    machine = Machine("cpu", 2)
    found = _prepare(trials=7, workers=3, storage=URL, study="mine", machine=machine).plan
    assert (found.trials, found.workers, found.threads, found.devices) == (7, 3, 2, ("cpu",))
    assert (found.storage_url, found.study_name, found.config.search.trials) == (URL, "mine", 7)
    seeded = runs.prepare_search(Layers(overrides=WORDS, seed=5), need_gate=False).plan
    assert (seeded.seed, seeded.config.data.seed, seeded.config.training.seed) == (5, 5, 5)


def test_as_many_trials_at_a_time_as_cores_but_a_quarter_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8), raising=False)
    counts = [
        _prepare(trials=n, machine=Machine("cpu", t)).plan.workers
        for n, t in ((24, 1), (48, 1), (48, 3), (2, 1))
    ]
    assert counts == [6, 8, 2, 1]


def test_the_same_settings_have_the_same_study_whatever_the_number_of_trials() -> None:
    name = _prepare(trials=7).plan.study_name
    assert _prepare(trials=9, workers=2).plan.study_name == name
    assert _prepare("training.weight_decay=0.5").plan.study_name != name


def test_workers_take_all_accelerators_in_turn_or_the_one_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_devices("cpu", 4) == ("cpu",)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert runs.resolve_device("cuda") == "cuda:0"
    assert worker_devices("auto", 3) == ("cuda:0", "cuda:1", "cuda:2")
    assert worker_devices("cuda", 8) == ("cuda:0", "cuda:1", "cuda:2", "cuda:3")
    assert worker_devices("cuda:2", 8) == ("cuda:2",)


def test_a_search_leaves_a_run_that_says_everything(story: Story) -> None:
    made: list[Path] = []
    found = runs.search(_prepare(trials=12, workers=2), announce=made.append)
    run = found.run
    assert made == [run]
    assert run.parent == Path("runs/hpo")
    assert "_search_" in run.name
    assert (found.failure, found.exit_status, story.resume) == (None, 0, False)
    status = status_of(run)
    assert (status["command"], status["state"], status["exit_status"]) == ("hpo", "done", 0)
    assert (status["finished"], status["trials"]) == (12, 12)
    assert status["best_value"] == found.document["best"]["value"]
    provenance = runs.read_document(run / "provenance.json")
    assert provenance["study"]["name"].startswith("risctl-wide-")
    assert provenance["workers"] == {"count": 2, "devices": ["cpu"]}
    assert provenance["seeds"] == {"data.seed": 0, "training.seed": 0, "sampler": 0}
    assert load_config(None, run / "config.json").search.trials == 12
    kinds = [line["event"] for line in _lines(run)]
    assert [kinds.count(kind) for kind in ("trial_started", "trial_ended")] == [12, 12]
    assert kinds.count("trial_epoch") == sum(len(trial.epochs) for trial in story.found.trials)


def _lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_no_go_fails_the_run(story: Story) -> None:
    story.found = outcome([record(0, 0.5), record(1, 0.7)])
    found = runs.search(_prepare(trials=2))
    assert (found.verdict.go, found.exit_status) == (False, 3)
    status = status_of(found.run)
    assert (status["state"], status["exit_status"]) == ("failed", 3)
    assert "nothing was better" in status["message"]


def test_a_stopped_search_is_interrupted_and_goes_on(story: Story) -> None:
    whole = story.found
    story.found = outcome([*whole.trials[:3], record(3, 0.8, "running")], stopped_by=15)
    stopped = runs.search(_prepare(trials=12))
    run = stopped.run
    assert (stopped.exit_status, stopped.failure) == (143, "stopped with 3 trials finished")
    assert (status_of(run)["state"], status_of(run)["finished"]) == ("interrupted", 3)
    story.found, story.earlier = whole, whole.trials[:3]
    again = runs.search(_resume(run))
    assert (again.run, story.resume, again.plan.trials) == (run, True, 12)
    assert (status_of(run)["state"], status_of(run)["finished"]) == ("done", 12)
    assert len(runs.read_document(run / "provenance.json")["resumed"]) == 1
    ended = [line["number"] for line in _lines(run) if line["event"] == "trial_ended"]
    assert ended == list(range(12))  # those that had ended before are not written again


def test_a_search_that_goes_on_keeps_its_settings_but_may_have_more_trials(story: Story) -> None:
    story.found = outcome(trials(3))
    first = runs.search(_prepare(trials=3))
    story.found, run = outcome(), first.run
    again = runs.search(_resume(run, trials=12))
    assert (again.document["asked"], again.plan.study_name) == (12, first.plan.study_name)
    assert load_config(None, run / "config.json").search.trials == 12
    for word in ("training.weight_decay=0.5", "search.spaces.wide.training.lr.low=1e-5", "search.patience=2"):
        with pytest.raises(
            InputError, match=f"{word.partition('=')[0]}: expected .* which the search began with"
        ):
            _resume(run, word)
    with pytest.raises(InputError, match=r"^study: expected .*, as the run began"):
        _resume(run, study="other")
    with pytest.raises(InputError, match=r"^storage: expected none \(the study is in the run\)") as refused:
        _resume(run, storage=URL)
    assert "secret" not in str(refused.value)


def test_the_run_of_another_command_or_without_its_studys_name_is_refused(story: Story) -> None:
    run = runs.search(_prepare(trials=12)).run
    provenance, status = (runs.read_document(run / name) for name in ("provenance.json", "status.json"))
    runs.write_json(run / "provenance.json", provenance | {"study": None})
    with pytest.raises(DamagedFileError, match="name of a study"):
        _resume(run)
    runs.write_json(run / "status.json", status | {"command": "train"})
    with pytest.raises(InputError, match="a run of hpo"):
        _resume(run)


def test_a_search_with_nothing_left_to_do_says_what_it_found(story: Story) -> None:
    run = runs.search(_prepare(trials=12)).run
    story.earlier = story.found.trials
    best = runs.search(_resume(run)).outcome.best
    assert best == story.found.best
    assert status_of(run)["state"] == "done"


def test_the_password_of_the_database_is_nowhere(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["risctl", "hpo", "--storage", URL, f"--storage={URL}"])
    story.found = replace(story.found, storage_url=HIDDEN)
    found = runs.search(_prepare(trials=12, storage=URL))
    assert found.plan.storage_url == URL
    files = [path for path in found.run.rglob("*") if path.is_file()]
    assert not [path for path in files if b"secret" in path.read_bytes()]
    assert "secret" not in json.dumps(found.document, default=str)
    provenance = runs.read_document(found.run / "provenance.json")
    assert provenance["study"]["storage"] == HIDDEN
    assert "me:***@host" in provenance["argv"][3]
    with pytest.raises(InputError, match=r"got postgresql\+psycopg://me@elsewhere/studies"):
        _resume(found.run, storage="postgresql+psycopg://me@elsewhere/studies")
    with pytest.raises(
        InputError, match=r"^storage: expected postgresql\+psycopg://me:\*\*\*@host/studies, for "
    ):
        _resume(found.run)


def test_an_error_of_the_engine_ends_the_run_with_its_status(story: Story) -> None:
    story.error = StorageError("the database does not answer")
    with pytest.raises(StorageError):
        runs.search(_prepare())
    (run,) = Path("runs/hpo").iterdir()
    assert (status_of(run)["state"], status_of(run)["exit_status"]) == ("failed", 5)


def test_a_search_refuses_a_network_that_inference_would_not_reproduce(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    def misaligned(*_: object) -> None:
        raise CheckFailedError("not aligned")

    monkeypatch.setattr("risctl.runs.models.spot_check", misaligned)
    with pytest.raises(CheckFailedError, match="not aligned"):
        runs.search(_prepare())
    assert story.plan is None


# The report.


def _report(tmp_path: Path, found: SearchOutcome, count: int = 12) -> runs.Searched:
    return report(tmp_path, plan(count), found)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.usefixtures("story")
def test_the_document_is_what_the_file_holds(tmp_path: Path) -> None:
    found = _report(tmp_path, outcome())
    written = runs.read_document(tmp_path / "search.json")
    assert written == {"schema_version": 1} | json.loads(json.dumps(found.document, default=str))
    assert written["verdict"]["go"]
    assert written["finished"] == written["asked"] == 12
    assert written["spread"] > 0.1
    assert written["preset"]["number"] == 0
    assert [trial["number"] for trial in written["trials"]] == list(range(12))
    assert all(Path(path).exists() for path in written["files"])


@pytest.mark.usefixtures("story")
def test_the_tables_hold_every_trial_and_epoch(tmp_path: Path) -> None:
    found = outcome()
    _report(tmp_path, found)
    rows = _rows(tmp_path / "trials.csv")
    assert [row["state"] for row in rows] == [trial.state for trial in found.trials]
    assert [float(row["loss"]) for row in rows] == [trial.value for trial in found.trials]
    assert found.best is not None
    assert float(rows[-1]["best_so_far"]) == found.best.value
    assert float(rows[3]["training.lr"]) == found.trials[3].params["training.lr"]
    assert rows[0]["median_angle_deg_high_snr"] == "2.5"
    epochs = _rows(tmp_path / "epochs.csv")
    assert len(epochs) == sum(len(trial.epochs) for trial in found.trials)
    assert {row["epoch"] for row in epochs} == {"1", "2", "3", "4"}
    mattered = _rows(tmp_path / "importance.csv")
    assert {row["parameter"] for row in mattered} == {key for key in params(0) if "inference" not in key}
    assert mattered[0]["parameter"] == "training.lr"
    assert float(mattered[0]["rank_correlation"]) < -0.9


@pytest.mark.usefixtures("story")
def test_the_preset_of_the_best_trial_is_for_a_training_of_any_length(tmp_path: Path) -> None:
    best = _report(tmp_path, outcome()).outcome.best
    assert best is not None
    text = (tmp_path / "best.toml").read_text()
    assert text.startswith("# The best of a search")
    assert not (tmp_path / "found.toml").exists()
    full, over = load_config("full"), load_config("full", tmp_path / "best.toml")
    differs = {key for key in diff_configs(full, over) if key.partition(".")[0] != "physics"}
    assert {"training.lr", "model.width"} <= differs
    assert (over.training.epochs, over.data, over.training.curriculum) == (
        full.training.epochs,
        full.data,
        True,
    )
    assert over.inference == full.inference  # what it drew there has no part in the loss
    drawn = {key for key in best.params if key.startswith("inference.")}
    assert drawn
    assert "without part in the loss, and left out here: nf_mle_iters" in text
    assert {key for key, value in best.params.items() if setting(over, key) != value} <= drawn


BAD = record(3, None, "failed", reason="a loss is not finite")
CRASHED = record(3, None, "failed", reason="killed twice")


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize(
    ("found", "said"),
    [
        (outcome([record(0, 0.5), record(1, 0.6), record(2, 0.7)]), "nothing was better"),
        (
            outcome([record(0, 0.9), record(1, 0.89), record(2, 0.88)]),
            "spread of the losses: 2.3%",
        ),
        (outcome([record(0, 0.9), record(1, 0.5)]), "trials finished: 2 of 3"),
        (outcome([*trials(3), BAD]), "NaN or Inf: 1"),
        (outcome([*trials(3), CRASHED]), "crashed: 1"),
        (outcome([record(1, 0.9), record(2, 0.5), record(3, 0.4)]), "was not measured"),
        (outcome(trials(3), gave_up="too many trials failed"), "given up: too many"),
    ],
)
def test_anything_else_is_no_go_with_its_reason(tmp_path: Path, found: SearchOutcome, said: str) -> None:
    ended = _report(tmp_path, found, 3)
    assert ended.exit_status == 3
    assert said in str(ended.failure)
    assert "\n" not in str(ended.failure)


@pytest.mark.usefixtures("story")
def test_a_search_without_a_complete_trial_has_no_preset_to_offer(tmp_path: Path) -> None:
    assert _report(tmp_path, outcome([replace(CRASHED, number=0)]), 1).exit_status == 3
    assert not (tmp_path / "best.toml").exists()
    stopped = _report(tmp_path, outcome([*trials(3), record(3, 0.8, "running")], stopped_by=2))
    assert (stopped.exit_status, stopped.document["finished"]) == (130, 3)
    assert (tmp_path / "best.toml").exists()

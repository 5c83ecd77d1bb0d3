"""Forks, and what a run keeps when it goes on: its state, its scenes, its command, its threads."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from risctl.cli.documents import write_json
from risctl.cli.runs import read_document

from risctl.cli import training_report, training_run
from risctl.cli.app import main
from risctl.config import load_config
from risctl.data import write_dataset
from risctl.training import Event, StepResult
from tests.cli.tiny import SURFACE, TINY, ask, status_of

Capture = pytest.CaptureFixture[str]
LONGER = "training.epochs=3"
WORDS = tuple(word for word in TINY if not word.startswith(("physics.", "data.")))


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training_report, "draw_curves", lambda trained, _gate=None: trained.run / "none")


def _stopped(step: int, capsys: Capture, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Train until a signal after a step; return the run."""
    original = training_run._keep_status

    def listen(run: Any, record: Any, event: Event) -> None:
        original(run, record, event)
        if isinstance(event, StepResult) and event.step == step:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(training_run, "_keep_status", listen)
        return str(ask(capsys, "train", *arguments, status=143)["run"])


def _killed_fork(capsys: Capture, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Fork, and die before the fork saved anything."""
    before = set(Path("runs/train").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(
            "risctl.training.run_training", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        assert main(["train", "--fork", *arguments]) == 130
    capsys.readouterr()
    (fork,) = set(Path("runs/train").iterdir()) - before
    return str(fork)


def test_an_advanced_fork_goes_on_as_itself_with_a_free_setting_changed(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ask(capsys, "train", *TINY)["run"]
    words = ("--resume", run, "--fork", "training.epochs=4", "training.lr=0.001")
    whole = ask(capsys, "train", *words)["outcome"]
    fork = _stopped(14, capsys, monkeypatch, *words)
    free = "training.checkpoint_seconds=5.0"
    assert _stopped(15, capsys, monkeypatch, "--resume", fork, free) == fork
    found = ask(capsys, "train", "--resume", fork)["outcome"]
    for key in ("best_value", "best_epoch", "first_value", "steps"):
        assert found[key] == whole[key]


def test_a_fork_without_changes_killed_at_once_has_its_own_best(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _stopped(5, capsys, monkeypatch, *TINY)
    assert status_of(run)["best_value"] is not None
    fork = _killed_fork(capsys, monkeypatch, "--resume", run)
    found = ask(capsys, "train", "--resume", fork)["outcome"]
    assert found["first_value"] == found["best_value"]
    assert found["best_epoch"] == 1
    assert (Path(fork) / "checkpoints/best.safetensors").is_file()


def test_a_fork_with_nothing_left_to_train_is_refused(capsys: Capture) -> None:
    run = ask(capsys, "train", *TINY)["run"]
    for arguments in ((), ("training.epochs=1",), ("--dry-run",)):
        assert main(["train", "--resume", run, "--fork", *arguments]) == 2
        message = capsys.readouterr().err
        assert "training.epochs: expected more than 2 (already done)" in message
    assert len(list(Path("runs/train").iterdir())) == 1


def test_a_fork_of_a_run_without_a_saved_state_is_refused_before_anything_is_written(capsys: Capture) -> None:
    run = ask(capsys, "train", *TINY)["run"]
    for path in (Path(run) / "checkpoints").iterdir():
        path.unlink()
    for arguments in ((LONGER,), (LONGER, "--dry-run")):
        assert main(["train", "--resume", run, "--fork", *arguments]) == 2
        assert "none saved yet" in capsys.readouterr().err
    assert len(list(Path("runs/train").iterdir())) == 1


def _dataset() -> None:
    physics = load_config("quick", None, SURFACE).physics
    write_dataset(Path("ds/train"), physics, seed=3, split="train", num_scenes=32, shard_scenes=32)
    write_dataset(Path("ds/val"), physics, seed=3, split="val", num_scenes=24, shard_scenes=24)


def test_a_run_on_part_of_a_dataset_goes_on_with_that_part(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _dataset()
    words = ("--data", "ds", *WORDS, "data.train_scenes=16", "data.val_scenes=8")
    run = _stopped(3, capsys, monkeypatch, *words)
    assert ask(capsys, "train", "--resume", run)["outcome"]["steps"] == 4
    assert ask(capsys, "train", "--resume", run, "--data", "ds")["outcome"]["steps"] == 4
    forked = ask(capsys, "train", "--resume", run, "--fork", LONGER)["run"]
    data = load_config(None, Path(forked) / "config.json").data
    assert (data.train_scenes, data.val_scenes) == (16, 8)


def test_a_number_of_scenes_in_a_file_counts_as_stated(capsys: Capture) -> None:
    _dataset()
    Path("own.toml").write_text("[data]\ntrain_scenes = 16\n")
    document = ask(capsys, "train", "--data", "ds", "--config", "own.toml", "--dry-run", *WORDS)
    data = document["config"]["data"]
    assert (data["train_scenes"], data["val_scenes"]) == (16, 24)


def test_a_resumed_run_keeps_its_threads_unless_told(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    monkeypatch.setattr(training_run, "use_threads", used.append)
    run = ask(capsys, "train", *TINY, "--threads", "2", "--device", "cpu")["run"]
    ask(capsys, "train", "--resume", run)
    ask(capsys, "train", "--resume", run, "--threads", "1")
    assert used == [2, 2, 1]
    record = read_document(Path(run) / "provenance.json")
    assert [entry["threads"] for entry in record["resumed"]] == [2, 1]


def test_a_resumed_run_asks_for_its_device_unless_told(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ask(capsys, "train", *TINY)["run"]
    asked: list[str] = []

    def resolve(name: str) -> str:
        asked.append(name)
        return "cpu"

    monkeypatch.setattr(training_run, "resolve_device", resolve)
    for arguments in ((), ("--device", "cuda:1")):
        ask(capsys, "train", "--resume", run, "--dry-run", *arguments)
    assert asked == ["cpu", "cuda:1"]


def test_a_provenance_that_names_no_threads_is_damaged(capsys: Capture) -> None:
    run = Path(ask(capsys, "train", *TINY)["run"])
    record = read_document(run / "provenance.json") | {"threads": "many"}
    write_json(run / "provenance.json", record)
    assert main(["train", "--resume", str(run)]) == 4
    assert "provenance.json" in capsys.readouterr().err


def test_a_run_goes_on_under_its_own_command_only(capsys: Capture) -> None:
    run = ask(capsys, "train", *TINY)["run"]
    assert main(["overfit", "--resume", run]) == 2
    assert f"risctl train --resume {run}" in capsys.readouterr().err
    gate = ("data.validate_on=train", "data.repeat=true")
    assert main(["overfit", *TINY, *gate]) == 3
    (failed,) = Path("runs/overfit").iterdir()
    capsys.readouterr()
    assert main(["train", "--resume", str(failed)]) == 2
    assert f"risctl overfit --resume {failed}" in capsys.readouterr().err
    assert status_of(failed)["state"] == "failed"
    forked = ask(capsys, "train", "--resume", str(failed), "--fork", LONGER)["run"]
    assert Path(forked).parent == Path("runs/train")

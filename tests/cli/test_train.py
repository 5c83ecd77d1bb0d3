"""`train`: a complete run directory; resumed, forked, from datasets; what does not fit is refused."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from risctl.cli import training_report, training_run
from risctl.cli.app import main
from risctl.cli.runs import read_document
from risctl.cli.training_records import EPOCH, STEP, of_kind, read_metrics
from risctl.config import PhysicsConfig, load_config
from risctl.data import exclusive_lock, write_dataset
from risctl.model.checkpoint import read_checkpoint
from risctl.training import Event, StepResult, StopFlag
from tests.runs.tiny import SURFACE, TINY, ask, status_of

Capture = pytest.CaptureFixture[str]
LAST = Path("checkpoints/last.safetensors")


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _curves_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the curves in one test only: they take longer than the training."""
    if request.function is not test_a_training_leaves_a_complete_run:
        monkeypatch.setattr(training_report, "draw_curves", lambda trained, _gate=None: trained.run / "none")


def _interrupt_after(steps: int, monkeypatch: pytest.MonkeyPatch, number: int = signal.SIGTERM) -> None:
    """Send this process a signal during step `steps` of the next training."""
    original = training_run._keep_status

    def listen(run: Any, record: Any, event: Event) -> None:
        original(run, record, event)
        if isinstance(event, StepResult) and event.step == steps:
            signal.raise_signal(number)

    monkeypatch.setattr(training_run, "_keep_status", listen)


def test_a_training_leaves_a_complete_run(capsys: Capture) -> None:
    document = ask(capsys, "train", *TINY, "--seed", "7")
    run = Path(document["run"])
    assert run.parent == Path("runs/train")
    status = status_of(run)
    assert (status["state"], status["epochs"], status["steps"]) == ("done", 2, 8)
    config = load_config(None, run / "config.json")
    assert (config.training.seed, config.data.seed, config.training.epochs) == (7, 7, 2)
    provenance = read_document(run / "provenance.json")
    assert provenance["seeds"] == {"data.seed": 7, "training.seed": 7}
    assert set(provenance["dataset"]) == {"train", "validation"}
    records = read_metrics(run / "metrics.jsonl")
    assert [record["step"] for record in of_kind(records, STEP)] == list(range(1, 9))
    totals = [record["val"]["total"] for record in of_kind(records, EPOCH)]
    assert document["outcome"]["best_value"] == min(totals)
    assert document["outcome"]["first_value"] == totals[0]
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (run / "checkpoints" / "best.safetensors").is_file()
    assert read_checkpoint(run / LAST).state.config == config.model_dump(mode="json")


def test_the_screen_ends_with_path_best_beside_first_and_next_command(capsys: Capture) -> None:
    assert main(["train", *TINY]) == 0
    captured = capsys.readouterr()
    result, headline, following = captured.out.splitlines()[-3:]
    assert "runs/train/" in result
    assert "validation loss" in headline
    assert "(first " in headline
    assert following.split()[1:3] == ["risctl", "eval"]
    assert any(line.startswith("first batch: R_pred rank") for line in captured.err.splitlines())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_run_goes_on_to_the_same_end(
    number: int, status: int, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path(ask(capsys, "train", *TINY)["run"])
    with monkeypatch.context() as patch:
        _interrupt_after(5, patch, number)
        stopped = ask(capsys, "train", *TINY, status=status)
    run = Path(stopped["run"])
    assert stopped["outcome"]["steps"] == 5
    found = status_of(run)
    assert (found["state"], found["exit_status"], found["steps"]) == ("interrupted", status, 5)
    assert f"risctl train --resume {run}" in found["message"]
    resumed = ask(capsys, "train", "--resume", str(run))
    assert resumed["run"] == str(run)
    assert resumed["outcome"]["steps"] == 8
    assert status_of(run)["state"] == "done"
    assert len(read_document(run / "provenance.json")["resumed"]) == 1
    ours, theirs = read_checkpoint(run / LAST), read_checkpoint(whole / LAST)
    assert all(bool((ours.tensors[name] == theirs.tensors[name]).all()) for name in theirs.tensors)
    mine, reference = (
        [r["total"] for r in of_kind(read_metrics(p / "metrics.jsonl"), STEP)] for p in (run, whole)
    )
    assert mine == reference


def test_a_second_signal_leaves_at_once(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    original = StopFlag.request

    def request(flag: StopFlag, number: int) -> None:
        original(flag, number)
        signal.raise_signal(number)

    monkeypatch.setattr(StopFlag, "request", request)
    _interrupt_after(3, monkeypatch)
    assert main(["train", *TINY]) == 143
    assert capsys.readouterr().err.splitlines()[-1] == "risctl: terminated"
    (run,) = Path("runs/train").iterdir()
    assert status_of(run)["state"] == "interrupted"


def test_a_run_refuses_other_science_and_takes_it_as_a_fork(capsys: Capture) -> None:
    run = ask(capsys, "train", *TINY)["run"]
    for word, stored, wanted in (
        ("training.lr=0.001", "0.0004", "0.001"),
        ("covariance.beta=0.25", "0.3", "0.25"),
        ("physics.num_snapshots=5", "4", "5"),
        ("training.epochs=3", "2", "3"),
    ):
        assert main(["train", "--resume", run, word]) == 2
        message = capsys.readouterr().err
        for part in (word.split("=")[0], stored, wanted, "--fork"):
            assert part in message
    assert main(["train", "--resume", run, "--preset", "full"]) == 2
    assert status_of(run)["state"] == "done"
    assert main(["train", "--resume", run, "training.checkpoint_seconds=5.0"]) == 0
    capsys.readouterr()
    fork = ask(capsys, "train", "--resume", run, "--fork", "training.epochs=3", "training.lr=0.001")
    assert fork["run"] != run
    assert (fork["outcome"]["steps"], fork["outcome"]["epochs"]) == (12, 3)
    assert fork["outcome"]["first_value"] == fork["outcome"]["best_value"]
    record = read_document(Path(fork["run"]) / "provenance.json")
    assert record["forked_from"] == str(Path(run).absolute())
    steps = of_kind(read_metrics(Path(fork["run"]) / "metrics.jsonl"), STEP)
    assert [entry["step"] for entry in steps] == [9, 10, 11, 12]
    assert len(of_kind(read_metrics(Path(run) / "metrics.jsonl"), STEP)) == 8


def test_a_fork_cannot_be_of_another_network(capsys: Capture) -> None:
    run = ask(capsys, "train", *TINY)["run"]
    assert main(["train", "--resume", run, "--fork", "model.width=16"]) == 2
    message = capsys.readouterr().err
    assert "model.width" in message
    assert "16" in message


def test_a_fork_killed_before_it_saved_anything_is_still_that_fork(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ask(capsys, "train", *TINY)["run"]
    words = ("training.epochs=3", "training.lr=0.001")
    whole = ask(capsys, "train", "--resume", run, "--fork", *words)["outcome"]
    with monkeypatch.context() as patch:
        patch.setattr(
            "risctl.training.run_training", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        assert main(["train", "--resume", run, "--fork", *words]) == 130
    capsys.readouterr()
    fork = max(Path("runs/train").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    found = ask(capsys, "train", "--resume", str(fork))["outcome"]
    assert (found["best_value"], found["steps"]) == (whole["best_value"], whole["steps"])
    assert load_config(None, fork / "config.json").training.lr == 0.001


def test_a_run_that_another_process_writes_is_left_alone(capsys: Capture) -> None:
    run = Path(ask(capsys, "train", *TINY)["run"])
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with exclusive_lock(run / ".lock"):
        assert main(["train", "--resume", str(run)]) == 5
    assert "locked" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_run_killed_before_it_saved_anything_begins_anew(capsys: Capture) -> None:
    run = Path(ask(capsys, "train", *TINY)["run"])
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    assert ask(capsys, "train", "--resume", str(run))["outcome"]["steps"] == 8
    assert len(of_kind(read_metrics(run / "metrics.jsonl"), STEP)) == 8


def _datasets(directory: Path) -> None:
    physics = load_config("quick", None, SURFACE).physics
    write_dataset(directory / "train", physics, seed=3, split="train", num_scenes=40, shard_scenes=40)
    write_dataset(directory / "val", physics, seed=3, split="val", num_scenes=24, shard_scenes=24)


def test_datasets_bring_their_physics_and_numbers_of_scenes(capsys: Capture) -> None:
    _datasets(Path("d"))
    words = [word for word in TINY if not word.startswith(("physics.", "data."))]
    run = Path(ask(capsys, "train", "--data", "d", *words)["run"])
    config = load_config(None, run / "config.json")
    assert config.physics == load_config("quick", None, SURFACE).physics
    assert (config.data.source, config.data.seed) == ("store", 3)
    assert (config.data.train_scenes, config.data.val_scenes) == (40, 24)
    dataset = read_document(run / "provenance.json")["dataset"]
    assert [Path(dataset[part]["path"]).name for part in ("train", "validation")] == ["train", "val"]
    assert ask(capsys, "train", "--resume", str(run))["outcome"]["steps"] == 10
    alone = Path(ask(capsys, "train", "--data", "d/train", *words, "data.val_scenes=16")["run"])
    found = read_document(alone / "provenance.json")["dataset"]
    assert found["validation"]["path"] is None


def test_datasets_that_do_not_fit_are_refused(capsys: Capture) -> None:
    _datasets(Path("d"))
    other = PhysicsConfig(num_snapshots=4, num_antennas=8)
    write_dataset(Path("other"), other, seed=0, split="val", num_scenes=8, shard_scenes=8)
    for arguments, part in (
        (("--data", "d/val"), "split"),
        (("--data", "d/train", "--val-data", "d/train"), "split"),
        (("--data", "d/train", "--val-data", "other"), "physics.ris_columns"),
        (("--val-data", "d/val"), "--data"),
        (("--data", "d", "physics.num_snapshots=5"), "physics.*"),
        (("data.source=store",), "--data DIR"),
    ):
        assert main(["train", *arguments]) == 2
        assert part in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_resumed_run_wants_the_scenes_it_began_with(capsys: Capture) -> None:
    _datasets(Path("d"))
    words = [word for word in TINY if not word.startswith(("physics.", "data."))]
    run = ask(capsys, "train", "--data", "d", *words)["run"]
    physics = load_config("quick", None, SURFACE).physics
    write_dataset(Path("e"), physics, seed=3, split="train", num_scenes=40, shard_scenes=20)
    assert main(["train", "--resume", run, "--data", "e", "--val-data", "d/val"]) == 2
    assert "scenes the run began with" in capsys.readouterr().err


def test_dry_run_writes_nothing(capsys: Capture) -> None:
    document = ask(capsys, "train", "--dry-run", *TINY)
    assert document["needs"]["parameters"] > 1000
    assert document["needs"]["memory_bytes"] > 400_000_000
    assert document["config"]["training"]["epochs"] == 2
    assert not Path("runs").exists()


def test_without_tensorboard_the_flag_is_refused(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("risctl.cli.tensorboard.find_spec", lambda _name: None)
    assert main(["train", "--tensorboard", *TINY]) == 2
    assert "tensorboard" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_a_training_that_fails_says_so_in_its_run(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("training.lr=1.0", "training.clip=1e9", "training.max_skipped_fraction=0.0")
    original = training_run._keep_status

    def fail(run: Any, record: Any, event: Event) -> None:
        original(run, record, event)
        if isinstance(event, StepResult) and event.step == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(training_run, "_keep_status", fail)
    assert main(["train", *TINY, *words]) == 5
    (run,) = Path("runs/train").iterdir()
    found = status_of(run)
    assert (found["state"], found["exit_status"]) == ("failed", 5)
    assert "No space left" in found["message"]
    assert json.loads((run / "config.json").read_text())["training"]["lr"] == 1.0

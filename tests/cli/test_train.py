"""`train` and `overfit`: documents, what is printed, signals, exit statuses, flags in what is refused."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from risctl import runs
from risctl.cli.app import main
from risctl.training import StopFlag
from tests.cli.command import Capture, ask, refused
from tests.runs.tiny import TINY, WITHOUT_SCENES, after_step, status_of, without_curves, write_datasets


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    without_curves(monkeypatch)


@pytest.fixture
def signal_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Have the next training send this process a signal after a step."""

    def arrange(step: int, number: int) -> None:
        train = runs.train

        def listened(prepared: Any, listeners: Any, stop: Any, announce: Any) -> runs.Trained:
            listen = after_step(step, lambda: signal.raise_signal(number))
            return train(prepared, [*listeners, listen], stop, announce)

        monkeypatch.setattr(runs, "train", listened)

    return arrange


def test_a_training_prints_one_document_and_what_comes_next(capsys: Capture) -> None:
    assert main(["train", "--json", *TINY, "--seed", "7"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    run = Path(document["run"])
    assert run.parent == Path("runs/train")
    assert (document["schema_version"], document["command"]) == (1, "train")
    assert document["outcome"]["best_value"] == status_of(run)["best_value"]
    assert document["files"] == [str(run / "curves.png")]
    assert (run / "curves.png").stat().st_size > 10_000
    assert runs.read_document(run / "provenance.json")["seeds"] == {"data.seed": 7, "training.seed": 7}
    said = captured.err.splitlines()
    assert said[0] == f"run: {run}"
    assert said[1].startswith("epoch 1/2, step 1/8: loss")
    result, headline, following = said[-3:]
    assert str(run) in result
    assert "validation loss" in headline
    assert "(first " in headline
    assert following == f"next:     risctl eval {run}"


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
@pytest.mark.usefixtures("plain")
def test_a_signal_saves_and_the_command_to_go_on_is_named(
    number: int, status: int, capsys: Capture, signal_after: Callable[[int, int], None]
) -> None:
    signal_after(5, number)
    assert main(["train", "--json", *TINY]) == status
    captured = capsys.readouterr()
    (run,) = Path("runs/train").iterdir()
    again = f"stopped and saved after step 5; go on with: risctl train --resume {run}"
    assert captured.err.splitlines()[-1] == f"risctl: {again}"
    assert json.loads(captured.out)["run"] == str(run)
    assert (status_of(run)["state"], status_of(run)["exit_status"]) == ("interrupted", status)
    resumed = ask(capsys, "train", "--resume", str(run))
    assert (resumed["run"], resumed["outcome"]["steps"]) == (str(run), 8)


def test_a_second_signal_leaves_at_once(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, signal_after: Callable[[int, int], None]
) -> None:
    request = StopFlag.request

    def twice(flag: StopFlag, number: int) -> None:
        request(flag, number)
        signal.raise_signal(number)

    monkeypatch.setattr(StopFlag, "request", twice)
    signal_after(3, signal.SIGTERM)
    assert main(["train", *TINY]) == 143
    assert capsys.readouterr().err.splitlines()[-1] == "risctl: terminated"
    (run,) = Path("runs/train").iterdir()
    assert status_of(run)["state"] == "interrupted"


@pytest.mark.usefixtures("plain")
def test_a_run_refuses_other_science_and_takes_it_as_a_fork(run: Path, capsys: Capture) -> None:
    message = refused(capsys, "train", "--resume", str(run), "training.lr=0.001")
    assert "training.lr: expected 0.0004, which the run began with (a fork" in message
    fork = ask(capsys, "train", "--resume", str(run), "--fork", "training.epochs=3", "training.lr=0.001")
    assert fork["run"] != str(run)
    assert (fork["outcome"]["steps"], fork["outcome"]["epochs"]) == (12, 3)


@pytest.mark.parametrize("command", ["train", "overfit"])
def test_dry_run_writes_nothing(command: str, capsys: Capture) -> None:
    document = ask(capsys, command, "--dry-run", *TINY)
    assert document["needs"]["parameters"] > 1000
    assert document["config"]["training"]["epochs"] == 2
    assert document["writes"].startswith(f"runs/{command}/")
    assert ask(capsys, "overfit", "--dry-run")["config"]["data"]["train_scenes"] == 512
    write_datasets(Path("d"))
    data = ask(capsys, "train", "--dry-run", "--data", "d/train", "--val-data", "d/val", *WITHOUT_SCENES)
    assert (data["config"]["data"]["train_scenes"], data["config"]["data"]["val_scenes"]) == (40, 24)
    assert not Path("runs").exists()


def test_the_gate_shows_figures_and_one_line_says_what_was_missed(capsys: Capture) -> None:
    assert main(["overfit", "--json", *TINY]) == 3
    captured = capsys.readouterr()
    for part in ("The overfit gate", "validation loss", "below 0.5", "steps sanitised", "headline: broken"):
        assert part in captured.err
    caveat = "(not the gate: 32 scenes instead of 512)"
    assert captured.err.splitlines()[-1].startswith(f"risctl: overfit: broken {caveat}: validation loss ")
    assert f"headline: broken {caveat}: " in captured.err
    document = json.loads(captured.out)
    run = Path(document["run"])
    assert document["verdict"] == "broken"
    assert document.items() >= (runs.read_document(run / "overfit.json")).items()
    assert document["files"] == [str(run / "curves.png"), str(run / "overfit.json")]

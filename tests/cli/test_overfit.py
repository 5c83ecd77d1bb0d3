"""`overfit`: a verdict with its figures, whatever it is; settings that make it meaningless are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from risctl.cli import training_report
from risctl.cli.app import main
from risctl.cli.training_run import Prepared
from risctl.errors import CheckFailedError, DivergedError, RisctlError, StorageError
from risctl.training.validation import Validator
from tests.runs.tiny import TINY, ask, status_of

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _curves_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the curves in one test only: they take longer than the training."""
    if request.function is not test_a_network_that_has_not_learned_is_broken:
        monkeypatch.setattr(training_report, "draw_curves", lambda trained, _gate=None: trained.run / "none")


def test_a_network_that_has_not_learned_is_broken(capsys: Capture) -> None:
    document = ask(capsys, "overfit", *TINY, status=3)
    run = Path(document["run"])
    assert run.parent == Path("runs/overfit")
    assert document["verdict"] == "broken"
    written = json.loads((run / "overfit.json").read_text())
    assert written["verdict"] == "broken"
    assert written["checks"] == document["checks"]
    assert {check["name"] for check in written["checks"] if not check["met"]} >= {"validation loss"}
    assert set(written["fingerprints"]) == {"model", "loss", "covariance", "physics", "scenes"}
    assert written["scenes"] == 32
    assert written["is_gate"] is False
    assert written["reason"] is None
    assert (run / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert (status_of(run)["state"], status_of(run)["exit_status"]) == ("failed", 3)
    config = json.loads((run / "config.json").read_text())
    assert config["data"]["validate_on"] == "train"
    assert config["data"]["repeat"]


def test_the_screen_shows_figures_and_one_line_says_what_was_missed(capsys: Capture) -> None:
    assert main(["overfit", *TINY]) == 3
    captured = capsys.readouterr()
    for part in ("The overfit gate", "validation loss", "below 0.5", "steps sanitised", "headline: broken"):
        assert part in captured.out
    last = captured.err.splitlines()[-1]
    caveat = "(not the gate: 32 scenes instead of 512)"
    assert last.startswith(f"risctl: overfit: broken {caveat}: validation loss ")
    assert f"headline: broken {caveat}: " in captured.out


def _failing_validation(monkeypatch: pytest.MonkeyPatch, good: int, error: RisctlError) -> None:
    """Let a training's validations fail after the first `good` ones."""
    original, calls = Validator.__call__, 0

    def call(self: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > good:
            raise error
        return original(self, *args)

    monkeypatch.setattr(Validator, "__call__", call)


@pytest.mark.parametrize("good", [0, 1])
@pytest.mark.parametrize("kind", [DivergedError, CheckFailedError])
def test_a_training_that_fails_is_judged_broken_by_what_it_recorded(
    good: int, kind: type[RisctlError], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _failing_validation(monkeypatch, good, kind("the validation loss is not finite (cov)"))
    document = ask(capsys, "overfit", *TINY, status=3)
    run = Path(document["run"])
    written = json.loads((run / "overfit.json").read_text())
    assert (written["verdict"], written["epochs"]) == ("broken", good)
    assert written["reason"] == "the validation loss is not finite (cov)"
    assert [str(run / "none") in document["files"], written["checkpoint"] is not None] == [good == 1] * 2
    assert document["outcome"]["steps"] == 4 * (good + 1)
    status = status_of(run)
    found = status["state"], status["exit_status"], status["message"]
    assert found == ("failed", 3, "the validation loss is not finite (cov)")


def test_a_resumed_training_that_fails_is_judged_too(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _failing_validation(patch, 1, StorageError("the disk is full"))
        assert main(["overfit", *TINY]) == 5
    (run,) = Path("runs/overfit").iterdir()
    assert not (run / "overfit.json").exists()
    _failing_validation(monkeypatch, 0, DivergedError("not finite"))
    assert main(["overfit", "--resume", str(run), "training.checkpoint_seconds=9"]) == 3
    assert capsys.readouterr().err.splitlines()[-1].endswith(": not finite")
    assert json.loads((run / "overfit.json").read_text())["reason"] == "not finite"


def test_a_misaligned_network_is_not_judged(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def misaligned(*_: object) -> None:
        raise CheckFailedError("not aligned")

    monkeypatch.setattr(Prepared, "check_alignment", misaligned)
    assert main(["overfit", *TINY]) == 3
    assert capsys.readouterr().err.splitlines()[-1] == "risctl: not aligned"
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("training.epochs=31", "training.epochs"),
        ("data.validate_on=val", "data.validate_on"),
        ("data.repeat=false", "data.repeat"),
        ("data.val_scenes=16", "data.val_scenes"),
    ],
)
def test_settings_that_make_it_meaningless_are_refused(word: str, key: str, capsys: Capture) -> None:
    assert main(["overfit", *TINY, word]) == 2
    assert key in capsys.readouterr().err
    assert not Path("runs").exists()


def test_dry_run_writes_nothing(capsys: Capture) -> None:
    document = ask(capsys, "overfit", "--dry-run", "model.head=factors")
    assert document["needs"]["parameters"] > 10_000
    assert document["needs"]["disk_bytes"] > 1_000_000
    assert document["config"]["data"]["train_scenes"] == 512
    assert not Path("runs").exists()

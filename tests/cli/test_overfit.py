"""`overfit`: a verdict with its figures, whatever it is; settings that make it meaningless are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from risctl.cli import training_report
from risctl.cli.app import main
from tests.cli.tiny import TINY, ask, status_of

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
    assert set(written["fingerprints"]) == {"model", "loss", "covariance"}
    assert written["scenes"] == 32
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
    assert last.startswith("risctl: overfit: broken: validation loss ")


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("training.epochs=31", "training.epochs"),
        ("data.validate_on=val", "data.validate_on"),
        ("data.repeat=false", "data.repeat"),
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

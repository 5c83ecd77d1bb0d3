"""`runs`, `verdict`, and runs whose directories are named."""

import io
import sys
from pathlib import Path

import pytest

from risctl.cli.app import main
from risctl.config import load_config
from risctl.runs import RunDirectory
from tests.cli.command import Capture, ask, refused
from tests.runs.tiny import TINY, without_curves


def _failed() -> Path:
    with RunDirectory.create("eval", "quick", load_config("quick"), {}) as run:
        run.end("failed", 5, "no room")
    return run.path


@pytest.mark.parametrize("words", [(), ("list",)])
def test_runs_are_listed(words: tuple[str, ...], run: Path, capsys: Capture) -> None:
    listed = ask(capsys, "runs", *words)["runs"]
    assert [(entry["path"], entry["state"]) for entry in listed] == [(str(run), "done")]
    assert main(["runs", *words]) == 0
    assert str(run) in capsys.readouterr().out


def test_two_runs_are_compared(run: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    without_curves(monkeypatch)
    other = ask(capsys, "train", *TINY, "training.lr=0.001", "--epochs", "1", "--name", "mine")["run"]
    assert other == "runs/train/mine"
    document = ask(capsys, "runs", "compare", str(run), other)
    differing = {entry["key"]: (entry["a"], entry["b"]) for entry in document["settings"]}
    assert differing == {"training.lr": (0.0004, 0.001)}  # a word wins over --epochs
    assert {entry["figure"] for entry in document["figures"]} >= {"validation loss", "K right"}
    assert "does not exist, got runs/train/mine" in refused(capsys, "train", *TINY, "--name", "mine")


def test_words_that_mean_nothing_are_refused(capsys: Capture) -> None:
    for words in (("compare", "a", "b", "c"), ("list", "c")):
        assert "words: expected no more of them, got c" in refused(capsys, "runs", *words)
    assert "words: expected no more" in refused(capsys, "config", "explain", "training.lr", "model.width")
    assert "--seed: expected none" in refused(capsys, "config", "diff", "quick", "full", "--seed", "4")


def test_a_run_can_be_written_elsewhere(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    without_curves(monkeypatch)
    assert ask(capsys, "train", *TINY, "--out", "else/where")["run"] == "else/where"
    assert Path("else/where/checkpoints/best.safetensors").is_file()
    assert not Path("runs").exists()
    Path("file").write_text("")
    assert "file" in refused(capsys, "train", *TINY, "--out", "file/run", status=5)
    assert "no name or out beside it" in refused(capsys, "train", "--resume", "else/where", "--name", "x")


def test_what_failed_is_removed_after_asking(
    run: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = _failed()
    assert "--yes" in main_says(capsys, "runs", "clean")
    assert ask(capsys, "runs", "clean", "--dry-run", "--yes")["runs"] == [str(failed)]
    for answer, there in (("n\n", True), ("y\n", False)):
        terminal = io.StringIO(answer)
        monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys, "stdin", terminal)
        assert main(["runs", "clean"]) == 0
        assert failed.exists() is there
    failed = _failed()
    capsys.readouterr()
    assert ask(capsys, "runs", "clean", "--yes")["removed"]
    assert (failed.exists(), run.exists()) == (False, True)


def main_says(capsys: Capture, *arguments: str) -> str:
    assert main([*arguments]) == 2
    return capsys.readouterr().err


def test_a_verdict_is_a_page_and_a_status(run: Path, capsys: Capture) -> None:
    document = ask(capsys, "verdict", str(run), status=3)
    assert (document["go"], document["model"]) == (False, str(run))
    assert len(document["lines"]) == 9
    assert main(["verdict"]) == 3
    shown = capsys.readouterr()
    assert "type: risctl overfit " in shown.out
    assert shown.err.startswith("risctl: verdict: no-go: ")

"""The commands that check, `check-alignment` and `doctor`: tables, documents, exit statuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from risctl.cli.app import main
from risctl.evaluation.alignment import check, mutants
from risctl.evaluation.alignment.report import Finding
from tests.cli.command import Capture, ask
from tests.runs.tiny import NETWORK, SURFACE

FRESH = ("check-alignment", *SURFACE, *NETWORK, "--scenes", "2")


def test_the_table_shows_both_sides(capsys: Capture) -> None:
    assert main([*FRESH]) == 0
    shown = capsys.readouterr().out
    for part in ("training", "inference", "tikhonov_alpha", "covariance fingerprint", "as they should be"):
        assert part in shown


def test_a_trained_checkpoint_is_aligned_in_another_process(run: Path) -> None:
    command = [sys.executable, "-m", "risctl", "check-alignment", str(run), "--json", "--scenes", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passed"] is True


def test_a_line_that_fails_and_a_survivor_are_status_3(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    unaltered = {"nothing at all": lambda subject, side: subject}
    monkeypatch.setattr(mutants, "alterations", lambda subject, scenes: unaltered)
    document = ask(capsys, *FRESH, "--self-test", status=3)
    assert document["passed"] is True
    assert [mutant["caught"] for mutant in document["mutants"]] == [False, False]
    bad = Finding("equality", "R_blend: largest relative difference", 0.25, "0", False)
    monkeypatch.setattr(check, "core_findings", lambda *_: [bad])
    assert ask(capsys, *FRESH, status=3)["passed"] is False


def test_a_healthy_machine(capsys: Capture) -> None:
    document = ask(capsys, "doctor", "--device", "cpu")
    assert {entry["status"] for entry in document["checks"]} == {"ok"}
    assert document["hardware"]["device"] == "cpu"
    assert list(Path().iterdir()) == []


def test_a_failed_check_of_the_machine_is_status_3(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.linalg, "solve", lambda a, b: 2 * b)
    assert main(["doctor", "--device", "cpu"]) == 3
    captured = capsys.readouterr()
    assert "64 equations is solved with relative residual" in captured.out
    assert captured.err == "risctl: doctor: arithmetic: see the table above\n"
    checks = {entry["name"]: entry["status"] for entry in ask(capsys, "doctor", status=3)["checks"]}
    assert [name for name, status in checks.items() if status == "failed"] == ["arithmetic"]

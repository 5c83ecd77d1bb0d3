"""`doctor`."""

from pathlib import Path

import pytest
import torch

from risctl.cli.app import main
from tests.cli.command import Capture, ask


def test_a_healthy_machine(capsys: Capture) -> None:
    document = ask(capsys, "doctor", "--device", "cpu")
    assert {check["status"] for check in document["checks"]} == {"ok"}
    assert document["hardware"]["device"] == "cpu"
    assert list(Path().iterdir()) == []


def test_a_failed_check_is_status_3(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.linalg, "solve", lambda a, b: 2 * b)
    assert main(["doctor", "--device", "cpu"]) == 3
    captured = capsys.readouterr()
    assert "64 equations is solved with relative residual" in captured.out
    assert captured.err == "risctl: doctor: arithmetic: see the table above\n"


def test_dry_run_shows_the_needs(capsys: Capture) -> None:
    document = ask(capsys, "doctor", "--dry-run")
    assert document["dry_run"]
    assert document["needs"]["parameters"] == 0

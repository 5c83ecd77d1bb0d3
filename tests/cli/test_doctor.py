"""`doctor`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from risctl.cli import doctor
from risctl.cli.app import main
from risctl.errors import CheckFailedError


def test_a_healthy_machine(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--json", "--device", "cpu"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {check["status"] for check in document["checks"]} == {"ok"}
    assert document["hardware"]["device"] == "cpu"
    assert list(tmp_path.iterdir()) == []


def test_a_failed_check_is_status_3(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> str:
        raise CheckFailedError("2 + 2 is 5")

    monkeypatch.setattr(doctor, "_arithmetic", broken)
    assert main(["doctor", "--device", "cpu"]) == 3
    captured = capsys.readouterr()
    assert "2 + 2 is 5" in captured.out
    assert "arithmetic" in captured.err


def test_dry_run_shows_the_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["dry_run"]
    assert document["needs"]["parameters"] == 0

"""A command line whose one document is read back."""

import json
from typing import Any

import pytest

from risctl.cli.app import main

Capture = pytest.CaptureFixture[str]


def ask(capsys: Capture, *arguments: str, status: int = 0) -> dict[str, Any]:
    """Run a command line with `--json` and return its one document."""
    found = main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert found == status, captured.err
    document: dict[str, Any] = json.loads(captured.out)
    return document


def refused(capsys: Capture, *arguments: str, status: int = 2) -> str:
    """Run a command line that ends with one line on stderr, and nothing on stdout; return that line."""
    assert main([*arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("risctl: ")
    assert captured.err.count("\n") == 1
    return captured.err.strip()

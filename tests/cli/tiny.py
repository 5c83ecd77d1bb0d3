"""A surface and a network so small that a whole training takes a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from risctl.cli.app import main

SURFACE = (
    "physics.ris_columns=6",
    "physics.ris_rows=6",
    "physics.num_snapshots=4",
    "physics.num_antennas=4",
    "physics.max_sources=2",
)
NETWORK = (
    "model.width=8",
    "model.depth=1",
    "model.map_rows=4",
    "model.map_columns=8",
    "model.map_ranges=2",
)
LENGTH = (
    "data.train_scenes=32",
    "data.val_scenes=32",
    "training.batch=8",
    "training.epochs=2",
    "training.lr=0.0004",
    "model.dropout=0.05",
)
TINY = (*SURFACE, *NETWORK, *LENGTH)


def ask(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    """Run a command line with `--json` and return its one document."""
    found = main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert found == status, captured.err
    document: dict[str, Any] = json.loads(captured.out)
    return document


def status_of(run: str | Path) -> dict[str, Any]:
    """Return a run's `status.json`."""
    found: dict[str, Any] = json.loads((Path(run) / "status.json").read_text())
    return found

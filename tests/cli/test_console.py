"""Tables and progress off a terminal, and JSON that stays JSON."""

import json
import math

import pytest

from risctl.cli import console
from risctl.text import (
    counted,
    json_text,
    number,
    parameter_list,
    readable_bytes,
    readable_seconds,
    versioned,
)
from tests.cli.command import Capture


def test_plain_tables_align_numbers_right(capsys: Capture) -> None:
    console.show_table("T", ("name", "value"), [("a", 1), ("long", 10.5)])
    assert capsys.readouterr().out.splitlines() == ["T", "  name  value", "  a         1", "  long   10.5"]


def test_an_empty_table_is_its_header(capsys: Capture) -> None:
    console.show_table("T", ("name", "value"), [])
    assert capsys.readouterr().out.splitlines()[0] == "T"


def test_a_cell_cannot_forge_a_line(capsys: Capture) -> None:
    console.show_table("T", ("a", "b"), [("x\n\x1b[31m", "y")])
    assert "\x1b" not in capsys.readouterr().out


def test_rich_tables_on_a_terminal(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    console.show_table("T", ("name", "[bold]"), [("a", "[red]1")])
    shown = capsys.readouterr().out
    assert "[red]1" in shown
    assert "[bold]" in shown


def test_plain_progress_goes_to_stderr_now_and_then(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.5, 1.5, 2.0, 12.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.progress("scenes") as update:
        for done in (1, 2, 3, 4):
            update(done, 4)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["scenes: 2 of 4, 2 s, 0:02 left", "scenes: 4 of 4, 12 s, 0:00 left"]


def test_json_has_no_nan() -> None:
    document = versioned({"a": math.nan, "b": [math.inf, 1.0, (2, math.nan)]})
    assert json.loads(json_text(document)) == {"schema_version": 1, "a": None, "b": [None, 1.0, [2, None]]}


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (24_000, "24.0 kB"), (2e9, "2.0 GB"), (3e12, "3.0 TB")]
)
def test_readable_bytes(count: float, text: str) -> None:
    assert readable_bytes(count) == text


def test_numbers_seconds_and_parameters() -> None:
    assert [number(x) for x in (0.123456, 64, None, float("nan"), True)] == ["0.1235", "64", "–", "–", "True"]
    assert [readable_seconds(seconds) for seconds in (65, 3725.4, None)] == ["1:05", "1:02:05", "–"]
    assert [counted(count, "scene") for count in (0, 1, 2)] == ["0 scenes", "1 scene", "2 scenes"]
    assert parameter_list({"training.lr": 2e-4, "model.head": "structured"}) == "head structured, lr 0.0002"


def test_the_small_table_of_an_evaluation_fits_a_terminal_of_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    columns = ("estimator", "recall 0 dB", "10 dB", "20 dB", "precision", "K right", "GOSPA m", "ratio", "ms")
    row = ("just trained", "0.56", "0.98", "1.00", "0.90", "0.70", "1.35", "0.89", "200")
    console._rich_table("At a glance", columns, [row], [False] + [True] * 8)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(all(cell in line for cell in row) for line in lines)

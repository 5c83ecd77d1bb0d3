"""A search as it runs: a live table of its trials on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias

from risctl.cli.console import PLAIN_INTERVAL, note
from risctl.cli.hpo_state import (
    COMPLETE,
    ELSEWHERE,
    FAILED,
    PRUNED,
    RUNNING,
    Row,
    SearchState,
    number,
    words,
)
from risctl.cli.training_state import readable_seconds

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from risctl.search import SearchEvent

REFRESH_PER_SECOND = 2.0
BAR_WIDTH = 78
LINES_AROUND = 6  # of the table: headline, bar, header, and room for a shell's prompt
COLUMNS = {"trial": 8, "state": 8, "epoch": 5, "loss": 6, "lowest": 6, "time": 7}  # and their least widths
STYLES = {RUNNING: "bold", COMPLETE: "", PRUNED: "dim", FAILED: "red"}
Screen: TypeAlias = Callable[["SearchEvent"], None]


@contextmanager
def search_screen(state: SearchState) -> Iterator[Screen]:
    """Show a search on stderr; the yielded listener takes its events."""
    with _live(state) if sys.stderr.isatty() else _plain(state) as screen:
        yield screen


@contextmanager
def _plain(state: SearchState) -> Iterator[Screen]:
    from risctl.search import TrialEnded, TrialEpoch, TrialRetried, TrialStarted

    last = time.monotonic()

    def show(event: SearchEvent) -> None:
        nonlocal last
        state.update(event)
        if isinstance(event, TrialStarted):
            if event.worker != ELSEWHERE:
                note(state.start_line(event))
        elif isinstance(event, TrialEnded):
            note(state.end_line(event))
        elif isinstance(event, TrialRetried):
            note(state.retry_line(event))
        elif isinstance(event, TrialEpoch) and time.monotonic() - last >= PLAIN_INTERVAL:
            last = time.monotonic()
            note(state.epoch_line(event))

    yield show


@contextmanager
def _live(state: SearchState) -> Iterator[Screen]:
    """Refresh by the clock: trials may be silent for minutes, and their times go on."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=sys.stderr)
    with Live(
        console=console,
        refresh_per_second=REFRESH_PER_SECOND,
        redirect_stdout=False,
        redirect_stderr=True,
        get_renderable=lambda: render(state, max(console.height - LINES_AROUND, 3)),
    ):
        yield state.update


def render(state: SearchState, height: int) -> RenderableType:
    """Return everything a person wants to see of a running search, at most `height` trials of it."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    bar = Table.grid()  # a bar alone does not end its line
    bar.add_row(ProgressBar(total=max(state.trials, 1), completed=state.finished, width=BAR_WIDTH))
    return Group(Text(state.summary(), style="bold"), bar, _trials(state, height))


def _trials(state: SearchState, height: int) -> Table:
    from rich.table import Table

    table = Table(header_style="bold", box=None, padding=(0, 1, 0, 0))
    for column, width in COLUMNS.items():
        side: Literal["left", "right"] = "left" if column == "state" else "right"
        table.add_column(column, justify=side, no_wrap=True, min_width=width)
    table.add_column("parameters", no_wrap=True, overflow="ellipsis")
    best = state.best
    for row in shown_rows(state, height):
        style = "bold green" if row is best else STYLES.get(row.state, "")
        table.add_row(*_cells(state, row), style=style)
    return table


def shown_rows(state: SearchState, height: int) -> list[Row]:
    """Return the trials that fit: those running, the best, the preset's own, then the latest ones."""
    rows = sorted(state.listed, key=lambda row: row.number)
    best = state.best
    first = [row for row in rows if row.state == RUNNING or row is best or state.is_preset(row)]
    others = [row for row in reversed(rows) if row not in first]
    chosen = (first + others)[:height]
    return sorted(chosen, key=lambda row: row.number)


def _cells(state: SearchState, row: Row) -> tuple[str, ...]:
    again = ", again" if row.retries else ""
    name = f"{row.number} preset" if state.is_preset(row) else str(row.number)
    return (
        name,
        row.state + again,
        f"{row.epoch}/{state.epochs}" if row.epoch else "–",
        number(row.value),
        number(row.lowest),
        readable_seconds(state.seconds_of(row)),
        words(row.params),
    )

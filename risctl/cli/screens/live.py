"""A display that follows events: refreshed in place on a terminal, plain lines elsewhere; and its tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from risctl.cli.console import PLAIN_INTERVAL, note
from risctl.cli.signals import STOPPING

if TYPE_CHECKING:
    from risctl.training import StopFlag

BAR_WIDTH = 78
LINES_AROUND = 6  # of a table that fills the screen: headline, bar, header, and room for a shell's prompt
E = TypeVar("E", contravariant=True)


class State(Protocol[E]):
    """Totals of a run, updated from its events, with the lines and the display made of them."""

    def update(self, event: E) -> None:
        """Update from one event."""

    def line(self, event: E) -> str | None:
        """The plain line of an event that is always shown; None for the others."""

    def periodic_line(self, event: E) -> str | None:
        """The plain line of an event that is shown every few seconds; None for the others."""

    def render(self, height: int) -> RenderableType:
        """The whole display, at most `height` rows of a table."""


@contextmanager
def screen(
    state: State[Any], refresh_per_second: float, by_clock: bool, stop: StopFlag | None = None
) -> Iterator[Callable[[Any], None]]:
    """Show a run on stderr; the yielded listener takes its events.

    Args:
        state: what is shown.
        refresh_per_second: of the display on a terminal.
        by_clock: refresh without events, too.
        stop: once set, the display on a terminal says that the run is stopping.
    """
    live = sys.stderr.isatty()
    with _live(state, refresh_per_second, by_clock, stop) if live else _plain(state) as listener:
        yield listener


@contextmanager
def _plain(state: State[Any]) -> Iterator[Callable[[Any], None]]:
    last = time.monotonic() - PLAIN_INTERVAL

    def show(event: Any) -> None:
        nonlocal last
        state.update(event)
        line = state.line(event)
        if line is None and time.monotonic() - last >= PLAIN_INTERVAL:
            line = state.periodic_line(event)
            last = last if line is None else time.monotonic()
        if line is not None:
            note(line)

    yield show


@contextmanager
def _live(
    state: State[Any], refresh_per_second: float, by_clock: bool, stop: StopFlag | None
) -> Iterator[Callable[[Any], None]]:
    console = Console(file=sys.stderr)

    def shown() -> RenderableType:
        display = state.render(max(console.height - LINES_AROUND, 3))
        stopping = stop is not None and stop.requested is not None
        return Group(display, Text(STOPPING, style="red")) if stopping else display

    with Live(
        console=console,
        auto_refresh=by_clock,
        refresh_per_second=refresh_per_second,
        redirect_stdout=False,
        redirect_stderr=True,
        get_renderable=shown,
    ) as live:
        last = 0.0

        def show(event: Any) -> None:
            nonlocal last
            state.update(event)
            if not by_clock and time.monotonic() - last >= 1 / refresh_per_second:
                last = time.monotonic()
                live.refresh()

        yield show
        if not by_clock:
            live.refresh()


def bar(done: int, total: int) -> Table:
    """A progress bar on a line of its own."""
    line = Table.grid()  # a bar alone does not end its line
    line.add_row(ProgressBar(total=max(total, 1), completed=done, width=BAR_WIDTH))
    return line


def table(*columns: str) -> Table:
    """An empty table without borders; the first column is aligned left, the others right."""
    made = Table(header_style="bold", box=None, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        made.add_column(column, justify="right" if i else "left", no_wrap=True)
    return made

"""A training as it runs: a live table on a terminal, plain lines every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from risctl.cli.console import PLAIN_INTERVAL, note
from risctl.cli.training_state import TrainingState, readable_seconds

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from risctl.training import Event

REFRESH_PER_SECOND = 4.0
BAR_WIDTH = 78
METRIC_NAMES = {
    "nmse_blend": "NMSE of R_blend",
    "nmse_pred": "NMSE of R_pred",
    "count_accuracy": "source count right",
    "median_angle_deg_high_snr": "angle deg, >= 10 dB",
    "median_range_m_high_snr": "range m, >= 10 dB",
}


class Screen(Protocol):
    """Shows an event."""

    def __call__(self, event: Event) -> None:
        """Show it."""
        ...


@contextmanager
def training_screen(state: TrainingState) -> Iterator[Screen]:
    """Show a training on stderr; the yielded listener takes its events."""
    with _live(state) if sys.stderr.isatty() else _plain(state) as screen:
        yield screen


@contextmanager
def _plain(state: TrainingState) -> Iterator[Screen]:
    from risctl.training import EpochResult, FirstBatch, StepResult

    last = time.monotonic() - PLAIN_INTERVAL

    def show(event: Event) -> None:
        nonlocal last
        state.update(event)
        if isinstance(event, FirstBatch):
            note(f"first batch: {', '.join(first_batch_words(state))}")
        elif isinstance(event, EpochResult):
            note(state.epoch_line())
        elif isinstance(event, StepResult) and time.monotonic() - last >= PLAIN_INTERVAL:
            last = time.monotonic()
            note(state.step_line())

    yield show


@contextmanager
def _live(state: TrainingState) -> Iterator[Screen]:
    from rich.console import Console
    from rich.live import Live

    console = Console(file=sys.stderr)
    with Live(
        console=console,
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=True,
        get_renderable=lambda: render(state),
    ) as live:
        last = 0.0

        def show(event: Event) -> None:
            nonlocal last
            state.update(event)
            if time.monotonic() - last >= 1 / REFRESH_PER_SECOND:
                last = time.monotonic()
                live.refresh()

        yield show
        live.refresh()


def first_batch_words(state: TrainingState) -> list[str]:
    """Say rank and norm of each covariance of the first batch."""
    first = state.first_batch
    if first is None:
        return []
    return [f"R_{name} rank {rank:.3g}, norm {first.norms[name]:.3g}" for name, rank in first.ranks.items()]


def render(state: TrainingState) -> RenderableType:
    """Return everything a person wants to see of a running training."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    tables = Table.grid(padding=(0, 2))
    tables.add_row(_losses(state), Group(_groups(state), Text(), _figures(state)))
    return Group(Text(_headline(state), style="bold"), _bar(state), tables)


def _headline(state: TrainingState) -> str:
    left = readable_seconds(state.seconds_left())
    parts = [state.position(), f"{state.speed:.0f} scenes/s", f"{left} left"]
    if state.epoch is not None and state.start_value is not None:
        parts.append(f"best {state.epoch.best_value:.4g}, first {state.start_value:.4g}")
    return "  ".join(parts)


def _bar(state: TrainingState) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    done = 0 if state.step is None else state.step.step
    line = Table.grid()  # a bar alone does not end its line
    line.add_row(ProgressBar(total=max(state.total_steps, 1), completed=done, width=BAR_WIDTH))
    return line


def _losses(state: TrainingState) -> Table:
    table = _table("losses", "raw", "weighted", "valid.")
    if state.step is None:
        return table
    weights = state.weights(state.step.epoch)
    validated = {} if state.epoch is None else state.epoch.val
    for name, raw in state.step.terms.items():
        weight = weights.get(name, 0.0)
        table.add_row(name, _number(raw), _number(weight * raw), _number(validated.get(name)))
    total = _number(state.step.total), _number(validated.get("total"))
    table.add_row("total", "", *total, style="bold")
    for name, value in state.step.detection.items():
        table.add_row(f"+ {name}", _number(value), "", "", style="dim")
    return table


def _groups(state: TrainingState) -> Table:
    table = _table("parameters", "rate", "gradient")
    if state.step is not None:
        for group, rate in state.step.lr.items():
            table.add_row(group, f"{rate:.1e}", _number(state.step.grad_norm.get(group)))
        table.add_row("moved by", "", _number(state.step.moved))
        table.add_row("skipped steps", "", str(state.skipped), style="red" if state.skipped else "")
        table.add_row("sanitised", "", str(state.sanitised), style="red" if state.sanitised else "")
    return table


def _figures(state: TrainingState) -> Table:
    table = _table("validation", "")
    metrics = {} if state.epoch is None else state.epoch.metrics
    for name, words in METRIC_NAMES.items():
        if name in metrics:
            table.add_row(words, _number(metrics[name]))
    first = state.first_batch
    if first is not None:
        for name, rank in first.ranks.items():
            table.add_row(f"first R_{name}", f"rank {rank:.3g}, norm {first.norms[name]:.3g}", style="dim")
    return table


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(header_style="bold", box=None, padding=(0, 1, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    return table


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.3g}"

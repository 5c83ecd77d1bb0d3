"""Output for people: rich tables and bars on a terminal, plain lines every few seconds elsewhere.

Everything goes through `sys.stdout` as it is at the moment of the call: `--json` moves it to stderr.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from risctl.errors import one_line
from risctl.text import Document, readable_bytes, readable_seconds

if TYPE_CHECKING:
    from risctl.config import Config
    from risctl.runs import Needs

Update = Callable[[int, int], None]
NUMBER = re.compile(r"[-+]?\d|[-–]?$|all$|nan|–")
FIRST_INTERVAL, PLAIN_INTERVAL = 1.0, 5.0  # seconds until the first plain progress line, and between others


def say(text: str = "") -> None:
    """Print one line of human output."""
    print(text, flush=True)


def note(text: str) -> None:
    """Print one line on stderr: notes that are no part of the result."""
    print(text, file=sys.stderr, flush=True)


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; columns of numbers are right-aligned, columns of text left-aligned."""
    texts = [[one_line(str(cell)) for cell in row] for row in rows]
    numeric = [all(_is_numeric(row[i]) for row in texts) for i in range(len(columns))]
    if sys.stdout.isatty():
        _rich_table(title, columns, texts, numeric)
    else:
        _plain_table(title, columns, texts, numeric)


def _is_numeric(cell: str) -> bool:
    """Whether a cell starts like a number; a dash stands for a missing one."""
    return bool(NUMBER.match(cell))


def _rich_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]
) -> None:
    table = Table(title=escape(title), title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    table.show_edge, table.pad_edge, table.padding = False, False, (0, 1, 0, 0)  # 80 columns are few
    for column, right in zip(columns, numeric, strict=True):
        table.add_column(escape(column), justify="right" if right else "left", no_wrap=right)
    for row in rows:
        table.add_row(*(f"[dim]{escape(cell)}[/dim]" if cell.endswith("*") else escape(cell) for cell in row))
    Console(file=sys.stdout).print(table)


def _plain_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[bool]
) -> None:
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    say(title)
    for row in [columns, *rows]:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        say("  " + "  ".join(cells).rstrip())


@contextmanager
def progress(label: str) -> Iterator[Update]:
    """Show progress on stderr; the yielded function takes (items finished, items in all)."""
    with _rich_progress(label) if sys.stderr.isatty() else _plain_progress(label) as update:
        yield update


@contextmanager
def _rich_progress(label: str) -> Iterator[Update]:
    began = time.monotonic()

    class Left(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(time_left(time.monotonic() - began, task.completed, task.total))

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Left())
    with Progress(*columns, console=Console(file=sys.stderr)) as bar:
        task = bar.add_task(label, total=None, visible=False)  # until the total is known
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


@contextmanager
def _plain_progress(label: str) -> Iterator[Update]:
    began = time.monotonic()
    following = began + FIRST_INTERVAL

    def update(done: int, total: int) -> None:
        nonlocal following
        now = time.monotonic()
        if now >= following:
            following = now + PLAIN_INTERVAL
            note(f"{label}: {done} of {total}, {now - began:.0f} s, {time_left(now - began, done, total)}")

    yield update


def time_left(spent: float, done: float, total: float | None) -> str:
    """The time left in words, as far as what is done tells."""
    seconds = spent * (total - done) / done if total and done else None
    return f"{readable_seconds(seconds)} left"


def show_pictures(pictures: Sequence[tuple[Path, str]]) -> None:
    """Name every picture that was drawn and say what it shows."""
    for path, caption in pictures:
        say(f"{path}  {caption}".rstrip())


def closing(result: object, headline: str, next_command: str) -> None:
    """End a command: where the result is, its headline figure, what to type next."""
    say()
    say(f"result:   {result}")
    say(f"headline: {headline}")
    say(f"next:     {next_command}")


def dry_run(
    command: str,
    config: Config,
    needs: Needs,
    writes: str | Path | None,
    seconds: float | None = None,
    work: str | None = None,
) -> Document:
    """Show what would run and what it needs.

    Args:
        command: its name.
        config: resolved settings.
        needs: parameters, disk and memory.
        writes: what the command would write, None for nothing.
        seconds: how long it would take here, None if that was not measured.
        work: what it would do, in numbers.
    """
    from risctl.config import fingerprint

    parameters = f"{needs.parameters:,}" if needs.parameters else "none are trained or read"
    facts = {
        "would do": work,
        "would write": str(writes or "nothing"),
        "time": None
        if seconds is None
        else f"about {readable_seconds(seconds)}, from a moment of its work here",
        "parameters": parameters,
        "disk": readable_bytes(needs.disk_bytes),
        "memory": f"about {readable_bytes(needs.memory_bytes)}",
        "settings": f"fingerprint {fingerprint(config)}; see them by: risctl config show",
    }
    say(f"{command}: nothing was written")
    for name, text in facts.items():
        if text is not None:
            say(f"  {name:<11}  {text}")
    return {
        "command": command,
        "dry_run": True,
        "config": config.model_dump(mode="json"),
        "fingerprint": fingerprint(config),
        "writes": None if writes is None else str(writes),
        "seconds": seconds,
        "needs": asdict(needs),
    }

"""Style of all pictures: colours that survive colour blindness and grey print, fonts, saving.

Figures are made as objects, without pyplot: nothing global is touched and no display is needed.
Colours: Okabe, Ito, "Color universal design" (2008); each comes with a marker of its own.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from risctl.data.atomic import write_atomically
from risctl.registry import estimator_names

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, FAINT = "#222222", "#8a8a8a"
DPI = 180
PICTURES = (".png", ".pdf", ".svg")
Drawing: TypeAlias = "Callable[[], Figure]"
"""Draws a picture when it is called."""
LETTER, HANDLE = 0.075, 0.65  # inches of a legend's letter and of its line with the space around it


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that many inches, laid out so that nothing overlaps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.06)  # type: ignore[union-attr,call-arg]
    return figure


def dress(axes: Axes, xlabel: str, ylabel: str, title: str = "") -> None:
    """Label the axes and give them a light grid behind the data."""
    axes.set_xlabel(xlabel, fontsize=9)
    axes.set_ylabel(ylabel, fontsize=9)
    axes.set_title(title, fontsize=10, loc="left", color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    axes.grid(True, which="major", color="#dddddd", linewidth=0.6)
    axes.grid(True, which="minor", color="#eeeeee", linewidth=0.4)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def styles_of(names: Sequence[str]) -> list[tuple[str, str]]:
    """Colour and marker of each estimator: the registry's have their own in every picture.

    Others (another model, another program's answers) take what the registry leaves, in the order given.
    """
    registered = estimator_names()
    free = count(len(registered))
    places = [registered.index(name) if name in registered else next(free) for name in names]
    return [(COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]) for place in places]


def number(value: float | None) -> float:
    """The value, NaN (a gap in a line) for none."""
    return float("nan") if value is None else value


def log_scale(axes: Axes) -> None:
    """Make the vertical axis of what was drawn logarithmic; zero and below, which it lacks, leave gaps.

    Ticks are at 1, 2 and 5, over many decades at 1, over less than a factor of four at round steps.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axes.set_yscale("log", nonpositive="mask")
    low, high = axes.get_ylim()
    if high < 4 * low:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    else:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def colour_bar(figure: Figure, drawn: ScalarMappable, axes: Any, label: str, **how: Any) -> None:
    """Put a labelled colour bar beside the axes."""
    bar = figure.colorbar(drawn, ax=axes, **how)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)


def hollow_handle() -> Artist:
    """The legend's mark of what is drawn hollow."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=FAINT, marker="o", markersize=5, markerfacecolor="white", linestyle="")


def legend_below(figure: Figure, handles: Sequence[Artist], labels: Sequence[str], columns: int = 6) -> None:
    """Put one legend for all panels under them, where it covers nothing."""

    def width(columns: int) -> float:
        """About how many inches the labels take, column after column filled."""
        rows = -(-len(labels) // columns)
        widest = [max(map(len, labels[i : i + rows])) for i in range(0, len(labels), rows)]
        return sum(LETTER * letters + HANDLE for letters in widest)

    columns = min(columns, max(len(labels), 1))
    while columns > 1 and width(columns) > figure.get_figwidth():
        columns -= 1
    columns = -(-len(labels) // -(-len(labels) // columns))  # as few as the rows need: none is left alone
    below: dict[str, Any] = {"loc": "outside lower center", "ncols": columns}
    figure.legend(handles, labels, frameon=False, fontsize=9, handlelength=2.6, **below)


def save_figure(figure: Figure, path: Path) -> Path:
    """Write the figure in the format of the suffix, one of `PICTURES`, whole or not at all.

    PDF and SVG carry no date, and PDF embeds its fonts as TrueType, as journals ask for.

    Raises:
        StorageError: disk full, permission denied, and the like.
    """
    import matplotlib

    kind = path.suffix.lower().removeprefix(".")
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(kind)
    out = io.BytesIO()
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.hashsalt": "risctl"}):
        figure.savefig(out, format=kind, dpi=DPI, metadata=undated)
    write_atomically(path, out.getvalue())
    return path

"""How a training went: losses, their terms, accuracy, learning rates and gradient norms over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from risctl.plots.style import COLOURS, FAINT, INK, dress, log_scale, new_figure, number
from risctl.training.metrics import FIGURES, Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Picture

Entry = Mapping[str, Any]
MAX_INSIDE = 6  # a longer legend stands beside its panel
DASHES = ("-", "--", ":")
HUES = COLOURS[:6]  # without black and yellow


@dataclass(frozen=True)
class Curves:
    """Records of a training.

    Attributes:
        steps: one entry a recorded step: `step`, raw `terms`, and `lr` and `grad_norm` by parameter group.
        epochs: one entry a validated epoch: `step`, raw terms in `train` and `val`, `metrics` by name; `val`
            has its weighted `total`, too.
        weights: of the terms in the validation total.
        gate: validation loss to get below, None where there is none.
    """

    steps: Sequence[Entry]
    epochs: Sequence[Entry]
    weights: Mapping[str, float]
    gate: float | None = None


def curves_figure(curves: Curves, title: str) -> Picture:
    """Draw six panels over the optimiser's steps; a figure that is missing or not finite leaves a gap."""
    figure = new_figure(13.0, 7.0)
    loss, terms, shares, errors, rates, norms = panels = list(figure.subplots(2, 3).flat)
    dress(loss, "step", "loss", "Total")
    dress(terms, "step", "weight x term", "Validation, by term")
    dress(shares, "step", "share", "Covariances and count, validation")
    dress(errors, "step", "degrees, metres", "Errors, validation")
    dress(rates, "step", "learning rate", "Learning rates")
    dress(norms, "step", "norm before clipping", "Gradient norms")
    _loss(loss, curves)
    at = [entry["step"] for entry in curves.epochs]
    for i, (name, weight) in enumerate(curves.weights.items()):
        values = [weight * value for value in _values(curves.epochs, "val", name)]
        colour, style = HUES[i % len(HUES)], DASHES[i // len(HUES) % len(DASHES)]
        terms.plot(at, values, color=colour, linestyle=style, linewidth=1.2, label=name)
    _figures(shares, curves, [figure for figure in FIGURES if not figure.unit])
    shares.set_ylim(0, 1.05)
    _figures(errors, curves, [figure for figure in FIGURES if figure.unit])
    _groups(rates, curves, "lr")
    _groups(norms, curves, "grad_norm")
    for i, kind in enumerate(("skipped", "sanitised")):
        marked = [entry["step"] for entry in curves.steps if entry.get(kind)]
        for j, step in enumerate(marked):
            label = f"{kind}: {len(marked)}" if j == 0 else None
            norms.axvline(step, color=COLOURS[1 + 2 * i], linewidth=0.8, linestyle=DASHES[i + 1], label=label)
    for axes in (loss, terms, errors, norms):
        log_scale(axes)
    for axes in panels:
        axes.set_xlim(left=0)
        handles, labels = axes.get_legend_handles_labels()
        if labels:
            beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if len(labels) > MAX_INSIDE else {}
            axes.legend(handles, labels, fontsize=7, frameon=False, **beside)
    figure.suptitle(title, fontsize=11, color=INK)
    return figure


def _loss(axes: Axes, curves: Curves) -> None:
    """Draw all terms under the same weights throughout, whatever was differentiated."""
    steps = [entry["step"] for entry in curves.steps]
    each = _totals(curves.steps, "terms", curves.weights)
    axes.plot(steps, each, color=FAINT, linewidth=0.7, alpha=0.7, label="each step")
    at = [entry["step"] for entry in curves.epochs]
    training = _totals(curves.epochs, "train", curves.weights)
    axes.plot(at, training, color=COLOURS[1], linewidth=1.4, label="training")
    val = _values(curves.epochs, "val", "total")
    axes.plot(at, val, color=COLOURS[0], marker="o", markersize=3, linewidth=1.6, label="validation")
    finite = [(value, step) for value, step in zip(val, at, strict=True) if value == value]
    if finite:
        best, step = min(finite)
        axes.plot([step], [best], "o", color=INK, markersize=7, fillstyle="none", label=f"best {best:.3g}")
    if curves.gate is not None:
        label = f"gate {curves.gate:g}"
        axes.axhline(curves.gate, color=COLOURS[2], linestyle="--", linewidth=1, label=label)


def _figures(axes: Axes, curves: Curves, figures: Sequence[Figure]) -> None:
    at = [entry["step"] for entry in curves.epochs]
    for i, figure in enumerate(figures):
        values = _values(curves.epochs, "metrics", figure.name)
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(at, values, color=colour, marker="o", markersize=3, linewidth=1.4, label=figure.label)


def _groups(axes: Axes, curves: Curves, key: str) -> None:
    steps = [entry["step"] for entry in curves.steps]
    for i, group in enumerate(curves.steps[-1][key] if curves.steps else ()):
        axes.plot(steps, _values(curves.steps, key, group), color=COLOURS[i], linewidth=1, label=group)


def _totals(entries: Sequence[Entry], key: str, weights: Mapping[str, float]) -> list[float]:
    """Weighted sums of raw terms."""
    return [sum(weight * _value(entry, key, name) for name, weight in weights.items()) for entry in entries]


def _values(entries: Sequence[Entry], key: str, name: str) -> list[float]:
    return [_value(entry, key, name) for entry in entries]


def _value(entry: Entry, key: str, name: str) -> float:
    return number((entry.get(key) or {}).get(name))

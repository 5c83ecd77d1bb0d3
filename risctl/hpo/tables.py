"""The tables of a search as CSV: trials, their epochs, importance of the parameters."""

from __future__ import annotations

from collections.abc import Sequence

from risctl.evaluation.files import csv_text
from risctl.hpo.importance import Importance
from risctl.hpo.plan import TrialRecord
from risctl.training.metrics import FIGURES

TRIALS, EPOCHS, IMPORTANCE = "trials.csv", "epochs.csv", "importance.csv"
METRICS = tuple(figure.name for figure in FIGURES)


def trials_csv(trials: Sequence[TrialRecord], keys: Sequence[str]) -> str:
    """Return one line a trial: history, secondary figures and parallel coordinates in one table."""
    header = ["trial", "state", "loss", "best_so_far", "epochs", "seconds", "deaths", "reason", *METRICS]
    lines, lowest = [], None
    for trial in trials:
        if trial.state == "complete" and trial.value is not None:
            lowest = trial.value if lowest is None else min(lowest, trial.value)
        figures = [trial.secondary.get(name) for name in METRICS]
        params = [trial.params.get(key) for key in keys]
        head = [trial.number, trial.state, trial.value, lowest, len(trial.epochs), round(trial.seconds, 3)]
        lines.append([*head, len(trial.deaths), trial.reason, *figures, *params])
    return csv_text([*header, *keys], lines)


def epochs_csv(trials: Sequence[TrialRecord]) -> str:
    """Return one line an epoch of every trial: its validation loss."""
    lines = ([trial.number, i + 1, loss] for trial in trials for i, loss in enumerate(trial.epochs))
    return csv_text(["trial", "epoch", "loss"], lines)


def importance_csv(mattered: Sequence[Importance]) -> str:
    """Return one line a parameter; empty below the header for too few trials."""
    lines = ([e.key, e.share, e.chance, e.above_chance, e.trend, e.clear] for e in mattered)
    return csv_text(
        ["parameter", "importance", "by_chance", "above_chance", "rank_correlation", "clear_trend"], lines
    )


def direction(entry: Importance) -> str:
    """Say which way the loss goes."""
    if entry.trend is None:
        return "no order"
    better = "larger" if entry.trend < 0 else "smaller"
    said = f"{better} is better" if entry.clear else "no clear trend"
    return f"{said} (rank correlation {entry.trend:+.2f})"

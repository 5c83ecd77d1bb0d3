"""Files of a search: trials, epochs and importance of the parameters as CSV, the best trial as a preset."""

from collections.abc import Sequence
from pathlib import Path

from risctl.config import Config
from risctl.config.toml import tables_to_toml
from risctl.evaluation.files import csv_text
from risctl.hpo.importance import Importance, has_effect
from risctl.hpo.plan import Params, TrialRecord
from risctl.hpo.trial import trial_config
from risctl.text import number, parameter_list
from risctl.training.metrics import FIGURES

TRIALS, EPOCHS, IMPORTANCE = "trials.csv", "epochs.csv", "importance.csv"
BEST = "best.toml"
# What defines the network and the loss it was chosen by, and of the training what the length does not decide.
WHOLE_SECTIONS = ("physics", "covariance", "model", "loss")
OF_TRAINING = (
    "batch",
    "accumulate",
    "lr",
    "head_lr_factor",
    "weight_decay",
    "warmup_fraction",
    "clip",
    "ema_decay",
    "precision",
)
METRICS = tuple(figure.name for figure in FIGURES)


def trials_csv(trials: Sequence[TrialRecord], keys: Sequence[str]) -> str:
    """One line per trial: history, secondary figures and parallel coordinates in one table."""
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
    """One line per epoch of every trial: its validation loss."""
    lines = ([trial.number, i + 1, loss] for trial in trials for i, loss in enumerate(trial.epochs))
    return csv_text(["trial", "epoch", "loss"], lines)


def importance_csv(mattered: Sequence[Importance]) -> str:
    """One line per parameter; empty below the header for too few trials."""
    lines = ([e.key, e.share, e.chance, e.above_chance, e.trend, e.clear] for e in mattered)
    return csv_text(
        ["parameter", "importance", "by_chance", "above_chance", "rank_correlation", "clear_trend"], lines
    )


def direction(entry: Importance) -> str:
    """The direction in which a parameter lowers the loss, in words."""
    if entry.trend is None:
        return "no order"
    better = "larger" if entry.trend < 0 else "smaller"
    said = f"{better} is better" if entry.clear else "no clear trend"
    return f"{said} (rank correlation {entry.trend:+.2f})"


def best_preset(config: Config, best: TrialRecord, preset: TrialRecord | None, run: Path) -> str:
    """What the search decided, and what it was decided under, to be laid over a preset of any length.

    Settings of inference are left out: the loss that chose the trial does not depend on them.
    """
    trained = trial_config(config, best.params).model_dump(mode="json")
    tables = {name: trained[name] for name in WHOLE_SECTIONS}
    tables["training"] = {key: trained["training"][key] for key in OF_TRAINING}
    chosen, drawn = split_parameters(best.params)
    for key in chosen:
        section, _, name = key.partition(".")
        tables[section][name] = trained[section][name]
    against = "" if preset is None else f"; the preset's own: {number(preset.value)}"
    lines = [
        f"# The best of a search, trial {best.number} of {run}:",
        f"# validation loss {number(best.value)}{against}",
        f"# {parameter_list(chosen)}",
        "# Length and scenes are those of the preset that it is laid over:",
        f"# risctl train --preset full --config {run / BEST}",
    ]
    if drawn:
        lines.append(f"# Drawn, but without part in the loss, and left out here: {parameter_list(drawn)}")
    return "\n".join(lines) + "\n\n" + tables_to_toml(tables)


def split_parameters(params: Params) -> tuple[Params, Params]:
    """The parameters that the loss depends on, and those of inference, which it does not."""
    drawn = {key: value for key, value in params.items() if not has_effect(key)}
    return {key: value for key, value in params.items() if key not in drawn}, drawn

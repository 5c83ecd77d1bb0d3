"""The best trial as presets: the trial itself, and what it found for a training of another length."""

from __future__ import annotations

from pathlib import Path

from risctl.config import Config
from risctl.config.toml import tables_to_toml, to_toml
from risctl.hpo.plan import TrialRecord
from risctl.hpo.trial import trial_config
from risctl.text import number, parameter_list

BEST, FOUND = "best.toml", "found.toml"
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


def best_preset(config: Config, best: TrialRecord, preset: TrialRecord | None, run: Path) -> str:
    """Return the trial as a preset: every setting, so that `train --config` repeats it."""
    against = "" if preset is None else f"; the preset's own: {number(preset.value)}"
    trained = trial_config(config, best.params)
    without = trained.model_copy(update={"search": Config().search})
    lines = [
        f"# The best of a search, trial {best.number} of {run}:",
        f"# validation loss {number(best.value)}{against}",
        f"# {parameter_list(best.params)}",
        f"# This is the whole trial, length and scenes included: risctl train --config {run / BEST}",
        f"# With another length and other scenes: risctl train --preset full --config {run / FOUND}",
    ]
    return "\n".join(lines) + "\n\n" + to_toml(without)


def found_preset(config: Config, best: TrialRecord, run: Path) -> str:
    """Return what the search decided and what it was decided under, to be laid over another preset."""
    trained = trial_config(config, best.params).model_dump(mode="json")
    tables = {name: trained[name] for name in WHOLE_SECTIONS}
    tables["training"] = {key: trained["training"][key] for key in OF_TRAINING}
    for key in best.params:
        section, _, name = key.partition(".")
        tables.setdefault(section, {})[name] = trained[section][name]
    text = (
        f"# What a search found (trial {best.number} of {run}), over a preset that gives length and scenes:\n"
    )
    text += f"# risctl train --preset full --config {run / FOUND}\n"
    return f"{text}\n{tables_to_toml(tables)}"

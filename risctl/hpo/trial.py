"""One trial: its configuration and its training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from risctl.config import Config, parse_section
from risctl.config.search import setting
from risctl.hpo.plan import Params

if TYPE_CHECKING:
    from risctl.training import TrainingPlan


def preset_parameters(config: Config) -> Params | None:
    """The configuration's own values of the searched settings; None if the space does not hold one."""
    own: dict[str, Any] = {key: setting(config, key) for key in config.search.parameters}
    held = all(parameter.holds(own[key]) for key, parameter in config.search.parameters.items())
    return own if held else None


def with_parameters(config: Config, params: Params) -> Config:
    """The configuration `config` with the settings of `params`.

    Raises:
        InputError: they do not fit the other settings.
    """
    values = config.model_dump()
    for key, value in params.items():
        section, _, name = key.partition(".")
        values[section][name] = value
    return parse_section(Config, values, "trial")


def trial_config(config: Config, params: Params) -> Config:
    """Configuration of a trial: `params`, the length of trials, neither curriculum nor weight average.

    The loss keeps its weights whatever the trial: the validation totals of all trials are comparable.
    """
    search = config.search
    fixed: Params = {
        "training.epochs": search.epochs,
        "training.early_stop_patience": search.patience,
        "training.beta_jitter": search.beta_jitter,
        "training.curriculum": False,
        "training.swa_fraction": 0.0,
    }
    return with_parameters(config, {**params, **fixed})


def trial_plan(config: Config, device: str) -> TrainingPlan:
    """Training of a trial; its scenes are streams, the same in every trial."""
    from risctl.training import TrainingPlan

    return TrainingPlan.from_config(config, device=device)

"""One trial: its configuration, and the settings that make trials comparable."""

import json
from collections.abc import Mapping
from typing import Any

from risctl.config import Config, flatten, parse_section
from risctl.config.former import current_name, current_values
from risctl.config.search import setting
from risctl.errors import InputError
from risctl.hpo.plan import Params, SearchPlan
from risctl.training.run import FREE

SECTIONS = ("physics", "covariance", "model", "loss", "training", "data", "inference", "search")
MAY_CHANGE = FREE | {"search.trials", "search.space", "data.prefetch_workers"}


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

    Loss weights and scenes are the same in every trial: the validation totals of all are comparable.
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


def settings_of(plan: SearchPlan) -> dict[str, Any]:
    """The identifying settings `{"section.key": value}` as JSON values; of the spaces only the chosen one."""
    config = trial_config(plan.config, {})
    dumped = config.model_dump(mode="json")
    flat = {
        key: value
        for key, value in flatten({name: dumped[name] for name in SECTIONS}).items()
        if key not in MAY_CHANGE and not key.startswith("search.spaces.")
    }
    space = {
        f"search.space.{key}": parameter.model_dump(mode="json")
        for key, parameter in config.search.parameters.items()
    }
    return dict(json.loads(json.dumps(flat | space | {"seed": plan.seed})))


def check_settings(stored: Mapping[str, Any], wanted: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` for the first setting in which they differ.

    A setting that did not exist when the study was begun had its default.
    """
    present = current_values({current_name(key): value for key, value in stored.items()})
    begun = flatten(Config().model_dump(mode="json")) | present
    for key in sorted(present.keys() | wanted.keys()):
        if begun.get(key) != wanted.get(key):
            raise InputError(where, key, f"{begun.get(key)!r}, as the search began", wanted.get(key))

"""The settings that identify a study: with other values its trials could not be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from risctl.config import Config, flatten
from risctl.config.former import current_name
from risctl.errors import InputError
from risctl.hpo.plan import SearchPlan
from risctl.hpo.trial import trial_config
from risctl.training.resume import FREE

SECTIONS = ("physics", "covariance", "model", "loss", "training", "data", "inference", "search")
MAY_CHANGE = FREE | {"search.trials", "search.space", "data.prefetch_workers"}


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
    present = {current_name(key): value for key, value in stored.items()}
    begun = flatten(Config().model_dump(mode="json")) | present
    for key in sorted(present.keys() | wanted.keys()):
        if begun.get(key) != wanted.get(key):
            raise InputError(where, key, f"{begun.get(key)!r}, as the search began", wanted.get(key))

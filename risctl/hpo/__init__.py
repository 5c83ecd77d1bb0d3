"""Hyper-parameter search: trials that are trainings, in a study that loses none of them.

Only this layer imports optuna, and only where a search is really run.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from risctl.hpo.events import (
    SearchEvent,
    SearchListener,
    TrialEnded,
    TrialEpoch,
    TrialRetried,
    TrialStarted,
)
from risctl.hpo.plan import Params, SearchOutcome, SearchPlan, TrialRecord
from risctl.hpo.trial import preset_parameters, trial_config, trial_plan, with_parameters

if TYPE_CHECKING:
    from risctl.hpo.run import read_outcome, run_search
    from risctl.hpo.url import same_database, shown_url

_ON_USE = {"read_outcome": "run", "run_search": "run", "same_database": "url", "shown_url": "url"}


def __getattr__(name: str) -> object:
    """Import what needs optuna or sqlalchemy when it is first asked for (PEP 562)."""
    if name not in _ON_USE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ON_USE[name]}"), name)


__all__ = [
    "Params",
    "SearchEvent",
    "SearchListener",
    "SearchOutcome",
    "SearchPlan",
    "TrialEnded",
    "TrialEpoch",
    "TrialRecord",
    "TrialRetried",
    "TrialStarted",
    "preset_parameters",
    "read_outcome",
    "run_search",
    "same_database",
    "shown_url",
    "trial_config",
    "trial_plan",
    "with_parameters",
]

"""Hyper-parameter search: trials that are trainings, in a study that loses none of them.

Only this layer imports optuna, and only where a search is really run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from risctl.search.events import (
    SearchEvent,
    SearchListener,
    TrialEnded,
    TrialEpoch,
    TrialRetried,
    TrialStarted,
)
from risctl.search.plan import Params, SearchOutcome, SearchPlan, TrialRecord
from risctl.search.trial import preset_parameters, trial_config, trial_plan, with_parameters

if TYPE_CHECKING:
    from risctl.training import StopFlag


def run_search(
    plan: SearchPlan,
    directory: Path,
    listeners: Sequence[SearchListener] = (),
    stop: StopFlag | None = None,
    resume: bool = False,
) -> SearchOutcome:
    """Search in `directory`, with all other processes that share the plan's study.

    Exactly `plan.trials` trials end complete or pruned. One whose process dies goes on once from its last
    checkpoint with the same parameters, in another process; then it has failed, and another trial takes its
    place, until far more have failed than finished.

    Args:
        plan: the search. directory: of this process alone; made if need be.
        listeners: hear of every event. stop: set it to have the running trials saved and given back.
        resume: go on with the search of `directory`: what was running first, from its checkpoints. A shared
            study is gone on with in any case.

    Raises:
        InputError: settings that do not fit together, or other settings than those the search began with;
            a storage that cannot be used.
        StorageError: the disk or the database fails, or another process searches in `directory`.
    """
    from risctl.search.run import run

    return run(plan, directory, listeners, stop, resume)


def read_outcome(plan: SearchPlan, directory: Path) -> SearchOutcome:
    """Return what a search has come to so far, without going on with it.

    Raises:
        InputError: there is no study, or it was begun with other settings.
        StorageError: the disk or the database fails.
    """
    from risctl.search.run import outcome_so_far

    return outcome_so_far(plan, directory)


def shown_url(url: str) -> str:
    """Return the URL of a shared study as it may be shown: without its password.

    Raises:
        InputError: it is not one that a search can use.
    """
    from risctl.search.url import shown_url

    return shown_url(url)


def same_database(url: str, other: str) -> bool:
    """Return whether two URLs lead to one database, whoever asks for it: same host, port and name.

    Raises:
        InputError: one is none that a search can use.
    """
    from risctl.search.url import same_database

    return same_database(url, other)


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

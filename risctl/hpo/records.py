"""Conversion of Optuna's trials to records; names of the attributes that Optuna has no field for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from optuna.trial import FrozenTrial, TrialState

from risctl.hpo.plan import State, TrialRecord

OWNER: Final = "owner"
DIRECTORY: Final = "directory"
SECONDARY: Final = "secondary"
SECONDS: Final = "seconds"
DEATHS: Final = "deaths"
REASON: Final = "reason"
FINISHED: Final = (TrialState.COMPLETE, TrialState.PRUNED)
STATES: Final[dict[TrialState, State]] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "running",
}


def record_of(trial: FrozenTrial) -> TrialRecord:
    """The record of a trial in the study."""
    kept, values = trial.user_attrs, trial.intermediate_values
    directory = kept.get(DIRECTORY)
    return TrialRecord(
        number=trial.number,
        state=STATES[trial.state],
        value=trial.value if trial.state in FINISHED else min(values.values(), default=None),
        params=dict(sorted(trial.params.items())),
        secondary=kept.get(SECONDARY, {}),
        epochs=tuple(values[epoch] for epoch in sorted(values)),
        seconds=kept.get(SECONDS, 0.0),
        reason=kept.get(REASON),
        directory=None if directory is None else Path(directory),
        deaths=tuple(kept.get(DEATHS, ())),
    )


def best_of(records: tuple[TrialRecord, ...]) -> TrialRecord | None:
    """The complete trial of the lowest value, the earliest of equals."""
    complete = [record for record in records if record.state == "complete" and record.value is not None]
    return min(complete, key=lambda record: record.value or 0.0, default=None)

"""A search in its directory: the study, its lock, its outcome."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from risctl.data.atomic import exclusive_lock, storage_errors
from risctl.errors import InputError
from risctl.hpo.plan import SearchListener, SearchOutcome, SearchPlan
from risctl.hpo.storage import STUDY_FILE, open_storage
from risctl.hpo.study import Study
from risctl.hpo.supervisor import Supervisor
from risctl.hpo.trial import preset_parameters
from risctl.training import StopFlag
from risctl.training.run import LOCK, LOCK_SECONDS


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
        plan: the search.
        directory: of this process alone; made if need be.
        listeners: called with every event.
        stop: set it to have the running trials saved and given back.
        resume: go on with the search of `directory`: its running trials first, from their checkpoints. A
            shared study is gone on with in any case.

    Raises:
        InputError: settings that do not fit together, or other settings than those the search began with;
            a storage that cannot be used.
        StorageError: the disk or the database fails, or another process searches in `directory`.
    """
    search = plan.config.search
    if not search.parameters:
        raise InputError("search", "space", "a space of [search.spaces]", repr(search.space))
    if plan.config.data.source == "store":
        raise InputError("data", "source", "stream: trials make their scenes", "store")
    for name, value in (("trials", plan.trials), ("workers", plan.workers), ("threads", plan.threads)):
        if value < 1:
            raise InputError("search", name, "at least 1", value)
    directory, stop = directory.absolute(), stop or StopFlag()  # workers may have another working directory
    with storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with storage_errors(directory), exclusive_lock(directory / LOCK, LOCK_SECONDS):
        if not resume and (directory / STUDY_FILE).exists():
            raise InputError(
                directory, STUDY_FILE, "none, in a directory of its own", "that of another search"
            )
        with closing(open_storage(plan, directory)) as storage:
            study = Study(plan, storage)
            Supervisor(plan, directory, study, listeners, stop).run()
            return outcome_of(plan, study, stop.requested)


def outcome_of(plan: SearchPlan, study: Study, stopped_by: int | None = None) -> SearchOutcome:
    """Outcome of a search so far; the best trial is the earliest of the complete ones of the lowest value."""
    trials = study.records()
    values = {t.number: t.value for t in trials if t.state == "complete" and t.value is not None}
    best = min(values, key=values.__getitem__, default=None)
    own = preset_parameters(plan.config)
    return SearchOutcome(
        trials=trials,
        best=next((trial for trial in trials if trial.number == best), None),
        stopped_by=stopped_by,
        study_name=plan.study_name,
        storage_url=study.url,
        baseline=next((trial for trial in trials if trial.number == 0 and own is not None), None),
        gave_up=study.gave_up,
    )

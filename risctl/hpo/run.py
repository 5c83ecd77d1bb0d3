"""A search in its directory: the study, its lock, its outcome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from risctl.data.atomic import exclusive_lock, storage_errors
from risctl.errors import InputError
from risctl.hpo.events import SearchListener
from risctl.hpo.plan import SearchOutcome, SearchPlan
from risctl.hpo.records import best_of
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
    _check(plan)
    directory, stop = directory.absolute(), stop or StopFlag()  # workers may have another working directory
    with storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with storage_errors(directory), exclusive_lock(directory / LOCK, LOCK_SECONDS):
        if not resume and (directory / STUDY_FILE).exists():
            raise InputError(
                directory, STUDY_FILE, "none, in a directory of its own", "that of another search"
            )
        with _opened(plan, directory) as study:
            Supervisor(plan, directory, study, listeners, stop).run()
            return _outcome(plan, study, stop.requested)


def read_outcome(plan: SearchPlan, directory: Path) -> SearchOutcome:
    """The outcome of a search so far, without going on with it.

    Raises:
        InputError: there is no study, or it was begun with other settings.
        StorageError: the disk or the database fails.
    """
    if plan.storage_url is None and not (directory / STUDY_FILE).exists():
        raise InputError(directory, STUDY_FILE, "the study of a search", "none")
    with _opened(plan, directory) as study:
        return _outcome(plan, study, None)


@contextmanager
def _opened(plan: SearchPlan, directory: Path) -> Iterator[Study]:
    with closing(open_storage(plan, directory)) as storage:
        yield Study(plan, storage)


def _outcome(plan: SearchPlan, study: Study, stopped_by: int | None) -> SearchOutcome:
    records = study.records()
    own = preset_parameters(plan.config)
    baseline = next((r for r in records if r.number == 0 and own is not None), None)
    return SearchOutcome(
        trials=records,
        best=best_of(records),
        stopped_by=stopped_by,
        study_name=plan.study_name,
        storage_url=study.url,
        baseline=baseline,
        gave_up=study.gave_up,
    )


def _check(plan: SearchPlan) -> None:
    search = plan.config.search
    if not search.parameters:
        raise InputError("search", "space", "a space of [search.spaces]", repr(search.space))
    if plan.config.data.source == "store":
        raise InputError("data", "source", "stream: trials make their scenes", "store")
    for name, value in (("trials", plan.trials), ("workers", plan.workers), ("threads", plan.threads)):
        if value < 1:
            raise InputError("search", name, "at least 1", value)

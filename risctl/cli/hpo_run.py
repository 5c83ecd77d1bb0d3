"""What `risctl hpo` does once its flags are understood: the search in its run directory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from risctl.cli.console import note
from risctl.cli.documents import Document, Ending, finite, write_json
from risctl.cli.hpo_prepare import COMMAND, PRESET, STUDY, PreparedSearch, SearchRequest
from risctl.cli.hpo_screen import search_screen
from risctl.cli.hpo_state import ELSEWHERE, SearchState
from risctl.cli.runs import CONFIG, RunDirectory
from risctl.cli.signals import stop_on_signals
from risctl.cli.training_records import METRICS

if TYPE_CHECKING:
    from risctl.search import SearchEvent, SearchOutcome
    from risctl.training import StopFlag

EVENTS = {
    "TrialStarted": "trial_started",
    "TrialEpoch": "trial_epoch",
    "TrialRetried": "trial_retried",
    "TrialEnded": "trial_ended",
}


def search_into_run(request: SearchRequest, prepared: PreparedSearch) -> Document | Ending:
    """Search in a new run directory, or go on in the earlier one; report what was found.

    A search that a signal stopped is saved, reported, and ends with the status of that signal.
    """
    from risctl.cli.hpo_report import conclude
    from risctl.training import StopFlag

    if prepared.earlier is None:
        check_first_trial(prepared)
    stop = StopFlag()
    with _run_directory(request, prepared) as (run, record):
        with stop_on_signals(stop.request):
            outcome = _search(run, record, prepared, stop)
        if not run.announced:  # an earlier run that had nothing left to do
            run.go_on(record)
        best = None if outcome.best is None else outcome.best.value
        run.note_trials(outcome.finished, prepared.plan.trials, best)
        ending = conclude(run.path, prepared.plan, outcome)
        if isinstance(ending, Ending):
            state = "failed" if outcome.stopped_by is None else "interrupted"
            run.end(state, ending.exit_status, ending.message)
        return ending


def check_first_trial(prepared: PreparedSearch) -> None:
    """Check that inference will compute what the trials train.

    Raises:
        CheckFailedError: it would not.
    """
    from risctl.cli.training_data import stream_sources
    from risctl.cli.training_run import Prepared
    from risctl.search import trial_config

    config = trial_config(prepared.config, {})
    device, threads = prepared.plan.devices[0], prepared.plan.threads
    Prepared(config, stream_sources(config), device, None, threads=threads).check_alignment()


def _search(run: RunDirectory, record: Document, prepared: PreparedSearch, stop: StopFlag) -> SearchOutcome:
    from risctl.search import preset_parameters, run_search

    plan = prepared.plan
    state = SearchState(plan.trials, plan.config.search.epochs, preset_parameters(plan.config))

    def keep(event: SearchEvent) -> None:
        if not run.announced:  # the search has its lock by now
            run.go_on(record)
            write_json(run.path / CONFIG, plan.config.model_dump(mode="json"))
        _keep_status(run, state, event)

    with ExitStack() as stack:
        listeners: list[Callable[[SearchEvent], None]] = [stack.enter_context(search_screen(state)), keep]
        listeners.append(stack.enter_context(EventsFile(run.path / METRICS)))
        return run_search(plan, run.path, listeners, stop, prepared.earlier is not None)


def _keep_status(run: RunDirectory, state: SearchState, event: SearchEvent) -> None:
    from risctl.search import TrialEnded

    if isinstance(event, TrialEnded):
        run.note_trials(state.finished, state.trials, None if state.best is None else state.best.lowest)


@contextmanager
def _run_directory(
    request: SearchRequest, prepared: PreparedSearch
) -> Iterator[tuple[RunDirectory, Document]]:
    """Open the directory, new or the earlier run's own; yield it and this process's provenance."""
    record = _provenance(prepared)
    if prepared.earlier is not None:
        with RunDirectory(prepared.earlier, COMMAND) as run:
            yield run, record
        return
    name = request.common.preset or PRESET
    with RunDirectory.create(COMMAND, name, prepared.config, record) as run:
        note(f"run: {run.path}")
        yield run, record


def _provenance(prepared: PreparedSearch) -> Document:
    """Return what `provenance.json` holds; the database's password is in none of it."""
    from risctl.cli.provenance import provenance
    from risctl.cli.training_data import stream_sources
    from risctl.search import shown_url

    plan, config = prepared.plan, prepared.config
    seeds = {"data.seed": config.data.seed, "training.seed": config.training.seed, "sampler": plan.seed}
    record = provenance(plan.devices[0], plan.threads, seeds, stream_sources(config).record())
    url = plan.storage_url
    if url is not None:
        record["argv"] = [word.replace(url, shown_url(url)) for word in record["argv"]]
    record[STUDY] = {"name": plan.study_name, "storage": None if url is None else shown_url(url)}
    record["workers"] = {"count": plan.workers, "devices": list(plan.devices)}
    return record


class EventsFile:
    """Appends the events of this machine's trials to `metrics.jsonl`, a line each; the study is the truth.

    What other machines and earlier processes of the run did is told to every listener, and left out here.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._others: set[int] = set()
        self._stream: TextIOWrapper | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def __call__(self, event: SearchEvent) -> None:
        """Write an event of a trial that runs here."""
        from risctl.data.atomic import storage_errors
        from risctl.search import TrialStarted

        if isinstance(event, TrialStarted):
            (self._others.add if event.worker == ELSEWHERE else self._others.discard)(event.number)
        if event.number in self._others:
            return
        with storage_errors(self._path):
            if self._stream is None:
                self._stream = self._path.open("a", encoding="utf-8")
            line: dict[str, Any] = {"event": EVENTS[type(event).__name__], **asdict(event)}
            self._stream.write(json.dumps(finite(line), allow_nan=False, separators=(",", ":")) + "\n")
            self._stream.flush()

"""Hyper-parameter searches in run directories: prepared, run or resumed, reported."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from risctl.config import Config, diff_configs, fingerprint, load_config
from risctl.config.layers import Layers, Machine
from risctl.config.search import FIXED_BY_SEARCH, setting
from risctl.data.atomic import remove_leftovers
from risctl.errors import CheckFailedError, DamagedFileError, InputError
from risctl.hpo import (
    Params,
    SearchEvent,
    SearchListener,
    SearchPlan,
    TrialEnded,
    preset_parameters,
    run_search,
    same_database,
    shown_url,
    trial_config,
)
from risctl.hpo.timing import TrialTime, time_trial
from risctl.model.network import build_network
from risctl.parallel import cores
from risctl.runs.directory import RunDirectory
from risctl.runs.documents import read_document, write_json
from risctl.runs.gate import passed_gate
from risctl.runs.machine import resolve_device, use_threads
from risctl.runs.names import CONFIG, PROVENANCE, STATUS
from risctl.runs.needs import CHECKPOINTS, FLOAT_BYTES, STORED_COPIES, Needs, needs_of_training
from risctl.runs.provenance import provenance
from risctl.runs.records import METRICS, EventsFile
from risctl.runs.report import reported
from risctl.runs.scenes import stream_sources
from risctl.runs.search_report import COMMAND, Searched, report
from risctl.runs.training import Announce, PreparedTraining
from risctl.text import Document
from risctl.training import StopFlag, TrainingPlan

PRESET = "search"
STUDY = "study"  # in the provenance: name, database
MAY_CHANGE = frozenset({"search.trials"})  # of a search that is resumed
NETWORK_SECTIONS = ("physics", "covariance", "model", "loss")
WITHOUT_PART_IN_THE_GATE = frozenset({"model.dropout"})
STUDY_BYTES = 300_000  # a study's file, and the pictures


class GateNotPassedError(CheckFailedError):
    """No passed overfit gate is known for the network of a search.

    Attributes:
        settings: what an overfit run must state, `{"section.key": value}`, for its pass to count.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__("no run under runs/overfit found this network, losses and surface ready")
        self.settings = settings


@dataclass(frozen=True)
class PreparedSearch:
    """A search before it starts.

    Attributes:
        plan: what is searched, and with what.
        resumed: the run that is resumed, None for a new one.
        name: preset, as it stands in the directory's name.
        place: directory of a new run; None: one below `runs/` with a name of its own.
        pictures: their format, `png`, `pdf` or `svg`.
    """

    plan: SearchPlan
    resumed: Path | None = None
    name: str = PRESET
    place: Path | None = None
    pictures: str = "png"

    @property
    def config(self) -> Config:
        """The settings of the search, and of its first trial."""
        return self.plan.config

    @property
    def preset(self) -> Params | None:
        """The configuration's own values of the space; None if the space does not hold them."""
        return preset_parameters(self.config)

    def needs(self) -> Needs:
        """Estimate what the search needs at most: all networks as large as the largest."""
        trial = needs_of_training(_training(self.plan, largest_network(self.plan)))
        stored = CHECKPOINTS * STORED_COPIES * FLOAT_BYTES * trial.parameters
        return Needs(
            disk_bytes=self.plan.trials * stored + STUDY_BYTES,
            memory_bytes=self.plan.workers * trial.memory_bytes + Needs().memory_bytes,
            parameters=trial.parameters,
        )

    def times(self) -> dict[str, TrialTime]:
        """Time a few steps of a trial: of the preset's network, and of the largest in the space."""
        parameters = {"preset": {}, "largest network": largest_network(self.plan)}
        return {name: time_trial(_training(self.plan, params)) for name, params in parameters.items()}

    def seconds(self, trial: TrialTime) -> float:
        """Seconds of all trials, in rounds of as many as there are workers."""
        return -(-self.plan.trials // self.plan.workers) * trial.seconds


def prepare_search(
    layers: Layers,
    trials: int | None = None,
    workers: int | None = None,
    storage: str | None = None,
    study: str | None = None,
    resume: Path | None = None,
    need_gate: bool = True,
    machine: Machine | None = None,
) -> PreparedSearch:
    """Resolve settings, space and machine; refuse what does not fit together.

    Args:
        layers: settings, of the preset `search` where none is named.
        trials: how many are to end; None: the configured number.
        workers: trials at a time, a process each; None: see :func:`trials_at_once`.
        storage: database that several machines share; None: a file in the run.
        study: name of the study; None: made from the settings.
        resume: a run to go on with.
        need_gate: refuse a network that no overfit gate found ready.
        machine: device and threads of the workers.

    Raises:
        InputError: settings that no search, or not this one, can have.
        GateNotPassedError: no passed overfit gate of this network is known.
    """
    if storage is not None:
        shown_url(storage)  # refuses what is none
    machine = machine or Machine()
    use_threads(machine.threads or 1)
    if resume is None:
        layers = layers.with_default(PRESET)
    _refuse_fixed(layers)
    if trials is not None:
        layers = layers.with_overrides(f"search.trials={trials}")
    config = layers.resolve() if resume is None else _config_of_run(layers, resume)
    if resume is not None:
        _refuse_other_study(resume, storage, study)
    check_search_settings(config)
    if need_gate and resume is None and passed_gate(config) is None:
        raise GateNotPassedError(gate_settings(config))
    workers = workers or trials_at_once(machine, config.search.trials)
    plan = SearchPlan(
        config=config,
        trials=config.search.trials,
        workers=workers,
        devices=worker_devices(machine.device, workers),
        threads=machine.threads or 1,
        storage_url=storage,
        study_name=_study_name(config, study, resume),
        seed=config.training.seed,
    )
    return PreparedSearch(plan, resume, layers.preset or PRESET)


def _refuse_fixed(layers: Layers) -> None:
    """Refuse a word that would have no effect: trials take these settings from elsewhere."""
    for word in layers.overrides:
        key = word.partition("=")[0].strip()
        if key in FIXED_BY_SEARCH:
            raise InputError("override", key, f"{FIXED_BY_SEARCH[key]} (trials take it from there)", word)


def _config_of_run(layers: Layers, run: Path) -> Config:
    """The settings of a resumed search: the run's own, but for the number of trials."""
    if not (run / CONFIG).is_file():
        raise InputError(run, "", f"a run directory of a search ({CONFIG})", "none")
    command = read_document(run / STATUS).get("command")
    if command != COMMAND:
        raise InputError(run, "command", f"a run of {COMMAND}", repr(command))
    own = load_config(None, run / CONFIG)
    config = layers.resolve_over(own)
    for key, (stored, wanted) in diff_configs(own, config).items():
        if key not in MAY_CHANGE:
            raise InputError(run, key, f"{stored}, which the search began with", wanted)
    return config


def stored_study(run: Path) -> Document:
    """Name and database of a run's study."""
    found: Document | None = read_document(run / PROVENANCE).get(STUDY)
    if found is None:
        raise DamagedFileError(run / PROVENANCE, f"the name of a study in {STUDY!r}", "none")
    return found


def _refuse_other_study(run: Path, storage: str | None, study: str | None) -> None:
    stored = stored_study(run)
    own = stored.get("storage")
    if (own is None) != (storage is None) or (own and storage and not same_database(own, storage)):
        found = "none" if storage is None else shown_url(storage)
        expected = own or "none (the study is in the run)"
        raise InputError("storage", "", f"{expected}, for {run}", found)
    if study not in (None, stored.get("name")):
        raise InputError("study", "", f"{stored.get('name')}, as the run began", study)


def _study_name(config: Config, study: str | None, resume: Path | None) -> str:
    """The name that every machine with the same settings comes to."""
    if resume is not None:
        return str(stored_study(resume)["name"])
    if study is not None:
        return study
    search = config.search.model_copy(update={"trials": 1})  # more may be asked for later
    return f"risctl-{config.search.space}-{fingerprint(config.model_copy(update={'search': search}))}"


def trials_at_once(machine: Machine, trials: int) -> int:
    """One a core or accelerator; a quarter of few trials, since later ones learn from earlier ones."""
    most = cores() // (machine.threads or 1)
    if resolve_device(machine.device) != "cpu":
        most = len(worker_devices(machine.device, trials))
    return max(1, min(most, trials // 4))


def worker_devices(device: str, workers: int) -> tuple[str, ...]:
    """The devices that the workers take in turn: the one named, or all accelerators there are."""
    first = resolve_device(device)
    if device not in ("auto", "cuda") or first == "cpu":
        return (first,)
    return tuple(f"cuda:{i}" for i in range(min(torch.cuda.device_count(), workers)))


def check_search_settings(config: Config) -> None:
    """Refuse a search that could not run, or whose first trial could not be the preset's own values.

    Every extreme value of the space is tried on the configuration: what a trial could not start with is
    refused now.

    Raises:
        InputError: naming the setting.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "torchrun", "", "a search with worker processes (a trial is one process)", "torchrun"
        )
    if config.data.source == "store":
        raise InputError("data", "source", '"stream" (a search makes its scenes)', '"store"')
    space = config.search.parameters
    if not space:
        raise InputError("search", "spaces", f"a search space (start from the preset {PRESET})", "none")
    for key, parameter in space.items():
        own = setting(config, key)
        if not parameter.holds(own):
            expected = f"values that include {own}, which {key} has itself (the first trial tries it)"
            raise InputError("search", f"spaces.{config.search.space}.{key}", expected, parameter)
    for key, parameter in space.items():
        for value in parameter.probes:
            plan = TrainingPlan.from_config(trial_config(config, {key: value}))
            _ = plan.steps_per_epoch
            if key.startswith("model."):
                build_network(plan.physics, plan.model, plan.training.seed)


def gate_settings(config: Config) -> dict[str, Any]:
    """The settings that an overfit run needs for its pass to count for a search with `config`."""
    return {
        key: wanted
        for key, (_, wanted) in diff_configs(load_config("overfit"), config).items()
        if key.partition(".")[0] in NETWORK_SECTIONS and key not in WITHOUT_PART_IN_THE_GATE
    }


def largest_network(plan: SearchPlan) -> Params:
    """The parameters of the space that make the network largest."""
    found: dict[str, bool | int | float | str] = {}
    for key, parameter in plan.config.search.parameters.items():
        numbers = [value for value in parameter.probes if not isinstance(value, bool | str)]
        if key in ("model.width", "model.depth", "model.blocks") and numbers:
            found[key] = max(numbers)
    return found


def _training(plan: SearchPlan, params: Params) -> TrainingPlan:
    return TrainingPlan.from_config(trial_config(plan.config, params), device=plan.devices[0])


def search(
    prepared: PreparedSearch,
    listeners: Sequence[SearchListener] = (),
    stop: StopFlag | None = None,
    announce: Announce | None = None,
) -> Searched:
    """Search in a new run directory, or in that of the run that is resumed, and write the report.

    Args:
        prepared: the search.
        listeners: called with every event.
        stop: set it to have the search save its running trials and return.
        announce: called with the directory of a new run once it exists.

    Raises:
        CheckFailedError: inference would not compute what the trials train.
        StorageError: the disk or the database fails, or another process searches in that directory.
    """
    plan = prepared.plan
    if prepared.resumed is None:
        config = trial_config(plan.config, {})
        first = PreparedTraining(config, stream_sources(config), plan.devices[0], plan.threads)
        first.check_alignment()
    with _open_run(prepared, announce) as (run, record):
        keep = _keep_status(run, record, plan)
        with EventsFile(run.path / METRICS) as events:
            resume = prepared.resumed is not None
            outcome = run_search(plan, run.path, [*listeners, keep, events], stop or StopFlag(), resume)
        if not run.announced:  # an earlier run that had nothing left to do
            run.resume(record)
        best = None if outcome.best is None else outcome.best.value
        run.note_progress(finished=outcome.finished, trials=plan.trials, best_value=best)
        for folder in run.path.glob("*/*/checkpoints"):  # of trials whose process was killed
            remove_leftovers(folder)
        searched = report(run.path, plan, outcome, prepared.pictures)
        if searched.failure is not None:
            state = "failed" if outcome.stopped_by is None else "interrupted"
            run.end(state, searched.exit_status, searched.failure)
        return searched


def _keep_status(run: RunDirectory, record: Document, plan: SearchPlan) -> Callable[[SearchEvent], None]:
    """A listener that updates `status.json` once the search has its lock, and after every trial."""
    ended: dict[int, TrialEnded] = {}

    def keep(event: SearchEvent) -> None:
        if not run.announced:
            run.resume(record)
            write_json(run.path / CONFIG, plan.config.model_dump(mode="json"))
        if isinstance(event, TrialEnded):
            ended[event.number] = event
            finished = sum(trial.state in ("complete", "pruned") for trial in ended.values())
            losses = [t.value for t in ended.values() if t.state == "complete" and t.value is not None]
            lowest = min(losses, default=None)
            run.note_progress(finished=finished, trials=plan.trials, best_value=lowest)

    return keep


@contextmanager
def _open_run(prepared: PreparedSearch, announce: Announce | None) -> Iterator[tuple[RunDirectory, Document]]:
    """Open the directory, new or that of the resumed run; yield it and this process's provenance."""
    record = _provenance(prepared.plan)
    if prepared.resumed is not None:
        with reported(RunDirectory(prepared.resumed, COMMAND)) as run:
            yield run, record
        return
    with reported(
        RunDirectory.create(COMMAND, prepared.name, prepared.config, record, place=prepared.place)
    ) as run:
        if announce is not None:
            announce(run.path)
        yield run, record


def _provenance(plan: SearchPlan) -> Document:
    """The content of `provenance.json`."""
    config, url = plan.config, plan.storage_url
    seeds = {"data.seed": config.data.seed, "training.seed": config.training.seed, "sampler": plan.seed}
    record = provenance(plan.devices[0], plan.threads, seeds, stream_sources(config).record())
    record[STUDY] = {"name": plan.study_name, "storage": None if url is None else shown_url(url)}
    record["workers"] = {"count": plan.workers, "devices": list(plan.devices)}
    return record

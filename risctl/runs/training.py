"""Trainings in run directories: prepared, trained, resumed, forked."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from risctl.config import Config
from risctl.config.layers import Layers, Machine
from risctl.data.atomic import storage_errors
from risctl.errors import InputError
from risctl.model.checkpoint import CHECKPOINTS, LAST
from risctl.model.network import build_network
from risctl.parallel import cores
from risctl.runs.directory import SIGNAL_STATUS, RunDirectory
from risctl.runs.drawings import draw_run
from risctl.runs.machine import resolve_device, use_threads
from risctl.runs.models import spot_check_network
from risctl.runs.needs import Needs, needs_of_training
from risctl.runs.provenance import provenance
from risctl.runs.records import EPOCH, METRICS, MetricsFile, Record, of_kind, read_metrics
from risctl.runs.report import reported
from risctl.runs.resume import (
    FORKED_FROM,
    FORKED_STATE,
    Earlier,
    config_over_run,
    refuse_empty_fork,
    refuse_other_data,
    state_hash,
)
from risctl.runs.scenes import COUNTS, Sources, dataset_paths, stored_sources, stream_sources
from risctl.runs.tensorboard import require_tensorboard, tensorboard_listener
from risctl.text import Document
from risctl.training import (
    FIGURES,
    EpochResult,
    Event,
    Listener,
    Outcome,
    Started,
    StopFlag,
    TrainingPlan,
    companions,
    launched_rank,
    launched_size,
    run_training,
)

CHECKED_SCENES = 8
SCENES_PER_PROCESS = 10_000  # it takes seconds to start one
Announce = Callable[[Path], None]


@dataclass(frozen=True)
class PreparedTraining:
    """A training before it starts.

    Attributes:
        config: resolved settings.
        sources: scenes to train and to validate on.
        device: `cpu` or `cuda:i`.
        threads: CPU threads of a process.
        processes: those that share every batch; `torchrun` starts its own.
        command: `train` or `overfit`; names the run's directory.
        name: preset, as it stands in the directory's name.
        earlier: the run that is resumed or forked, None for a new one.
        fork: whether `earlier` is copied into a new run whose settings may differ.
        tensorboard: whether TensorBoard scalars are written, too.
        place: directory of a new run; None: one below `runs/` with a name of its own.
        pictures: their format, `png`, `pdf` or `svg`.
    """

    config: Config
    sources: Sources
    device: str = "cpu"
    threads: int = 1
    processes: int = 1
    command: str = "train"
    name: str = "config"
    earlier: Earlier | None = None
    fork: bool = False
    tensorboard: bool = False
    place: Path | None = None
    pictures: str = "png"

    @functools.cached_property
    def plan(self) -> TrainingPlan:
        """The plan that the trainer takes."""
        sources = self.sources.train, self.sources.validation
        return TrainingPlan.from_config(self.config, sources, self.device)

    @property
    def resumed(self) -> Path | None:
        """The directory in which an earlier run is resumed; None for a new run."""
        return None if self.earlier is None or self.fork else self.earlier.path

    @property
    def is_worker(self) -> bool:
        """Whether this is a process of `torchrun` with a rank above 0, which writes no files."""
        return launched_rank() > 0

    @property
    def needs(self) -> Needs:
        """Disk, memory and parameters."""
        return needs_of_training(self.plan)

    @property
    def first_value(self) -> float | None:
        """The first validation loss, if a resumed run has one."""
        path = None if self.resumed is None else self.resumed / METRICS
        epochs = of_kind(read_metrics(path), EPOCH) if path is not None and path.exists() else []
        return epochs[0]["val"]["total"] if epochs else None

    def check_alignment(self) -> None:
        """Check, on the first scenes, that inference will compute what this training computes.

        Raises:
            CheckFailedError: it would not.
        """
        config = self.config
        network = build_network(config.physics, config.model, config.training.seed).to(self.device)
        scenes = self.sources.train.scenes(0, min(CHECKED_SCENES, config.training.batch))
        spot_check_network(network, config, scenes.to(self.device), self.device)


@dataclass(frozen=True)
class Trained:
    """A training after it ended.

    Attributes:
        run: its directory.
        config: its settings.
        outcome: losses, figures and checkpoints.
        records: the lines of its `metrics.jsonl`, earlier processes of the run included.
        files: what was drawn.
    """

    run: Path
    config: Config
    outcome: Outcome
    records: list[Record] = field(repr=False)
    files: tuple[Path, ...] = ()

    @property
    def epochs(self) -> list[Record]:
        """Records of its validations."""
        return of_kind(self.records, EPOCH)

    @property
    def best_metrics(self) -> Mapping[str, Any]:
        """Validation figures of the epoch with the lowest loss."""
        best = [entry for entry in self.epochs if entry["epoch"] == self.outcome.best_epoch]
        return best[0]["metrics"] if best else {}

    def document(self) -> Document:
        """The document of the training, ready for JSON."""
        files = [str(path) for path in self.files]
        return {"run": str(self.run), "outcome": asdict(self.outcome), "files": files}


def prepare_training(
    layers: Layers,
    command: str = "train",
    data: Path | None = None,
    val_data: Path | None = None,
    resume: Path | None = None,
    fork: bool = False,
    tensorboard: bool = False,
    machine: Machine | None = None,
    all_cores: bool = False,
) -> PreparedTraining:
    """Resolve settings, scenes and device; refuse what does not fit together.

    Args:
        layers: settings; beside `resume` only those that differ from the run's own.
        command: `train` or `overfit`.
        data: dataset to train on, or a directory with `train` and `val`; None: scenes are simulated.
        val_data: dataset to validate on beside `data`.
        resume: a run to go on with, in its own directory.
        fork: with `resume`, copy its last state into a new run, whose settings may differ.
        tensorboard: write TensorBoard scalars, too.
        machine: device, threads, processes; those of the run that is resumed where they are not stated.
        all_cores: whether a long training on processors uses all of them where nothing is stated.

    Raises:
        InputError: naming the setting, file or argument.
    """
    if tensorboard:
        require_tensorboard()
    if fork and resume is None:
        raise InputError("fork", "", "a run to resume beside it", "none")
    earlier = None if resume is None else Earlier.read(resume, fork)
    if earlier is not None and not fork and earlier.command != command:  # its status would be overwritten
        raise InputError(earlier.path, "command", f"a run of {command}", f"one of {earlier.command}")
    machine, same = machine or Machine(), None if fork else earlier
    threads, device = _machine(machine, same)
    use_threads(threads)
    config = layers.resolve() if earlier is None else config_over_run(layers, earlier, fork)
    if earlier is not None and fork:
        refuse_empty_fork(earlier, config)
    config, sources = _sources(layers, config, data, val_data, earlier, fork)
    if earlier is not None and not fork:
        refuse_other_data(earlier, sources)
    name = layers.name if earlier is None else "fork"
    processes = machine.workers or (same.processes() if same is not None else 1)
    if all_cores and machine.workers is None and same is None and device == "cpu" and launched_size() == 1:
        processes = default_processes(config, threads)
    if processes > 1 and (device != "cpu" or launched_size() > 1):
        raise InputError("workers", "", "1 beside torchrun, which starts the processes, or a GPU", processes)
    if config.training.batch % processes:
        raise InputError("workers", "", f"a divisor of the batch, {config.training.batch}", processes)
    prepared = PreparedTraining(
        config, sources, device, threads, processes, command, name, earlier, fork, tensorboard
    )
    _ = prepared.plan.steps_per_epoch  # refused here, before anything is written, if a step is longer
    return prepared


def default_processes(config: Config, threads: int) -> int:
    """Processes for a training: as many as there are cores, and fewer for one that would soon be over."""
    scenes = config.training.epochs * config.data.train_scenes
    most = max(1, min(cores() // threads, scenes // SCENES_PER_PROCESS))
    return max(n for n in range(1, most + 1) if config.training.batch % n == 0)


def _machine(machine: Machine, earlier: Earlier | None) -> tuple[int, str]:
    """Threads and device: those stated, else those of the run that is resumed, to the same bits."""
    threads, device = machine.threads, machine.device
    if earlier is not None:
        its_threads, its_device = earlier.machine()
        threads, device = threads or its_threads, its_device if device == "auto" else device
    return threads or 1, resolve_device(device)


def _sources(
    layers: Layers,
    config: Config,
    data: Path | None,
    val_data: Path | None,
    earlier: Earlier | None,
    fork: bool,
) -> tuple[Config, Sources]:
    train, validation = dataset_paths(data, val_data)
    if train is None and validation is not None:
        raise InputError("val_data", "", "a training dataset (data) beside it", "none")
    if train is None and earlier is not None:
        train, validation = earlier.data_paths()
    if train is None:
        if config.data.source == "store":
            raise InputError("data", "", 'a dataset beside data.source = "store"', "none")
        return config, stream_sources(config)
    if any(word.startswith("physics.") for word in layers.overrides):
        raise InputError("data", "", "no physics.* override (a dataset has its own physics)", "one")
    # A dataset decides how many scenes there are, unless that was stated; a resumed run keeps its numbers.
    anew = earlier is None or (fork and (data is not None or layers.preset is not None))
    stated = layers.stated | (frozenset() if anew else COUNTS)
    return stored_sources(config, train, validation, stated)


def train(
    prepared: PreparedTraining,
    listeners: Sequence[Listener] = (),
    stop: StopFlag | None = None,
    announce: Announce | None = None,
) -> Trained:
    """Train in a new run directory, or in that of the run that is resumed, and draw the curves.

    A training that `stop` ended is saved, and can be resumed.

    Args:
        prepared: the training.
        listeners: called with every event.
        stop: set it to have the training save and return.
        announce: called with the directory of a new run once it exists.

    Raises:
        CheckFailedError: inference would not compute what this training computes, or too many steps failed.
        DivergedError: the validation loss is not finite.
        StorageError: the disk refuses, or another process trains in that directory.
    """
    prepared.check_alignment()
    with open_run(prepared, announce) as (run, record):
        trained = train_in(run, record, prepared, listeners, stop)
        if trained.outcome.stopped_by is not None:
            return trained
        return replace(trained, files=tuple(draw_run(run.path, prepared.pictures)))


def train_as_worker(prepared: PreparedTraining, stop: StopFlag) -> int | None:
    """Train as a `torchrun` process of rank > 0 (no files, no output); return the signal that stopped it."""
    return run_training(prepared.plan, Path(), (), stop, **_resumption(prepared)).stopped_by


def train_in(
    run: RunDirectory,
    record: Document,
    prepared: PreparedTraining,
    listeners: Sequence[Listener],
    stop: StopFlag | None,
) -> Trained:
    """Train in an open run directory, keep its records and status, and return how it ended."""
    with ExitStack() as stack:
        own: list[Listener] = [lambda event: _keep_status(run, record, event)]
        own.append(stack.enter_context(MetricsFile(run.path / METRICS)))
        if prepared.tensorboard:
            own.append(stack.enter_context(tensorboard_listener(run.path)))
        # Without what is cached in it: the plan is made anew there.
        stack.enter_context(companions(prepared.processes, functools.partial(_follow, replace(prepared))))
        outcome = run_training(
            prepared.plan, run.path, [*own, *listeners], stop or StopFlag(), **_resumption(prepared)
        )
    run.note_progress(epochs=outcome.epochs, steps=outcome.steps, best_value=outcome.best_value)
    if outcome.stopped_by is not None:
        message = f"stopped and saved after step {outcome.steps}"
        run.end("interrupted", SIGNAL_STATUS + outcome.stopped_by, message)
    return Trained(run.path, prepared.config, outcome, read_metrics(run.path / METRICS))


def _follow(prepared: PreparedTraining) -> None:
    """Train in a process that the first one started."""
    use_threads(prepared.threads)
    train_as_worker(prepared, StopFlag())


def _resumption(prepared: PreparedTraining) -> dict[str, bool]:
    """How the trainer begins: from a saved state or not, and under whose settings."""
    earlier = prepared.earlier
    fresh = earlier is not None and earlier.fresh_fork
    return {"resume": earlier is not None, "fork": prepared.fork or fresh}


def _keep_status(run: RunDirectory, record: Document, event: Event) -> None:
    """Update `status.json` when the run starts, once its lock is held, and after every epoch."""
    if isinstance(event, Started) and not run.announced:
        run.resume(record)
    elif isinstance(event, EpochResult):
        run.note_progress(epochs=event.epoch + 1, steps=event.step, best_value=event.best_value)


@contextmanager
def open_run(
    prepared: PreparedTraining, announce: Announce | None = None
) -> Iterator[tuple[RunDirectory, Document]]:
    """Open the directory, new or that of the resumed run; yield it and this process's provenance."""
    config, earlier = prepared.config, prepared.earlier
    seeds = {"data.seed": config.data.seed, "training.seed": config.training.seed}
    record = provenance(prepared.device, prepared.threads, seeds, prepared.sources.record())
    record["processes"] = max(prepared.processes, launched_size())
    if earlier is not None and not prepared.fork:
        with reported(RunDirectory(earlier.path, earlier.command)) as run:
            yield run, record
        return
    files = {} if earlier is None else _forked_state(earlier, record)
    with reported(
        RunDirectory.create(prepared.command, prepared.name, config, record, files, prepared.place)
    ) as run:
        if announce is not None:
            announce(run.path)
        yield run, record


def _forked_state(earlier: Earlier, record: Document) -> dict[Path, bytes]:
    """The earlier run's last state, or weights, as a file of a new run, noted in the new run's `record`.

    The trainer lets it go on under the new settings, for as long as it is still this copy.
    """
    with storage_errors(earlier.last):
        content = earlier.last.read_bytes()
    record |= {FORKED_FROM: str(earlier.path.absolute()), FORKED_STATE: state_hash(content)}
    return {Path(CHECKPOINTS, LAST): content}


def figure_sentences(metrics: Mapping[str, float | None], brief: bool = False) -> list[str]:
    """The validation figures there are, each with its name and unit; if `brief`, those of most interest."""
    found = ((figure, metrics.get(figure.name)) for figure in FIGURES if figure.brief or not brief)
    return [figure.sentence(value) for figure, value in found if value is not None]

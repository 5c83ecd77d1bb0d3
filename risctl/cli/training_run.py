"""What `risctl train` and `risctl overfit` do once their flags are understood."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from risctl.cli.alignment import spot_check_network
from risctl.cli.console import note
from risctl.cli.documents import Document, Ending
from risctl.cli.machine import resolve_device, use_threads
from risctl.cli.options import Common
from risctl.cli.resume import (
    FORKED_FROM,
    FORKED_STATE,
    Earlier,
    config_over_run,
    refuse_empty_fork,
    refuse_other_command,
    refuse_other_data,
    state_hash,
)
from risctl.cli.runs import RunDirectory
from risctl.cli.signals import SIGNAL_STATUS, stop_on_signals
from risctl.cli.tensorboard import require_tensorboard, tensorboard_listener
from risctl.cli.training_data import (
    COUNTS,
    Sources,
    dataset_paths,
    stated_keys,
    stored_sources,
    stream_sources,
)
from risctl.cli.training_records import EPOCH, METRICS, MetricsFile, of_kind, read_metrics
from risctl.cli.training_report import Trained, interrupted
from risctl.cli.training_screen import training_screen
from risctl.cli.training_state import TrainingState
from risctl.errors import InputError

if TYPE_CHECKING:
    from risctl.config import Config
    from risctl.training import Event, Listener, Outcome, StopFlag, TrainingPlan

CHECKED_SCENES = 8
Finish: TypeAlias = Callable[[Trained], Document | Ending]


@dataclass(frozen=True)
class TrainingRequest:
    """What the command line asked for."""

    common: Common
    command: str
    data: Path | None = None
    val_data: Path | None = None
    resume: Path | None = None
    fork: bool = False
    tensorboard: bool = False


@dataclass(frozen=True)
class Prepared:
    """A training before it starts: settings, scenes, machine, and the run it goes on from."""

    config: Config
    sources: Sources
    device: str
    earlier: Earlier | None
    fork: bool = False
    threads: int = 1

    @property
    def resumes(self) -> dict[str, bool]:
        """How the trainer is to go on: from a saved state, and under which settings."""
        fresh = self.earlier is not None and self.earlier.fresh_fork
        return {"resume": self.earlier is not None, "fork": self.fork or fresh}

    def plan(self) -> TrainingPlan:
        """Return what the trainer takes."""
        import torch

        from risctl.training import TrainingPlan

        config = self.config
        return TrainingPlan(
            physics=config.physics,
            covariance=config.covariance,
            model=config.model,
            loss=config.loss,
            training=config.training,
            data=config.data,
            train=self.sources.train,
            validation=self.sources.validation,
            document=config.model_dump(mode="json"),
            device=torch.device(self.device),
        )

    def check_alignment(self) -> None:
        """Check, on the first scenes, that inference will compute what this training computes.

        Raises:
            CheckFailedError: it would not.
        """
        from risctl.model.network import build_network

        config = self.config
        network = build_network(config.physics, config.model, config.training.seed).to(self.device)
        scenes = self.sources.train.scenes(0, min(CHECKED_SCENES, config.training.batch))
        spot_check_network(network, config, scenes.to(self.device), self.device)


def prepare(request: TrainingRequest) -> Prepared:
    """Resolve settings, scenes and device; refuse what does not fit together."""
    if request.tensorboard:
        require_tensorboard()
    if request.fork and request.resume is None:
        raise InputError("--fork", "", "--resume RUN beside it", "none")
    earlier = None if request.resume is None else _earlier(request, request.resume)
    threads, device = _machine(request, earlier)
    use_threads(threads)
    common = request.common
    config = common.resolve() if earlier is None else config_over_run(common, earlier, request.fork)
    if earlier is not None and request.fork:
        refuse_empty_fork(earlier, config)
    config, sources = _sources(request, config, earlier)
    if earlier is not None and not request.fork:
        refuse_other_data(earlier, sources)
    prepared = Prepared(config, sources, device, earlier, request.fork, threads)
    _ = prepared.plan().steps_per_epoch  # refused here, before anything is written, if a step is longer
    return prepared


def _earlier(request: TrainingRequest, path: Path) -> Earlier:
    earlier = Earlier.read(path)
    if not request.fork:
        refuse_other_command(earlier, request.command)
    return earlier


def _machine(request: TrainingRequest, earlier: Earlier | None) -> tuple[int, str]:
    """Return threads and device: those asked for, else those of the run that goes on, to the same bits."""
    common = request.common
    threads, device = common.threads, common.device
    if earlier is not None and not request.fork:
        its_threads, its_device = earlier.machine()
        threads = threads if common.threads_stated else its_threads
        device = its_device if device == "auto" else device
    return threads, resolve_device(device)


def _sources(request: TrainingRequest, config: Config, earlier: Earlier | None) -> tuple[Config, Sources]:
    train, validation = dataset_paths(request.data, request.val_data)
    if train is None and validation is not None:
        raise InputError("--val-data", "", "--data beside it", "none")
    if train is None and earlier is not None:
        train, validation = earlier.data_paths()
    if train is None:
        if config.data.source == "store":
            raise InputError("data", "source", "--data DIR with it", '"store"')
        return config, stream_sources(config)
    if any(word.startswith("physics.") for word in request.common.overrides):
        raise InputError("--data", "", "no physics.* override (a dataset has its own physics)", "one")
    return stored_sources(config, train, validation, _stated(request, earlier))


def _stated(request: TrainingRequest, earlier: Earlier | None) -> frozenset[str]:
    """Return the settings that a dataset does not decide; a run that goes on has its numbers of scenes."""
    common = request.common
    anew = request.fork and (request.data is not None or common.preset is not None)
    return stated_keys(common) | (frozenset() if earlier is None or anew else COUNTS)


def train_into_run(request: TrainingRequest, prepared: Prepared, finish: Finish) -> Document | Ending:
    """Train in a new run directory, or go on in the earlier one, and conclude with `finish`.

    A training that a signal stopped is saved, and ends with the status of that signal.
    """
    from risctl.training import StopFlag

    prepared.check_alignment()
    stop = StopFlag()
    with _run_directory(request, prepared) as (run, record):
        with stop_on_signals(stop.request):
            outcome = _train(run, record, request, prepared, stop)
        run.note_progress(outcome.epochs, outcome.steps, outcome.best_value)
        trained = Trained(run.path, prepared.config, outcome, read_metrics(run.path / METRICS))
        ending = finish(trained) if outcome.stopped_by is None else interrupted(request.command, trained)
        if isinstance(ending, Ending):
            state = "failed" if outcome.stopped_by is None else "interrupted"
            run.end(state, ending.exit_status, ending.message)
        return ending


def follow(prepared: Prepared) -> int:
    """Train as one of the later processes of `torchrun`, which write and say nothing; return the status."""
    from risctl.training import StopFlag, run_training

    stop = StopFlag()
    with stop_on_signals(stop.request, quiet=True):
        outcome = run_training(prepared.plan(), Path(), (), stop, **prepared.resumes)
    return 0 if outcome.stopped_by is None else SIGNAL_STATUS + outcome.stopped_by


def _train(
    run: RunDirectory, record: Document, request: TrainingRequest, prepared: Prepared, stop: StopFlag
) -> Outcome:
    from risctl.training import run_training

    with ExitStack() as stack:
        listeners: list[Listener] = [lambda event: _keep_status(run, record, event)]
        listeners.append(stack.enter_context(MetricsFile(run.path / METRICS)))
        if request.tensorboard:
            listeners.append(stack.enter_context(tensorboard_listener(run.path)))
        listeners.append(stack.enter_context(training_screen(_state(run.path, prepared.config))))
        return run_training(prepared.plan(), run.path, listeners, stop, **prepared.resumes)


def _keep_status(run: RunDirectory, record: Document, event: Event) -> None:
    """Write down that the run goes on, once its lock is held, and how far it is after every epoch."""
    from risctl.training import EpochResult, Started

    if isinstance(event, Started) and not run.announced:
        run.go_on(record)
    elif isinstance(event, EpochResult):
        run.note_progress(event.epoch + 1, event.step, event.best_value)


def _state(run: Path, config: Config) -> TrainingState:
    from risctl.losses import term_weights

    before = of_kind(read_metrics(run / METRICS), EPOCH) if (run / METRICS).exists() else []
    start = before[0]["val"]["total"] if before else None
    epochs = config.training.epochs
    return TrainingState(lambda epoch: term_weights(config.loss, epoch, epochs), start_value=start)


@contextmanager
def _run_directory(request: TrainingRequest, prepared: Prepared) -> Iterator[tuple[RunDirectory, Document]]:
    """Open the directory, new or the earlier run's own; yield it and this process's provenance."""
    from risctl.cli.provenance import provenance

    config, earlier = prepared.config, prepared.earlier
    seeds = {"data.seed": config.data.seed, "training.seed": config.training.seed}
    record = provenance(prepared.device, prepared.threads, seeds, prepared.sources.record())
    if earlier is not None and not request.fork:
        with RunDirectory(earlier.path, earlier.command) as run:
            yield run, record
        return
    name = request.common.preset_name if earlier is None else "fork"
    files = {} if earlier is None else _forked_state(earlier, record)
    with RunDirectory.create(request.command, name, config, record, files) as run:
        note(f"run: {run.path}")
        yield run, record


def _forked_state(earlier: Earlier, record: Document) -> dict[Path, bytes]:
    """Return the earlier run's last state as a file of a new run, and note it in the new run's `record`.

    The trainer lets it go on under the new settings, for as long as it is still this copy.
    """
    from risctl.data.atomic import storage_errors

    with storage_errors(earlier.last):
        content = earlier.last.read_bytes()
    record |= {FORKED_FROM: str(earlier.path.absolute()), FORKED_STATE: state_hash(content)}
    return {earlier.last.relative_to(earlier.path): content}

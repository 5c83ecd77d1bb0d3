"""A training run in its directory: the loop, its checkpoints, and requests to stop.

`checkpoints/last.safetensors` is written at the end of every epoch, every `checkpoint_seconds` in between and
when the run is asked to stop; `checkpoints/best.safetensors` whenever the validation total is the lowest so
far. Listeners receive an event before the state behind it is saved.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from risctl.config import Config, flatten, parse_section
from risctl.data import exclusive_lock
from risctl.data.atomic import remove_leftovers, storage_errors
from risctl.errors import InputError
from risctl.model import build_network
from risctl.model.checkpoint import BEST, CHECKPOINTS, LAST, read_checkpoint, save_checkpoint
from risctl.training.events import EpochResult, Event, Listener, Outcome, Saved, Started, StepResult, StopFlag
from risctl.training.feed import Feed
from risctl.training.loop import finished, train
from risctl.training.plan import TrainingPlan
from risctl.training.process_group import ProcessGroup, join_group
from risctl.training.state import Progress, collect, new_train_state, restore
from risctl.training.step import StepContext
from risctl.training.validation import Validator

LOCK = ".lock"
LOCK_SECONDS = 0.5
SECTIONS = ("physics", "covariance", "model", "loss", "training", "data")
FREE = frozenset(  # settings that may change when a run is resumed
    {
        "training.checkpoint_seconds",
        "training.compile",
        "training.max_skipped_fraction",
        "training.max_sanitised_fraction",
        "data.prefetch_workers",
        "data.shard_scenes",
        "data.source",
        "data.test_scenes",
    }
)


def run_training(
    plan: TrainingPlan,
    directory: Path,
    listeners: Sequence[Listener] = (),
    stop: StopFlag | None = None,
    resume: bool = False,
    fork: bool = False,
) -> Outcome:
    """Train in `directory`, from the beginning or, with `resume`, from its last checkpoint.

    Under `torchrun` every process calls this; the directory is that of rank 0, which alone writes and has
    listeners.

    Args:
        plan: the run.
        directory: created if missing; no other process may be writing to it.
        listeners: receive every event.
        stop: set it to have the run save and return.
        resume: continue from the last checkpoint; from the beginning if there is none yet.
        fork: with `resume`, the checkpoint was copied from another run and the settings may differ from that
            run's; the best value and the patience are reset.

    Raises:
        InputError: settings that do not fit together, or other settings than those of the resumed run.
        CheckFailedError: too large a share of the steps was skipped or sanitised.
        DivergedError: the validation loss is not finite.
        DamagedFileError: the checkpoint is not as it was written.
        StorageError: the directory cannot be written, or another process is writing to it.
    """
    stop = stop or StopFlag()
    with join_group(plan.device) as processes:
        directory = Path(processes.broadcast_text(str(directory)))
        with _locked(directory, processes):
            heard = listeners if processes.is_main else ()
            return _Run(plan, directory, processes, heard).run(stop, resume, fork)


class _Run:
    """One process's part of a run."""

    def __init__(
        self, plan: TrainingPlan, directory: Path, processes: ProcessGroup, listeners: Sequence[Listener]
    ) -> None:
        self._plan, self._processes, self._listeners = plan, processes, listeners
        self._last, self._best = directory / CHECKPOINTS / LAST, directory / CHECKPOINTS / BEST
        if plan.training.batch % processes.size:
            expected = f"a multiple of the {processes.size} processes"
            raise InputError("training", "batch", expected, plan.training.batch)
        network = plan.network or build_network(plan.physics, plan.model, plan.training.seed)
        network.to(processes.device)
        if plan.training.compile:  # the rest is complex arithmetic, which the compiler hands back
            network.get_submodule("backbone").compile()
        self._state = new_train_state(plan, network, processes)
        self._saved_step = -1
        self._saved_at = time.monotonic()

    def run(self, stop: StopFlag, resume: bool, fork: bool) -> Outcome:
        """Train to the end, or to a request to stop."""
        plan, state, processes = self._plan, self._state, self._processes
        resumed = resume and self._resume(fork)
        context = StepContext.from_plan(plan, processes)
        validator = Validator(plan, context.objective, processes)

        def stopping() -> bool:
            return bool(processes.all_reduce_max(stop.requested or 0))

        with closing(Feed(plan)) as feed:
            self._notify(
                Started(
                    epoch=state.progress.epoch,
                    step=state.progress.step,
                    epochs=plan.training.epochs,
                    steps_per_epoch=plan.steps_per_epoch,
                    step_scenes=plan.step_scenes,
                    validation_scenes=plan.validation_scenes,
                    parameters={name: sum(p.numel() for p in group) for name, group in state.groups.items()},
                    resumed=resumed,
                    processes=processes.size,
                )
            )
            for event in train(state, plan, context, feed, validator, stopping):
                self._notify(event)
                if isinstance(event, EpochResult):
                    if event.best:  # before the last: if the process dies in between, the epoch is repeated
                        self._save(self._best)
                    self._save(self._last)
                elif isinstance(event, StepResult) and self._due():
                    self._save(self._last)
        if self._saved_step != state.progress.step:
            self._save(self._last)
        return self._outcome(stop)

    def _resume(self, fork: bool) -> bool:
        """Read the last checkpoint if there is one."""
        if not self._processes.all_reduce_max(int(self._last.is_file())):
            return False
        checkpoint = read_checkpoint(self._last)
        if not fork:
            stored = parse_section(Config, checkpoint.state.config, checkpoint.path).model_dump(mode="json")
            for key, (old, wanted) in changed_keys(stored, self._plan.document).items():
                expected = f"{old!r}, as the run began (a fork may change it)"
                raise InputError(checkpoint.path, key, expected, wanted)
        restore(self._state, checkpoint, self._processes)
        if fork:
            self._fork()
        self._saved_step = self._state.progress.step
        return True

    def _fork(self) -> None:
        """Go on under other settings: from the start of the epoch, best value reset.

        The schedule is entered where the finished epochs end under the new settings; the steps that the epoch
        had done are kept in the weights.
        """
        state, kept = self._state, {"epoch", "step", "cursor", "skipped", "sanitised"}
        state.progress = Progress(**state.progress.model_dump(include=kept))
        state.scheduler.move_to(state.progress.epoch * self._plan.steps_per_epoch)
        if not state.scheduler.averaging:
            state.swa = None

    def _due(self) -> bool:
        elapsed = time.monotonic() - self._saved_at
        return bool(self._processes.all_reduce_max(int(elapsed >= self._plan.training.checkpoint_seconds)))

    def _save(self, path: Path) -> None:
        progress = self._state.progress
        tensors, document = collect(self._state, self._plan.document, self._processes)
        if self._processes.is_main:
            save_checkpoint(path, tensors, document)
        self._notify(Saved(path, progress.epoch, progress.step))
        if path == self._last:
            self._saved_step, self._saved_at = progress.step, time.monotonic()

    def _notify(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def _outcome(self, stop: StopFlag) -> Outcome:
        progress, done = self._state.progress, finished(self._state, self._plan)
        stopped = self._processes.all_reduce_max(stop.requested or 0)
        return Outcome(
            best_value=progress.best_value,
            best_epoch=progress.best_epoch,
            first_value=progress.first_value,
            epochs=progress.epoch,
            steps=progress.step,
            skipped=progress.skipped,
            sanitised=progress.sanitised,
            stopped_by=stopped or None,
            early_stopped=done and progress.epoch < self._plan.training.epochs,
            finished=done,
            best_path=None if progress.best_value is None else self._best,
            last_path=self._last,
            last=progress.last,
            metrics=progress.metrics,
        )


@contextmanager
def _locked(directory: Path, processes: ProcessGroup) -> Iterator[None]:
    """Lock the directory against other runs, and remove temporary files that a killed one left."""
    if not processes.is_main:
        yield
        return
    with storage_errors(directory):
        (directory / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    with storage_errors(directory), exclusive_lock(directory / LOCK, LOCK_SECONDS):
        remove_leftovers(directory / CHECKPOINTS)
        yield


def changed_keys(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that change a run's results and differ, as `{"section.key": (stored, wanted)}`."""
    old = flatten({name: stored.get(name, {}) for name in SECTIONS})
    new = flatten({name: wanted.get(name, {}) for name in SECTIONS})
    keys = sorted((old.keys() | new.keys()) - FREE)
    return {key: (old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)}

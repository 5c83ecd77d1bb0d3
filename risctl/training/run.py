"""A training run in its directory: the loop, its checkpoints, and the signals that end it early.

`checkpoints/last.safetensors` is written at the end of every epoch, every `checkpoint_seconds` in between and
when the run is asked to stop; `checkpoints/best.safetensors` whenever the validation total is the lowest so
far. Listeners hear of an event before the state behind it is saved.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from risctl.data import exclusive_lock
from risctl.data.atomic import remove_leftovers, storage_errors
from risctl.errors import InputError
from risctl.model import build_network
from risctl.model.checkpoint import BEST, CHECKPOINTS, LAST, read_checkpoint, save_checkpoint
from risctl.physics import ArrayGeometry, FieldOfView
from risctl.training.events import EpochResult, Event, Listener, Outcome, Saved, Started, StepResult, StopFlag
from risctl.training.feed import Feed
from risctl.training.loop import Loop, finished, out_of_patience, train
from risctl.training.objective import TwelveTerms
from risctl.training.plan import TrainableNetwork, TrainingPlan
from risctl.training.resume import begin_anew, check_resumable
from risctl.training.state import TrainState, collect, new_train_state, restore
from risctl.training.step import StepParts
from risctl.training.validation import Validator
from risctl.training.world import World, join_world

LOCK = ".lock"
LOCK_SECONDS = 0.5


def run_training(
    plan: TrainingPlan,
    directory: Path,
    listeners: Sequence[Listener] = (),
    stop: StopFlag | None = None,
    resume: bool = False,
    fork: bool = False,
) -> Outcome:
    """Train in `directory`, from the beginning or, with `resume`, from its last checkpoint.

    Under `torchrun` every process calls this; the first one's directory counts, and only the first one writes
    and has listeners.

    Args:
        plan: the run. directory: made if need be; nobody else may be writing to it.
        listeners: hear of every event. stop: set it to have the run save and return.
        resume: go on from the last checkpoint; one that was not reached yet means from the beginning.
        fork: with `resume`, the checkpoint was copied from another run and the settings may differ from that
            run's; the best value and the patience start anew.

    Raises:
        InputError: settings that do not fit together, or other settings than those of the run to go on with.
        CheckFailedError: too large a share of the steps was skipped or sanitised.
        DivergedError: validation is not finite.
        DamagedFileError: the checkpoint is not what was written.
        StorageError: the directory cannot be written, or another process is writing it.
    """
    stop = stop or StopFlag()
    with join_world(plan.device) as world:
        directory = Path(world.broadcast_text(str(directory)))
        with _locked(directory, world):
            return _Run(plan, directory, world, listeners if world.first else ()).go(stop, resume, fork)


class _Run:
    """One process's part of a run."""

    def __init__(
        self, plan: TrainingPlan, directory: Path, world: World, listeners: Sequence[Listener]
    ) -> None:
        self._plan, self._world, self._listeners = plan, world, listeners
        self._last, self._best = directory / CHECKPOINTS / LAST, directory / CHECKPOINTS / BEST
        _check_shares_evenly(plan, world)
        self._state = new_train_state(plan, _network(plan, world), world)
        self._saved_step = -1
        self._saved_at = time.monotonic()

    def go(self, stop: StopFlag, resume: bool, fork: bool) -> Outcome:
        """Train to the end, or to a request to stop."""
        resumed = resume and self._resume(fork)
        loop = _build_loop(self._plan, self._state, self._world, stop)
        self._tell(self._started(resumed))
        with closing(loop.feed):
            self._follow(loop)
        if self._saved_step != self._state.progress.step:
            self._save(self._last)
        return self._outcome(stop)

    def _follow(self, loop: Loop) -> None:
        """Take the steps; tell what happens and save what is due."""
        for event in train(self._state, loop):
            self._tell(event)
            if isinstance(event, EpochResult):
                self._save_epoch(event)
            elif isinstance(event, StepResult) and self._due():
                self._save(self._last)

    def _resume(self, fork: bool) -> bool:
        """Read the last checkpoint if there is one."""
        if not self._world.agree(int(self._last.is_file()))[0]:
            return False
        checkpoint = read_checkpoint(self._last)
        if not fork:
            check_resumable(checkpoint, self._plan)
        restore(self._state, checkpoint, self._world)
        if fork:
            begin_anew(self._state, self._plan)
        self._saved_step = self._state.progress.step
        return True

    def _due(self) -> bool:
        elapsed = time.monotonic() - self._saved_at
        return bool(self._world.agree(int(elapsed >= self._plan.training.checkpoint_seconds))[0])

    def _save_epoch(self, event: EpochResult) -> None:
        """Save the best state before the last: if the process dies in between, it is merely made again."""
        if event.best:
            self._save(self._best)
        self._save(self._last)

    def _save(self, path: Path) -> None:
        progress = self._state.progress
        tensors, document = collect(self._state, self._plan.config, self._world)
        if self._world.first:
            save_checkpoint(path, tensors, document)
        self._tell(Saved(path, progress.epoch, progress.step))
        if path == self._last:
            self._saved_step, self._saved_at = progress.step, time.monotonic()

    def _tell(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def _started(self, resumed: bool) -> Started:
        plan, progress = self._plan, self._state.progress
        return Started(
            epoch=progress.epoch,
            step=progress.step,
            epochs=plan.training.epochs,
            steps_per_epoch=plan.steps_per_epoch,
            step_scenes=plan.step_scenes,
            validation_scenes=plan.validation_scenes,
            parameters={name: sum(p.numel() for p in group) for name, group in self._state.groups.items()},
            resumed=resumed,
            processes=self._world.size,
        )

    def _outcome(self, stop: StopFlag) -> Outcome:
        progress, done = self._state.progress, finished(self._state, self._plan)
        stopped = self._world.agree(stop.requested or 0)[0]
        return Outcome(
            best_value=progress.best_value,
            best_epoch=progress.best_epoch,
            first_value=progress.first_value,
            epochs=progress.epoch,
            steps=progress.step,
            skipped=progress.skipped,
            sanitised=progress.sanitised,
            stopped_by=stopped or None,
            early_stopped=progress.epoch < self._plan.training.epochs
            and out_of_patience(progress, self._plan),
            finished=done,
            best_path=None if progress.best_value is None else self._best,
            last_path=self._last,
            last=progress.last,
            metrics=progress.metrics,
        )


@contextmanager
def _locked(directory: Path, world: World) -> Iterator[None]:
    """Hold the directory against other runs, and clear what a killed one left behind."""
    if not world.first:
        yield
        return
    with storage_errors(directory):
        (directory / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
    with storage_errors(directory), exclusive_lock(directory / LOCK, LOCK_SECONDS):
        remove_leftovers(directory / CHECKPOINTS)
        yield


def _network(plan: TrainingPlan, world: World) -> TrainableNetwork:
    """The plan's network on this process's device; the same weights in every process."""
    network = plan.network or build_network(plan.physics, plan.model, plan.training.seed)
    network.to(world.device)
    if plan.training.compile:  # the rest is complex arithmetic, which the compiler hands back
        network.get_submodule("backbone").compile()
    return network


def _build_loop(plan: TrainingPlan, state: TrainState, world: World, stop: StopFlag) -> Loop:
    geometry = ArrayGeometry.from_config(plan.physics, world.device)
    view = FieldOfView.from_config(plan.physics)
    objective = plan.objective or TwelveTerms(plan.loss, geometry, view, plan.training.epochs)
    return Loop(
        plan=plan,
        parts=StepParts(plan.covariance, plan.training, objective, world, geometry),
        feed=Feed(plan),
        validator=Validator(plan, objective, world),
        stopping=lambda: bool(world.agree(stop.requested or 0)[0]),
    )


def _check_shares_evenly(plan: TrainingPlan, world: World) -> None:
    if plan.training.batch % world.size:
        expected = f"a multiple of the {world.size} processes"
        raise InputError("training", "batch", expected, plan.training.batch)

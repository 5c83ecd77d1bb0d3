"""The training loop, as a generator of events. Saving, logging and drawing are the listener's.

Between two events the state is consistent: whatever is saved then is a state that the run can resume from.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from risctl.errors import CheckFailedError
from risctl.training.events import EpochResult, FirstBatch, StepResult
from risctl.training.feed import LAST_PHASE, Feed, filter_of, phase_of
from risctl.training.metrics import first_batch
from risctl.training.plan import TrainingPlan
from risctl.training.state import Progress, TrainState
from risctl.training.step import StepContext, take_step
from risctl.training.validation import Validation, Validator

MIN_STEPS = 50  # shares of skipped or sanitised steps are taken of at least this many


def train(
    state: TrainState,
    plan: TrainingPlan,
    context: StepContext,
    feed: Feed,
    validator: Validator,
    stopping: Callable[[], bool],
) -> Iterator[FirstBatch | StepResult | EpochResult]:
    """Continue from `state` to the end of the run, the end of its patience, or a request to stop.

    Args:
        state: changed in place.
        plan: the run.
        context: settings, losses and processes of a step.
        feed: source of the training scenes.
        validator: computes the validation figures.
        stopping: whether to stop, asked after every step and between validation batches, by all processes
            together.

    Raises:
        CheckFailedError: too large a share of the steps was skipped or sanitised.
        DivergedError: the network's answer to a validation scene is not finite.
    """
    while not finished(state, plan) and not stopping():
        if state.progress.epoch_step < plan.steps_per_epoch:
            yield from _one_step(state, plan, context, feed)
            continue
        result = _validated(state, plan, validator, stopping)
        if result is None:
            return
        yield result


def finished(state: TrainState, plan: TrainingPlan) -> bool:
    """Whether all epochs are done, or the last `early_stop_patience` brought no lower validation total."""
    patience = plan.training.early_stop_patience
    return state.progress.epoch >= plan.training.epochs or 0 < patience <= state.progress.stale_epochs


def _one_step(
    state: TrainState, plan: TrainingPlan, context: StepContext, feed: Feed
) -> Iterator[FirstBatch | StepResult]:
    begin, before, training = time.perf_counter(), state.progress, plan.training
    scenes, cursor = feed.draw(before.cursor, plan.step_scenes, filter_of(training, before.epoch))
    batches = [scenes[start : start + training.batch] for start in range(0, len(scenes), training.batch)]
    result, covariances = take_step(state, context, batches)
    state.progress = _advanced(before, cursor, result)
    if before.step == 0 and covariances is not None:
        yield first_batch(covariances)
    yield replace(result, seconds=time.perf_counter() - begin)
    after, steps = state.progress, max(state.progress.step, MIN_STEPS)
    for count, share, what in (
        (after.skipped, training.max_skipped_fraction, "skipped"),
        (after.sanitised, training.max_sanitised_fraction, "sanitised"),
    ):
        if count > share * steps:
            raise CheckFailedError(
                f"{count} of {after.step} steps were {what}, more than the share of {share:g} that "
                f"training.max_{what}_fraction allows"
            )


def _advanced(before: Progress, cursor: int, result: StepResult) -> Progress:
    """Progress after a step; its terms go into the epoch's means unless it had no finite loss."""
    sums, summed = dict(before.sums), before.summed
    if result.total is not None:
        for name, value in {**result.terms, "total": result.total}.items():
            sums[name] = sums.get(name, 0.0) + value
        summed += 1
    return before.model_copy(
        update={
            "step": before.step + 1,
            "epoch_step": before.epoch_step + 1,
            "cursor": cursor,
            "skipped": before.skipped + int(result.skipped),
            "sanitised": before.sanitised + int(result.sanitised > 0),
            "sums": sums,
            "summed": summed,
        }
    )


def _validated(
    state: TrainState, plan: TrainingPlan, validator: Validator, stopping: Callable[[], bool]
) -> EpochResult | None:
    """Validate and close the epoch; None if the run is to stop before the validation is complete."""
    begin = time.perf_counter()
    network = state.inference_network()
    network.eval()
    found = validator(network, stopping)
    if found is None:
        return None
    before, phase = state.progress, phase_of(plan.training, state.progress.epoch)
    after = state.progress = close_epoch(before, found, counts=phase == LAST_PHASE)
    assert after.best_value is not None
    assert after.best_epoch is not None
    return EpochResult(
        epoch=before.epoch,
        step=after.step,
        train={name: value / before.summed for name, value in before.sums.items()},
        val=found.terms,
        metrics=found.metrics,
        weights=state.weights,
        best=after.best_epoch == before.epoch,
        best_value=after.best_value,
        best_epoch=after.best_epoch,
        stale_epochs=after.stale_epochs,
        skipped=after.skipped,
        sanitised=after.sanitised,
        phase=phase,
        seconds=time.perf_counter() - begin,
    )


def close_epoch(before: Progress, found: Validation, counts: bool) -> Progress:
    """Progress after an epoch: best value updated, patience used up if the epoch `counts`.

    Epochs under a curriculum's filter do not count: they train on other scenes than those validated.
    """
    value = found.terms["total"]
    better = before.best_value is None or value < before.best_value
    return before.model_copy(
        update={
            "epoch": before.epoch + 1,
            "epoch_step": 0,
            "best_value": value if better else before.best_value,
            "best_epoch": before.epoch if better else before.best_epoch,
            "first_value": value if before.first_value is None else before.first_value,
            "stale_epochs": 0 if better else before.stale_epochs + int(counts),
            "sums": {},
            "summed": 0,
            "last": found.terms,
            "metrics": found.metrics,
        }
    )

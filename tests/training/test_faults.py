"""Faults planted on purpose: each must make the check fail that stands against it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from risctl.losses import main_weights, term_weights
from risctl.training import forward_pass, loop, objective, run, state, step
from risctl.training.generators import Generators
from tests.training import checks
from tests.training.test_step import Diverging

Patch = Callable[[pytest.MonkeyPatch], None]


def _without(owner: Any, name: str) -> Patch:
    return lambda patch: patch.setattr(owner, name, lambda *_: None)


def _without_generator(key: str) -> Patch:
    """Restore everything but one state of the generators."""
    original = Generators.restore

    def restore(self: Generators, tensors: Any, group: Any, path: Any) -> None:
        original(self, {**tensors, key: self.tensors(group)[key]}, group, path)

    return lambda patch: patch.setattr(Generators, "restore", restore)


def _without_average(average: str) -> Patch:
    """Restore the weights themselves in place of an average of them."""
    original = state._load

    def load(network: Any, checkpoint: Any, name: str) -> None:
        original(network, checkpoint, "raw" if name == average else name)

    return lambda patch: patch.setattr(state, "_load", load)


def _with_progress(**values: Any) -> Patch:
    """Restore the progress, but with other numbers."""
    original = state.parse_section

    def parse(model: Any, found: Any, where: Any) -> Any:
        return original(model, {**found, "progress": {**found["progress"], **values}}, where)

    return lambda patch: patch.setattr(state, "parse_section", parse)


def _without_schedule(patch: pytest.MonkeyPatch) -> None:
    original = run.restore

    def restore(moving: Any, *args: Any) -> None:
        original(moving, *args)
        moving.scheduler.move_to(0)

    patch.setattr(run, "restore", restore)


RESTORED = {
    "generators": _without(Generators, "restore"),
    "dropout": _without_generator("dropout"),
    "jitter": _without_generator("jitter"),
    "ema": _without_average("ema"),
    "swa": _without_average("swa"),
    "optimiser": _without(state, "_restore_optimiser"),
    "cursor": _with_progress(cursor=0),
    "best value": _with_progress(best_value=None, best_epoch=None),
    "epoch means": _with_progress(sums={}, summed=0),
    "schedule": _without_schedule,
}


@pytest.mark.parametrize("part", RESTORED)
def test_a_part_not_restored_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    RESTORED[part](monkeypatch)
    with pytest.raises(AssertionError):
        checks.resumes_to_the_same_end(tmp_path, 10 if part == "swa" else 6)


@pytest.mark.parametrize(
    "move",
    [lambda state: state.scheduler.step(), lambda state: state.ema.update_exponential(state.network, 0.999)],
    ids=["schedule", "average"],
)
def test_what_moves_on_a_skipped_step_is_caught(monkeypatch: pytest.MonkeyPatch, move: Any) -> None:
    original = step.take_step

    def take_step(moving: Any, *args: Any) -> Any:
        report, covariances = original(moving, *args)
        if report.skipped:
            move(moving)
        return report, covariances

    monkeypatch.setattr("tests.training.checks.take_step", take_step)
    with pytest.raises(AssertionError):
        checks.a_skipped_step_changes_nothing(Diverging(float("nan"), {2}))


def test_sanitising_before_the_record_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    original = step.count_nonfinite

    def count(parameters: Any) -> int:
        step.sanitise(parameters)
        return original(parameters)

    monkeypatch.setattr(step, "count_nonfinite", count)
    with pytest.raises(AssertionError):
        checks.a_nonfinite_gradient_is_counted()


def test_not_sanitising_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "sanitise", lambda _parameters: None)
    with pytest.raises(AssertionError):
        checks.a_nonfinite_gradient_is_counted()


@pytest.mark.parametrize(
    "fixed", [lambda loss, *_: main_weights(loss), lambda loss, *_: term_weights(loss, 0, 10)]
)
def test_loss_weights_that_ignore_their_schedule_are_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fixed: Any
) -> None:
    monkeypatch.setattr(objective, "term_weights", fixed)
    with pytest.raises(AssertionError, match="epoch"):
        checks.loss_weights_follow_their_schedule(tmp_path)


def test_a_step_that_passes_another_beta_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def passed(network: Any, measured: Any, covariance: Any, *rest: Any) -> Any:
        return forward_pass(network, measured, covariance.model_copy(update={"beta": 0.5}), *rest)

    monkeypatch.setattr(step, "forward_pass", passed)
    with pytest.raises(AssertionError, match="R_blend"):
        checks.training_covariances_are_those_of_inference(tmp_path)


def test_a_best_value_that_is_not_updated_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = loop.close_epoch

    def close(before: Any, *args: Any, **options: Any) -> Any:
        after = original(before, *args, **options)
        return after if before.best_value is None else after.but(best_value=before.best_value)

    monkeypatch.setattr(loop, "close_epoch", close)
    with pytest.raises(AssertionError):
        checks.best_value_follows_the_lowest_validation(tmp_path)

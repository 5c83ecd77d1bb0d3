"""Faults planted on purpose: each must make the check fail that stands against it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import risctl.training.loop as loop
import risctl.training.objective as objective
import risctl.training.run as run
import risctl.training.state as state
import risctl.training.step as step
from risctl.losses import main_weights, term_weights
from risctl.training import forward_pass
from risctl.training.generators import Generators
from tests.training.checks import (
    a_nonfinite_gradient_is_counted,
    a_skipped_step_changes_nothing,
    best_value_follows_the_lowest_validation,
    loss_weights_follow_their_schedule,
    resumes_to_the_same_end,
    training_covariances_are_those_of_inference,
)
from tests.training.test_step import Diverging

Patch = Callable[[pytest.MonkeyPatch], None]


def drop_generators(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Generators, "restore", lambda *_: None)


def _keep(patch: pytest.MonkeyPatch, key: str) -> None:
    """Restore everything but one state of the generators."""
    original = Generators.restore

    def restore(self: Generators, tensors: Any, group: Any, path: Any) -> None:
        fresh = self.tensors(group)
        original(self, {**tensors, key: fresh[key]}, group, path)

    patch.setattr(Generators, "restore", restore)


def drop_dropout(patch: pytest.MonkeyPatch) -> None:
    _keep(patch, "dropout")


def drop_jitter(patch: pytest.MonkeyPatch) -> None:
    _keep(patch, "jitter")


def drop_ema(patch: pytest.MonkeyPatch) -> None:
    original = state._load

    def load(network: Any, checkpoint: Any, name: str) -> None:
        original(network, checkpoint, "raw" if name == "ema" else name)

    patch.setattr(state, "_load", load)


def drop_swa(patch: pytest.MonkeyPatch) -> None:
    original = state._load

    def load(network: Any, checkpoint: Any, name: str) -> None:
        original(network, checkpoint, "raw" if name == "swa" else name)

    patch.setattr(state, "_load", load)


def drop_optimiser(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(state, "_restore_optimiser", lambda *_: None)


def _forget(patch: pytest.MonkeyPatch, **values: Any) -> None:
    """Restore the progress, but with other numbers."""
    original = state.parse_section

    def parse(model: Any, found: Any, where: Any) -> Any:
        return original(model, {**found, "progress": {**found["progress"], **values}}, where)

    patch.setattr(state, "parse_section", parse)


def drop_sampler_position(patch: pytest.MonkeyPatch) -> None:
    _forget(patch, cursor=0)


def drop_best_value(patch: pytest.MonkeyPatch) -> None:
    _forget(patch, best_value=None, best_epoch=None)


def drop_epoch_means(patch: pytest.MonkeyPatch) -> None:
    _forget(patch, sums={}, summed=0)


def drop_schedule(patch: pytest.MonkeyPatch) -> None:
    original = run.restore

    def restore(moving: Any, *args: Any) -> None:
        original(moving, *args)
        moving.scheduler.move_to(0)

    patch.setattr(run, "restore", restore)


RESTORED = [
    (drop_generators, 6),
    (drop_dropout, 6),
    (drop_jitter, 6),
    (drop_ema, 6),
    (drop_swa, 10),
    (drop_optimiser, 6),
    (drop_sampler_position, 6),
    (drop_best_value, 6),
    (drop_epoch_means, 6),
    (drop_schedule, 6),
]


@pytest.mark.parametrize(("fault", "stopped_at"), RESTORED, ids=lambda x: x.__name__ if callable(x) else "")
def test_a_state_that_is_not_restored_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Patch, stopped_at: int
) -> None:
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        resumes_to_the_same_end(tmp_path, stopped_at)


def test_a_schedule_that_moves_on_a_skipped_step_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    original = step.take_step

    def take_step(moving: Any, *args: Any) -> Any:
        report, covariances = original(moving, *args)
        if report.skipped:
            moving.scheduler.step()
        return report, covariances

    monkeypatch.setattr("tests.training.checks.take_step", take_step)
    with pytest.raises(AssertionError):
        a_skipped_step_changes_nothing(Diverging(float("nan"), {2}))


def test_an_average_that_moves_on_a_skipped_step_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    original = step.take_step

    def take_step(moving: Any, *args: Any) -> Any:
        report, covariances = original(moving, *args)
        if report.skipped:
            moving.ema.update_exponential(moving.network, 0.999)
        return report, covariances

    monkeypatch.setattr("tests.training.checks.take_step", take_step)
    with pytest.raises(AssertionError):
        a_skipped_step_changes_nothing(Diverging(float("nan"), {2}))


def test_sanitising_before_the_record_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    original = step.count_nonfinite

    def count(parameters: Any) -> int:
        step.sanitise(parameters)
        return original(parameters)

    monkeypatch.setattr(step, "count_nonfinite", count)
    with pytest.raises(AssertionError):
        a_nonfinite_gradient_is_counted()


def test_not_sanitising_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "sanitise", lambda _parameters: None)
    with pytest.raises(AssertionError):
        a_nonfinite_gradient_is_counted()


@pytest.mark.parametrize(
    "fixed", [lambda loss, *_: main_weights(loss), lambda loss, *_: term_weights(loss, 0, 10)]
)
def test_loss_weights_that_ignore_their_schedule_are_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fixed: Any
) -> None:
    monkeypatch.setattr(objective, "term_weights", fixed)
    with pytest.raises(AssertionError, match="epoch"):
        loss_weights_follow_their_schedule(tmp_path)


def test_a_step_that_passes_another_beta_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def passed(network: Any, measured: Any, covariance: Any, *rest: Any) -> Any:
        return forward_pass(network, measured, covariance.model_copy(update={"beta": 0.5}), *rest)

    monkeypatch.setattr(step, "forward_pass", passed)
    with pytest.raises(AssertionError, match="R_blend"):
        training_covariances_are_those_of_inference(tmp_path)


def test_a_best_value_that_is_not_updated_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = loop.close_epoch

    def close(before: Any, *args: Any, **options: Any) -> Any:
        after = original(before, *args, **options)
        return (
            after if before.best_value is None else after.model_copy(update={"best_value": before.best_value})
        )

    monkeypatch.setattr(loop, "close_epoch", close)
    with pytest.raises(AssertionError):
        best_value_follows_the_lowest_validation(tmp_path)


def test_without_a_fault_the_checks_pass(tmp_path: Path) -> None:
    resumes_to_the_same_end(tmp_path / "a", 6)
    resumes_to_the_same_end(tmp_path / "b", 10)
    best_value_follows_the_lowest_validation(tmp_path / "c")
    a_nonfinite_gradient_is_counted()
    a_skipped_step_changes_nothing(Diverging(float("nan"), {2}))

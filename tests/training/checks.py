"""What must hold of a training, as functions: the tests run them, and run them again under planted faults."""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from risctl.config import CovarianceConfig
from risctl.covariance import covariances
from risctl.data import SceneStream
from risctl.losses import Truth
from risctl.model import Forward, Prediction
from risctl.physics import Scenes
from risctl.training import EpochResult, Event, Outcome, Started, StepResult, StopFlag, run_training
from risctl.training.objective import StepLoss
from risctl.training.process_group import ProcessGroup
from risctl.training.state import new_train_state
from risctl.training.step import StepContext, take_step
from tests.small import Recorder
from tests.training.small import CLOCKS, PHYSICS, SmallNetwork, TwoTerms, small_plan, state_hash, train_small

MAIN_WEIGHTS = {"cov": 1.0, "cov_pred": 0.03, "ortho": 1e-3, "cross": 1e-3, "gap": 0.05, "margin": 0.05}
MAIN_WEIGHTS |= {"K": 0.3, "aux": 0.5, "peak": 0.05, "align": 0.002}


def train_until(step: int, directory: Path, *listeners: Any, **settings: Any) -> Outcome:
    """Run the small training and ask it to stop after a step, or at its next validation."""
    stop = StopFlag()

    def listen(event: Event) -> None:
        if isinstance(event, StepResult) and event.step == step:
            stop.request(15)

    return train_small(directory, *listeners, listen, stop=stop, **settings)


class Log:
    """What a log file would hold: on a new start, records past the saved state go."""

    def __init__(self) -> None:
        self.records: list[Event] = []

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self.records = [record for record in self.records if event.keeps(record)]
        elif isinstance(event, StepResult | EpochResult):
            self.records.append(event)

    def values(self) -> list[dict[str, Any]]:
        """The records, without what a clock said."""
        return [{k: v for k, v in asdict(r).items() if k not in CLOCKS} for r in self.records]


def resumes_to_the_same_end(directory: Path, step: int = 6, **settings: Any) -> None:
    """Stopped after `step` and resumed, a run ends with the state and the records of an undisturbed one."""
    reference, log = Log(), Log()
    train_small(directory / "reference", reference, **settings)
    outcome = train_until(step, directory / "other", log, **settings)
    assert (outcome.stopped_by, outcome.steps) == (15, step)
    torch.manual_seed(step)  # a new process begins with another global state
    outcome = train_small(directory / "other", log, resume=True, **settings)
    assert outcome.finished
    assert state_hash(directory / "other") == state_hash(directory / "reference")
    assert log.values() == reference.values()


def best_value_follows_the_lowest_validation(directory: Path) -> None:
    recorder = Recorder()
    outcome = train_small(directory, recorder, epochs=4, lr=3e-3)
    totals = [result.val["total"] for result in recorder.of(EpochResult)]
    assert min(totals) < totals[0]
    assert outcome.best_value == min(totals)
    for epoch, result in enumerate(recorder.of(EpochResult)):
        assert result.best_value == min(totals[: epoch + 1])
        assert result.best == (result.val["total"] == result.best_value)


class Poisoned(SmallNetwork):
    """Gradients (never outputs) of the head's bias become `value` in the steps listed."""

    def __init__(self, value: float, steps: Sequence[int]) -> None:
        super().__init__(dropout=0.0)
        self.value, self.steps, self.done = value, set(steps), 0
        self.head.bias.register_hook(self._poison)

    def _poison(self, gradient: Tensor) -> Tensor:
        self.done += 1
        return torch.full_like(gradient, self.value) if self.done in self.steps else gradient


class Bench:
    """A state and what one step needs, to call steps by hand."""

    def __init__(self, network: Any = None, **settings: Any) -> None:
        self.plan = small_plan(network=network, **settings)
        self.state = new_train_state(self.plan, self.plan.network, ProcessGroup())
        self.context = StepContext.from_plan(self.plan, ProcessGroup())
        self._scenes = SceneStream(PHYSICS, 3, "train")
        self._next = 0

    def batches(self) -> list[Scenes]:
        """The next step's batches."""
        size, count = self.plan.training.batch, self.plan.training.accumulate
        starts = range(self._next, self._next + size * count, size)
        self._next += size * count
        return [self._scenes.scenes(start, start + size) for start in starts]

    def step(self) -> Any:
        return take_step(self.state, self.context, self.batches())[0]

    def weights(self) -> Tensor:
        return torch.cat([p.detach().reshape(-1) for p in self.state.parameters])


# Weights of `subspace_align` and `peak_contrast` in ten epochs: three of the first phase, two of the last.
SCHEDULE = [(0.02, 0.05)] * 3 + [(0.05, 0.10)] * 5 + [(0.07, 0.12)] * 2


def loss_weights_follow_their_schedule(directory: Path) -> None:
    """Every step of a whole training differentiates its terms under the weights of its epoch."""
    recorder = Recorder()
    plan = replace(small_plan(epochs=len(SCHEDULE), lr=1e-3, swa_fraction=0.0), objective=None)
    run_training(plan, directory, [recorder])
    steps = recorder.of(StepResult)
    assert {result.epoch for result in steps} == set(range(len(SCHEDULE)))
    for result in steps:
        align, contrast = SCHEDULE[result.epoch]
        weights = MAIN_WEIGHTS | {"subspace_align": align, "peak_contrast": contrast}
        expected = sum(weights[name] * value for name, value in result.terms.items())
        assert abs(result.total - expected) < 1e-5 * expected, f"epoch {result.epoch}"
        assert result.weighted == {name: weights[name] * x for name, x in result.terms.items()}


def training_covariances_are_those_of_inference(directory: Path) -> None:
    """Without jitter, every covariance that the objective of a whole training sees, to the bit."""
    answers: list[tuple[Any, Prediction]] = []
    compared = []

    class Recording(SmallNetwork):
        def forward(self, *measured: Tensor) -> Prediction:
            said = super().forward(*measured)
            answers.append((measured, said))
            return said

    class Comparing(TwoTerms):
        def training(self, forward: Forward, truth: Truth, epoch: int) -> StepLoss:
            measured, said = answers[-1]
            made = covariances(*measured, said.A_angle, said.A_range, CovarianceConfig())
            for name in ("samp", "pred", "blend"):
                ours, theirs = getattr(made, name), getattr(forward.covariances, name)
                assert torch.equal(ours.dense(), theirs.dense()), f"R_{name}"
            compared.append(epoch)
            return super().training(forward, truth, epoch)

    train_small(directory, network=Recording(), objective=Comparing(), beta_jitter=0.0, epochs=2)
    assert compared == [0] * 4 + [1] * 4


def a_nonfinite_gradient_is_counted() -> None:
    for value in (math.nan, math.inf, -math.inf):
        bench = Bench(Poisoned(value, [2]))
        assert bench.step().sanitised == 0
        report = bench.step()
        assert report.sanitised == bench.state.network.head.bias.numel()
        assert not report.skipped  # the rest of the gradient is good, and that of the bias bounded
        assert bool(torch.isfinite(bench.weights()).all())


def a_skipped_step_changes_nothing(network: Any) -> None:
    """The second step is skipped; weights, optimiser, schedule and averages stay as they were."""
    bench = Bench(network)
    assert not bench.step().skipped
    state = bench.state

    def everything() -> tuple[Any, ...]:
        weights = [x.tolist() for x in (bench.weights(), *state.ema.network.parameters())]
        return weights, state.scheduler.position, state.ema.updates, str(state.optimiser.state_dict())

    before = everything()
    report = bench.step()
    assert report.skipped
    assert report.message
    assert report.moved == 0
    assert everything() == before
    assert all(p.grad is None for p in state.parameters)
    assert not bench.step().skipped
    assert state.scheduler.position == before[1] + 1

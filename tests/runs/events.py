"""Events of a made-up training."""

from collections.abc import Iterator

from risctl.config import LossConfig
from risctl.losses import TERMS, term_weights
from risctl.training import EpochResult, Event, FirstBatch, Started, StepResult

STEPS = 4


def started(epoch: int = 0, epochs: int = 3, steps_per_epoch: int = STEPS) -> Started:
    groups = {"backbone": 90, "head": 10}
    return Started(epoch, epoch * steps_per_epoch, epochs, steps_per_epoch, 8, 16, groups, epoch > 0, 1)


def first_batch() -> FirstBatch:
    return FirstBatch(1, {"pred": 10, "samp": 15, "blend": 25}, {"pred": 70.5, "samp": 44.0, "blend": 41.0})


def step(number: int, sanitised: int = 0, skipped: bool = False, total: float | None = 2.5) -> StepResult:
    index = (number - 1) // STEPS
    terms = {name: 0.1 * (i + 1) for i, name in enumerate(TERMS)} if total is not None else {}
    weights = term_weights(LossConfig(), index, 3)
    return StepResult(
        epoch=index,
        step=number,
        terms=terms,
        weighted={name: weights[name] * value for name, value in terms.items()},
        detection={"presence": 0.25} if total is not None else {},
        total=total,
        lr={"backbone": 1e-4, "head": 4e-4},
        grad_norm={"backbone": 1.5, "head": 0.5},
        sanitised=sanitised,
        skipped=skipped,
        moved=0.01,
        scenes=8,
        seconds=0.1,
    )


def epoch(number: int, total: float, best: bool = True, best_value: float | None = None) -> EpochResult:
    return EpochResult(
        epoch=number,
        step=STEPS * (number + 1),
        train={"total": total + 0.1},
        val=dict.fromkeys(TERMS, total / 12) | {"total": total},
        metrics={
            "nmse_pred": 0.5,
            "nmse_blend": 0.2,
            "count_accuracy": 0.97,
            "median_angle_deg_high_snr": 0.4,
        },
        weights="ema",
        best=best,
        best_value=total if best_value is None else best_value,
        best_epoch=number,
        stale_epochs=0,
        skipped=0,
        sanitised=0,
        phase=2,
        seconds=0.5,
    )


def training(epochs: int = 3) -> Iterator[Event]:
    yield started(epochs=epochs)
    yield first_batch()
    for number in range(epochs):
        yield from (step(number * STEPS + i + 1) for i in range(STEPS))
        yield epoch(number, 2.0 / (number + 1))

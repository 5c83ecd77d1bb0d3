"""The rate as a function of the steps taken."""

import math
from itertools import pairwise

import pytest
import torch

from risctl.config import TrainingConfig
from risctl.training.schedule import RateCurve, Scheduler


def test_the_curve_of_a_run_with_averaging() -> None:
    training = TrainingConfig(epochs=20, warmup_fraction=0.1, swa_fraction=0.2, swa_lr_factor=0.1)
    curve = RateCurve.of(training, steps_per_epoch=10)
    assert (curve.warmup, curve.average_from, curve.floor) == (20, 160, 0.1)
    values = [curve(s) for s in range(200)]
    assert values[:20] == pytest.approx([(s + 1) / 20 for s in range(20)])
    assert values[19] == values[20] == 1.0
    assert curve(90) == pytest.approx(0.55)  # half way down the cosine
    assert all(a >= b for a, b in pairwise(values[20:]))
    assert values[160:] == [0.1] * 40
    assert values[159] == pytest.approx(0.1, abs=1e-3)  # no jump
    assert [curve.averaging(s) for s in (159, 160, 500)] == [False, True, True]


def test_without_averaging_the_cosine_ends_at_zero() -> None:
    curve = RateCurve.of(TrainingConfig(epochs=10, swa_fraction=0.0, warmup_fraction=0.0), 10)
    values = [curve(s) for s in range(101)]
    assert values[0] == 1.0
    assert values[99] == pytest.approx((1 - math.cos(math.pi / 100)) / 2)
    assert values[100] == 0.0
    assert not any(curve.averaging(s) for s in range(101))


@pytest.mark.parametrize(
    ("epochs", "warmup", "swa"), [(1, 0.5, 0.5), (1, 0.9, 0.0), (2, 0.0, 1.0), (3, 0.6, 0.4)]
)
def test_short_runs_have_finite_rates(epochs: int, warmup: float, swa: float) -> None:
    curve = RateCurve.of(TrainingConfig(epochs=epochs, warmup_fraction=warmup, swa_fraction=swa), 1)
    assert all(0.0 <= curve(s) <= 1.0 for s in range(epochs + 1))


def test_every_group_keeps_its_share() -> None:
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    tables = [{"params": [w], "peak_lr": peak} for w, peak in zip(weights, (1e-3, 4e-3), strict=True)]
    optimiser = torch.optim.AdamW(tables)
    scheduler = Scheduler(optimiser, RateCurve(4, 8, 0.1))
    found = []
    for _ in range(10):
        found.append([group["lr"] for group in optimiser.param_groups])
        scheduler.step()
    assert found[0] == pytest.approx([2.5e-4, 1e-3])
    assert all(b == pytest.approx(4 * a) for a, b in found)
    assert found[8] == pytest.approx([1e-4, 4e-4])
    other = Scheduler(optimiser, scheduler.curve)
    other.move_to(3)
    assert [group["lr"] for group in optimiser.param_groups] == found[3]

"""CPU seconds of a piece of work; a speed beside its target and beside a naive baseline."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

MIN_SECONDS = 0.05  # of one sample: shorter work is repeated within it


@dataclass(frozen=True)
class Figure:
    """A speed, its spread over the repeats, its target, and the same figure of a naive baseline.

    Attributes:
        name: of the work.
        unit: of `value`, `low`, `high`, `target` and `reference`.
        value: median.
        low, high: smallest and largest sample.
        repeats: number of samples.
        more_is_better: whether the target is a lower or an upper limit.
        target: None if there is none.
        reference: median of the naive baseline, None if there is none.
        reference_name: of the naive baseline.
    """

    name: str
    unit: str
    value: float
    low: float
    high: float
    repeats: int
    more_is_better: bool = False
    target: float | None = None
    reference: float | None = None
    reference_name: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.more_is_better else self.value <= self.target

    @property
    def speed_up(self) -> float | None:
        """Ratio of the baseline's time to this one's (or of the rates); None without a baseline."""
        if self.reference is None:
            return None
        return self.value / self.reference if self.more_is_better else self.reference / self.value


def cpu_seconds(work: Callable[[], object], repeats: int, *, warm: bool = True) -> list[float]:
    """CPU seconds of `work`, `repeats` samples; short work is run several times in each.

    Args:
        work: called without arguments.
        repeats: number of samples.
        warm: call it once before, unmeasured.
    """
    if warm:
        work()
    calls, samples = 1, [_sample(work, 1)]
    while samples[0] * calls < MIN_SECONDS and calls < 1000:
        calls *= 4
        samples = [_sample(work, calls)]
    samples += [_sample(work, calls) for _ in range(repeats - 1)]
    return samples


def _sample(work: Callable[[], object], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - start) / calls


def speed(name: str, unit: str, amount: int, seconds: list[float]) -> Figure:
    """Amount per CPU second, as a figure."""
    rates = sorted(amount / s for s in seconds)
    return Figure(name, unit, median(rates), rates[0], rates[-1], len(rates), more_is_better=True)


def cost(name: str, unit: str, amount: int, seconds: list[float]) -> Figure:
    """CPU seconds per unit of `amount`, as a figure."""
    costs = sorted(s / amount for s in seconds)
    return Figure(name, unit, median(costs), costs[0], costs[-1], len(costs))

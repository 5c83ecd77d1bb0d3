"""CPU seconds of a piece of work; a speed beside its target and beside a naive baseline."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

MIN_SECONDS = 0.05  # of one sample: shorter work is repeated within it
Beside: TypeAlias = tuple[float | None, float | None, str]  # target, and the naive baseline with its name
NOTHING: Beside = (None, None, "")


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

    def sample(calls: int) -> float:
        start = time.process_time()
        for _ in range(calls):
            work()
        return (time.process_time() - start) / calls

    if warm:
        work()
    calls, first = 1, sample(1)
    while first * calls < MIN_SECONDS and calls < 1000:
        calls *= 4
        first = sample(calls)
    return [first, *(sample(calls) for _ in range(repeats - 1))]


def speed(name: str, unit: str, amount: int, seconds: list[float], beside: Beside = NOTHING) -> Figure:
    """Amount per CPU second."""
    rates = [amount / s for s in seconds]
    return Figure(name, unit, median(rates), min(rates), max(rates), len(rates), True, *beside)


def cost(name: str, scenes: int, seconds: list[float], beside: Beside = NOTHING) -> Figure:
    """CPU seconds per scene."""
    costs = [s / scenes for s in seconds]
    return Figure(name, "s/scene", median(costs), min(costs), max(costs), len(costs), False, *beside)

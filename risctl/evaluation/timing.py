"""CPU seconds of a piece of work, and a speed beside its target and beside the obvious way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

MIN_SECONDS = 0.05  # of one sample: shorter work is repeated within it


@dataclass(frozen=True)
class Figure:
    """A speed, its spread over the repeats, its target, and the same figure of the obvious way.

    Attributes:
        name: what was measured. unit: of `value`, `low`, `high`, `target` and `reference`.
        value: median. low, high: smallest and largest sample. repeats: samples.
        more_is_better: whether the target is a least or a most value.
        target: None if there is none. reference: median of the obvious way, None if there is none.
        reference_name: what the obvious way is.
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
    def gain(self) -> float | None:
        """How many times better than the reference."""
        if self.reference is None:
            return None
        return self.value / self.reference if self.more_is_better else self.reference / self.value


def cpu_seconds(work: Callable[[], object], repeats: int, *, warm: bool = True) -> list[float]:
    """Return CPU seconds of `work`, `repeats` samples; short work is run several times in each.

    Args:
        work: what to measure. repeats: samples. warm: call once before, unmeasured.
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
    """Return `amount` per CPU second."""
    rates = sorted(amount / s for s in seconds)
    return Figure(name, unit, median(rates), rates[0], rates[-1], len(rates), more_is_better=True)


def cost(name: str, unit: str, amount: int, seconds: list[float]) -> Figure:
    """Return CPU seconds per one of `amount`."""
    costs = sorted(s / amount for s in seconds)
    return Figure(name, unit, median(costs), costs[0], costs[-1], len(costs))

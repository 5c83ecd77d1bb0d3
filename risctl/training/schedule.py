"""The learning rate as a function of the steps taken: linear warm-up, cosine, constant while averaging."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from risctl.config import TrainingConfig


@dataclass(frozen=True)
class RateCurve:
    """Rate over its peak, ``f(s)``, for the step that follows s steps.

        f(s) = (s + 1) / W                                          s < W     warm-up
        f(s) = g + (1 - g) (1 + cos(pi (s - W) / (E - W))) / 2      s < E     cosine (Loshchilov and Hutter,
                                                                              ICLR 2017)
        f(s) = g                                                    s >= E    averaging

    with W the steps of the warm-up, E the first step of the averaging phase and g the rate there. Without an
    averaging phase E is the end and g = 0.

    Attributes:
        warmup: W.
        average_from: E.
        floor: g.
    """

    warmup: int
    average_from: int
    floor: float

    @classmethod
    def of(cls, training: TrainingConfig, steps_per_epoch: int) -> RateCurve:
        """Curve of a run; the averaging phase is a whole number of epochs."""
        total = training.epochs * steps_per_epoch
        averaged = round(training.epochs * training.swa_fraction) * steps_per_epoch
        warmup = min(math.ceil(training.warmup_fraction * total), total - averaged)
        return cls(warmup, total - averaged, training.swa_lr_factor if averaged else 0.0)

    def averaging(self, position: int) -> bool:
        """Whether the step after `position` steps belongs to the averaging phase."""
        return self.floor > 0 and position >= self.average_from

    def __call__(self, position: int) -> float:
        """``f(position)``."""
        if position < self.warmup:
            return (position + 1) / self.warmup
        if position >= self.average_from:
            return self.floor
        share = (position - self.warmup) / (self.average_from - self.warmup)
        return self.floor + (1.0 - self.floor) * (1.0 + math.cos(math.pi * share)) / 2.0


class Scheduler:
    """Sets the rates of an optimiser's groups from the curve; advanced only by steps that were taken.

    Args:
        optimiser: every group has its peak rate under `peak_lr`.
        curve: rate over its peak.
    """

    def __init__(self, optimiser: torch.optim.Optimizer, curve: RateCurve) -> None:
        self._optimiser, self.curve = optimiser, curve
        self.position = 0
        self.move_to(0)

    @property
    def averaging(self) -> bool:
        """Whether the next step belongs to the averaging phase."""
        return self.curve.averaging(self.position)

    def step(self) -> None:
        """Advance by one step."""
        self.move_to(self.position + 1)

    def move_to(self, position: int) -> None:
        """Set the rates for the step that follows `position` steps."""
        self.position = position
        for group in self._optimiser.param_groups:
            group["lr"] = group["peak_lr"] * self.curve(position)

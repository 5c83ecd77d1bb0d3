"""The optimiser, AdamW over the backbone and the heads, and its learning rate.

The rate is a function of the steps taken: linear warm-up, cosine, constant while weights are averaged.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from risctl.config import TrainingConfig
from risctl.model import RisNetwork

BETAS = (0.9, 0.999)
EPS = 1e-8


def build_optimiser(network: RisNetwork, training: TrainingConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, ICLR 2019) with the heads at `head_lr_factor` times the rate.

    Weights decay; vectors (biases, gains of norms) do not. Every group carries its `name` and `peak_lr`.

    Raises:
        ValueError: a trainable parameter is in no group, or in more than one.
    """
    groups = network.parameter_groups()
    check_each_once(dict(network.named_parameters()), groups)
    tables = []
    for name, parameters in groups.items():
        rate = training.lr * (training.head_lr_factor if name == "head" else 1.0)
        for decays in (True, False):
            chosen = [p for p in parameters if (p.ndim > 1) == decays]
            decay = training.weight_decay if decays else 0.0
            if chosen:
                tables.append(
                    {"params": chosen, "name": name, "lr": rate, "peak_lr": rate, "weight_decay": decay}
                )
    # One kernel over all parameters instead of a dozen small operations on each: a twentieth of a CPU step.
    fused = all(p.device.type == "cpu" for group in groups.values() for p in group)
    return torch.optim.AdamW(tables, lr=training.lr, betas=BETAS, eps=EPS, fused=fused)


def check_each_once(named: Mapping[str, nn.Parameter], groups: Mapping[str, list[nn.Parameter]]) -> None:
    """Raise `ValueError` unless the groups hold every trainable parameter exactly once and nothing else."""
    counts = Counter(id(parameter) for group in groups.values() for parameter in group)
    for name, parameter in named.items():
        found = counts.pop(id(parameter), 0)
        if found != int(parameter.requires_grad):
            raise ValueError(
                f"parameter {name} is {found} times in the groups, not {int(parameter.requires_grad)}"
            )
    if counts:
        raise ValueError(f"{len(counts)} parameters in the groups are not the network's")


def current_rates(optimiser: torch.optim.Optimizer) -> dict[str, float]:
    """Learning rate of each named group."""
    return {str(group["name"]): float(group["lr"]) for group in optimiser.param_groups}


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

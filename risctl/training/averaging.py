"""Averages of the weights over the steps: exponential (EMA) and plain (SWA)."""

from __future__ import annotations

import copy

import torch

from risctl.model import RisNetwork


def ema_decay(limit: float, updates: int) -> float:
    """Decay of the EMA update that follows t = `updates` updates: ``min(limit, (1 + t) / (10 + t))``.

    A constant 0.999 would still hold 37 % of the first weights after 1000 steps; with a decay that grows the
    average covers about the last tenth of a short run and settles at `limit` in a long one.
    """
    return min(limit, (1 + updates) / (10 + updates))


class WeightAverage:
    """Copy of a network whose weights are an average over training.

    Attributes:
        network: the averaged network, in evaluation mode and without gradients.
        updates: number of states averaged after the first.
    """

    def __init__(self, network: RisNetwork) -> None:
        self.network = copy.deepcopy(network)
        self.network.eval()
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        self.updates = 0

    def update_exponential(self, network: RisNetwork, limit: float) -> None:
        """``m <- d m + (1 - d) theta`` with ``d = ema_decay(limit, updates)``; Polyak and Juditsky 1992."""
        self._move(network, 1.0 - ema_decay(limit, self.updates))

    def update_mean(self, network: RisNetwork) -> None:
        """``m <- m + (theta - m) / (n + 1)``: the mean of n + 1 states (Izmailov et al., UAI 2018)."""
        self._move(network, 1.0 / (self.updates + 1))

    @torch.no_grad()
    def _move(self, network: RisNetwork, weight: float) -> None:
        averaged = [parameter.detach() for parameter in self.network.parameters()]
        current = [parameter.detach() for parameter in network.parameters()]
        torch._foreach_lerp_(averaged, current, weight)
        self.updates += 1

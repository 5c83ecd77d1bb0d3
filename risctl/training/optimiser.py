"""The optimiser: AdamW over the backbone and the heads, every trainable parameter exactly once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

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

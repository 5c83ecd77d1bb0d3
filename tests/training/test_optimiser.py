"""Every trainable parameter exactly once, at its rate and its decay."""

import pytest
import torch
from torch import nn

from risctl.config import TrainingConfig
from risctl.training.optimiser import build_optimiser, check_each_once, current_rates
from tests.training.small import SmallNetwork


def test_groups_rates_and_decay() -> None:
    network = SmallNetwork()
    optimiser = build_optimiser(network, TrainingConfig(lr=1e-3, head_lr_factor=4.0, weight_decay=0.1))
    assert current_rates(optimiser) == pytest.approx({"backbone": 1e-3, "head": 4e-3})
    listed = [p for group in optimiser.param_groups for p in group["params"]]
    assert len(listed) == len({id(p) for p in listed}) == len(list(network.parameters()))
    for group in optimiser.param_groups:
        assert {p.ndim > 1 for p in group["params"]} == {group["weight_decay"] > 0}


def test_a_parameter_forgotten_or_listed_twice_is_found() -> None:
    network = SmallNetwork()
    groups = network.parameter_groups()
    forgotten = groups | {"head": groups["head"][:-1]}
    twice = groups | {"backbone": [*groups["backbone"], groups["head"][0]]}
    for found, said in ((forgotten, r"head\.bias is 0 times"), (twice, r"head\.weight is 2 times")):
        with pytest.raises(ValueError, match=said):
            check_each_once(dict(network.named_parameters()), found)


def test_a_frozen_or_foreign_parameter_is_found() -> None:
    network = SmallNetwork()
    groups = network.parameter_groups()
    network.head.bias.requires_grad_(False)
    with pytest.raises(ValueError, match=r"head\.bias is 1 times"):
        check_each_once(dict(network.named_parameters()), groups)
    groups["head"].pop()
    check_each_once(dict(network.named_parameters()), groups)
    groups["head"].append(nn.Parameter(torch.zeros(1)))
    with pytest.raises(ValueError, match="not the network's"):
        check_each_once(dict(network.named_parameters()), groups)

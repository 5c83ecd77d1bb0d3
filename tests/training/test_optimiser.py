"""Every trainable parameter exactly once, at its rate and its decay."""

import pytest
import torch
from torch import nn

from risctl.config import ModelConfig, PhysicsConfig, TrainingConfig
from risctl.model import build_network
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


@pytest.mark.parametrize("head", ["structured", "factors"])
def test_the_real_networks_groups_are_complete(head: str) -> None:
    network = build_network(PhysicsConfig(), ModelConfig(head=head, width=8, depth=2), 0)
    optimiser = build_optimiser(network, TrainingConfig())
    taken = [id(parameter) for group in optimiser.param_groups for parameter in group["params"]]
    assert sorted(taken) == sorted(id(parameter) for parameter in network.parameters())


def _groups(network: SmallNetwork) -> dict[str, list[nn.Parameter]]:
    return {name: list(group) for name, group in network.parameter_groups().items()}


def test_a_forgotten_parameter_is_found() -> None:
    network = SmallNetwork()
    groups = _groups(network)
    groups["head"].pop()
    with pytest.raises(ValueError, match=r"head\.bias is 0 times"):
        check_each_once(dict(network.named_parameters()), groups)


def test_a_parameter_listed_twice_is_found() -> None:
    network = SmallNetwork()
    groups = _groups(network)
    groups["backbone"].append(groups["head"][0])
    with pytest.raises(ValueError, match=r"head\.weight is 2 times"):
        check_each_once(dict(network.named_parameters()), groups)


def test_a_frozen_or_foreign_parameter_is_found() -> None:
    network = SmallNetwork()
    groups = _groups(network)
    network.head.bias.requires_grad_(False)
    with pytest.raises(ValueError, match=r"head\.bias is 1 times"):
        check_each_once(dict(network.named_parameters()), groups)
    groups["head"].pop()
    check_each_once(dict(network.named_parameters()), groups)
    groups["head"].append(nn.Parameter(torch.zeros(1)))
    with pytest.raises(ValueError, match="not the network's"):
        check_each_once(dict(network.named_parameters()), groups)

"""Speed of a training step and of its parts, from the same scenes in the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from risctl.config import Config
from risctl.evaluation.timing import Figure, cost, cpu_seconds, speed
from risctl.losses import Truth
from risctl.model import Prediction, RisNetwork, build_network
from risctl.physics import Scenes
from risctl.training.forward import forward_pass
from risctl.training.plan import TrainingPlan
from risctl.training.process_group import ProcessGroup
from risctl.training.state import new_train_state
from risctl.training.step import StepContext, take_step

STEP_TARGET = 150.0  # scenes per CPU second of whole training steps


def training_figures(config: Config, batch: int, repeats: int) -> Iterator[Figure]:
    """Scenes per CPU second of whole steps; covariances and losses beside the network."""
    network = build_network(config.physics, config.model, config.training.seed)
    plan, processes = TrainingPlan.from_config(config), ProcessGroup()
    context = StepContext.from_plan(plan, processes)
    scenes = plan.train.scenes(0, batch)
    state = new_train_state(plan, network, processes)
    step = cpu_seconds(lambda: take_step(state, context, [scenes]), repeats)
    yield replace(speed("training steps", "scenes/s", batch, step), target=STEP_TARGET)
    alone = cpu_seconds(lambda: _network_alone(network, scenes), repeats)
    rest = cpu_seconds(_rest_alone(context, network, scenes), repeats)
    figure = cost("covariances and losses, both ways", "s/scene", batch, rest)
    reference = cost("", "", batch, alone).value
    yield replace(
        figure, target=reference, reference=reference, reference_name="the network alone, both ways"
    )


def _network_alone(network: RisNetwork, scenes: Scenes) -> None:
    """Maps, forward and backward of the network for a gradient of every output."""
    said = network(scenes.y, scenes.H, scenes.codes)
    outputs = [*_differentiable(said).values(), *([] if said.maps is None else [said.maps])]
    sums = [(x.real + x.imag).sum() if x.is_complex() else x.sum() for x in outputs]
    torch.autograd.backward(torch.stack(sums).sum())


def _rest_alone(context: StepContext, network: RisNetwork, scenes: Scenes) -> Callable[[], None]:
    """Truth, covariances and losses, forward and backward, from a prediction that is there already."""
    said = network(scenes.y, scenes.H, scenes.codes)

    def work() -> None:
        leaves = {name: x.detach().requires_grad_() for name, x in _differentiable(said).items()}
        maps = None if said.maps is None else said.maps.detach().requires_grad_()
        fixed = replace(said, maps=maps, **leaves)
        forward = forward_pass(lambda y, H, codes: fixed, scenes, context.covariance)
        truth = Truth.of(scenes, context.geometry)
        loss = context.objective.training(forward, truth, 0)
        torch.autograd.backward(loss.total)

    return work


def _differentiable(said: Prediction) -> dict[str, Tensor]:
    names = ("A_angle", "A_range", "count_logits", "position", "power")
    return {name: getattr(said, name) for name in names}

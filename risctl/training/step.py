"""One optimiser step, in the one order that cannot hide a bad batch.

Backward (scaled), unscale once, record whether any gradient is not finite, sanitise, clip, check that the
gradients of backbone and heads are finite and not zero, step or skip, update the scaler, zero the gradients,
and - only after a step that happened - move the schedule and the averages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from risctl.config import CovarianceConfig, TrainingConfig
from risctl.covariance import Covariances
from risctl.errors import DivergedError
from risctl.losses import Truth
from risctl.physics import ArrayGeometry, Scenes
from risctl.training.averaging import WeightAverage
from risctl.training.forward import forward_pass
from risctl.training.objective import Objective, StepLoss
from risctl.training.optimiser import current_rates
from risctl.training.sanitise import clip_gradients, count_nonfinite, group_norms, sanitise
from risctl.training.state import TrainState
from risctl.training.world import World


@dataclass(frozen=True)
class StepMeans:
    """Means over a step: `total`, raw `terms` and the architecture's `own`."""

    total: float
    terms: dict[str, float]
    own: dict[str, float]


@dataclass(frozen=True)
class StepReport:
    """What became of one step; `means` is None where there was no finite loss, `covariances` likewise."""

    means: StepMeans | None
    covariances: Covariances | None
    lr: Mapping[str, float]
    grad_norm: Mapping[str, float] = field(default_factory=dict)
    sanitised: int = 0
    skipped: bool = False
    moved: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class StepParts:
    """What a step needs besides the state.

    Attributes:
        covariance, training: the sections. objective: the losses. world: the processes.
        geometry: the nominal surface, on this process's device.
    """

    covariance: CovarianceConfig
    training: TrainingConfig
    objective: Objective
    world: World
    geometry: ArrayGeometry


def take_step(state: TrainState, parts: StepParts, batches: Sequence[Scenes], epoch: int) -> StepReport:
    """Do one step on the gradients of all `batches` (global ones; each process computes its share)."""
    rates = current_rates(state.optimiser)
    state.network.train()
    losses, message = accumulate_gradients(state, parts, batches, epoch)
    if losses is None:
        state.optimiser.zero_grad(set_to_none=True)
        return StepReport(None, None, rates, skipped=True, message=message)
    parts.world.average_gradients(state.parameters)
    report = apply_gradients(state, parts.training.clip, parts.training.ema_decay)
    means = mean_over_step([loss for loss, _ in losses], parts.world)
    return StepReport(means, losses[0][1], rates, *report)


def accumulate_gradients(
    state: TrainState, parts: StepParts, batches: Sequence[Scenes], epoch: int
) -> tuple[list[tuple[StepLoss, Covariances]] | None, str]:
    """Backward through the scaled mean of the batches' losses.

    Returns the losses, or None and the reason where one of any process is not finite: such a step is skipped
    by all, and the jitter and dropout of its remaining batches are not drawn.
    """
    losses = []
    for scenes in batches:
        loss, message = batch_loss(state, parts, scenes, epoch)
        if parts.world.agree(int(loss is None))[0] or loss is None:
            return None, message or "another process has no finite loss"
        torch.autograd.backward(state.scaler.scale(loss[0].total / len(batches)))
        losses.append(loss)
    return losses, ""


def batch_loss(
    state: TrainState, parts: StepParts, scenes: Scenes, epoch: int
) -> tuple[tuple[StepLoss, Covariances] | None, str]:
    """Loss of this process's share of a batch, or None and why there is none."""
    offsets = state.generators.beta_offsets(len(scenes), parts.training.beta_jitter)
    rows = parts.world.share(len(scenes))
    own = scenes[rows].to(parts.world.device)
    offsets = None if offsets is None else offsets[rows].to(parts.world.device)
    try:
        with state.generators.dropout():
            forward = forward_pass(state.network, own, parts.covariance, parts.training.precision, offsets)
        loss = parts.objective.training(forward, Truth.of(own, parts.geometry), epoch)
    except DivergedError as error:
        return None, str(error)
    if not bool(torch.isfinite(loss.total)):
        bad = [name for name, value in loss.terms.items() if not bool(torch.isfinite(value))]
        return None, f"the loss is not finite ({', '.join(bad) or 'total'})"
    return (loss, forward.covariances), ""


def apply_gradients(
    state: TrainState, clip: float, ema_limit: float
) -> tuple[dict[str, float], int, bool, float, str]:
    """Everything after backward; returns gradient norms, values sanitised, skipped, movement and message."""
    parameters = state.parameters
    state.scaler.unscale_(state.optimiser)
    nonfinite = count_nonfinite(parameters)
    sanitise(parameters)
    norms = group_norms(state.groups)
    clip_gradients(parameters, clip)
    message = refusal(state, nonfinite)
    moved = 0.0 if message else stepped(state)
    if state.scaler.is_enabled():
        state.scaler.update()
    state.optimiser.zero_grad(set_to_none=True)
    if not message:
        after_step(state, ema_limit)
    return norms, nonfinite, bool(message), moved, message


def refusal(state: TrainState, nonfinite: int) -> str:
    """Why the step must not be taken; empty if it may.

    With a loss scaler a gradient that is not finite means that the scale is too large: that step is never
    taken, sanitised or not, and the scaler lowers its scale.
    """
    if state.scaler.is_enabled() and nonfinite:
        return "the scaled gradient overflowed"
    for name, norm in group_norms(state.groups).items():
        if not math.isfinite(norm) or norm == 0.0:
            return f"the gradient of the {name} has norm {norm:g}"
    return ""


def stepped(state: TrainState) -> float:
    """Take the step; return how far the parameters moved."""
    before = [parameter.detach().clone() for parameter in state.parameters]
    state.scaler.step(state.optimiser)
    with torch.no_grad():
        change = torch._foreach_sub([p.detach() for p in state.parameters], before)
        return float(torch.nn.utils.get_total_norm(change))


def after_step(state: TrainState, ema_limit: float) -> None:
    """Update the averages with the weights just reached, and move the schedule."""
    if state.scheduler.averaging:
        if state.swa is None:
            state.swa = WeightAverage(state.network)
        state.swa.update_mean(state.network)
    state.scheduler.step()
    if state.ema is not None:
        state.ema.update_exponential(state.network, ema_limit)


def mean_over_step(losses: Sequence[StepLoss], world: World) -> StepMeans:
    """Means over the batches of the step and over the processes."""
    terms, own = list(losses[0].terms), list(losses[0].own)
    rows = [
        torch.stack([loss.total, *loss.terms.values(), *loss.own.values()]).detach().double()
        for loss in losses
    ]
    mean = world.total(torch.stack(rows).mean(dim=0)) / world.size
    values = mean.tolist()
    named = dict(zip(["total", *terms], values, strict=False))
    return StepMeans(named.pop("total"), named, dict(zip(own, values[1 + len(terms) :], strict=True)))

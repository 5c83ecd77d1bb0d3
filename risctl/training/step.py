"""One optimiser step, in the one order that cannot hide a bad batch.

Backward (scaled), unscale once, record whether any gradient is not finite, sanitise, clip, check that the
gradients of backbone and heads are finite and not zero, step or skip, update the scaler, zero the gradients,
and - only after a step that happened - move the schedule and the averages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from risctl.config import CovarianceConfig, TrainingConfig
from risctl.covariance import Covariances
from risctl.errors import DivergedError
from risctl.losses import Truth
from risctl.model import Forward, Network
from risctl.physics import ArrayGeometry, FieldOfView, Scenes
from risctl.training.events import StepResult
from risctl.training.forward import forward_pass
from risctl.training.generators import Generators
from risctl.training.objective import Objective, StepLoss, WeightedTerms
from risctl.training.optimiser import current_rates
from risctl.training.plan import TrainingPlan
from risctl.training.process_group import ProcessGroup
from risctl.training.state import TrainState, WeightAverage


@dataclass(frozen=True)
class StepContext:
    """Inputs of a training step besides the state that it changes.

    Attributes:
        covariance: settings of the covariance pipeline.
        training: settings of the optimisation.
        objective: the losses.
        geometry: nominal surface, on this process's device.
        processes: the processes that share every batch.
    """

    covariance: CovarianceConfig
    training: TrainingConfig
    objective: Objective
    geometry: ArrayGeometry
    processes: ProcessGroup

    @classmethod
    def from_plan(cls, plan: TrainingPlan, processes: ProcessGroup) -> StepContext:
        """Context of the steps of a run."""
        geometry = ArrayGeometry.from_config(plan.physics, processes.device)
        view = FieldOfView.from_config(plan.physics)
        objective = plan.objective or WeightedTerms(plan.loss, geometry, view, plan.training.epochs)
        return cls(plan.covariance, plan.training, objective, geometry, processes)


def take_step(
    state: TrainState, context: StepContext, batches: Sequence[Scenes]
) -> tuple[StepResult, Covariances | None]:
    """Take one step on the mean gradient of all `batches`, or skip it.

    Args:
        state: changed in place; its progress is left to the caller.
        context: settings, losses and processes.
        batches: global ones; each process computes its shard of each.

    Returns:
        The result, without its wall time, and the covariances of the first batch; None without a finite loss.
    """
    progress, scenes = state.progress, sum(len(batch) for batch in batches)
    rates = current_rates(state.optimiser)
    result = StepResult(epoch=progress.epoch, step=progress.step + 1, lr=rates, scenes=scenes)
    state.network.train()
    losses, first, message = accumulate_gradients(state, context, batches)
    if losses is None:
        state.optimiser.zero_grad(set_to_none=True)
        return replace(result, skipped=True, message=message), None
    context.processes.average_gradients(state.parameters)
    result = apply_gradients(state, context.training, result)
    rows = [
        torch.stack([loss.total, *loss.terms.values(), *loss.detection.values()]).detach().double()
        for loss in losses
    ]
    mean = context.processes.all_reduce_sum(torch.stack(rows).mean(dim=0)) / context.processes.size
    total, *values = mean.tolist()
    terms = dict(zip(losses[0].terms, values, strict=False))
    weighted = {name: weight * terms[name] for name, weight in losses[0].weights.items()}
    detection = dict(zip(losses[0].detection, values[len(terms) :], strict=True))
    return replace(result, total=total, terms=terms, weighted=weighted, detection=detection), first


def accumulate_gradients(
    state: TrainState, context: StepContext, batches: Sequence[Scenes]
) -> tuple[list[StepLoss] | None, Covariances | None, str]:
    """Backward through the scaled mean of the batches' losses.

    Returns the losses and the covariances of the first batch, or None and the reason where a loss of any
    process is not finite: such a step is skipped by all, and the jitter and dropout of its remaining batches
    are not drawn.
    """
    losses: list[StepLoss] = []
    first, message = None, "another process has no finite loss"
    for scenes in batches:
        loss = None
        try:
            loss, forward = batch_loss(state.network, scenes, context, state.generators, state.progress.epoch)
        except DivergedError as error:
            message = str(error)
        if context.processes.all_reduce_max(int(loss is None)) or loss is None:
            return None, None, message
        torch.autograd.backward(state.scaler.scale(loss.total / len(batches)))
        losses.append(loss)
        first = first or forward.covariances
    return losses, first, ""


def batch_loss(
    network: Network, scenes: Scenes, context: StepContext, generators: Generators, epoch: int
) -> tuple[StepLoss, Forward]:
    """Loss of this process's shard of a batch, with the prediction and covariances it was computed from.

    Raises:
        DivergedError: the network's answer or the loss is not finite.
    """
    processes = context.processes
    offsets = generators.beta_offsets(len(scenes), context.training.beta_jitter)
    rows = processes.shard(len(scenes))
    own = scenes[rows].to(processes.device)
    offsets = None if offsets is None else offsets[rows].to(processes.device)
    with generators.dropout():
        forward = forward_pass(network, own, context.covariance, context.training.precision, offsets)
    loss = context.objective.training(forward, Truth.of(own, context.geometry), epoch)
    if not bool(torch.isfinite(loss.total)):
        bad = [name for name, value in loss.terms.items() if not bool(torch.isfinite(value))]
        raise DivergedError(f"the loss is not finite ({', '.join(bad) or 'total'})")
    return loss, forward


def apply_gradients(state: TrainState, training: TrainingConfig, result: StepResult) -> StepResult:
    """Everything after backward; returns `result` with gradient norms, movement and what went wrong."""
    parameters = state.parameters
    state.scaler.unscale_(state.optimiser)
    nonfinite = count_nonfinite(parameters)
    sanitise(parameters)
    norms = group_norms(state.groups)
    torch.nn.utils.clip_grad_norm_(parameters, training.clip)
    message, moved = refusal(state, nonfinite), 0.0
    if not message:
        before = [parameter.detach().clone() for parameter in parameters]
        state.scaler.step(state.optimiser)
        change = torch._foreach_sub([parameter.detach() for parameter in parameters], before)
        moved = float(torch.nn.utils.get_total_norm(change))
    if state.scaler.is_enabled():
        state.scaler.update()
    state.optimiser.zero_grad(set_to_none=True)
    if not message:
        averaging = state.scheduler.averaging
        state.scheduler.step()
        if state.ema is not None:
            state.ema.update_exponential(state.network, training.ema_decay)
        if averaging:
            if state.swa is None:
                state.swa = WeightAverage(state.network)
            state.swa.update_mean(state.network)
    return replace(
        result, grad_norm=norms, sanitised=nonfinite, skipped=bool(message), moved=moved, message=message
    )


def refusal(state: TrainState, nonfinite: int) -> str:
    """Reason why the step must not be taken; empty if it may.

    With a loss scaler a gradient that is not finite means that the scale is too large: that step is never
    taken, sanitised or not, and the scaler lowers its scale.
    """
    if state.scaler.is_enabled() and nonfinite:
        return "the scaled gradient overflowed"
    for name, norm in group_norms(state.groups).items():
        if not math.isfinite(norm) or norm == 0.0:
            return f"the gradient of the {name} has norm {norm:g}"
    return ""


def gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """The gradients that exist."""
    return [p.grad for p in parameters if p.grad is not None]


def count_nonfinite(parameters: Sequence[nn.Parameter]) -> int:
    """Number of gradient values that are not finite."""
    found = gradients(parameters)
    if not found or bool(torch.isfinite(torch.nn.utils.get_total_norm(found))):
        return 0  # one quick pass; a norm can overflow where no value does, hence the count
    return int(torch.stack([(~torch.isfinite(g)).sum() for g in found]).sum())


def sanitise(parameters: Sequence[nn.Parameter]) -> None:
    """Replace gradient values in place: nan by 0, +inf by 1, -inf by -1."""
    for g in gradients(parameters):
        torch.nan_to_num_(g, nan=0.0, posinf=1.0, neginf=-1.0)


def group_norms(groups: Mapping[str, Sequence[nn.Parameter]]) -> dict[str, float]:
    """Euclidean gradient norm of each group."""
    return {name: float(torch.nn.utils.get_total_norm(gradients(group))) for name, group in groups.items()}

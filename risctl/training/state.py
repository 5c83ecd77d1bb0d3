"""The state of a run: everything that changes during training, saved to a checkpoint and restored.

A resumed run is built from its plan, gets this state back, and ends where the uninterrupted run ends, to the
last bit on a CPU.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from risctl.config import parse_section
from risctl.config.base import Section
from risctl.errors import DamagedFileError, RisctlError
from risctl.model import RisNetwork
from risctl.model.checkpoint import Checkpoint, CheckpointState, build_state
from risctl.model.container import check_weights
from risctl.training.generators import Generators
from risctl.training.optimiser import RateCurve, Scheduler, build_optimiser
from risctl.training.plan import TrainingPlan
from risctl.training.process_group import ProcessGroup

MOMENTS = ("exp_avg", "exp_avg_sq")
SCALER_LIMITS: Mapping[str, tuple[float, float] | tuple[int, int]] = {
    "scale": (0.0, 3e38),
    "growth_factor": (1.0, 1e9),
    "backoff_factor": (0.0, 1.0),
    "growth_interval": (1, 2**31 - 1),
    "_growth_tracker": (0, 2**31 - 1),
}
Count = Annotated[int, Field(ge=0, lt=2**53)]


class Progress(Section):
    """Counters and results of a run so far, as stored in a checkpoint; replaced as a whole by every step."""

    epoch: Count = 0
    """Epochs finished, validation included."""
    epoch_step: Count = 0
    """Steps done in the current epoch."""
    step: Count = 0
    """Steps done in the run, skipped ones included."""
    cursor: Count = 0
    """Place of the next scene in the sampler's sequence."""
    skipped: Count = 0
    """Steps that were not taken."""
    sanitised: Count = 0
    """Steps whose gradient had a value that was not finite."""
    best_value: float | None = None
    """Lowest validation total."""
    best_epoch: Count | None = None
    """Its epoch, from 0."""
    first_value: float | None = None
    """The first validation total."""
    stale_epochs: Count = 0
    """Epochs since the best that count towards early stopping."""
    sums: dict[str, float] = Field(default_factory=dict)
    """Sums of the terms over the steps of the current epoch."""
    summed: Count = 0
    """Steps in those sums."""
    last: dict[str, float] = Field(default_factory=dict)
    """The last validation's terms."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """The last validation's metrics."""


class SavedScalars(Section):
    """The part of a training checkpoint that is not tensors."""

    progress: Progress
    """Counters and results so far."""
    schedule_position: Count
    """Steps that were taken."""
    ema_updates: Count | None
    """States averaged into the first by the exponential average, None without one."""
    swa_updates: Count | None
    """States in the plain average, None before it begins."""
    scaler: dict[str, float | int]
    """State of the loss scaler, empty without one."""


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
        updates: number of states averaged; of the plain average the first among them.
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


@dataclass
class TrainState:
    """State of a run in memory.

    Attributes:
        network: weights being trained.
        groups: its trainable parameters by group.
        optimiser, scheduler, scaler: of those parameters.
        ema, swa: exponential and plain average of the weights, None if there is none (yet).
        generators: random states of dropout and jitter.
        progress: counters and results.
    """

    network: RisNetwork
    groups: Mapping[str, list[nn.Parameter]]
    optimiser: torch.optim.Optimizer
    scheduler: Scheduler
    scaler: torch.amp.GradScaler
    ema: WeightAverage | None
    generators: Generators
    swa: WeightAverage | None = None
    progress: Progress = field(default_factory=Progress)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Every trainable parameter."""
        return [parameter for group in self.groups.values() for parameter in group]

    @property
    def weights(self) -> str:
        """Name of the weights that validation and inference use."""
        if self.swa is not None:
            return "swa"
        return "raw" if self.ema is None or not self.ema.updates else "ema"

    def inference_network(self) -> RisNetwork:
        """The network with those weights."""
        chosen = {"swa": self.swa, "ema": self.ema, "raw": None}[self.weights]
        return self.network if chosen is None else chosen.network


def new_train_state(plan: TrainingPlan, network: RisNetwork, processes: ProcessGroup) -> TrainState:
    """State of a run before its first step; `network` is on the device already."""
    training = plan.training
    optimiser = build_optimiser(network, training)
    return TrainState(
        network=network,
        groups={name: list(group) for name, group in network.parameter_groups().items()},
        optimiser=optimiser,
        scheduler=Scheduler(optimiser, RateCurve.of(training, plan.steps_per_epoch)),
        scaler=torch.amp.GradScaler(processes.device.type, enabled=training.precision == "fp16"),
        ema=WeightAverage(network) if training.ema_decay else None,
        generators=Generators(training.seed, processes),
    )


def collect(
    state: TrainState, config: Mapping[str, Any], processes: ProcessGroup
) -> tuple[dict[str, Tensor], CheckpointState]:
    """Tensors and document of a checkpoint; called by all processes together."""
    names = {id(parameter): name for name, parameter in state.network.named_parameters()}
    groups = {
        "raw": state.network.state_dict(),
        "ema": state.ema.network.state_dict() if state.ema else {},
        "swa": state.swa.network.state_dict() if state.swa else {},
        "optimiser": {
            f"{names[id(parameter)]}/{key}": value
            for parameter, moments in state.optimiser.state.items()
            for key, value in moments.items()
        },
        "generator": state.generators.tensors(processes),
    }
    tensors = {f"{group}/{name}": x for group, found in groups.items() for name, x in found.items()}
    saved = SavedScalars(
        progress=state.progress,
        schedule_position=state.scheduler.position,
        ema_updates=state.ema.updates if state.ema else None,
        swa_updates=state.swa.updates if state.swa else None,
        scaler=state.scaler.state_dict(),
    )
    done, document = state.progress, saved.model_dump(mode="json")
    return tensors, build_state(config, state.weights, done.epoch, done.step, done.best_value, document)


def restore(state: TrainState, checkpoint: Checkpoint, processes: ProcessGroup) -> None:
    """Load a checkpoint into `state`, which was made from the same plan; of an exported one the weights.

    Raises:
        DamagedFileError: the checkpoint does not fit the plan.
    """
    path = checkpoint.path
    if checkpoint.state.exported:
        _load(state.network, checkpoint, checkpoint.state.weights)
        state.ema = WeightAverage(state.network) if state.ema is not None else None
        return
    try:
        saved = parse_section(SavedScalars, checkpoint.state.training, path)
    except RisctlError as error:
        raise DamagedFileError(path, "the state of a training run", error) from None
    _load(state.network, checkpoint, "raw")
    if state.ema is not None:
        _load(state.ema.network, checkpoint, "ema")
        if saved.ema_updates is None:
            raise DamagedFileError(path, "training.ema_updates", "none")
        state.ema.updates = saved.ema_updates
    state.swa = None
    if saved.swa_updates is not None:
        state.swa = WeightAverage(state.network)
        _load(state.swa.network, checkpoint, "swa")
        state.swa.updates = saved.swa_updates
    _restore_optimiser(state, checkpoint, saved)
    state.scheduler.move_to(saved.schedule_position)
    _restore_scaler(state, checkpoint, saved)
    state.generators.restore(checkpoint.group("generator"), processes, path)
    state.progress = saved.progress


def _load(network: RisNetwork, checkpoint: Checkpoint, name: str) -> None:
    weights = checkpoint.group(name)
    check_weights(checkpoint.path, weights, network.state_dict())
    network.load_state_dict(weights)


def _restore_optimiser(state: TrainState, checkpoint: Checkpoint, saved: SavedScalars) -> None:
    """Load the moments; a parameter has all of them, or none if it never had a gradient."""
    named = dict(state.network.named_parameters())
    tensors = checkpoint.group("optimiser")
    stepped = [name for name in named if any(key.startswith(f"{name}/") for key in tensors)]
    wanted = {f"{name}/{quantity}": named[name].shape for name in stepped for quantity in MOMENTS}
    wanted |= {f"{name}/step": torch.Size() for name in stepped}
    if saved.schedule_position and not stepped:
        raise DamagedFileError(checkpoint.path, "an optimiser's state", "none")
    unmatched = wanted.keys() ^ tensors.keys()
    if unmatched:
        raise DamagedFileError(checkpoint.path, "the optimiser's state of its network", min(unmatched))
    state.optimiser.state.clear()
    for key, value in tensors.items():
        if value.shape != wanted[key] or not bool(torch.isfinite(value).all()):
            raise DamagedFileError(checkpoint.path, f"finite moments of {tuple(wanted[key])}", key)
        name, _, quantity = key.rpartition("/")
        like = value if quantity == "step" else named[name].detach()  # moments have its device and layout
        state.optimiser.state[named[name]][quantity] = torch.empty_like(like).copy_(value)


def _restore_scaler(state: TrainState, checkpoint: Checkpoint, saved: SavedScalars) -> None:
    """Load the loss scale; a run forked from one without a scaler keeps its fresh one."""
    scaler = saved.scaler
    if not scaler:
        return
    if scaler.keys() != SCALER_LIMITS.keys():
        raise DamagedFileError(checkpoint.path, f"a loss scaler's {sorted(SCALER_LIMITS)}", sorted(scaler))
    for key, (low, high) in SCALER_LIMITS.items():
        if not isinstance(scaler[key], type(low)) or not low <= scaler[key] <= high:
            raise DamagedFileError(
                checkpoint.path, f"a loss scaler's {key} in {low:g}..{high:g}", scaler[key]
            )
    if state.scaler.is_enabled():
        state.scaler.load_state_dict(scaler)

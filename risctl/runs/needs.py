"""Parameters, disk and memory that a run would need, estimated before anything is written."""

from dataclasses import dataclass

from risctl.config import Config
from risctl.data.layout import dataset_bytes
from risctl.model.network import build_network
from risctl.runs.records import STEPS_KEPT_PER_EPOCH
from risctl.training import TrainingPlan

# Resident size of a Python process that has imported torch and SciPy, measured, rounded up.
PROCESS_BYTES = 400_000_000
FLOAT_BYTES = 4
# In a checkpoint: weights, their two averages, two moments of the optimiser. In memory the gradients, too.
STORED_COPIES, HELD_COPIES = 5, 7
CHECKPOINTS = 2  # best and last
STEP_LINE_BYTES = 1_200
# Activations of a scene: cells of the map times channels times what a block keeps for its gradient, measured.
KEPT_PER_BLOCK = 12


@dataclass(frozen=True)
class Needs:
    """Estimates: bytes on disk, resident bytes of all processes, trainable parameters."""

    disk_bytes: int = 0
    memory_bytes: int = PROCESS_BYTES
    parameters: int = 0


def needs_of_training(plan: TrainingPlan) -> Needs:
    """Estimate disk and memory of a training."""
    parameters = count_parameters(plan)
    lines = plan.training.epochs * min(plan.steps_per_epoch, STEPS_KEPT_PER_EPOCH)
    return Needs(
        disk_bytes=CHECKPOINTS * STORED_COPIES * FLOAT_BYTES * parameters + lines * STEP_LINE_BYTES,
        memory_bytes=PROCESS_BYTES + HELD_COPIES * FLOAT_BYTES * parameters + batch_bytes(plan),
        parameters=parameters,
    )


def count_parameters(plan: TrainingPlan) -> int:
    """Number of trainable parameters of the plan's network."""
    network = build_network(plan.physics, plan.model, plan.training.seed)
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def batch_bytes(plan: TrainingPlan) -> int:
    """Estimate what a batch takes: its scenes, and what the network keeps for the backward pass."""
    model, batch = plan.model, plan.training.batch
    cells = model.map_rows * model.map_columns
    cells //= model.patch**2
    activations = batch * cells * model.width * (model.depth + 2) * KEPT_PER_BLOCK * FLOAT_BYTES
    streams = plan.data.source == "stream"
    kept = plan.validation_scenes + plan.train_scenes * plan.data.repeat if streams else 0
    return activations + dataset_bytes(plan.physics, batch + kept + 256, batch + kept + 256)


def needs_of_dataset(config: Config, num_scenes: int, workers: int = 1) -> Needs:
    """Estimate disk and memory of writing a dataset."""
    size = config.data.shard_scenes
    shard = dataset_bytes(config.physics, min(num_scenes, size), size)
    return Needs(
        disk_bytes=dataset_bytes(config.physics, num_scenes, size),
        memory_bytes=workers * (PROCESS_BYTES + 2 * shard),
    )

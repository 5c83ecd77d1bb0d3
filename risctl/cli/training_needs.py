"""What a training would need: parameters, disk, memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from risctl.cli.documents import Document
from risctl.cli.needs import PROCESS_BYTES, Needs, dry_run

if TYPE_CHECKING:
    from risctl.cli.training_run import Prepared, TrainingRequest
    from risctl.training import TrainingPlan

FLOAT_BYTES = 4
# In a checkpoint: weights, their two averages, two moments of the optimiser. In memory the gradients, too.
STORED_COPIES, HELD_COPIES = 5, 7
CHECKPOINTS = 2  # best and last
STEP_LINE_BYTES = 1_200
# Activations of a scene: cells of the map times channels times what a block keeps for its gradient, measured.
KEPT_PER_BLOCK = 12


def dry_run_training(request: TrainingRequest, prepared: Prepared) -> Document:
    """Show settings and needs; nothing is written."""
    writes = f"runs/{request.command}/<utc-time>_<preset>_<id>/"
    if prepared.earlier is not None and not request.fork:
        writes = str(prepared.earlier.path)
    return dry_run(request.command, prepared.config, needs_of_training(prepared.plan()), writes)


def needs_of_training(plan: TrainingPlan) -> Needs:
    """Estimate disk and memory of a training."""
    from risctl.cli.training_records import STEPS_KEPT_PER_EPOCH

    parameters = count_parameters(plan)
    lines = plan.training.epochs * min(plan.steps_per_epoch, STEPS_KEPT_PER_EPOCH)
    return Needs(
        disk_bytes=CHECKPOINTS * STORED_COPIES * FLOAT_BYTES * parameters + lines * STEP_LINE_BYTES,
        memory_bytes=PROCESS_BYTES + HELD_COPIES * FLOAT_BYTES * parameters + batch_bytes(plan),
        parameters=parameters,
    )


def count_parameters(plan: TrainingPlan) -> int:
    """Return the number of trainable parameters."""
    from risctl.model.network import build_network

    network = build_network(plan.physics, plan.model, plan.training.seed)
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def batch_bytes(plan: TrainingPlan) -> int:
    """Estimate what a batch takes: its scenes, and what the network keeps for the backward pass."""
    from risctl.data import dataset_bytes

    model, batch = plan.model, plan.training.batch
    cells = model.map_rows * model.map_columns
    activations = batch * cells * model.width * (model.depth + 2) * KEPT_PER_BLOCK * FLOAT_BYTES
    kept = plan.train_scenes if plan.data.repeat and plan.data.source == "stream" else 0
    return activations + dataset_bytes(plan.physics, batch + kept + 256, batch + kept + 256)

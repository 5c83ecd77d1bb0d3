"""Loading a trained network from a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from risctl.config import CovarianceConfig, ModelConfig, PhysicsConfig
from risctl.covariance import covariance_fingerprint
from risctl.errors import DamagedFileError, InputError
from risctl.model.checkpoint import BEST, CHECKPOINTS, LAST, Checkpoint, read_checkpoint
from risctl.model.container import check_weights
from risctl.model.fusion import LoadedFusion, fusion_path, load_fusion
from risctl.model.network import RisNetwork, build_network


@dataclass(frozen=True)
class LoadedModel:
    """A trained network and the settings that inference takes from its checkpoint.

    Attributes:
        network: in evaluation mode, with the weights its training chose for inference.
        config: the whole configuration of its run, as JSON values.
        physics: its physics section.
        covariance: settings of the covariance pipeline it was trained with.
        model: its model section.
        covariance_fingerprint: fingerprint of `covariance` and of the pipeline's version.
        weights: "raw", "ema" (exponential average) or "swa" (plain average).
        path: the checkpoint.
        epoch: epochs finished.
        step: optimiser steps done.
        best_value: lowest validation loss, None before the first validation.
        fusion: the count fusion fitted to it, None if there is none beside the checkpoint.
    """

    network: RisNetwork
    config: Mapping[str, Any]
    physics: PhysicsConfig
    covariance: CovarianceConfig
    model: ModelConfig
    covariance_fingerprint: str
    weights: str
    path: Path
    epoch: int
    step: int
    best_value: float | None
    fusion: LoadedFusion | None = None


def load_checkpoint(path: str | Path, device: torch.device | str = "cpu", fusion: bool = True) -> LoadedModel:
    """Load the network of a checkpoint file, or of the best checkpoint of a run directory.

    Args:
        path: the file or directory.
        device: device of the network.
        fusion: load the count fusion beside the checkpoint as well, if there is one.

    Raises:
        InputError: there is no checkpoint there, or another version wrote it.
        DamagedFileError: truncated, edited, contradicting itself, or not the weights its configuration asks
            for.
        StorageError: it cannot be read.
    """
    checkpoint = read_checkpoint(checkpoint_path(path))
    state, beside = checkpoint.state, fusion_path(checkpoint.path)
    network = _build_trained(checkpoint)
    found = None
    if fusion and beside.is_file():
        found = load_fusion(beside, checkpoint.group(state.weights), network.max_sources)
        if found is not None:
            found.network.to(device)
    return LoadedModel(
        network=network.to(device).eval(),
        config=state.config,
        physics=state.physics,
        covariance=state.covariance,
        model=state.model,
        covariance_fingerprint=covariance_fingerprint(state.covariance),
        weights=state.weights,
        path=checkpoint.path,
        epoch=state.epoch,
        step=state.step,
        best_value=state.best_value,
        fusion=found,
    )


def checkpoint_path(path: str | Path) -> Path:
    """The checkpoint file at `path`, or the best (else last) of the run directory; InputError if none."""
    place = Path(path)
    candidates = [place, place / CHECKPOINTS / BEST, place / CHECKPOINTS / LAST]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        got = "a directory without one" if place.is_dir() else "nothing there"
        raise InputError(place, "", "a checkpoint, or a run directory with one", got)
    if found.suffix != ".safetensors":
        raise InputError(place, "", "a checkpoint (.safetensors) or a run directory", "another file")
    return found.resolve()


def _build_trained(checkpoint: Checkpoint) -> RisNetwork:
    """Build the network that the configuration describes and load the stored weights into it.

    Sizes that the file's weights could never fill are refused before memory is taken for them: the blocks of
    the coarsest level alone have more than ``blocks * channels^2`` weights.
    """
    state, model = checkpoint.state, checkpoint.state.model
    weights = checkpoint.group(state.weights)
    stored = sum(tensor.numel() for tensor in weights.values())
    if model.blocks * (model.width * 2 ** (model.depth - 1)) ** 2 > stored:
        size = f"width {model.width}, depth {model.depth} and {model.blocks} blocks"
        raise DamagedFileError(checkpoint.path, f"weights for {size}", f"{stored} weights")
    try:
        network = build_network(state.physics, model, seed=0)
    except (RuntimeError, MemoryError) as error:
        raise DamagedFileError(checkpoint.path, "a network that can be built", error) from None
    check_weights(checkpoint.path, weights, network.state_dict())
    network.load_state_dict(weights)
    return network

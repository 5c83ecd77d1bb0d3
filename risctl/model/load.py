"""From a checkpoint to a network that answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from risctl.config import CovarianceConfig, ModelConfig, PhysicsConfig
from risctl.errors import DamagedFileError, InputError
from risctl.model.checkpoint import BEST, CHECKPOINTS, LAST, Checkpoint, read_checkpoint
from risctl.model.fusion import LoadedFusion, fusion_path, load_fusion
from risctl.model.network import RisNetwork, build_network
from risctl.model.weights import check_weights


@dataclass(frozen=True)
class LoadedModel:
    """A trained network with everything that inference must take from its checkpoint.

    Attributes:
        network: in evaluation mode, with the weights its training chose for inference.
        config: the whole configuration of its run, as JSON values.
        physics, covariance, model: the sections inference needs.
        covariance_fingerprint: of the covariance pipeline it was trained with.
        weights: "raw", "ema" or "swa". path: the checkpoint. epoch, step, best_value: of its training.
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
    """Return the network of a checkpoint file, or of the best checkpoint of a run directory.

    Args:
        path: the file or directory. device: where the network is to be.
        fusion: read the count fusion beside the checkpoint, too, if there is one.

    Raises:
        InputError: there is no checkpoint there, or another version wrote it.
        DamagedFileError: truncated, edited, contradicting itself, or not the weights its configuration asks
            for.
        StorageError: it cannot be read.
    """
    checkpoint = read_checkpoint(checkpoint_path(path))
    state = checkpoint.state
    network = _filled(checkpoint, state.physics, state.model)
    return LoadedModel(
        network=network.to(device).eval(),
        config=state.config,
        physics=state.physics,
        covariance=state.covariance,
        model=state.model,
        covariance_fingerprint=state.covariance_fingerprint,
        weights=state.weights,
        path=checkpoint.path,
        epoch=state.epoch,
        step=state.step,
        best_value=state.best_value,
        fusion=_fusion(checkpoint, network, device) if fusion else None,
    )


def checkpoint_path(path: str | Path) -> Path:
    """Return the checkpoint file that `path` stands for; InputError if there is none."""
    place = Path(path)
    candidates = [place, place / CHECKPOINTS / BEST, place / CHECKPOINTS / LAST]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        got = "a directory without one" if place.is_dir() else "nothing there"
        raise InputError(place, "", "a checkpoint, or a run directory with one", got)
    if found.suffix != ".safetensors":
        raise InputError(place, "", "a checkpoint (.safetensors) or a run directory", "another file")
    return found.resolve()


def _filled(checkpoint: Checkpoint, physics: PhysicsConfig, model: ModelConfig) -> RisNetwork:
    """Build the network that the configuration describes and give it the stored weights."""
    weights = checkpoint.group(checkpoint.state.weights)
    _check_size(checkpoint.path, weights, model)
    try:
        network = build_network(model, physics, seed=0)
    except (RuntimeError, MemoryError) as error:
        raise DamagedFileError(checkpoint.path, "a network that can be built", error) from None
    check_weights(checkpoint.path, weights, network.state_dict())
    network.load_state_dict(weights)
    return network


def _fusion(checkpoint: Checkpoint, network: RisNetwork, device: torch.device | str) -> LoadedFusion | None:
    path = fusion_path(checkpoint.path)
    if not path.is_file():
        return None
    found = load_fusion(path, checkpoint.group(checkpoint.state.weights), network.max_sources)
    found.network.to(device)
    return found


def _check_size(path: Path, weights: Mapping[str, Tensor], model: ModelConfig) -> None:
    """Refuse sizes that the file's weights could never fill, before memory is taken for them.

    The blocks of the coarsest level alone have more than ``blocks * channels^2`` weights.
    """
    stored = sum(tensor.numel() for tensor in weights.values())
    channels = model.width * 2 ** (model.depth - 1)
    if model.blocks * channels**2 > stored:
        size = f"width {model.width}, depth {model.depth} and {model.blocks} blocks"
        raise DamagedFileError(path, f"weights for {size}", f"{stored} weights")

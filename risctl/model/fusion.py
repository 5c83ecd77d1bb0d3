"""Count fusion: a small network that estimates the source count after the search.

The count head uses energy maps, the likelihood uses the snapshots; neither is best at every SNR. The fusion
is a weighted sum of the head's log-probabilities and the evidence of every count, plus the output of a small
network of these and a few more figures of the scene. It is fitted after the training, on scenes that were not
trained on, and stored beside the checkpoint it was fitted to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from risctl.config import parse_section
from risctl.config.base import Section
from risctl.errors import DamagedFileError, InputError
from risctl.model.container import HASH, check_weights, content_hash, read_container, write_container

FUSION: Final = "fusion.safetensors"
KIND: Final = "risctl count fusion"
SCHEMA_VERSION: Final = 1
CLIP = 6.0  # standard deviations at which a figure is clipped
MAX_FIGURES = 4096


class CountFusion(nn.Module):
    """Log-probabilities of K = 1..K_max, up to a constant of the scene.

    ``w_1 log p_head + w_2 E + f((x - mean) / std)`` with f of two hidden layers; before the fit it equals
    the head's output.

    Args:
        figures: length of x.
        max_sources: K_max.
        hidden: width of f.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, figures: int, max_sources: int, hidden: int) -> None:
        super().__init__()
        self.figures, self.max_sources, self.hidden = figures, max_sources, hidden
        self.register_buffer("mean", torch.zeros(figures))
        self.register_buffer("std", torch.ones(figures))
        self.weights = nn.Parameter(torch.tensor([1.0, 0.0]))
        last = nn.Linear(hidden, max_sources)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(
            nn.Linear(figures, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), last
        )

    def forward(self, head: Tensor, evidence: Tensor, figures: Tensor) -> Tensor:
        """Head's log-probabilities [B, K_max], evidence [B, K_max] and figures x [B, F] -> [B, K_max]."""
        x = ((figures - self.mean) / self.std).clamp(-CLIP, CLIP)
        base: Tensor = self.weights[0] * head + self.weights[1] * evidence
        return base + self.net(x)


class FusionState(Section):
    """The document of a fusion file."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of this document."""
    kind: Literal["risctl count fusion"] = KIND
    """Kind of file."""
    weights_hash: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    """Hash of the network's weights that it was fitted to."""
    figures: Annotated[int, Field(ge=1, le=MAX_FIGURES)]
    """Number of input figures."""
    max_sources: Annotated[int, Field(ge=1, le=64)]
    """K_max."""
    hidden: Annotated[int, Field(ge=1, le=4096)]
    """Width of the hidden layers."""
    search: dict[str, Any]
    """Settings of the search whose likelihoods it was fitted to."""
    fitted: dict[str, Any]
    """Scenes of the fit and of its validation, and the accuracies."""


@dataclass(frozen=True)
class LoadedFusion:
    """A fusion in evaluation mode, and the document of its file."""

    network: CountFusion
    state: FusionState


def weights_hash(weights: Mapping[str, Tensor]) -> str:
    """Hash of a network's weights by name, type, shape and content, 32 hexadecimal digits."""
    return content_hash({name: x.detach().cpu() for name, x in weights.items()}, {})


def fusion_path(checkpoint: Path) -> Path:
    """File of the fusion of a checkpoint file."""
    return checkpoint.parent / FUSION


def save_fusion(path: Path, network: CountFusion, state: FusionState) -> None:
    """Write a fusion, whole or not at all; `StorageError` if it cannot be written."""
    write_container(path, network.state_dict(), state.model_dump(mode="json"))


def load_fusion(path: Path, weights: Mapping[str, Tensor], max_sources: int) -> LoadedFusion:
    """Read the fusion at `path`, which must have been fitted to a network of these `weights`.

    Raises:
        InputError: another version wrote it, or it was fitted to other weights.
        DamagedFileError: truncated, edited, or contradicting itself.
        StorageError: it cannot be read.
    """
    tensors, document = read_container(path, kind=KIND, schema_version=SCHEMA_VERSION)
    state = parse_section(FusionState, {k: v for k, v in document.items() if k != HASH}, path)
    found = weights_hash(weights)
    if (state.weights_hash, state.max_sources) != (found, max_sources):
        expected = f"{found}, the weights beside it (fit the count fusion anew)"
        raise InputError(path, "weights_hash", expected, state.weights_hash)
    if state.hidden * state.figures > sum(x.numel() for x in tensors.values()):
        raise DamagedFileError(path, f"weights of width {state.hidden}", "fewer")
    network = CountFusion(state.figures, state.max_sources, state.hidden)
    check_weights(path, tensors, network.state_dict())
    network.load_state_dict(tensors)
    return LoadedFusion(network.eval(), state)

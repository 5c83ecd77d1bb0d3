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
SCHEMA_VERSION: Final = 2
FIRST_VERSION: Final = 1  # counted from 1, without probabilities of sources; it is passed over
CLIP = 6.0  # standard deviations at which a figure is clipped
LEAST_STD = 1e-3
LEAST_LOG_PROBABILITY = -12.0
SOURCE_OUTPUTS = 3  # logits of `near` and `hit`, and a correction of the squared error
MAX_FIGURES = 4096


class Standardised(nn.Module):
    """A network of two hidden layers on standardised figures, ``f((x - mean) / std)``, zero before the fit.

    Args:
        figures: length of x. outputs: length of f. hidden: width of the layers.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, figures: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(figures))
        self.register_buffer("std", torch.ones(figures))
        last = nn.Linear(hidden, outputs)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(
            nn.Linear(figures, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), last
        )

    def forward(self, figures: Tensor) -> Tensor:
        """Figures x [..., F] -> [..., outputs]."""
        x: Tensor = self.net(((figures - self.mean) / self.std).clamp(-CLIP, CLIP))
        return x

    def standardise(self, figures: Tensor) -> None:
        """Take mean and deviation from the figures [S, F] of the fit."""
        self.mean.copy_(figures.mean(0))
        self.std.copy_(figures.std(0).clamp_min(LEAST_STD))


class CountFusion(nn.Module):
    """Calibrated probabilities: of each source count, and that a true source lies where one is reported.

    ``log P(K) = w_1 log p_head + w_2 E + f(x)`` up to a constant, K = 0 .. K_max; before the fit the head
    alone.

    Args:
        count_figures: length of x. source_figures: figures of a source.
        max_sources: K_max. hidden: width of the layers.
    """

    def __init__(self, count_figures: int, source_figures: int, max_sources: int, hidden: int) -> None:
        super().__init__()
        self.max_sources, self.hidden = max_sources, hidden
        self.weights = nn.Parameter(torch.tensor([1.0, 0.0]))
        self.count = Standardised(count_figures, max_sources + 1, hidden)
        self.source = Standardised(source_figures + max_sources + 3, SOURCE_OUTPUTS, hidden)

    def forward(self, head: Tensor, evidence: Tensor, figures: Tensor) -> Tensor:
        """Log-probabilities [B, K_max + 1] of the counts.

        Args:
            head: log-probabilities of K = 1 .. K_max by a network's head [B, K_max]; zeros without one.
            evidence: of K = 0 .. K_max [B, K_max + 1]. figures: [B, F].
        """
        head = nn.functional.pad(head, (1, 0))
        base = self.weights[0] * head + self.weights[1] * evidence
        return (base + self.count(figures)).log_softmax(1)

    def source_input(self, log_count: Tensor, figures: Tensor, k: int) -> Tensor:
        """Figures of the sources [B, k, F] with the probabilities of the counts: of k, of at least k, of
        each."""
        right = torch.stack([log_count[:, k], log_count[:, k:].logsumexp(1)], dim=1)
        scene = torch.cat([right, log_count], dim=1).clamp_min(LEAST_LOG_PROBABILITY)
        return torch.cat([figures, scene.unsqueeze(1).expand(-1, k, -1)], dim=2)

    def sources(self, log_count: Tensor, figures: Tensor, spread: Tensor, cutoff: float) -> "SourceBelief":
        """What is to be expected of the k sources of a hypothesis.

        Args:
            log_count: log-probabilities of K = 0 .. K_max [B, K_max + 1].
            figures: of the sources [B, k, F]. spread: mean squared error by their posteriors, m^2 [B, k].
            cutoff: metres.
        """
        near, hit, error = self.source(self.source_input(log_count, figures, spread.shape[1])).unbind(-1)
        share = (spread.to(error) / cutoff**2).clamp(1e-6, 0.5)
        return SourceBelief(near, hit, cutoff**2 * (share.logit() + error).sigmoid())


@dataclass(frozen=True)
class SourceBelief:
    """Logits that a true source lies within the cut-off distance [...] and inside the gate [...] of a
    report, and the mean squared error [...], m^2, if it lies within the cut-off."""

    near: Tensor
    hit: Tensor
    error: Tensor


class FusionState(Section):
    """The document of a fusion file."""

    schema_version: Literal[2] = SCHEMA_VERSION
    """Version of this document."""
    kind: Literal["risctl count fusion"] = KIND
    """Kind of file."""
    weights_hash: Annotated[str, Field(pattern="^([0-9a-f]{32})?$")]
    """Hash of the network's weights that it was fitted to; empty for an estimator without a network."""
    figures: Annotated[int, Field(ge=1, le=MAX_FIGURES)]
    """Number of figures of a scene."""
    source_figures: Annotated[int, Field(ge=1, le=MAX_FIGURES)]
    """Number of figures of a source."""
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


def load_fusion(
    path: Path, weights: Mapping[str, Tensor] | None, max_sources: int | None = None
) -> LoadedFusion | None:
    """Read a fusion.

    Args:
        path: the file. weights: of the network it must have been fitted to; None: to none.
        max_sources: K_max it must be for; None: any.

    Returns:
        The fusion; None for a file of the first version, whose figures are not computed any more:
        probabilities are unknown until `risctl calibrate` writes it anew.

    Raises:
        InputError: another version wrote it, or it was fitted to other weights or for another K_max.
        DamagedFileError: truncated, edited, or contradicting itself.
        StorageError: it cannot be read.
    """
    tensors, document = read_container(path, kind=KIND)
    found = "" if weights is None else weights_hash(weights)
    for key, wanted in {"weights_hash": found, "max_sources": max_sources}.items():
        if wanted is not None and document.get(key) != wanted:
            raise InputError(path, key, f"{wanted!r} (fit the count fusion anew)", repr(document.get(key)))
    if document.get("schema_version") == FIRST_VERSION:
        return None
    if document.get("schema_version") != SCHEMA_VERSION:
        expected = f"{SCHEMA_VERSION}, which this version reads"
        raise InputError(path, "schema_version", expected, repr(document.get("schema_version")))
    state = parse_section(FusionState, {k: v for k, v in document.items() if k != HASH}, path)
    if state.hidden * (state.figures + state.source_figures) > sum(x.numel() for x in tensors.values()):
        raise DamagedFileError(path, f"weights of width {state.hidden}", "fewer")
    network = CountFusion(state.figures, state.source_figures, state.max_sources, state.hidden)
    check_weights(path, tensors, network.state_dict())
    network.load_state_dict(tensors)
    return LoadedFusion(network.eval(), state)

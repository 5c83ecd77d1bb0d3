"""Checkpoint files: a network's weights, the configuration it was trained with, and the state of the trainer.

`X.safetensors` is authoritative; `X.json` beside it is a readable copy of its document that is never read.
The file's content hash proves that nothing in it was edited, so the settings in it are taken as they are: a
setting that was added since has its default, a renamed one is read under its present name.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field
from torch import Tensor

from risctl.config import CovarianceConfig, ModelConfig, PhysicsConfig, current_names, parse_section
from risctl.config.base import Section
from risctl.covariance import PIPELINE_VERSION, covariance_fingerprint
from risctl.data import write_atomically
from risctl.errors import DamagedFileError
from risctl.model.container import HASH, read_container, write_container

SCHEMA_VERSION: Final = 1
KIND: Final = "risctl checkpoint"
CHECKPOINTS = "checkpoints"
BEST, LAST = "best.safetensors", "last.safetensors"
NO_LONGER_STORED: Final = ("physics_fingerprint", "model_fingerprint")
Sections: TypeAlias = dict[str, type[Section]]
SECTIONS: Sections = {"physics": PhysicsConfig, "model": ModelConfig, "covariance": CovarianceConfig}

Count = Annotated[int, Field(ge=0, lt=2**53)]


class CheckpointState(Section):
    """The document of a checkpoint, without the hash that the file adds."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of this document."""
    kind: Literal["risctl checkpoint"] = KIND
    """Kind of file."""
    pipeline_version: Annotated[int, Field(ge=1, lt=2**31)] = PIPELINE_VERSION
    """Version of the covariance pipeline."""
    config: dict[str, Any]
    """The whole configuration of the run."""
    covariance: CovarianceConfig
    """The settings of the covariance pipeline, those of `config` once more."""
    covariance_fingerprint: str | None = None
    """Fingerprint of these settings and the pipeline's version, for readers of the file; never compared."""
    weights: Literal["raw", "ema", "swa"]
    """The weights that inference uses."""
    epoch: Count
    """Epochs finished."""
    step: Count
    """Steps done."""
    best_value: Annotated[float, Field(ge=-1e30, le=1e30)] | None
    """The lowest validation loss so far."""
    training: dict[str, Any]
    """State of the trainer, in a form of its own; empty in an exported checkpoint."""

    @property
    def exported(self) -> bool:
        """Whether it has the weights for inference only."""
        return not self.training

    @property
    def physics(self) -> PhysicsConfig:
        """The physics section."""
        return PhysicsConfig.model_validate(self.config["physics"])

    @property
    def model(self) -> ModelConfig:
        """The model section."""
        return ModelConfig.model_validate(self.config["model"])


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and checked: `tensors` by name (`raw/...`, `ema/...`, ...) and `state`."""

    path: Path
    tensors: Mapping[str, Tensor]
    state: CheckpointState

    def group(self, name: str) -> dict[str, Tensor]:
        """The tensors called `name/...`, without that prefix."""
        prefix = f"{name}/"
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


def build_state(
    config: Mapping[str, Any], weights: str, epoch: int, step: int, best_value: float | None, training: Any
) -> CheckpointState:
    """Build the document of a run with the configuration `config` (JSON values of all sections)."""
    covariance = CovarianceConfig.model_validate(config["covariance"])
    values = {
        "config": dict(config),
        "covariance": covariance,
        "covariance_fingerprint": covariance_fingerprint(covariance),
        "weights": weights,
        "epoch": epoch,
        "step": step,
        "best_value": best_value,
        "training": training,
    }
    return CheckpointState.model_validate(values)


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: CheckpointState) -> None:
    """Write `path` and the readable copy of its document; after a `StorageError` the old file is there."""
    document = write_container(path, tensors, state.model_dump(mode="json"))
    text = json.dumps(document, indent=1, allow_nan=False)
    write_atomically(path.with_suffix(".json"), f"{text}\n".encode())


def export_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write the part of a checkpoint that inference needs: its weights, without the state of the trainer."""
    kept = f"{checkpoint.state.weights}/"
    tensors = {name: x for name, x in checkpoint.tensors.items() if name.startswith(kept)}
    save_checkpoint(path, tensors, checkpoint.state.model_copy(update={"training": {}}))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and check everything that can be checked without building a network.

    Raises:
        InputError: there is no checkpoint, or another version wrote it.
        DamagedFileError: truncated, edited, or contradicting itself.
        StorageError: it cannot be read.
    """
    versions = {"schema_version": SCHEMA_VERSION, "pipeline_version": PIPELINE_VERSION}
    tensors, document = read_container(path, kind=KIND, **versions)
    body = {key: value for key, value in document.items() if key not in (HASH, *NO_LONGER_STORED)}
    if isinstance(body.get("config"), dict):
        body["config"] = current_names(body["config"], path)
    state = parse_section(CheckpointState, body, path)
    for name, model in SECTIONS.items():
        if name not in state.config:
            raise DamagedFileError(path, f"the section {name} in its configuration", "none")
        section = parse_section(model, state.config[name], f"{path}: {name}")
        if name == "covariance" and section != state.covariance:
            raise DamagedFileError(path, "config.covariance as in covariance", "other settings")
    return Checkpoint(path, tensors, state)

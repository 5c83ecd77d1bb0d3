"""Checkpoints: what they say about themselves, and the network they hold.

`X.safetensors` is authoritative; `X.json` beside it repeats its document for people, with a hash of its own.
A copy left by a process that died before it could renew it is whole but of an older state, and ignored; one
that was edited is refused. What a checkpoint holds besides a network's weights is the trainer's business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Field
from torch import Tensor

from risctl.config import CovarianceConfig, ModelConfig, PhysicsConfig, fingerprint, parse_section
from risctl.config.base import Section
from risctl.covariance import PIPELINE_VERSION, covariance_fingerprint
from risctl.data import write_atomically
from risctl.data.mapped import read_regular
from risctl.errors import DamagedFileError, InputError
from risctl.model.container import HASH, content_hash, parse_document, read_container, write_container

SCHEMA_VERSION: Final = 1
KIND: Final = "risctl checkpoint"
MAX_JSON_BYTES: Final = 16_000_000
CHECKPOINTS = "checkpoints"
BEST, LAST = "best.safetensors", "last.safetensors"
COPY_HASH: Final = "copy_hash"

S = TypeVar("S", bound=Section)
Fingerprint = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
Count = Annotated[int, Field(ge=0, lt=2**53)]


class CheckpointState(Section):
    """The document of a checkpoint, without the hash that the file adds."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Version of this document."""
    kind: Literal["risctl checkpoint"] = KIND
    """What the file is."""
    pipeline_version: Annotated[int, Field(ge=1, lt=2**31)] = PIPELINE_VERSION
    """Version of the covariance pipeline."""
    config: dict[str, Any]
    """The whole configuration of the run."""
    covariance: CovarianceConfig
    """The knobs of the covariance pipeline."""
    covariance_fingerprint: Fingerprint
    """Fingerprint of the knobs and the pipeline's version."""
    physics_fingerprint: Fingerprint
    """Fingerprint of the physics section."""
    model_fingerprint: Fingerprint
    """Fingerprint of the model section."""
    weights: Literal["raw", "ema", "swa"]
    """Which weights inference uses."""
    epoch: Count
    """Epochs finished."""
    step: Count
    """Steps done."""
    best_value: Annotated[float, Field(ge=-1e30, le=1e30)] | None
    """The lowest validation loss so far."""
    training: dict[str, Any]
    """Where the trainer was, for itself to read; empty in an exported checkpoint."""

    @property
    def exported(self) -> bool:
        """Whether this holds the weights for inference and nothing else."""
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
    """A checkpoint read and checked: `tensors` by name (`raw/...`, `ema/...`, ...) and `state`."""

    path: Path
    tensors: Mapping[str, Tensor]
    state: CheckpointState

    def group(self, name: str) -> dict[str, Tensor]:
        """The tensors called `name/...`, without that prefix."""
        prefix = f"{name}/"
        return {k.removeprefix(prefix): v for k, v in self.tensors.items() if k.startswith(prefix)}


def new_state(
    config: Mapping[str, Any], weights: str, epoch: int, step: int, best_value: float | None, training: Any
) -> CheckpointState:
    """Return the document of a run with the configuration `config` (JSON values of all sections)."""
    covariance = CovarianceConfig.model_validate(config["covariance"])
    values = {
        "config": dict(config),
        "covariance": covariance,
        "covariance_fingerprint": covariance_fingerprint(covariance),
        "physics_fingerprint": fingerprint(PhysicsConfig.model_validate(config["physics"])),
        "model_fingerprint": fingerprint(ModelConfig.model_validate(config["model"])),
        "weights": weights,
        "epoch": epoch,
        "step": step,
        "best_value": best_value,
        "training": training,
    }
    return CheckpointState.model_validate(values)


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: CheckpointState) -> None:
    """Write `path` and the readable copy of its document beside it.

    Raises:
        StorageError: disk full, permission denied, and the like; what was there before stays.
    """
    document = write_container(path, tensors, state.model_dump(mode="json"))
    text = json.dumps({**document, COPY_HASH: _copy_hash(document)}, indent=1, allow_nan=False)
    write_atomically(path.with_suffix(".json"), f"{text}\n".encode())


def export_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write what inference needs of a checkpoint to `path`: its weights, without the trainer's state.

    Raises:
        StorageError: disk full, permission denied, and the like.
    """
    kept = f"{checkpoint.state.weights}/"
    tensors = {name: x for name, x in checkpoint.tensors.items() if name.startswith(kept)}
    save_checkpoint(path, tensors, checkpoint.state.model_copy(update={"training": {}}))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and check everything of `path` that can be checked without building a network.

    Raises:
        InputError: there is no checkpoint, or another version wrote it.
        DamagedFileError: truncated, edited, or contradicting itself or the copy of its document.
        StorageError: it cannot be read.
    """
    tensors, document = read_container(path)
    for key, expected in (("kind", KIND), ("schema_version", SCHEMA_VERSION)):
        if document.get(key) != expected:
            raise InputError(path, key, f"{expected!r}, which this version reads", repr(document.get(key)))
    if document.get("pipeline_version") != PIPELINE_VERSION:
        expected = f"{PIPELINE_VERSION}, the covariance pipeline of this version"
        raise InputError(path, "pipeline_version", expected, repr(document.get("pipeline_version")))
    body = {key: value for key, value in document.items() if key != HASH}
    state = parse_section(CheckpointState, body, path)
    _check_sections(path, state)
    _check_copy(path, document)
    return Checkpoint(path, tensors, state)


def _check_sections(path: Path, state: CheckpointState) -> None:
    physics = _section(PhysicsConfig, state.config, "physics", path)
    model = _section(ModelConfig, state.config, "model", path)
    covariance = _section(CovarianceConfig, state.config, "covariance", path)
    found = {
        "covariance_fingerprint": (covariance_fingerprint(state.covariance), state.covariance_fingerprint),
        "config.covariance": (covariance_fingerprint(covariance), state.covariance_fingerprint),
        "physics_fingerprint": (fingerprint(physics), state.physics_fingerprint),
        "model_fingerprint": (fingerprint(model), state.model_fingerprint),
    }
    for key, (made, stored) in found.items():
        if made != stored:
            raise DamagedFileError(path, f"{key} {made}, that of the settings stored with it", stored)


def _section(model: type[S], config: Mapping[str, Any], name: str, path: Path) -> S:
    if name not in config:
        raise DamagedFileError(path, f"the section {name} in its configuration", "none")
    return parse_section(model, config[name], f"{path}: {name}")


def _check_copy(path: Path, document: Mapping[str, Any]) -> None:
    """Refuse an edited `.json`: somebody meant something by it, and it would be ignored.

    A whole copy of another state is no contradiction: it is what a crash between the two writes leaves.
    """
    copy = path.with_suffix(".json")
    if not copy.exists():
        return
    values = parse_document(copy, read_regular(copy.resolve(), MAX_JSON_BYTES))
    stored = values.pop(COPY_HASH, None)
    try:
        found = _copy_hash(values)
    except (ValueError, RecursionError):  # a number beyond the range of floats
        raise DamagedFileError(copy, "a JSON document", "numbers that are not finite") from None
    if stored != found:
        raise DamagedFileError(copy, "the content its hash was taken of", "an edited file")
    if values.get(HASH) == document[HASH] and values != document:
        raise DamagedFileError(copy, f"the document of {path.name}", "something else")


def _copy_hash(document: Mapping[str, Any]) -> str:
    """Hash of a whole document, its own hash included."""
    return content_hash({}, {"copy": dict(document)})

"""Where the scenes of a training come from: streams, or datasets on a disk that bring their own physics."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from risctl.config import Config, PhysicsConfig, parse_section
from risctl.data import DatasetSummary, SceneSource, SceneStore, SceneStream, open_dataset, write_dataset
from risctl.data.stream import shared_surface
from risctl.errors import InputError
from risctl.physics import ArrayGeometry
from risctl.runs.documents import write_json
from risctl.runs.models import refuse_other_surface
from risctl.runs.progress import Progress, silent
from risctl.text import Document
from risctl.training.plan import scene_streams

MANIFEST = "dataset.json"
SURFACE_TRUTH = "surface-truth.json"
COUNTS = frozenset({"data.train_scenes", "data.val_scenes"})


@dataclass(frozen=True)
class Sources:
    """Scenes to train on and to validate on, and the directories they are in (None: made on the way)."""

    train: SceneSource
    validation: SceneSource
    train_path: Path | None = None
    validation_path: Path | None = None

    def record(self) -> Document:
        """Paths and hashes, for the provenance."""
        pairs = {
            "train": (self.train_path, self.train.fingerprint),
            "validation": (self.validation_path, self.validation.fingerprint),
        }
        return {
            name: {"path": None if path is None else str(path.absolute()), "hash": hash_}
            for name, (path, hash_) in pairs.items()
        }


def dataset_paths(data: Path | None, val_data: Path | None) -> tuple[Path | None, Path | None]:
    """The directories of both datasets: `data` is one dataset, or holds `train` and `val`."""
    if data is None or not (data / "train" / MANIFEST).exists() or (data / MANIFEST).exists():
        return data, val_data
    beside = data / "val"
    return data / "train", val_data or (beside if (beside / MANIFEST).exists() else None)


def stream_sources(config: Config) -> Sources:
    """Simulated scenes; a training split that does not repeat has no end."""
    return Sources(*scene_streams(config.physics, config.data))


def stored_sources(
    config: Config, train_path: Path, validation_path: Path | None, stated: Collection[str]
) -> tuple[Config, Sources]:
    """Open datasets; the configuration gets the physics and the numbers of scenes that they have.

    Without a validation dataset its scenes are streamed: the same physics and seed, the split `val`, which
    shares no scene with the training split.

    Args:
        config: the configuration so far.
        train_path: directory of the training dataset.
        validation_path: directory of the validation dataset, None for scenes made on the way.
        stated: settings that were asked for (`Layers.stated`); a number of scenes among them stands.

    Raises:
        InputError: scenes that were made for something else, or for another surface.
    """
    train = _open(train_path, "train")
    changes = {"source": "store", "seed": train.seed, "repeat": True}
    changes |= _count("train_scenes", train, stated)
    if config.data.validate_on == "train":
        if validation_path is not None:
            raise InputError("val_data", "", 'none with data.validate_on = "train"', validation_path)
        changes |= _count("val_scenes", train, stated)
        return _with_dataset(config, train, changes), Sources(train, train, train_path, train_path)
    if validation_path is None:
        config = _with_dataset(config, train, changes)
        stream = SceneStream(config.physics, train.seed, "val", config.data.val_scenes)
        return config, Sources(train, stream, train_path)
    validation = _open(validation_path, "val")
    refuse_other_surface(train.physics, validation.physics, validation_path, f"as in {train_path}")
    config = _with_dataset(config, train, changes | _count("val_scenes", validation, stated))
    return config, Sources(train, validation, train_path, validation_path)


def _open(path: Path, split: str) -> SceneStore:
    store = open_dataset(path)
    store.verify()  # a damaged shard ends the command here, not hours later
    if store.split != split:
        raise InputError(path, "split", split, store.split)
    return store


def _count(key: str, store: SceneStore, stated: Collection[str]) -> dict[str, int]:
    return {} if f"data.{key}" in stated else {key: len(store)}


def _with_dataset(config: Config, store: SceneStore, changes: Mapping[str, object]) -> Config:
    values = config.model_dump()
    values["physics"] = store.physics.model_dump()
    values["data"] |= changes
    return parse_section(Config, values, store.directory)


def surface_truth(physics: PhysicsConfig, seed: int) -> Document:
    """What a surface that all scenes of a seed share differs in from the nominal one.

    It is written beside a dataset for comparisons; no estimator and no calibration reads it.
    """
    surface, nominal = shared_surface(physics, seed), ArrayGeometry.from_config(physics)
    moved = (surface.geometry.positions - nominal.positions).reshape(-1, 3)

    def pairs(values: Tensor | None, length: int) -> list[list[float]]:
        z = torch.ones(length, dtype=torch.complex64) if values is None else values[0].flatten()
        return [[x.real, x.imag] for x in z.tolist()]

    return {
        "schema_version": 1,
        "gains": pairs(surface.gain, physics.num_elements),
        "states": pairs(surface.states, 2**physics.phase_bits),
        "displacement_m": moved.tolist(),
        "wavelength_m": surface.geometry.wavelength,
    }


def generate(
    config: Config,
    out: Path,
    split: str,
    num_scenes: int,
    part: tuple[int, int] = (0, 1),
    workers: int = 1,
    progress: Progress = silent,
) -> DatasetSummary:
    """Write, continue or verify a dataset; see `risctl.data.write_dataset`.

    Args:
        config: physics, seed and shard size.
        out: directory; the truth of a shared surface is written into it (`SURFACE_TRUTH`).
        split: `train`, `val` or `test`.
        num_scenes: scenes of the whole dataset.
        part: index (from 0) and number of parts; only this part is written.
        workers: processes.
        progress: opens a display.
    """
    with progress("scenes") as update:
        written = write_dataset(
            out,
            config.physics,
            seed=config.data.seed,
            split=split,
            num_scenes=num_scenes,
            shard_scenes=config.data.shard_scenes,
            shard=part,
            workers=workers,
            progress=update,
        )
    if config.physics.impairments.shared:
        write_json(out / SURFACE_TRUTH, surface_truth(config.physics, config.data.seed))
    return written

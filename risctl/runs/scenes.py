"""Where the scenes of a training come from: streams, or datasets on a disk that bring their own physics."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from risctl.cli.models import refuse_other_surface
from risctl.errors import InputError

if TYPE_CHECKING:
    from risctl.cli.documents import Document
    from risctl.cli.options import Common
    from risctl.config import Config
    from risctl.data import SceneSource, SceneStore

MANIFEST = "dataset.json"
COUNTS = frozenset({"data.train_scenes", "data.val_scenes"})


@dataclass(frozen=True)
class Sources:
    """Scenes to train on and to validate on, and the directories they are in (None: made on the way)."""

    train: SceneSource
    validation: SceneSource
    train_path: Path | None = None
    validation_path: Path | None = None

    def record(self) -> Document:
        """Return what provenance says of them."""
        pairs = {
            "train": (self.train_path, self.train.fingerprint),
            "validation": (self.validation_path, self.validation.fingerprint),
        }
        return {
            name: {"path": None if path is None else str(path.absolute()), "hash": hash_}
            for name, (path, hash_) in pairs.items()
        }


def dataset_paths(data: Path | None, val_data: Path | None) -> tuple[Path | None, Path | None]:
    """Return the directories of both datasets: `--data` is one dataset, or holds `train` and `val`."""
    if data is None or not (data / "train" / MANIFEST).exists() or (data / MANIFEST).exists():
        return data, val_data
    beside = data / "val"
    return data / "train", val_data or (beside if (beside / MANIFEST).exists() else None)


def stream_sources(config: Config) -> Sources:
    """Return scenes made on the way; a training split that does not repeat has no end."""
    from risctl.data import SceneStream

    data = config.data
    count = data.train_scenes if data.repeat else None
    train = SceneStream(config.physics, data.seed, "train", count)
    if data.validate_on == "train":
        return Sources(train, SceneStream(config.physics, data.seed, "train", data.train_scenes))
    return Sources(train, SceneStream(config.physics, data.seed, "val", data.val_scenes))


def stated_keys(common: Common) -> frozenset[str]:
    """Return the settings `section.key` that the command line states: as words, or in its `--config` file."""
    from risctl.config import flatten
    from risctl.config.parse import read_table

    table = {} if common.config_file is None else flatten(read_table(common.config_file))
    return frozenset(table) | {word.partition("=")[0].strip() for word in common.words}


def stored_sources(
    config: Config, train_path: Path, validation_path: Path | None, stated: Collection[str]
) -> tuple[Config, Sources]:
    """Open datasets; the configuration gets the physics and the numbers of scenes that they have.

    Without a validation dataset its scenes are streamed: the same physics and seed, the split `val`, which
    shares no scene with the training split.

    Args:
        config: the configuration so far.
        train_path, validation_path: directories.
        stated: settings that were asked for (`stated_keys`); a number of scenes among them stands.

    Raises:
        InputError: scenes that were made for something else, or for another surface.
    """
    from risctl.data import SceneStream

    train = _open(train_path, "train")
    changes = {"source": "store", "seed": train.seed, "repeat": True}
    changes |= _count("train_scenes", train, stated)
    if config.data.validate_on == "train":
        if validation_path is not None:
            raise InputError("--val-data", "", 'none with data.validate_on = "train"', validation_path)
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
    from risctl.data import open_dataset

    store = open_dataset(path)
    store.verify()  # a damaged shard ends the command here, not hours later
    if store.split != split:
        raise InputError(path, "split", split, store.split)
    return store


def _count(key: str, store: SceneStore, stated: Collection[str]) -> dict[str, int]:
    return {} if f"data.{key}" in stated else {key: len(store)}


def _with_dataset(config: Config, store: SceneStore, changes: Mapping[str, object]) -> Config:
    from risctl.config import Config, parse_section

    values = config.model_dump()
    values["physics"] = store.physics.model_dump()
    values["data"] |= changes
    return parse_section(Config, values, store.directory)

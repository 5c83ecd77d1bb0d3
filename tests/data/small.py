"""A small array whose scenes take microseconds, and datasets made of it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from risctl.data import write_dataset
from risctl.data.layout import ShardLayout
from risctl.data.manifest import read_manifest
from risctl.data.shards import hash_file
from tests.small import PHYSICS as SMALL

SCENES, SHARD_SCENES = 600, 280


def write_small(directory: Path, **changes: Any) -> Path:
    """Write 600 scenes in three shards."""
    settings = {"seed": 5, "split": "test", "num_scenes": SCENES, "shard_scenes": SHARD_SCENES} | changes
    write_dataset(directory, settings.pop("physics", SMALL), **settings)
    return directory


def tree(directory: Path) -> dict[str, bytes]:
    """Return every file of the directory with its content."""
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def forge(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Edit the manifest as somebody would who knows how its digest is computed."""
    path = directory / "dataset.json"
    values = json.loads(path.read_text())
    del values["digest"]
    change(values)
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    values["digest"] = hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
    path.write_text(json.dumps(values))


def forge_shard(directory: Path, change: Callable[[dict[str, npt.NDArray[Any]]], None]) -> None:
    """Edit the tensors of the first shard and make its hash and the manifest fit."""
    shard = read_manifest(directory / "dataset.json").shards[0]
    path, layout = directory / shard.file, ShardLayout(SMALL, shard.scenes)
    content = np.fromfile(path, dtype=np.uint8)
    change(layout.arrays(content))
    path.write_bytes(content.tobytes())
    digest = hash_file(layout, content.data)
    forge(directory, lambda values: values["shards"][0].update(content_hash=digest))

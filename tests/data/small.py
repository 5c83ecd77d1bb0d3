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

S, L, M, N = 2, 4, 6, 144  # of `good_arrays`
SCENES = 600
SETTINGS = {"seed": 5, "split": "test", "num_scenes": SCENES, "shard_scenes": 280}  # three shards
SHARDS = [f"shard-0000{i}.safetensors" for i in range(3)]


def write(directory: Path, **changes: Any) -> Any:
    """Write the dataset of `SETTINGS` and return the summary."""
    settings = SETTINGS | changes
    return write_dataset(directory, settings.pop("physics", SMALL), **settings)


def write_small(directory: Path, **changes: Any) -> Path:
    """Write the dataset of `SETTINGS` and return its directory."""
    write(directory, **changes)
    return directory


def good_arrays() -> dict[str, Any]:
    """Return a well-formed measurement for N = 144."""
    rng = np.random.default_rng(7)

    def draw(*shape: int) -> Any:
        return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)

    codes = draw(S, L, N)
    return {"y": draw(S, L, M), "H": draw(M, N), "codes": codes / np.abs(codes)}


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

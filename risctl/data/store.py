"""Reading a dataset: memory-mapped, hash-checked, and refused where it differs from its manifest.

When a dataset is opened, its manifest and the size and kind of every shard file are checked. The content of a
shard is checked (content hash, then values) the first time it is touched, once, on the very mapping that is
then read: opening is instant, and reading a few scenes does not check all.
`SceneStore.verify` checks all now.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from risctl.data.atomic import storage_errors
from risctl.data.layout import scene_shapes
from risctl.data.manifest import MANIFEST, PARTIAL, Manifest, read_manifest
from risctl.data.mapped import file_size
from risctl.data.shards import Arrays, map_shard
from risctl.data.stream import check_interval
from risctl.errors import DamagedFileError, InputError
from risctl.physics import Scenes

Rows: TypeAlias = slice | npt.NDArray[np.int64]


class SceneStore:
    """The scenes of a dataset directory, opened by `open_dataset`.

    Scenes are returned as copies: changes to them reach neither the files nor later reads. The fingerprint is
    the hash of the manifest, shard hashes included; it is stored in the file and the same in all versions.
    """

    def __init__(self, directory: Path, manifest: Manifest, check_content: bool) -> None:
        self.directory, self.manifest = directory, manifest
        self.physics, self.seed, self.split = manifest.physics, manifest.seed, manifest.split
        self.fingerprint, self.known_fingerprints = manifest.digest, (manifest.digest,)
        self._check_content = check_content
        self._mapped: dict[int, Arrays] = {}

    def __len__(self) -> int:
        return self.manifest.num_scenes

    def verify(self) -> None:
        """Check the content of every shard now; DamagedFileError for the first that fails."""
        for index in range(self.manifest.num_shards):
            self._shard(index)

    def scenes(self, start: int, stop: int) -> Scenes:
        """Scenes `start` to `stop - 1`.

        Raises:
            IndexError: unless ``0 <= start < stop <= len(self)``.
            DamagedFileError: a shard is not what was written.
        """
        check_interval(start, stop, len(self))
        size, parts = self.manifest.shard_scenes, []
        for index in range(start // size, -(-stop // size)):
            first, last = self.manifest.interval(index)
            low, high = max(start, first), min(stop, last)
            parts.append((index, slice(low - start, high - start), slice(low - first, high - first)))
        return self._copy(stop - start, parts)

    def take(self, indices: Tensor) -> Scenes:
        """Scenes of `indices` (int64 [n], any order, n >= 1); same errors as `scenes`."""
        wanted = indices.numpy()
        check_interval(int(wanted.min()), int(wanted.max()) + 1, len(self))
        owner, local = np.divmod(wanted, self.manifest.shard_scenes)
        rows = {int(index): np.flatnonzero(owner == index) for index in np.unique(owner)}
        return self._copy(len(wanted), [(index, at, local[at]) for index, at in rows.items()])

    def _copy(self, count: int, parts: Sequence[tuple[int, Rows, Rows]]) -> Scenes:
        """`count` scenes, copied in parts of (shard, rows of the result, rows of the shard)."""
        shapes = scene_shapes(self.physics)
        out = {name: np.empty((count, *shape), dtype) for name, (dtype, shape) in shapes.items()}
        for index, rows, local in parts:
            for name, array in self._shard(index).items():
                out[name][rows] = array[local]
        tensors = {name: torch.from_numpy(array) for name, array in out.items()}
        return Scenes(**tensors, phase_bits=self.physics.phase_bits)

    def _shard(self, index: int) -> Arrays:
        if index not in self._mapped:
            entry = self.manifest.shards[index]
            path, layout = self.directory / entry.file, self.manifest.layout(index)
            self._mapped[index] = map_shard(path, entry, layout, verify=self._check_content)
        return self._mapped[index]


def open_dataset(path: str | Path, verify: bool = True) -> SceneStore:
    """Open the dataset in the directory `path` (the module's docstring says what is checked when).

    Args:
        path: the directory; a path to its `dataset.json` will do.
        verify: check each shard's hash and values at first touch. Without it only manifest, names, sizes and
            headers are checked.

    Raises:
        InputError: there is no dataset, or another version wrote it.
        DamagedFileError: unfinished, edited, truncated or missing files, links, wrong sizes.
        StorageError: it cannot be read.
    """
    directory = Path(path)
    if directory.name == MANIFEST:
        directory = directory.parent
    with storage_errors(directory):
        manifest = _read_complete(directory)
    for shard in manifest.shards:
        found = file_size(directory / shard.file)
        if found != shard.bytes:
            raise DamagedFileError(directory / shard.file, f"{shard.bytes} bytes", f"{found} bytes")
    return SceneStore(directory, manifest, verify)


def _read_complete(directory: Path) -> Manifest:
    path = directory / MANIFEST
    if not directory.is_dir():
        raise InputError(directory, "", "a dataset directory", "a file" if directory.exists() else "nothing")
    if not os.path.lexists(path):
        if (directory / PARTIAL).exists():
            found = read_manifest(directory / PARTIAL)
            got = f"{len(found.shards)} of {found.num_shards} shards (writing it again goes on)"
            raise DamagedFileError(path, "a finished dataset", got)
        if any(directory.glob("shard-*.safetensors")):
            raise DamagedFileError(path, "a manifest beside the shards", "none")
        raise InputError(directory, "", f"a dataset directory ({MANIFEST})", "none there")
    manifest = read_manifest(path)
    if not manifest.complete:
        raise DamagedFileError(path, f"{manifest.num_shards} shards", len(manifest.shards))
    return manifest

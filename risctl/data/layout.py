"""Layout of a shard in bytes: a safetensors file whose header follows from the configuration.

The header is a pure function of the physics and the number of scenes: the writer knows where every row goes
before the first scene exists, and the reader accepts exactly that header and parses nothing. Any safetensors
implementation that knows complex64 reads the files.
"""

import json
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from risctl.config import PhysicsConfig

ALIGNMENT = 64
SAFETENSORS_NAMES = {"complex64": "C64", "float32": "F32", "uint8": "U8"}


def scene_shapes(physics: PhysicsConfig) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Dtype and per-scene shape of the stored tensors, widest dtype first (all stay aligned)."""
    L, M, N, K = physics.num_snapshots, physics.num_antennas, physics.num_elements, physics.max_sources
    return {
        "y": ("complex64", (L, M)),
        "H": ("complex64", (M, N)),
        "symbols": ("complex64", (K, L)),
        "azimuth": ("float32", (K,)),
        "elevation": ("float32", (K,)),
        "range": ("float32", (K,)),
        "power": ("float32", (K,)),
        "snr_db": ("float32", ()),
        "noise_var": ("float32", ()),
        "code_index": ("uint8", (L, N)),
        "num_sources": ("uint8", ()),
    }


@dataclass(frozen=True)
class Placement:
    """Dtype, shape (scenes first) and first byte of a tensor in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one scene."""
        return math.prod(self.shape[1:]) * np.dtype(self.dtype).itemsize

    @property
    def stop(self) -> int:
        """One past its last byte."""
        return self.start + self.shape[0] * self.row_bytes


@dataclass(frozen=True)
class ShardLayout:
    """The layout of a shard of `scenes` scenes."""

    physics: PhysicsConfig
    scenes: int

    @cached_property
    def header(self) -> bytes:
        """The safetensors header: length, JSON, and spaces up to a multiple of `ALIGNMENT` bytes."""
        table = {
            name: {"dtype": SAFETENSORS_NAMES[t.dtype], "shape": t.shape, "data_offsets": [t.start, t.stop]}
            for name, t in self._place(0).items()
        }
        text = json.dumps(table, separators=(",", ":")).encode()
        text += b" " * (-(len(text) + 8) % ALIGNMENT)
        return len(text).to_bytes(8, "little") + text

    @cached_property
    def tensors(self) -> dict[str, Placement]:
        """The tensors by name, counted from the beginning of the file."""
        return self._place(len(self.header))

    def _place(self, start: int) -> dict[str, Placement]:
        placed = {}
        for name, (dtype, shape) in scene_shapes(self.physics).items():
            placed[name] = Placement(dtype, (self.scenes, *shape), start)
            start = placed[name].stop
        return placed

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the whole file."""
        return max(tensor.stop for tensor in self.tensors.values())

    def arrays(self, file: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        """The tensors as views of `file`, the uint8 content of the whole file."""
        placed = self.tensors.items()
        return {name: file[t.start : t.stop].view(t.dtype).reshape(t.shape) for name, t in placed}


def dataset_bytes(physics: PhysicsConfig, num_scenes: int, shard_scenes: int) -> int:
    """Size in bytes of all shards of a dataset (about 24 kB per scene with the default physics)."""
    full, rest = divmod(num_scenes, shard_scenes)
    total = full * ShardLayout(physics, shard_scenes).nbytes
    return total + (ShardLayout(physics, rest).nbytes if rest else 0)

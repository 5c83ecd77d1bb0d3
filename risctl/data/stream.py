"""Scenes by index, simulated when they are asked for.

Scene `i` of a seed and split lives in block ``i // BLOCK``. A block has a random generator of its own and is
always computed whole, by one thread, with the same tensor shapes: scene `i` is therefore the same to the last
bit whatever the batch, the shard size, the number of worker processes or the caller's thread count (on one
machine and version of torch; another processor may round differently).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from typing import Protocol

import numpy as np
import torch

from risctl.config import PhysicsConfig, known_fingerprints
from risctl.errors import InputError
from risctl.parallel import single_thread
from risctl.physics import Scenes, simulate_scenes

BLOCK = 256
# Raise it with any change that makes the same configuration and seed yield other numbers.
GENERATOR_VERSION = 1
SPLIT_CODES = {"train": 0, "val": 1, "test": 2}


class SceneSource(Protocol):
    """Scenes `start <= i < stop` of one seed and split: a stream, or a dataset on disk."""

    @property
    def physics(self) -> PhysicsConfig:
        """Physics section of the scenes."""

    @property
    def fingerprint(self) -> str:
        """A hash that two sources share only if their scenes are the same."""

    @property
    def known_fingerprints(self) -> tuple[str, ...]:
        """The fingerprint, and those that earlier versions wrote for the same scenes."""

    def scenes(self, start: int, stop: int) -> Scenes:
        """Scenes `start` to `stop - 1`, on the CPU."""

    def __len__(self) -> int: ...


class SceneStream:
    """The scenes of one seed and split, simulated as they are read.

    Args:
        physics: physics section.
        seed: 0 <= seed < 2^63; different seeds share no scene.
        split: "train", "val" or "test"; different splits share no scene.
        num_scenes: length, or None for a stream without end.

    Raises:
        InputError: unknown split, seed or length out of range.
    """

    def __init__(self, physics: PhysicsConfig, seed: int, split: str, num_scenes: int | None = None) -> None:
        check_seed_and_split(seed, split)
        if num_scenes is not None and num_scenes < 1:
            raise InputError("data", "num_scenes", "at least 1", num_scenes)
        self.physics, self.seed, self.split, self.num_scenes = physics, seed, split, num_scenes
        self._last: tuple[int, Scenes] | None = None  # small batches in order make each block once
        _keep_freed_memory()

    def __len__(self) -> int:
        if self.num_scenes is None:
            raise TypeError("a stream without num_scenes has no length")
        return self.num_scenes

    @property
    def fingerprint(self) -> str:
        """Hash of everything that determines the scenes, 64 hexadecimal digits."""
        return self.known_fingerprints[0]

    @property
    def known_fingerprints(self) -> tuple[str, ...]:
        """The present fingerprint and the one that risctl 0.1.0 wrote for the same scenes."""
        plan = self.seed, self.split, self.num_scenes
        parts = ((GENERATOR_VERSION, BLOCK, p, *plan) for p in known_fingerprints(self.physics, "physics"))
        return tuple(hashlib.blake2b(repr(p).encode(), digest_size=32).hexdigest() for p in parts)

    def scenes(self, start: int, stop: int) -> Scenes:
        """Scenes `start` to `stop - 1`, as views of their block; batches in order simulate each block once.

        Raises:
            IndexError: unless ``0 <= start < stop <= num_scenes``.
        """
        check_interval(start, stop, self.num_scenes)
        parts = [scenes for _, scenes in self.blocks(start, stop)]
        return parts[0] if len(parts) == 1 else Scenes.concatenate(parts)

    def blocks(self, start: int, stop: int) -> Iterator[tuple[int, Scenes]]:
        """Yield `(index of the first scene, scenes)` per block, cut to `start <= i < stop`."""
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            first = block * BLOCK
            low, high = max(start, first), min(stop, first + BLOCK)
            yield low, self._block(block)[low - first : high - first]

    def _block(self, block: int) -> Scenes:
        if self._last is None or self._last[0] != block:
            self._last = (block, self._generate(block))
        return self._last[1]

    def _generate(self, block: int) -> Scenes:
        sequence = np.random.SeedSequence(entropy=self.seed, spawn_key=(SPLIT_CODES[self.split], block))
        rng = np.random.Generator(np.random.SFC64(sequence))
        with single_thread():
            return simulate_scenes(self.physics, rng, BLOCK, first_index=block * BLOCK)


@cache
def _keep_freed_memory() -> None:
    """Let the allocator reuse a block's temporaries instead of returning them to the system each time.

    glibc raises the size up to which it keeps freed memory to that of the largest mapped block it has seen
    freed, 32 MiB at most; without this page faults cost about a sixth of a block's time. Elsewhere harmless.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)


def check_seed_and_split(seed: int, split: str) -> None:
    """Raise `InputError` for a seed out of range or an unknown split."""
    if split not in SPLIT_CODES:
        raise InputError("data", "split", "train, val or test", repr(split))
    # SeedSequence pads the seed to 128 bits before the spawn key: a longer seed could meet
    # another one with its key.
    if isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise InputError("data", "seed", "an integer from 0 to 2^63 - 1", seed)


def check_interval(start: int, stop: int, length: int | None) -> None:
    """Raise `IndexError` unless ``0 <= start < stop <= length``."""
    if not 0 <= start < stop or (length is not None and stop > length):
        raise IndexError(f"scenes {start}:{stop} of {'endlessly many' if length is None else length}")

"""Scenes by index, simulated when they are asked for, or by worker processes in advance.

Scene `i` of a seed and split lives in block ``i // BLOCK``. A block has a random generator of its own and is
always computed whole, by one thread, with the same tensor shapes: scene `i` is therefore the same to the last
bit whatever the batch, the shard size, the number of worker processes or the caller's thread count (on one
machine and version of torch; another processor may round differently).
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from multiprocessing import util
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from risctl.config import PhysicsConfig, known_fingerprints
from risctl.errors import InputError
from risctl.parallel import (
    DEAF_TO,
    THREADS,
    ignore_signals,
    keep_freed_memory,
    signals_blocked,
    single_thread,
)
from risctl.physics import ArrayGeometry, Scenes, simulate_scenes
from risctl.physics.impairments import Impairments, draw_impairments

BLOCK = 256
# Raise it with any change that makes the same configuration and seed yield other numbers.
GENERATOR_VERSION = 1
SPLIT_CODES = {"train": 0, "val": 1, "test": 2}
SURFACE_CODE = 3  # beside those of the splits: the generator of a surface that all scenes of a seed share
PREFETCH = 8  # blocks per process simulated in advance


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
        if split not in SPLIT_CODES:
            raise InputError("data", "split", "train, val or test", repr(split))
        # SeedSequence pads the seed to 128 bits before the spawn key: a longer seed could meet another one
        # with its key.
        if isinstance(seed, bool) or not 0 <= seed < 2**63:
            raise InputError("data", "seed", "an integer from 0 to 2^63 - 1", seed)
        if num_scenes is not None and num_scenes < 1:
            raise InputError("data", "num_scenes", "at least 1", num_scenes)
        self.physics, self.seed, self.split, self.num_scenes = physics, seed, split, num_scenes
        # The two latest blocks: batches in order make each once, and a filter that goes back to the last
        # scene it took does not make one again.
        self._latest: dict[int, Scenes] = {}

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
            if block not in self._latest:
                latest = list(self._latest.items())[-1:]
                self._latest = {**dict(latest), block: self._generate(block)}
            yield low, self._latest[block][low - first : high - first]

    def _generate(self, block: int) -> Scenes:
        sequence = np.random.SeedSequence(entropy=self.seed, spawn_key=(SPLIT_CODES[self.split], block))
        rng = np.random.Generator(np.random.SFC64(sequence))
        with single_thread():
            surface = _surface_rng(self.seed) if self.physics.impairments.shared else None
            return simulate_scenes(self.physics, rng, BLOCK, first_index=block * BLOCK, surface_rng=surface)


def _surface_rng(seed: int) -> np.random.Generator:
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(SURFACE_CODE, 0))
    return np.random.Generator(np.random.SFC64(sequence))


def shared_surface(physics: PhysicsConfig, seed: int) -> Impairments:
    """The impairments that all scenes of a seed share, for one scene: the truth, for tests and figures.

    Raises:
        InputError: the scenes of this configuration have a surface each.
    """
    if not physics.impairments.shared:
        raise InputError("physics", "impairments.shared", "true", "false (every scene has its own surface)")
    with single_thread():
        return draw_impairments(_surface_rng(seed), physics, 1, ArrayGeometry.from_config(physics))


@dataclass(frozen=True)
class _Blocks(Dataset[dict[str, Tensor]]):
    """Block i of a stream as tensors, which are passed between processes in shared memory."""

    stream: SceneStream

    def __getitem__(self, block: int) -> dict[str, Tensor]:
        return self.stream.scenes(block * BLOCK, (block + 1) * BLOCK).tensors()


class PrefetchStream(SceneStream):
    """A stream without end whose blocks worker processes simulate in advance, the same to the last bit.

    A training step on a GPU takes less time than simulating the scenes of the next one on a processor. The
    reader should go mostly in order: reading an earlier or a much later block restarts the processes.
    """

    def __init__(self, stream: SceneStream, processes: int) -> None:
        super().__init__(stream.physics, stream.seed, stream.split)
        self._stream, self._processes = stream, processes
        self._blocks: Iterator[dict[str, Tensor]] | None = None
        self._next = 0

    def close(self) -> None:
        """End the processes; reading more scenes restarts them."""
        self._blocks = None

    def _generate(self, block: int) -> Scenes:
        if self._blocks is None or block != self._next:
            loader = DataLoader(
                _Blocks(self._stream),
                batch_size=None,
                sampler=count(block),
                num_workers=self._processes,
                prefetch_factor=PREFETCH,
                # Spawned, not forked: a fork of a process with running threads can hang.
                multiprocessing_context="spawn",
                worker_init_fn=_start_worker,
            )
            with signals_blocked(*DEAF_TO):
                self._blocks = iter(loader)
        tensors = next(self._blocks)
        self._next = block + 1
        return Scenes(**tensors, phase_bits=self.physics.phase_bits)


def _start_worker(_: int) -> None:
    torch.set_num_threads(THREADS)
    keep_freed_memory()
    ignore_signals(*DEAF_TO)
    # At its end the process may still be handing over a block that nobody wants any more: leave it at that.
    util.Finalize(None, os._exit, args=(0,), exitpriority=0)


def check_interval(start: int, stop: int, length: int | None) -> None:
    """Raise `IndexError` unless ``0 <= start < stop <= length``."""
    if not 0 <= start < stop or (length is not None and stop > length):
        raise IndexError(f"scenes {start}:{stop} of {'endlessly many' if length is None else length}")

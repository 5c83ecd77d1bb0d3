"""A stream of scenes that worker processes simulate in advance.

A training step on a GPU takes less time than simulating the scenes of the next one on a processor. The scenes
are the same to the last bit with any number of processes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import util

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from risctl.config import PhysicsConfig
from risctl.data.stream import BLOCK, SceneStream, check_interval
from risctl.parallel import THREADS, ignore_signals, signals_blocked
from risctl.physics import Scenes

DEAF_TO = (signal.SIGINT, signal.SIGTERM)  # only the parent answers them, and ends its workers itself
PREFETCH = 8  # blocks per process simulated in advance


@dataclass(frozen=True)
class _Blocks(Dataset[dict[str, Tensor]]):
    """Block i of a stream as tensors, which are passed between processes in shared memory."""

    stream: SceneStream

    def __getitem__(self, block: int) -> dict[str, Tensor]:
        return self.stream.scenes(block * BLOCK, (block + 1) * BLOCK).tensors()


@dataclass(frozen=True)
class _From:
    """Sampler of the block numbers from `first` on, without end."""

    first: int

    def __iter__(self) -> Iterator[int]:
        block = self.first
        while True:
            yield block
            block += 1


class PrefetchStream:
    """A stream without end whose blocks are simulated in advance, for readers that go mostly in order.

    Reading an earlier or a much later block restarts the processes.

    Args:
        stream: the scenes.
        processes: number of worker processes.
    """

    def __init__(self, stream: SceneStream, processes: int) -> None:
        self._stream, self._processes = stream, processes
        self._blocks: Iterator[dict[str, Tensor]] | None = None
        self._next = 0
        self._held: tuple[int, Scenes] | None = None

    @property
    def physics(self) -> PhysicsConfig:
        """The configuration the scenes are made with."""
        return self._stream.physics

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the stream."""
        return self._stream.fingerprint

    @property
    def known_fingerprints(self) -> tuple[str, ...]:
        """Fingerprints of the stream."""
        return self._stream.known_fingerprints

    def __len__(self) -> int:
        return len(self._stream)

    def scenes(self, start: int, stop: int) -> Scenes:
        """Scenes `start` to `stop - 1`.

        Raises:
            IndexError: unless ``0 <= start < stop``.
        """
        check_interval(start, stop, None)
        parts = []
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            first = block * BLOCK
            low, high = max(start, first), min(stop, first + BLOCK)
            parts.append(self._block(block)[low - first : high - first])
        return parts[0] if len(parts) == 1 else Scenes.concatenate(parts)

    def close(self) -> None:
        """End the processes; reading more scenes restarts them."""
        self._blocks = None

    def _block(self, block: int) -> Scenes:
        if self._held is not None and self._held[0] == block:
            return self._held[1]
        if self._blocks is None or block != self._next:
            with signals_blocked(*DEAF_TO):
                self._blocks = iter(self._loader(block))
        tensors = next(self._blocks)
        self._next = block + 1
        self._held = (block, Scenes(**tensors, phase_bits=self.physics.phase_bits))
        return self._held[1]

    def _loader(self, first: int) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(
            _Blocks(self._stream),
            batch_size=None,
            sampler=_From(first),
            num_workers=self._processes,
            prefetch_factor=PREFETCH,
            # Spawned, not forked: a fork of a process with running threads can hang.
            multiprocessing_context="spawn",
            worker_init_fn=_start_worker,
        )


def _start_worker(_: int) -> None:
    torch.set_num_threads(THREADS)
    ignore_signals(*DEAF_TO)
    # At its end the process may still be handing over a block that nobody wants any more: leave it at that.
    util.Finalize(None, os._exit, args=(0,), exitpriority=0)

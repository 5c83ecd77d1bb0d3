"""A stream whose blocks other processes make before they are asked for.

A training step on a GPU takes less time than the scenes of the next one on a processor. The scenes are the
same to the last bit with any number of processes.
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
PREFETCH = 8  # blocks that every process may be ahead


@dataclass(frozen=True)
class _Blocks(Dataset[dict[str, Tensor]]):
    """Block i of a stream as its tensors, which travel between processes through shared memory."""

    stream: SceneStream

    def __getitem__(self, block: int) -> dict[str, Tensor]:
        return self.stream.scenes(block * BLOCK, (block + 1) * BLOCK).tensors()


@dataclass(frozen=True)
class _From:
    """The blocks from `first` on, without end."""

    first: int

    def __iter__(self) -> Iterator[int]:
        block = self.first
        while True:
            yield block
            block += 1


class AheadStream:
    """A stream without end, read mostly in order, made by `processes` others.

    Going back, or far ahead, starts the processes anew.
    """

    def __init__(self, stream: SceneStream, processes: int) -> None:
        self._stream, self._processes = stream, processes
        self._coming: Iterator[dict[str, Tensor]] | None = None
        self._next = 0
        self._held: tuple[int, Scenes] | None = None

    @property
    def physics(self) -> PhysicsConfig:
        """The configuration the scenes are made with."""
        return self._stream.physics

    @property
    def fingerprint(self) -> str:
        """That of the stream."""
        return self._stream.fingerprint

    def __len__(self) -> int:
        return len(self._stream)

    def scenes(self, start: int, stop: int) -> Scenes:
        """Return scenes `start` to `stop - 1`.

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
        """End the processes; asking for more scenes starts them anew."""
        self._coming = None

    def _block(self, block: int) -> Scenes:
        if self._held is not None and self._held[0] == block:
            return self._held[1]
        if self._coming is None or block != self._next:
            with signals_blocked(*DEAF_TO):
                self._coming = iter(self._loader(block))
        tensors = next(self._coming)
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

"""The order of the training scenes: a fixed endless sequence of scene numbers, and a cursor into it.

The cursor, an integer, is the sampler's whole state. A stream is read in its own order and never repeats; a
finite set is read in passes, the order of each shuffled by (seed, pass).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

ORDER_KEY = 11  # keeps the orders apart from everything else that follows from the seed


@dataclass(frozen=True)
class Sampler:
    """The sequence of scene numbers of a run.

    Attributes:
        seed: of the orders.
        length: number of scenes of a finite set, None for a stream.
    """

    seed: int
    length: int | None

    def indices(self, cursor: int, count: int) -> Tensor:
        """Scene numbers `cursor` to ``cursor + count - 1`` of the sequence, int64 [count]."""
        places = torch.arange(cursor, cursor + count)
        if self.length is None:
            return places
        passes = places // self.length
        orders = {int(p): pass_order(self.seed, int(p), self.length) for p in set(passes.tolist())}
        found = [orders[int(p)][int(i)] for p, i in zip(passes, places % self.length, strict=True)]
        return torch.tensor(found)


@lru_cache(maxsize=4)
def pass_order(seed: int, number: int, length: int) -> tuple[int, ...]:
    """Permutation of ``0..length - 1`` of pass `number`, a function of the arguments alone."""
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(ORDER_KEY, number))
    return tuple(np.random.Generator(np.random.PCG64(sequence)).permutation(length).tolist())

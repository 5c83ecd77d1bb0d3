"""Which scene comes next: a fixed endless sequence of scene numbers, and a cursor into it.

The whole state of the sampler is the cursor, an integer. A stream is taken in its own order and never
repeats; a finite set is taken in passes, the order of each shuffled by (seed, pass).
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
        seed: of the orders. length: scenes of the finite set, None for a stream.
    """

    seed: int
    length: int | None

    def indices(self, cursor: int, count: int) -> Tensor:
        """Scene numbers at places `cursor` to ``cursor + count - 1`` of the sequence, int64 [count]."""
        places = torch.arange(cursor, cursor + count)
        if self.length is None:
            return places
        passes = places // self.length
        orders = {int(p): pass_order(self.seed, int(p), self.length) for p in set(passes.tolist())}
        found = [orders[int(p)][int(i)] for p, i in zip(passes, places % self.length, strict=True)]
        return torch.tensor(found)


@lru_cache(maxsize=4)
def pass_order(seed: int, number: int, length: int) -> tuple[int, ...]:
    """The order in which pass `number` visits ``0..length - 1``, a function of its arguments alone."""
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(ORDER_KEY, number))
    return tuple(np.random.Generator(np.random.PCG64(sequence)).permutation(length).tolist())

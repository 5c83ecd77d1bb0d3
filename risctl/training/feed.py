"""Training scenes in their shuffled order, filtered by the curriculum.

The curriculum: few sources at high SNR first, then more, then every scene.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from risctl.config import TrainingConfig
from risctl.data import SceneSource, SceneStore, SceneStream, dataset_bytes
from risctl.data.stream import PrefetchStream
from risctl.errors import InputError
from risctl.parallel import cores
from risctl.physics import Scenes
from risctl.training.plan import TrainingPlan
from risctl.training.process_group import launched_size

ORDER_KEY = 11  # keeps the orders apart from everything else that follows from the seed
LAST_PHASE = 2  # of the curriculum
MAX_MEMORY = 4 * 2**30
MAX_CANDIDATES = 2000  # tried for one accepted scene before giving up


@dataclass(frozen=True)
class Filter:
    """Training scenes of at most `max_sources` sources at `min_snr_db` or more."""

    max_sources: int
    min_snr_db: float

    def accepts(self, scenes: Scenes) -> Tensor:
        """Mask of the scenes that pass, bool [n]."""
        return (scenes.num_sources <= self.max_sources) & (scenes.snr_db >= self.min_snr_db)


def phase_of(training: TrainingConfig, epoch: int) -> int:
    """Phase of an epoch, 0 to 2; without a curriculum always 2."""
    if not training.curriculum:
        return LAST_PHASE
    share = epoch / training.epochs
    return sum(share >= end for end in training.curriculum_until)


def filter_of(training: TrainingConfig, epoch: int) -> Filter | None:
    """Filter of the scenes of an epoch, None in the last phase."""
    phase = phase_of(training, epoch)
    if phase == LAST_PHASE:
        return None
    return Filter(training.curriculum_max_sources[phase], training.curriculum_min_snr_db[phase])


@dataclass(frozen=True)
class Sampler:
    """The order of the training scenes: a fixed endless sequence of scene numbers, read with a cursor.

    The cursor, an integer, is the whole state. A stream is read in its own order and never repeats; a finite
    set is read in passes, the order of each shuffled by (seed, pass).

    Attributes:
        seed: of the orders.
        length: number of scenes of a finite set, None for a stream.
    """

    seed: int
    length: int | None

    def indices(self, cursor: int, count: int) -> Tensor:
        """Scene numbers `cursor` to ``cursor + count - 1`` of the sequence, int64 [count]."""
        n, places = self.length, range(cursor, cursor + count)
        if n is None:
            return torch.tensor(places)
        return torch.tensor([pass_order(self.seed, i // n, n)[i % n] for i in places])


@lru_cache(maxsize=4)
def pass_order(seed: int, number: int, length: int) -> tuple[int, ...]:
    """Permutation of ``0..length - 1`` of pass `number`, a function of the arguments alone."""
    sequence = np.random.SeedSequence(entropy=seed, spawn_key=(ORDER_KEY, number))
    return tuple(np.random.Generator(np.random.PCG64(sequence)).permutation(length).tolist())


def prefetch_workers(plan: TrainingPlan) -> int:
    """Processes that simulate scenes in advance: those stated, or what a device that waits for them needs."""
    if plan.data.prefetch_workers != "auto":
        return plan.data.prefetch_workers
    return 0 if plan.device.type == "cpu" else max(1, cores() // launched_size() - 1)


class Feed:
    """Draws the scenes of each step, as a function of the cursor alone.

    Stored scenes are read, streamed ones made, as they are needed. A stream that is repeated (`data.repeat`)
    is kept in memory, about 24 kB per scene at the default size.

    Raises:
        InputError: a stream to be repeated that does not fit into memory.
    """

    def __init__(self, plan: TrainingPlan) -> None:
        self._source: SceneSource = plan.train
        ahead = prefetch_workers(plan)
        if isinstance(plan.train, SceneStream) and ahead and not plan.repeats:
            self._source = PrefetchStream(plan.train, ahead)
        self._sampler = Sampler(plan.training.seed, plan.train_scenes if plan.repeats else None)
        self._memory: Scenes | None = None
        if plan.repeats and not isinstance(plan.train, SceneStore):
            most = MAX_MEMORY // dataset_bytes(plan.physics, 1, 1)
            if plan.train_scenes > most:
                expected = f"at most {most} scenes to repeat from memory (gen-data puts more on a disk)"
                raise InputError("data", "train_scenes", expected, plan.train_scenes)
            self._memory = plan.train.scenes(0, plan.train_scenes)

    def draw(self, cursor: int, count: int, wanted: Filter | None) -> tuple[Scenes, int]:
        """The next `count` scenes that pass the filter, and the cursor behind the last of them.

        Raises:
            InputError: hardly any scene passes the filter.
        """
        if wanted is None:
            return self._fetch(self._sampler.indices(cursor, count)), cursor + count
        parts: list[Scenes] = []
        missing, start = count, cursor
        while missing:
            if cursor - start > MAX_CANDIDATES * count:
                few = f"scenes of at most {wanted.max_sources} sources at {wanted.min_snr_db:g} dB or more"
                raise InputError("training", "curriculum", few, f"next to none in {cursor - start}")
            candidates = self._fetch(self._sampler.indices(cursor, count))
            places = wanted.accepts(candidates).nonzero().flatten()[:missing]
            parts += [candidates[places]] if len(places) else []
            missing -= len(places)
            cursor += count if missing else int(places[-1]) + 1
        return Scenes.concatenate(parts), cursor

    def close(self) -> None:
        """End the processes that simulate scenes in advance, if there are any."""
        if isinstance(self._source, PrefetchStream):
            self._source.close()

    def _fetch(self, indices: Tensor) -> Scenes:
        if self._memory is not None:
            return self._memory[indices]
        if isinstance(self._source, SceneStore):
            return self._source.take(indices)
        return self._source.scenes(int(indices[0]), int(indices[-1]) + 1)

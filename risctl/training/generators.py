"""The random numbers of training: dropout, which torch takes from its global state, and the jitter of beta.

The global state belongs to the caller of the trainer; during a forward pass it is exchanged for the run's.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from risctl.errors import DamagedFileError
from risctl.training.process_group import ProcessGroup

DROPOUT_KEY, JITTER_KEY = 21, 22


class Generators:
    """Random generators of a run.

    Args:
        seed: of the run.
        processes: each has a dropout of its own, all share the jitter.
    """

    def __init__(self, seed: int, processes: ProcessGroup) -> None:
        self._jitter = torch.Generator().manual_seed(derived_seed(seed, JITTER_KEY))
        self._device = processes.device
        own = derived_seed(seed, DROPOUT_KEY, processes.rank)
        self._dropout = torch.Generator().manual_seed(own).get_state()
        self._dropout_device = torch.zeros(0, dtype=torch.uint8)
        if self._device.type == "cuda":
            self._dropout_device = torch.Generator(self._device).manual_seed(own).get_state()

    @contextmanager
    def dropout(self) -> Iterator[None]:
        """Context in which dropout draws from this run's state, and advances it."""
        cuda = self._device.type == "cuda"
        with torch.random.fork_rng([self._device] if cuda else []):
            torch.set_rng_state(self._dropout)
            if cuda:
                torch.cuda.set_rng_state(self._dropout_device, self._device)
            yield
            self._dropout = torch.get_rng_state()
            if cuda:
                self._dropout_device = torch.cuda.get_rng_state(self._device)

    def beta_offsets(self, count: int, half_width: float) -> Tensor | None:
        """Jitter of beta, uniform on +-half_width, [count], for a whole batch; None if the width is 0."""
        if half_width == 0:
            return None
        return (2.0 * torch.rand(count, generator=self._jitter) - 1.0) * half_width

    def tensors(self, processes: ProcessGroup) -> dict[str, Tensor]:
        """States of the generators, dropout of all processes; called by all of them together."""
        return {
            "jitter": self._jitter.get_state(),
            "dropout": processes.gather(self._dropout),
            "dropout_device": processes.gather(self._dropout_device),
        }

    def restore(self, tensors: Mapping[str, Tensor], processes: ProcessGroup, path: Path) -> None:
        """Load the states; a process beyond those of the checkpoint keeps its own fresh dropout.

        Raises:
            DamagedFileError: a state is missing or malformed.
        """
        try:
            self._jitter.set_state(tensors["jitter"])
            if processes.rank < len(tensors["dropout"]):
                # Copies: a generator reads the storage from its beginning, wherever a view starts.
                state = tensors["dropout"][processes.rank].clone()
                device_state = tensors["dropout_device"][processes.rank].clone()
                torch.Generator().set_state(state)
                self._dropout = state
                if device_state.shape == self._dropout_device.shape:  # else the device is another one now
                    self._dropout_device = device_state
        except (KeyError, IndexError, TypeError, RuntimeError) as error:
            raise DamagedFileError(path, "the states of the random generators", error) from None


def derived_seed(seed: int, *key: int) -> int:
    """Seed that depends on `seed` and `key` alone, different for different keys."""
    words = np.random.SeedSequence(entropy=seed, spawn_key=key).generate_state(2, np.uint64)
    return int(words[0] >> np.uint64(1))

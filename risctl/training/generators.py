"""The random numbers of training: dropout, which torch takes from its global state, and the jitter of beta.

The global state belongs to whoever called the trainer. For the length of a forward pass it is exchanged for
the run's own and put back after.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from risctl.errors import DamagedFileError
from risctl.training.world import World

DROPOUT_KEY, JITTER_KEY = 21, 22


class Generators:
    """The run's generators.

    Args:
        seed: of the run. world: the processes; each has a dropout of its own, all share the jitter.
    """

    def __init__(self, seed: int, world: World) -> None:
        self._jitter = torch.Generator().manual_seed(derived_seed(seed, JITTER_KEY))
        self._device = world.device
        own = derived_seed(seed, DROPOUT_KEY, world.rank)
        self._dropout = torch.Generator().manual_seed(own).get_state()
        self._dropout_device = _device_state(world.device, own)

    @contextmanager
    def dropout(self) -> Iterator[None]:
        """Let the block's dropout come from, and move on, this run's state."""
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
        """Uniform on +-half_width, [count], for a whole batch of all processes; None where it is zero."""
        if half_width == 0:
            return None
        return (2.0 * torch.rand(count, generator=self._jitter) - 1.0) * half_width

    def tensors(self, world: World) -> dict[str, Tensor]:
        """The states, those of dropout for all processes; called by all of them together."""
        return {
            "jitter": self._jitter.get_state(),
            "dropout": world.gather(self._dropout),
            "dropout_device": world.gather(self._dropout_device),
        }

    def restore(self, tensors: Mapping[str, Tensor], world: World, path: Path) -> None:
        """Put the states back; a process that was not there before keeps its own fresh dropout.

        Raises:
            DamagedFileError: a state is missing or is none.
        """
        try:
            self._jitter.set_state(tensors["jitter"])
            if world.rank < len(tensors["dropout"]):
                # Copies: a generator reads the storage from its beginning, wherever a view starts.
                state = tensors["dropout"][world.rank].clone()
                device_state = tensors["dropout_device"][world.rank].clone()
                torch.Generator().set_state(state)
                self._dropout = state
                if device_state.shape == self._dropout_device.shape:  # else the device is another one now
                    self._dropout_device = device_state
        except (KeyError, IndexError, TypeError, RuntimeError) as error:
            raise DamagedFileError(path, "the states of the random generators", error) from None


def derived_seed(seed: int, *key: int) -> int:
    """Return a seed that depends on `seed` and `key` alone, different for different keys."""
    words = np.random.SeedSequence(entropy=seed, spawn_key=key).generate_state(2, np.uint64)
    return int(words[0] >> np.uint64(1))


def _device_state(device: torch.device, seed: int) -> Tensor:
    if device.type != "cuda":
        return torch.zeros(0, dtype=torch.uint8)
    return torch.Generator(device).manual_seed(seed).get_state()

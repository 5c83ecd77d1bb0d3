"""The process group of data-parallel training, or a single process.

Each process has a copy of the network and computes its rows of the global batch; the gradients are averaged
over the processes before they are used. Every process then takes the same step, sanitises the same values and
skips the same steps, so nothing else has to be synchronised. The average is one all-reduce of one flat tensor
per step rather than a wrapper around the network: the networks are small, a step whose loss is not finite can
be left out without a backward pass on some of the processes, and accumulation needs no special case.

`torchrun` starts the processes and passes rank and size in the environment.
"""

import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from risctl.errors import InputError

CPU = torch.device("cpu")
JOIN_TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True)
class ProcessGroup:
    """This process's place among those that train together.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
        device: where this process computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def is_main(self) -> bool:
        """Whether this process is rank 0, the one that writes and reports."""
        return self.rank == 0

    def shard(self, count: int) -> slice:
        """This process's rows of a batch of `count`, which the processes share evenly."""
        each = count // self.size
        return slice(self.rank * each, (self.rank + 1) * each)

    def all_reduce_sum(self, x: Tensor) -> Tensor:
        """Sum of `x` over the processes (any shape, the same in all)."""
        if self.size > 1:
            x = x.to(self.device, copy=True)
            dist.all_reduce(x)
        return x

    def all_reduce_max(self, value: int) -> int:
        """Maximum of `value` over the processes: a flag raised in one is raised in all."""
        if self.size == 1:
            return value
        x = torch.tensor(value, dtype=torch.int64, device=self.device)
        dist.all_reduce(x, op=dist.ReduceOp.MAX)
        return int(x)

    def gather(self, x: Tensor) -> Tensor:
        """Stack `x` of all processes, [size, ...]; `x` has the same shape in all."""
        if self.size == 1:
            return x.unsqueeze(0)
        parts = [torch.empty_like(x, device=self.device) for _ in range(self.size)]
        dist.all_gather(parts, x.to(self.device))
        return torch.stack(parts).to(x.device)

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes; a missing one counts as zero."""
        if self.size == 1:
            return
        with torch.no_grad():
            parts = [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in parameters]
            flat = torch.cat(parts)
            dist.all_reduce(flat)
            flat /= self.size
            pieces = torch.split(flat, [p.numel() for p in parameters])
            for parameter, piece in zip(parameters, pieces, strict=True):
                parameter.grad = torch.empty_like(parameter).copy_(piece.view_as(parameter))

    def broadcast_text(self, text: str) -> str:
        """Text of rank 0."""
        if self.size == 1:
            return text
        content = text.encode() if self.is_main else b""
        length = self.all_reduce_max(len(content))
        x = torch.zeros(length, dtype=torch.uint8, device=self.device)
        if self.is_main:
            x.copy_(torch.tensor(list(content), dtype=torch.uint8))
        dist.broadcast(x, src=0)
        return bytes(x.tolist()).decode()


def launched_rank() -> int:
    """Rank of this process as `torchrun` set it; 0 for a single process."""
    return _number("RANK", 0)


def launched_size() -> int:
    """Number of processes that `torchrun` started; 1 for a single process."""
    return _number("WORLD_SIZE", 1)


@contextmanager
def join_group(device: torch.device) -> Iterator[ProcessGroup]:
    """Join the processes that `torchrun` started; on GPUs each uses the one of its local rank.

    Raises:
        InputError: the environment of `torchrun` makes no sense.
    """
    size = launched_size()
    if size == 1:
        yield ProcessGroup(device=device)
        return
    rank, local = _number("RANK", 0), _number("LOCAL_RANK", 0)
    if device.type == "cuda":
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    # Its functions have the group of the moment of the import as default argument. Imported later (an
    # optimiser's first step does), they would keep the group and its threads beyond the end of the
    # interpreter, which kills the process every now and then.
    importlib.import_module("torch.distributed.nn.functional")
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, rank=rank, world_size=size, timeout=JOIN_TIMEOUT)
    try:
        yield ProcessGroup(rank, size, device)
    finally:
        dist.destroy_process_group()


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    if not text.isdecimal():
        raise InputError("environment", name, "a number, as torchrun sets it", repr(text))
    return int(text)

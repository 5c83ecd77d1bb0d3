"""The events of a training as TensorBoard scalars; the package is optional."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from risctl.errors import InputError
from risctl.training import EpochResult, Event, Listener, StepResult

DIRECTORY = "tensorboard"


class ScalarWriter(Protocol):
    """The part of `torch.utils.tensorboard.SummaryWriter` that is used."""

    def add_scalar(self, tag: str, value: float, step: int) -> object:
        """Record a value."""
        ...


def require_tensorboard() -> None:
    """Refuse TensorBoard scalars where the package is missing, before any work is done."""
    if find_spec("tensorboard") is None:
        expected = "the tensorboard package (pip install 'risctl[tensorboard]')"
        raise InputError("tensorboard", "", expected, "none installed")


@contextmanager
def tensorboard_listener(run: Path) -> Iterator[Listener]:
    """Yield a listener that writes into the directory `tensorboard` of the run."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run / DIRECTORY))
    try:
        yield lambda event: write_scalars(writer, event)
    finally:
        writer.close()


def write_scalars(writer: ScalarWriter, event: Event) -> None:
    """Write the numbers of a step or of a validation; what is not finite is left out."""
    if isinstance(event, StepResult):
        _write(writer, "train", event.terms, event.step)
        _write(writer, "weighted", event.weighted, event.step)
        _write(writer, "detection", event.detection, event.step)
        _write(writer, "rate", event.lr, event.step)
        _write(writer, "gradient_norm", event.grad_norm, event.step)
        step = {"moved": event.moved, "skipped": float(event.skipped), "sanitised": float(event.sanitised)}
        _write(writer, "step", step | ({} if event.total is None else {"total": event.total}), event.step)
    elif isinstance(event, EpochResult):
        _write(writer, "validation", event.val, event.step)
        _write(writer, "figures", event.metrics, event.step)


def _write(writer: ScalarWriter, group: str, values: Mapping[str, float], step: int) -> None:
    for name, value in values.items():
        if math.isfinite(value):
            writer.add_scalar(f"{group}/{name}", value, step)

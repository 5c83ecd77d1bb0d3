"""A saved state that does not hold what the run needs is refused, whoever made its hash fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from risctl.errors import DamagedFileError
from risctl.model.container import read_container, write_container
from tests.training.checks import StopAt
from tests.training.small import train_small

Change = Callable[[dict[str, Tensor], dict[str, Any]], None]


def _drop(prefix: str) -> Change:
    def change(tensors: dict[str, Tensor], _document: dict[str, Any]) -> None:
        del tensors[next(key for key in sorted(tensors) if key.startswith(prefix))]

    return change


def _replace(prefix: str, make: Callable[[Tensor], Tensor]) -> Change:
    def change(tensors: dict[str, Tensor], _document: dict[str, Any]) -> None:
        key = next(key for key in sorted(tensors) if key.startswith(prefix))
        tensors[key] = make(tensors[key])

    return change


def _set(*keys: str, value: Any) -> Change:
    def change(_tensors: dict[str, Tensor], document: dict[str, Any]) -> None:
        table = document["training"]
        for key in keys[:-1]:
            table = table[key]
        table[keys[-1]] = value

    return change


CHANGES = {
    "a weight missing": _drop("raw/"),
    "an average missing": _drop("ema/"),
    "a swa weight missing": _drop("swa/"),
    "a moment missing": _drop("optimiser/"),
    "a moment of another shape": _replace("optimiser/", lambda x: x.reshape(-1)[:-1].clone()),
    "a moment that is not finite": _replace("optimiser/", lambda x: x * float("nan")),
    "a generator missing": _drop("generator/jitter"),
    "a generator's state cut": _replace("generator/jitter", lambda x: x[:-1].clone()),
    "a generator's state of another type": _replace("generator/dropout", lambda x: x.float()),
    "a generator's state emptied": _replace("generator/dropout", torch.zeros_like),
    "a negative cursor": _set("progress", "cursor", value=-1),
    "a huge step": _set("progress", "step", value=10**400),
    "a step that is text": _set("progress", "step", value="3"),
    "a best value that is none": _set("progress", "best_value", value=[1]),
    "an unknown number": _set("progress", "colour", value=1),
    "no progress": _set("progress", value=None),
    "no count of averages": _set("ema_updates", value=None),
    "a scaler that is none": _set("scaler", value=3),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_forged_state_is_refused(tmp_path: Path, name: str) -> None:
    stopper = StopAt(10)
    train_small(tmp_path, stopper, stop=stopper.stop)
    last = tmp_path / "checkpoints/last.safetensors"
    tensors, document = read_container(last)
    CHANGES[name](tensors, document)
    write_container(last, tensors, document)
    with pytest.raises(DamagedFileError) as caught:
        train_small(tmp_path, resume=True)
    assert str(last) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_state_is_refused(tmp_path: Path) -> None:
    train_small(tmp_path, epochs=1)
    last = tmp_path / "checkpoints/last.safetensors"
    last.write_bytes(last.read_bytes()[:-10])
    with pytest.raises(DamagedFileError):
        train_small(tmp_path, epochs=1, resume=True)

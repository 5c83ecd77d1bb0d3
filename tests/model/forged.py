"""Edits of a checkpoint as somebody makes them who knows how its hash is computed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from risctl.model.container import read_container, write_container

Document = dict[str, Any]
Change = Callable[[dict[str, Tensor], Document], None]


def forge(path: Path, change: Change) -> None:
    tensors, document = read_container(path)
    change(tensors, document)
    write_container(path, tensors, document)
    path.with_suffix(".json").unlink()


def put(*keys: str, value: Any) -> Change:
    """Set a value of the document."""

    def change(_tensors: dict[str, Tensor], document: Document) -> None:
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


def _first(tensors: dict[str, Tensor], prefix: str) -> str:
    return next(key for key in sorted(tensors) if key.startswith(prefix))


def drop(prefix: str) -> Change:
    """Remove the first tensor whose name begins so."""
    return lambda tensors, _document: tensors.__delitem__(_first(tensors, prefix))


def replace(prefix: str, make: Callable[[Tensor], Tensor]) -> Change:
    """Replace the first tensor whose name begins so."""

    def change(tensors: dict[str, Tensor], _document: Document) -> None:
        key = _first(tensors, prefix)
        tensors[key] = make(tensors[key])

    return change

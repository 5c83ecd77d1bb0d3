"""Rows of frozen records of tensors (and of records of such): the batch axis comes first everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Record = TypeVar("Record")


def take(record: Record, rows: Tensor) -> Record:
    """The `rows` (indices or a mask) of every tensor of `record`."""
    return cast(Record, _map(lambda x: x[rows], record))


def choose(mask: Tensor, a: Record, b: Record) -> Record:
    """The record `a` where `mask` [B], else `b`."""
    return cast(Record, _map(lambda x, y: torch.where(mask.view(-1, *[1] * (x.dim() - 1)), x, y), a, b))


def replace_rows(record: Record, rows: Tensor, part: Record) -> Record:
    """`record` with its `rows` replaced by those of `part`."""
    return cast(Record, _map(lambda x, y: x.index_copy(0, rows, y), record, part))


def _map(function: Callable[..., Tensor], *records: Any) -> Any:
    kind = type(records[0])
    if not is_dataclass(kind):
        return function(*records)
    names = [f.name for f in fields(kind)]
    return kind(**{n: _map(function, *(getattr(r, n) for r in records)) for n in names})

"""Indexing for nested dataclasses of batched tensors; the batch axis comes first everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Tree = TypeVar("Tree")


def tree_index(tree: Tree, rows: Tensor) -> Tree:
    """``x[rows]`` (indices or a mask) of every tensor x of `tree`."""
    return cast(Tree, _map(lambda x: x[rows], tree))


def tree_where(mask: Tensor, a: Tree, b: Tree) -> Tree:
    """The rows of `a` where `mask` [B], else those of `b`."""
    return cast(Tree, _map(lambda x, y: torch.where(mask.view(-1, *[1] * (x.dim() - 1)), x, y), a, b))


def tree_scatter(tree: Tree, rows: Tensor, part: Tree) -> Tree:
    """A copy of `tree` with `rows` replaced by the rows of `part`."""
    return cast(Tree, _map(lambda x, y: x.index_copy(0, rows, y), tree, part))


def _map(function: Callable[..., Tensor], *trees: Any) -> Any:
    kind = type(trees[0])
    if not is_dataclass(kind):
        return function(*trees)
    names = [f.name for f in fields(kind)]
    return kind(**{n: _map(function, *(getattr(t, n) for t in trees)) for n in names})

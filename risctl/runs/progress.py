"""How a long call reports its progress: a function that opens a bar, handed in by the caller."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias

Update: TypeAlias = Callable[[int, int], None]
"""Called with (items finished, items in all)."""
Progress: TypeAlias = Callable[[str], AbstractContextManager[Update]]
"""Opens a display under a label; its context yields the `Update` to call."""


@contextmanager
def silent(label: str) -> Iterator[Update]:
    """Report nothing."""
    yield lambda done, total: None

"""A process that writes datasets on request, so that tests can kill writers without paying for each start.

`{"start": {...write_dataset arguments..., "crash_at": n}}` forks a writer, which ends as if killed just
before its n-th file operation.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

from risctl.data import write_dataset
from tests.data.small import SETTINGS, SMALL
from tests.processes import fork, serve

FILE_OPERATIONS = ("pwrite", "fsync", "replace", "unlink", "open")


def crash_at(count: int) -> None:
    """End this process without any clean-up just before its `count`-th file operation."""
    left = count

    def guarded(operation: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left <= 0:
                os._exit(99)
            return operation(*args, **options)

        return call

    for name in FILE_OPERATIONS:
        setattr(os, name, guarded(getattr(os, name)))


def start(request: dict[str, Any]) -> int:
    settings = SETTINGS | request["start"]
    directory, death = settings.pop("directory"), settings.pop("crash_at", None)
    settings["shard"] = tuple(settings.get("shard", (0, 1)))

    def work() -> int:
        if death is not None:
            crash_at(death)
        summary = write_dataset(directory, SMALL, **settings)
        return 0 if summary.written + summary.kept + summary.repaired else 3

    return fork(work)


if __name__ == "__main__":
    write_dataset(sys.argv[1], SMALL, 0, "train", 1)  # everything is imported and warm after this
    serve(start)

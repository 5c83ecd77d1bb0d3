"""Where the shipped reference model is: among the runs of a checkout, inside the package of a wheel."""

from __future__ import annotations

from pathlib import Path

from risctl.config.presets import PACKAGE
from risctl.errors import StorageError


def reference_directory() -> Path:
    """Return the run directory of the shipped model; a wheel's own copy goes first.

    Raises:
        StorageError: it is missing.
    """
    for directory in (PACKAGE / "reference", PACKAGE.parent / "runs" / "reference" / "model"):
        if (directory / "checkpoints").is_dir():
            return directory
    raise StorageError(f"{PACKAGE / 'reference'}: the shipped model is missing; reinstall risctl")

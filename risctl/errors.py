"""Errors for users: each has an exit status and a message of one line."""

from numbers import Integral
from pathlib import Path
from typing import Any


class RisctlError(Exception):
    """Base of all errors that end a command with one line instead of a traceback.

    Example:
        >>> import risctl
        >>> risctl.RisctlError.exit_status
        1
    """

    exit_status = 1


class InputError(RisctlError, ValueError):
    """Usage, configuration or input that cannot be accepted (exit status 2).

    The message has the file or the argument, the key, what was expected and what was found.

    Example:
        >>> import risctl
        >>> risctl.load_config("quick", overrides=["physics.num_snapshots=0"])
        Traceback (most recent call last):
        risctl.errors.InputError: override: physics.num_snapshots: expected greater than or equal to 1, got 0
    """

    exit_status = 2

    def __init__(self, where: str | Path, key: str, expected: str, got: object) -> None:
        self.where, self.key, self.expected, self.got = str(where), key, expected, str(got)
        place = f"{where}: {key}" if key else str(where)
        super().__init__(one_line(f"{place}: expected {expected}, got {got}"))

    def __reduce__(self) -> tuple[type, tuple[str, str, str, str]]:
        """Rebuild from the parts: an error of a worker process is pickled."""
        return type(self), (self.where, self.key, self.expected, self.got)


class MeasurementError(RisctlError, ValueError):
    """Measurements of the wrong shape, not finite, or without energy (exit status 2)."""

    exit_status = 2


class CheckFailedError(RisctlError):
    """A gate or a check did not pass (exit status 3)."""

    exit_status = 3


class DivergedError(RisctlError, ArithmeticError):
    """A network whose output is not finite or has no energy (exit status 3)."""

    exit_status = 3


class DamagedFileError(RisctlError, ValueError):
    """A file that is not as it was written (exit status 4)."""

    exit_status = 4

    def __init__(self, path: str | Path, expected: str, got: object) -> None:
        self.path, self.expected, self.got = str(path), expected, str(got)
        super().__init__(one_line(f"{path}: damaged: expected {expected}, got {got}"))

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        """Rebuild from the parts: an error of a worker process is pickled."""
        return type(self), (self.path, self.expected, self.got)


class StorageError(RisctlError, OSError):
    """A disk or lock that fails (exit status 5)."""

    exit_status = 5


def one_line(text: str) -> str:
    """Fold `text` onto one line of printable characters, so that a hostile file cannot forge output."""
    folded = " ".join(text.split())
    return "".join(c if c.isprintable() else "?" for c in folded)


def require_file(path: Path) -> None:
    """Refuse a path that names no file."""
    if not path.is_file():
        raise InputError(path, "", "an existing file", "a directory" if path.is_dir() else "nothing")


def require_range(name: str, value: Any, low: int, high: int) -> None:
    """Refuse an argument that is no whole number or outside `low`..`high`; None: it was not given."""
    if value is not None and not isinstance(value, Integral):
        raise InputError(name, "", f"a whole number, {low} to {high}", repr(value))
    if value is not None and not low <= int(value) <= high:
        raise InputError(name, "", f"{low} to {high}", value)

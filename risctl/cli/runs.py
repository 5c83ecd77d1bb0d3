"""Run directories: `runs/<command>/<utc-time>_<preset>_<id>/` with configuration, provenance and status."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from risctl.cli.documents import Document, versioned, write_json
from risctl.errors import RisctlError, StorageError, one_line

if TYPE_CHECKING:
    from risctl.config import Config

RUNS = Path("runs")


class RunDirectory:
    """A run's directory, whose `status.json` always says how far it came.

    As a context manager it turns from `running` to `done`, `failed` or `interrupted`.
    """

    def __init__(self, path: Path, command: str) -> None:
        self.path = path
        self._command = command
        self._started = _now()

    @classmethod
    def create(cls, command: str, preset: str, config: Config, provenance: Document) -> Self:
        """Make the directory and write `config.json`, `provenance.json` and `status.json`."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        path = RUNS / command / f"{stamp}_{preset}_{secrets.token_hex(3)}"
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise StorageError(one_line(f"{path}: cannot make the run directory: {error.strerror}")) from None
        run = cls(path, command)
        write_json(path / "config.json", config.model_dump(mode="json"))
        write_json(path / "provenance.json", provenance)
        run.write_status("running", None, None)
        return run

    def write_status(self, state: str, exit_status: int | None, message: str | None) -> None:
        """Replace `status.json`."""
        status = {
            "command": self._command,
            "state": state,
            "started": self._started,
            "updated": _now(),
            "exit_status": exit_status,
            "message": message,
        }
        write_json(self.path / "status.json", versioned(status))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.write_status(*outcome(error))


def outcome(error: BaseException | None) -> tuple[str, int, str | None]:
    """Return state, exit status and message of a run that ended with `error`."""
    if error is None:
        return "done", 0, None
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130, "SIGINT"
    if isinstance(error, SystemExit):
        return "interrupted", int(error.code or 0), "SIGTERM"
    if isinstance(error, RisctlError):
        return "failed", error.exit_status, str(error)
    if isinstance(error, OSError):
        return "failed", StorageError.exit_status, one_line(str(error))
    return "failed", RisctlError.exit_status, one_line(f"{type(error).__name__}: {error}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

"""Run directories: `runs/<command>/<utc-time>_<preset>_<id>/` with configuration, provenance and status."""

import glob
import os
import re
import secrets
import shutil
import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from risctl.config import Config
from risctl.data import write_atomically
from risctl.data.atomic import held, is_held, remove_leftovers, storage_errors
from risctl.errors import InputError, RisctlError, StorageError, one_line
from risctl.runs.documents import read_document, write_json
from risctl.runs.names import CONFIG, PROVENANCE, STATUS
from risctl.text import Document, versioned

RUNS = Path("runs")
PROGRESS = ("epochs", "steps", "finished", "trials", "best_value")
SIGNAL_STATUS = 128  # plus the signal's number: exit status of a run that a signal stopped
SIGNAL_NAMES = {SIGNAL_STATUS + number: number.name for number in signal.Signals}
UNFINISHED = ".tmp"  # end of the name of a directory that is being made
YOUNG_SECONDS = 60.0  # one that is younger may not have its mark yet
Ending: TypeAlias = tuple[str, int, str | None]  # state, exit status, message


class RunDirectory:
    """A run's directory with its `status.json`: state, progress and, once it has ended, exit status.

    As a context manager it turns the state from `running` to `done`, `failed` or `interrupted`; `end` states
    it where no exception will. Made for an earlier run's directory it writes nothing before `resume`: a run
    that another process is writing stays as it is.
    """

    def __init__(self, path: Path, command: str) -> None:
        self.path = path
        self._command = command
        self._started = _now()
        self.announced = False
        self._progress: Document = {}
        self._ending: Ending = outcome(None)
        self._held = ExitStack()

    @classmethod
    def create(
        cls,
        command: str,
        preset: str,
        config: Config,
        provenance: Document,
        files: Mapping[Path, bytes] | None = None,
        place: Path | None = None,
    ) -> Self:
        """Make the directory with `config.json`, `provenance.json`, `status.json` and the `files` given.

        It is `place`, or else one below `runs/` whose name nobody has.

        It has its name only once it is complete: a process killed before leaves a hidden directory, which
        the next one of that command, or of that `place`, removes.

        Raises:
            StorageError: it cannot be made, or another process was faster; nothing of it is left.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        token = secrets.token_hex(3)
        path = place or RUNS / command / f"{stamp}_{preset}_{token}"
        run = cls(path.with_name(f".{path.name}.{token}{UNFINISHED}"), command)
        try:
            run.path.mkdir(parents=True)
            run._held.enter_context(held(run.path))
            _remove_unfinished(path.parent, f"{glob.escape(path.name)}.??????" if place else "*")
            write_json(run.path / CONFIG, config.model_dump(mode="json"))
            write_json(run.path / PROVENANCE, {"preset": preset} | provenance)
            for name, content in (files or {}).items():
                (run.path / name).parent.mkdir(parents=True, exist_ok=True)
                write_atomically(run.path / name, content)
            run.write_status("running", None, None)
            os.rename(run.path, path)
        except BaseException as error:
            shutil.rmtree(run.path, ignore_errors=True)
            if isinstance(error, StorageError) or not isinstance(error, OSError):
                raise
            raise StorageError(one_line(f"{path}: cannot make the run directory: {error.strerror}")) from None
        run.path = path
        return run

    @property
    def state(self) -> str:
        """How the run ends or has ended: `done`, `failed` or `interrupted`."""
        return self._ending[0]

    def resume(self, provenance: Document) -> None:
        """Resume an earlier run, once its lock is held; this process's provenance joins the earlier ones."""
        with storage_errors(self.path):
            self._held.enter_context(held(self.path))
            remove_leftovers(self.path)
        before = read_document(self.path / STATUS)
        self._started = str(before.get("started", self._started))
        self._progress = {key: before[key] for key in PROGRESS if key in before}
        record = read_document(self.path / PROVENANCE)
        record["resumed"] = [*record.get("resumed", []), provenance]
        write_json(self.path / PROVENANCE, record)
        self.write_status("running", None, None)

    def note_progress(self, **progress: float | None) -> None:
        """Keep the progress, under the names in `PROGRESS`, in `status.json`."""
        self._progress = progress
        self.write_status("running", None, None)

    def end(self, state: str, exit_status: int, message: str | None) -> None:
        """Set how the run ends, if no exception ends it."""
        self._ending = state, exit_status, message

    def write_status(self, state: str, exit_status: int | None, message: str | None) -> None:
        """Replace `status.json`."""
        self.announced = True
        status = {
            "command": self._command,
            "state": state,
            "started": self._started,
            "updated": _now(),
            "exit_status": exit_status,
            "message": message,
            **self._progress,
        }
        write_json(self.path / STATUS, versioned(status))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._held:
            if self.announced:
                self.write_status(*(self._ending if error is None else outcome(error)))


def run_place(command: str, name: str | None, out: Path | None) -> Path | None:
    """The directory of a run that somebody named: `runs/<command>/<name>`, or `out`; None: neither.

    Raises:
        InputError: both, no file name, or something is there.
    """
    if name is None and out is None:
        return None
    if name is not None and out is not None:
        raise InputError("out", "", "nothing beside name", out)
    if name is not None and not re.fullmatch(r"\w[\w.+-]*", name):
        raise InputError("name", "", "letters, digits, and . + - _ between them", repr(name))
    path = RUNS / command / str(name) if out is None else out
    if path.exists():
        raise InputError("out" if out else "name", "", "a directory that does not exist", path)
    return path


def _remove_unfinished(folder: Path, names: str) -> None:
    """Remove directories that a process left which was killed while it made them."""
    for path in folder.glob(f".{names}{UNFINISHED}"):
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            if not is_held(path) and time.time() - path.stat().st_mtime > YOUNG_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def outcome(error: BaseException | None) -> Ending:
    """State, exit status and message of a run that ended with `error`."""
    if error is None:
        return "done", 0, None
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", 130, "SIGINT"
    if isinstance(error, SystemExit):
        status = int(error.code or 0)
        return "interrupted", status, SIGNAL_NAMES.get(status)
    if isinstance(error, RisctlError):
        return "failed", error.exit_status, str(error)
    if isinstance(error, OSError):
        return "failed", StorageError.exit_status, one_line(str(error))
    return "failed", RisctlError.exit_status, one_line(f"{type(error).__name__}: {error}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

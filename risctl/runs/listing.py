"""Runs on disk: what each was, how it stands and what came of it, and which may be removed."""

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from risctl.config import reference_directory
from risctl.data.atomic import is_held, storage_errors
from risctl.errors import DamagedFileError, InputError, StorageError
from risctl.runs.directory import RUNS
from risctl.runs.documents import read_document
from risctl.runs.names import (
    ALIGNMENT_FILE,
    EVAL_FOLDER,
    RESULTS_FILE,
    SEARCH_FILE,
    STATUS,
    VERDICT_FILE,
)
from risctl.text import Document, counted, number

RUNNING, KILLED, DAMAGED = "running", "killed", "damaged"
REMOVABLE = ("failed", KILLED, DAMAGED)  # without being named; an interrupted run can go on
REFERENCE = "reference"


@dataclass(frozen=True)
class Listed:
    """A run on disk.

    Attributes:
        path: its directory.
        command: that made it.
        started: UTC time of its beginning, ISO 8601; empty if unknown.
        state: running, done, failed or interrupted; killed, if it says running and no process holds it;
            damaged, if its status cannot be read.
        headline: what came of it, on one line.
        num_bytes: size of its files.
    """

    path: Path
    command: str
    started: str
    state: str
    headline: str
    num_bytes: int

    @property
    def is_reference(self) -> bool:
        """Whether it came with risctl, and is never removed."""
        path = self.path.resolve()
        return path.parent.name == REFERENCE or path == reference_directory().resolve()


def list_runs(folder: Path = RUNS) -> list[Listed]:
    """The runs below `folder`, newest first."""
    found = [read_listed(path.parent) for path in folder.glob(f"*/*/{STATUS}") if path.parent.name[0] != "."]
    return sorted(found, key=lambda run: (run.started, run.path.name), reverse=True)


def read_listed(run: Path) -> Listed:
    """Read what a run was; a damaged one says so."""
    size = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    try:
        status = read_document(run / STATUS)
        state = str(status.get("state"))
        if state == RUNNING and not is_held(run):
            state = KILLED
        line = _headline(run, status)
        return Listed(run, str(status.get("command")), str(status.get("started", "")), state, line, size)
    except (DamagedFileError, StorageError) as error:
        return Listed(run, run.parent.name, "", DAMAGED, str(error), size)


def _headline(run: Path, status: Document) -> str:
    for name, read in HEADLINES.items():
        if (run / name).is_file():
            return read(read_document(run / name))
    sweeps = sorted(path.stem for path in run.glob(f"{EVAL_FOLDER}/sweep_*.json"))
    if sweeps:
        return f"{counted(len(sweeps), 'sweep')}: {', '.join(name.removeprefix('sweep_') for name in sweeps)}"
    if status.get("best_value") is not None:
        epochs = counted(status.get("epochs") or 0, "epoch")
        return f"validation loss {number(status['best_value'])}, {epochs}"
    return str(status.get("message") or "")


def _of_evaluation(results: Document) -> str:
    top = max(results["snr_values_db"])
    name = next(iter(results["estimators"]), None)
    for cell in results["cells"]:
        if (cell["estimator"], cell["snr_db"], cell["num_sources"]) == (name, top, None):
            shares = (number(cell[key]["value"], 3) for key in ("recall", "count_accuracy"))
            text = "{}: recall {}, K right {} at {:g} dB".format(name, *shares, top)
            return f"{text}, {counted(results['scenes'], 'scene')}"
    return f"{counted(results['scenes'], 'scene')}"


def _of_search(search: Document) -> str:
    go = "go" if search["verdict"]["go"] else "no-go"
    best = search["best"]
    loss = "" if best is None else f", best loss {number(best['value'])}"
    return f"{go}: {search['finished']} of {search['asked']} trials{loss}"


HEADLINES: dict[str, Callable[[Document], str]] = {
    VERDICT_FILE: lambda gate: f"overfit gate: {gate['verdict']}",
    SEARCH_FILE: _of_search,
    ALIGNMENT_FILE: lambda check: "aligned" if check["passed"] else "NOT aligned",
    f"{EVAL_FOLDER}/{RESULTS_FILE}": _of_evaluation,
    RESULTS_FILE: _of_evaluation,
}


def removable(runs: Sequence[Path] = (), older_than_days: float = 0.0) -> list[Listed]:
    """The runs that would be removed: those named, or else all that failed, were killed or are damaged.

    Raises:
        InputError: a named one is no run, is running, or came with risctl.
    """
    if runs:
        for path in runs:
            if not (path / STATUS).is_file():
                raise InputError(path, "", f"a run's directory (with {STATUS})", "none")
        found = [read_listed(path) for path in runs]
        for run in found:
            if run.state == RUNNING or run.is_reference:
                got = "one that came with risctl" if run.is_reference else "one that is running"
                raise InputError(run.path, "", "a run that has ended and is yours", got)
    else:
        found = [run for run in list_runs() if run.state in REMOVABLE and not run.is_reference]
    return [run for run in found if _days(run) >= older_than_days]


def _days(run: Listed) -> float:
    started: Any = datetime.fromisoformat(run.started).timestamp() if run.started else 0.0
    return (time.time() - started) / 86_400


def remove_runs(runs: Iterable[Listed]) -> None:
    """Remove the directories of runs.

    Raises:
        InputError: one was resumed since it was listed.
        StorageError: the disk refuses.
    """
    for run in runs:
        assert not run.is_reference
        with storage_errors(run.path):
            if is_held(run.path):
                raise InputError(run.path, "", "a run that has ended", "one that is running")
            shutil.rmtree(run.path)

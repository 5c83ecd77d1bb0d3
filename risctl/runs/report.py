"""The report of a run, made from the files in its directory: of a new run and of an old one alike."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from risctl.config import Config, diff_configs, load_config, preset_names
from risctl.data import write_atomically
from risctl.errors import InputError
from risctl.report import Fact, Page, Setting, render_pages
from risctl.runs.directory import RunDirectory
from risctl.runs.documents import read_document
from risctl.runs.names import CONFIG, PROVENANCE, REPORT_FILE, STATUS
from risctl.runs.report_parts import parts_of, pictures_of
from risctl.text import Document


@contextmanager
def reported(run: RunDirectory, wanted: bool = True) -> Iterator[RunDirectory]:
    """Open a run's directory; write its report once it has ended, unless interrupted or not `wanted`."""
    with run:
        yield run
    if wanted and run.state != "interrupted":
        write_report(run.path)


def write_report(run: Path) -> Path:
    """Write `report.html` into a run's directory and return its path.

    Raises:
        InputError: not a run, or one without a result.
        DamagedFileError: a file of the run is not what was written.
        StorageError: the disk refuses.
    """
    return write_reports([run], run / REPORT_FILE)


def write_reports(runs: Sequence[Path], out: Path) -> Path:
    """Write one page about one or several runs; see `write_report`."""
    write_atomically(out, render_pages([read_page(run) for run in runs]).encode())
    return out


def read_page(run: Path) -> Page:
    """Read the files of a run: what it was and what came of it; see `write_report`."""
    if not (run / CONFIG).is_file():
        raise InputError("run", "", f"a run's directory (with {CONFIG})", run)
    parts = parts_of(run)
    if not parts:
        raise InputError(run, "", "a run with a result", "none")
    status, provenance = (_optional(run / name) for name in (STATUS, PROVENANCE))
    preset, argv = _preset_of(run, provenance), provenance.get("argv", [])
    return Page(
        name=str(run),
        command=str(status.get("command", "")) or "run",
        state=_state(status),
        headline=" ".join(part.headline for part in parts),
        checks=tuple(check for part in parts for check in part.checks),
        pictures=tuple(pictures_of(run)),
        tables=tuple(table for part in parts for table in part.tables if table.rows),
        preset=preset,
        settings=_settings(load_config(None, run / CONFIG), preset),
        facts=tuple(_facts(status, provenance)),
        again=shlex.join(["risctl", *map(str, argv[1:])]) if argv else "",
    )


def _optional(path: Path) -> Document:
    """A document of the run, empty where an older run or an exported model has none."""
    return read_document(path) if path.is_file() else {}


def _state(status: Document) -> str:
    message = status.get("message")
    return f"{status.get('state', 'done')}{f': {message}' if message else ''}"


def _preset_of(run: Path, provenance: Document) -> str | None:
    """The preset that a run started from, None if there is none.

    Of an older run it is that in the name `<utc-time>_<preset>_<id>` of its directory.
    """
    name = provenance.get("preset") or run.resolve().name.partition("_")[2].rpartition("_")[0]
    return name if name in preset_names() else None


def _settings(config: Config, preset: str | None) -> tuple[Setting, ...]:
    base = Config() if preset is None else load_config(preset)
    return tuple(Setting(key, was, now) for key, (was, now) in diff_configs(base, config).items())


def _facts(status: Document, provenance: Document) -> Iterator[Fact]:
    for key in ("started", "updated"):
        if key in status:
            yield Fact({"started": "started", "updated": "ended"}[key], str(status[key]))
    git = provenance.get("git") or {}
    if git:
        changed = {True: "with changes", False: "unchanged", None: "unknown whether changed"}
        yield Fact("commit", f"{git.get('commit')} ({changed[git.get('dirty')]})")
    for key in ("versions", "seeds", "hardware", "dataset"):
        values = provenance.get(key)
        if isinstance(values, dict):
            yield Fact(
                key, ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
            )
    if "threads" in provenance:
        yield Fact("threads", str(provenance["threads"]))
    for before in provenance.get("resumed", []):
        yield Fact("resumed", shlex.join(map(str, before.get("argv", []))))

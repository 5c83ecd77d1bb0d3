"""Exports of training runs: weights for inference, count fusion, settings and curves."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from risctl.data.atomic import storage_errors, write_atomically
from risctl.errors import DamagedFileError, InputError
from risctl.model.checkpoint import BEST, CHECKPOINTS, Checkpoint, export_checkpoint, read_checkpoint
from risctl.model.fusion import FUSION, fusion_path
from risctl.model.load import checkpoint_path, load_checkpoint
from risctl.plots.style import PICTURES
from risctl.runs.documents import read_document
from risctl.runs.names import CONFIG, PROVENANCE, STATUS
from risctl.runs.records import METRICS, STEP, Record, json_line, read_metrics
from risctl.text import json_text

STEPS_KEPT = 1_000
CURVES = tuple(f"curves{suffix}" for suffix in PICTURES)


@dataclass(frozen=True)
class Exported:
    """An exported model: its directory, the names of its files, and their size."""

    out: Path
    files: list[str]
    num_bytes: int = 0


def export(target: Path, out: Path, dry_run: bool = False) -> Exported:
    """Copy what inference needs of a run to a new directory; a fork can begin with its weights.

    Args:
        target: the run.
        out: directory to make; it must not exist.
        dry_run: check everything, write nothing.

    Raises:
        InputError: there is no model, or `out` exists.
        DamagedFileError: the model, or what is copied beside it, is not what was written.
        StorageError: the disk refuses.
    """
    source = checkpoint_path(target)
    load_checkpoint(source)  # all of it is checked before anything is written
    if out.exists():
        raise InputError("out", "", "a directory that does not exist", out)
    files = _names(source, target)
    documents = _documents(target)
    if dry_run:
        return Exported(out, files)
    part = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with storage_errors(out):
            (part / CHECKPOINTS).mkdir(parents=True)
            _fill(part, read_checkpoint(source), target)
            for name, content in documents.items():
                write_atomically(part / name, content)
            part.rename(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return Exported(out, files, size)


def _names(source: Path, run: Path) -> list[str]:
    names = [f"{CHECKPOINTS}/best.safetensors", f"{CHECKPOINTS}/best.json"]
    names += [f"{CHECKPOINTS}/{FUSION}"] if fusion_path(source).is_file() else []
    return names + [name for name in (CONFIG, PROVENANCE, STATUS, METRICS, *CURVES) if (run / name).is_file()]


def _fill(out: Path, checkpoint: Checkpoint, run: Path) -> None:
    target = out / CHECKPOINTS / BEST
    export_checkpoint(checkpoint, target)
    if (fusion := fusion_path(checkpoint.path)).is_file():
        shutil.copyfile(fusion, fusion_path(target))
    for name in CURVES:
        if (run / name).is_file():
            shutil.copyfile(run / name, out / name)


def _documents(run: Path) -> dict[str, bytes]:
    """The documents of an export, made of those of the run; a damaged one is refused."""
    found = {
        name: read_document(run / name) for name in (CONFIG, STATUS, PROVENANCE) if (run / name).is_file()
    }
    if PROVENANCE in found:
        found[PROVENANCE] = without_places(found[PROVENANCE])
    contents = {name: json_text(document).encode() for name, document in found.items()}
    if (path := run / METRICS).is_file():
        records = read_metrics(path)
        with storage_errors(path):
            lines = path.read_bytes().count(b"\n")
        if len(records) < lines:  # one more that a power failure cut short has no end
            raise DamagedFileError(path, "one event a line", f"something else in line {len(records) + 1}")
        contents[METRICS] = "".join(map(json_line, thinned(records))).encode()
    return contents


def without_places(value: Any) -> Any:
    """A JSON value with absolute paths cut to their last part: the places of one machine mean nothing."""
    if isinstance(value, dict):
        return {key: without_places(part) for key, part in value.items()}
    if isinstance(value, list):
        return [without_places(part) for part in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def thinned(records: list[Record]) -> list[Record]:
    """The records of a `metrics.jsonl`, of the steps every k-th only, at most `STEPS_KEPT`."""
    steps = [i for i, record in enumerate(records) if record["event"] == STEP]
    every = max(1, -(-len(steps) // STEPS_KEPT))
    dropped = set(steps) - set(steps[::every])
    return [record for i, record in enumerate(records) if i not in dropped]

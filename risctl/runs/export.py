"""Exports of training runs: weights for inference, count fusion, settings and curves."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from risctl.data.atomic import storage_errors
from risctl.errors import InputError
from risctl.model.checkpoint import BEST, CHECKPOINTS, Checkpoint, export_checkpoint, read_checkpoint
from risctl.model.fusion import FUSION, fusion_path
from risctl.model.load import checkpoint_path, load_checkpoint
from risctl.runs.documents import write_json
from risctl.runs.names import CONFIG, PROVENANCE, STATUS
from risctl.runs.records import METRICS, STEP
from risctl.runs.training import CURVES

STEPS_KEPT = 1_000


@dataclass(frozen=True)
class Exported:
    """An exported model: its directory, the names of its files, and their size."""

    out: Path
    files: list[str]
    num_bytes: int = 0


def export(target: Path, out: Path, dry_run: bool = False) -> Exported:
    """Copy what inference needs of a run to a new directory; nothing to resume from.

    Args:
        target: the run.
        out: directory to make; it must not exist.
        dry_run: check everything, write nothing.

    Raises:
        InputError: there is no model, or `out` exists.
        DamagedFileError: the model is not what was written.
        StorageError: the disk refuses.
    """
    source = checkpoint_path(target)
    load_checkpoint(source)  # all of it is checked before anything is written
    if out.exists():
        raise InputError("out", "", "a directory that does not exist", out)
    files = _names(source, target)
    if dry_run:
        return Exported(out, files)
    with storage_errors(out):
        part = out.with_name(f".{out.name}.tmp")
        shutil.rmtree(part, ignore_errors=True)
        (part / CHECKPOINTS).mkdir(parents=True)
        _fill(part, read_checkpoint(source), target)
        part.rename(out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return Exported(out, files, size)


def _names(source: Path, run: Path) -> list[str]:
    names = [f"{CHECKPOINTS}/best.safetensors", f"{CHECKPOINTS}/best.json"]
    names += [f"{CHECKPOINTS}/{FUSION}"] if fusion_path(source).is_file() else []
    return names + [name for name in (CONFIG, PROVENANCE, STATUS, METRICS, CURVES) if (run / name).is_file()]


def _fill(out: Path, checkpoint: Checkpoint, run: Path) -> None:
    target = out / CHECKPOINTS / BEST
    export_checkpoint(checkpoint, target)
    if (fusion := fusion_path(checkpoint.path)).is_file():
        shutil.copyfile(fusion, fusion_path(target))
    for name in (CONFIG, CURVES, STATUS):
        if (run / name).is_file():
            shutil.copyfile(run / name, out / name)
    if (run / PROVENANCE).is_file():
        write_json(out / PROVENANCE, without_places(json.loads((run / PROVENANCE).read_text())))
    if (run / METRICS).is_file():
        (out / METRICS).write_text(thinned((run / METRICS).read_text()))


def without_places(value: Any) -> Any:
    """A JSON value with absolute paths cut to their last part: the places of one machine mean nothing."""
    if isinstance(value, dict):
        return {key: without_places(part) for key, part in value.items()}
    if isinstance(value, list):
        return [without_places(part) for part in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def thinned(metrics: str) -> str:
    """The lines of a `metrics.jsonl`, of the steps every k-th only, at most `STEPS_KEPT`."""
    lines = metrics.splitlines()
    steps = [i for i, line in enumerate(lines) if json.loads(line)["event"] == STEP]
    every = max(1, -(-len(steps) // STEPS_KEPT))
    dropped = set(steps) - set(steps[::every])
    return "".join(f"{line}\n" for i, line in enumerate(lines) if i not in dropped)

"""`risctl export`: what others need of a training run, small enough to hand on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from risctl.cli.console import closing
from risctl.cli.documents import Document, write_json
from risctl.cli.options import Common, common_options
from risctl.cli.runs import CONFIG, PROVENANCE, STATUS
from risctl.cli.training_records import METRICS, STEP
from risctl.errors import InputError

if TYPE_CHECKING:
    from risctl.model.checkpoint import Checkpoint

STEPS_KEPT = 1_000
CURVES = "curves.png"


@common_options
def export(
    common: Common,
    target: Annotated[str, typer.Argument(metavar="RUN", help="Training run to export.")],
    out: Annotated[Path, typer.Option(help="Directory to make; it must not exist.")],
) -> Document:
    """Copy a run's weights for inference, count fusion, settings and curves; nothing to resume from."""
    from risctl.data.atomic import storage_errors
    from risctl.model.checkpoint import read_checkpoint
    from risctl.model.load import checkpoint_path, load_checkpoint

    source = checkpoint_path(target)
    load_checkpoint(source)  # all of it is checked before anything is written
    if out.exists():
        raise InputError("--out", "", "a directory that does not exist", out)
    checkpoint = read_checkpoint(source)
    files = _names(source, Path(target))
    if common.dry_run:
        return {"command": "export", "files": files, "out": str(out)}
    with storage_errors(out):
        part = out.with_name(f".{out.name}.tmp")
        shutil.rmtree(part, ignore_errors=True)
        (part / "checkpoints").mkdir(parents=True)
        _fill(part, checkpoint, Path(target))
        part.rename(out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    headline = f"{len(files)} files, {size / 1e6:.2f} MB"
    closing(out, headline, f"risctl eval {out}")
    return {"command": "export", "out": str(out), "files": files, "bytes": size}


def _names(source: Path, run: Path) -> list[str]:
    from risctl.model.fusion import FUSION, fusion_path

    names = ["checkpoints/best.safetensors", "checkpoints/best.json"]
    names += [f"checkpoints/{FUSION}"] if fusion_path(source).is_file() else []
    return names + [name for name in (CONFIG, PROVENANCE, STATUS, METRICS, CURVES) if (run / name).is_file()]


def _fill(out: Path, checkpoint: Checkpoint, run: Path) -> None:
    from risctl.model.checkpoint import BEST, export_checkpoint
    from risctl.model.fusion import fusion_path

    target = out / "checkpoints" / BEST
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
    """A JSON value in which absolute paths are their last part: the places of one machine mean nothing."""
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

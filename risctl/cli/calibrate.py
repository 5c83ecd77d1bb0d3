"""`risctl calibrate`: fit the probabilities that a trained model, or NOMP, states and decides by."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from risctl import runs
from risctl.cli.console import closing, dry_run, progress, say, show_table
from risctl.cli.options import Common, WorkersOption, common_options
from risctl.errors import InputError, require_range
from risctl.text import Document


@common_options
def calibrate(
    common: Common,
    target: Annotated[str, typer.Argument(metavar="RUN|CHECKPOINT|nomp", help="Trained model, or NOMP.")],
    scenes: Annotated[int, typer.Option(help="Scenes to fit on; none that was trained on.")] = 20_000,
    val_scenes: Annotated[int, typer.Option(help="Validation scenes that choose the epoch.")] = 4_000,
    workers: WorkersOption = None,
    out: Annotated[
        Path | None, typer.Option(help="File of the fit (.safetensors), in place of the one that is read.")
    ] = None,
) -> Document:
    """Fit the stated probabilities of a model, or of NOMP.

    The fit, of source counts and of sources, is kept beside the checkpoint.
    """
    require_range("scenes", scenes, 256, 10_000_000)
    require_range("val_scenes", val_scenes, 256, 10_000_000)
    require_range("workers", workers, 1, 256)
    if common.machine.device not in ("auto", "cpu"):
        raise InputError("device", "", "cpu", common.machine.device)
    subject = runs.prepare_calibration(common.layers, target, out)
    if common.dry_run:
        needs = runs.needs_of_calibration(subject, scenes, workers)
        seconds = runs.seconds_of_calibration(subject, scenes + val_scenes, workers)
        work = f"{scenes:,} + {val_scenes:,} scenes"
        return dry_run("calibrate", subject.config, needs, subject.file, seconds, work)
    if subject.model is None and out is None:
        say(f"the fit that comes with risctl is replaced: {subject.file}")
    found = runs.calibrate(subject, scenes, val_scenes, workers, progress)
    bands = [f"{low:g}..{low + 5:g} dB" for low in runs.BANDS_DB]
    show_table("K right on validation scenes, by SNR", ("", *bands, "all"), found.table)
    headline = (
        f"cross-entropy {found.fit['cross_entropy']:.4f}, K right {found.fit['accuracy']:.3f}, "
        f"calibration error of the sources {found.fit['calibration_error']:.3f}"
    )
    shown = "--estimators nomp" if isinstance(found.model, str) else shlex.quote(str(found.model.parents[1]))
    closing(found.file, headline, f"risctl eval {shown}")
    return {"command": "calibrate", "file": str(found.file), "fit": found.fit, "table": found.table}

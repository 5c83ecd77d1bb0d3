"""`risctl locate`: positions from somebody's own measurements."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from risctl import runs
from risctl.cli.console import closing, dry_run, progress, say, show_table
from risctl.cli.options import Common, common_options
from risctl.errors import InputError, require_range
from risctl.registry import estimator_names
from risctl.text import Document, decimals, versioned

if TYPE_CHECKING:
    from risctl.runs import Chosen

COLUMNS = ("scene", "azimuth deg", "+-", "elevation deg", "+-", "range m", "+-", "power dB")
ESTIMATORS = estimator_names("learned", "classical")
KEYS = (
    "azimuth_deg",
    "std_azimuth_deg",
    "elevation_deg",
    "std_elevation_deg",
    "range_m",
    "std_range_m",
    "power_db",
)


@common_options
def locate(
    common: Common,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Measurements: .npz, .safetensors or .mat.")],
    estimator: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(ESTIMATORS)}; absent: learned, on another surface nomp."),
    ] = None,
    num_sources: Annotated[
        int | None, typer.Option(help="Sources in every scene; counted if absent.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="RUN|CHECKPOINT", help="Model of the learned estimator; absent: the reference."),
    ] = None,
    batch: Annotated[int, typer.Option(help="Scenes estimated at once.")] = 64,
) -> Document:
    """Estimate source positions from a measurement file with y, H and codes.

    Snapshot l is y_l = H diag(codes_l) A x_l + noise.
    Element n = row * columns + column sits at
    (0, (column - (C-1)/2) d, (row - (R-1)/2) d); x is the surface's normal.
    Steering vector: exp(-j 2 pi (distance_n - range) / wavelength) / sqrt(N).
    Units of y, H and codes are free.
    """
    _check_out(out)
    require_range("batch", batch, 1, 100_000)
    chosen = runs.choose_estimator(common.layers, estimator, model, runs.start(common.machine))
    require_range("num_sources", num_sources, 1, chosen.config.physics.max_sources)
    if chosen.reason is not None:
        say(f"estimator {chosen.name}: {chosen.reason}")
    if common.dry_run:
        return dry_run("locate", chosen.config, chosen.needs(file), out)
    found = runs.locate_file(chosen, file, num_sources, batch, progress)
    say(runs.describe_surface(chosen.config.physics))
    document = {"estimator": chosen.name, "scenes": runs.describe(found.estimates)}
    if out is not None:
        runs.write_json(out, versioned(document))
    by = f"--model {shlex.quote(model)}" if model else f"--estimator {chosen.name}"
    known = "" if num_sources is None else f" --num-sources {num_sources}"
    again = f"risctl locate {shlex.quote(str(file))} {by}{known}{common.again} --out positions.json"
    _report(document, chosen, file, out, again)
    return document


def _report(document: Document, chosen: Chosen, file: Path, out: Path | None, again: str) -> None:
    rows = [
        (scene["index"], *(decimals(source[key]) for key in KEYS))
        for scene in document["scenes"]
        for source in scene["sources"]
    ]
    show_table(f"{file}: {chosen.name}", COLUMNS, rows)
    scenes = len(document["scenes"])
    headline = f"{len(rows)} sources in {scenes} scenes; +- is one standard deviation (Fisher)"
    closing(out or "not written (--out FILE)", headline, "risctl eval --preset quick" if out else again)


def _check_out(out: Path | None) -> None:
    """Refuse a place that cannot be written before any work is done."""
    if out is not None and out.is_dir():
        raise InputError("out", "", "a file name", f"the directory {out}")
    if out is not None and not out.absolute().parent.is_dir():
        raise InputError("out", "", "a file in an existing directory", out)

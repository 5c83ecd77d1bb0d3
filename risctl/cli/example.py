"""`risctl example`: a measurement file to look at, its truth beside it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from risctl import runs
from risctl.cli.console import closing, dry_run, say, show_table
from risctl.cli.options import Common, common_options
from risctl.errors import require_range
from risctl.text import Document, counted, decimals

COLUMNS = ("scene", "azimuth deg", "elevation deg", "range m", "power dB")
KEYS = ("azimuth_deg", "elevation_deg", "range_m", "power_db")


@common_options
def example(
    common: Common,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="New file: .npz, .safetensors or .mat by its suffix.")
    ],
    scenes: Annotated[int, typer.Option(help="Scenes, with 1, 2, ... sources in turn.")] = 3,
) -> Document:
    """Write a measurement file, its true positions beside it."""
    require_range("scenes", scenes, 1, 10_000)
    config = runs.example_config(common.layers)
    if common.dry_run:
        return dry_run("example", config, runs.Needs(disk_bytes=24_000 * scenes), file)
    made = runs.write_example(file, config, scenes)
    rows = [
        (scene["index"], *(decimals(source[key]) for key in KEYS))
        for scene in made.truth["scenes"]
        for source in scene["sources"]
    ]
    show_table(f"{made.truth_file}: where the sources are", COLUMNS, rows)
    physics = config.physics
    say()
    say(runs.describe_surface(physics))
    L, M, N = physics.num_snapshots, physics.num_antennas, physics.num_elements
    say(f"{file}: y {[scenes, L, M]}, H {[scenes, M, N]}, codes {[scenes, L, N]}, complex")
    headline = f"{counted(len(rows), 'source')} in {counted(scenes, 'scene')}"
    closing(f"{file}, {made.truth_file}", headline, f"risctl locate {shlex.quote(str(file))}{common.again}")
    return {"command": "example", "file": str(file), "truth": made.truth}

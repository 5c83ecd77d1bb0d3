"""`risctl locate`: positions from somebody's own measurements."""

from __future__ import annotations

import gc
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from risctl import runs
from risctl.cli.console import closing, dry_run, progress, say, show_table
from risctl.cli.options import Common, SurfaceOption, common_options
from risctl.errors import InputError, require_range
from risctl.registry import estimator_names
from risctl.text import Document, counted

if TYPE_CHECKING:
    from risctl.runs import Chosen, Located

ESTIMATORS = estimator_names("learned", "classical")
LEARNED = ESTIMATORS[0]  # what --model alone means


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
    out: Annotated[
        Path | None, typer.Option(help="File to write: .json, or .csv with one row per source.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Picture of one scene: .png, .pdf or .svg.")] = None,
    scene: Annotated[
        int | None, typer.Option(help="Scene of the picture; the first in doubt, or the first, if absent.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="RUN|CHECKPOINT", help="Model of the learned estimator; absent: the reference."),
    ] = None,
    surface: SurfaceOption = None,
    batch: Annotated[
        int | None, typer.Option(help="Scenes estimated at once; 256 if absent, 2048 on a GPU.")
    ] = None,
) -> Document:
    """Estimate source positions from a measurement file.

    Its y, H and codes: y_l = H diag(codes_l) A x_l + noise; Phi in place of H
    and codes, or neither (an ordinary array), will do. What the file says of its
    wavelength, elements and so on is stronger than the settings.
    Element n = row * columns + column sits at
    (0, (column - (C-1)/2) d, (row - (R-1)/2) d); x is the surface's normal.
    Steering vector: exp(-j 2 pi (distance_n - range) / wavelength) / sqrt(N).
    Units of y, H and codes are free.
    """
    runs.check_answer_and_picture(out, picture)
    if scene is not None and picture is None:
        raise InputError("scene", "", "a picture beside it (--picture FILE)", scene)
    require_range("batch", batch, 1, 100_000)
    chosen = _choose(common, file, estimator, model, surface)
    require_range("num_sources", num_sources, 1, chosen.config.physics.max_sources)
    if common.dry_run:
        return _dry_run(chosen, file, out, num_sources, batch)
    found = runs.locate_file(chosen, file, num_sources, batch, progress)
    located = runs.Located.from_found(chosen, found)
    document = runs.answer_document(located, chosen, file, num_sources)
    if out is not None:
        runs.write_answer(out, document, located)
    written = [str(out)] if out else []
    if picture is not None:
        drawn = runs.draw_located(picture, chosen, file, located, scene)
        written.append(f"{picture} (scene {drawn})")
    say(runs.describe_surface(chosen.config.physics))
    options = f"{_words(chosen, model, num_sources, surface)}{common.again}"
    headline = _report(located, file, None if surface is not None else options)
    again = f"risctl locate {shlex.quote(str(file))}{options}"
    following = "risctl eval --preset quick" if out else f"{again} --out positions.json"
    closing(", ".join(written) or "not written (--out FILE, --picture FILE)", headline, following)
    return document


def _dry_run(
    chosen: Chosen, file: Path, out: Path | None, num_sources: int | None, batch: int | None
) -> Document:
    seconds = runs.seconds_of_locating(chosen, file, num_sources, batch)
    return dry_run("locate", chosen.config, chosen.needs(file), out, seconds)


def _choose(
    common: Common, file: Path, estimator: str | None, model: str | None, surface: Path | None
) -> Chosen:
    """The estimator, on a calibrated surface if there is one; says which settings are not used."""
    device = runs.start(common.machine)
    gc.freeze()  # torch stays until this process ends: to search it for garbage took 3 % of the time
    chosen = runs.choose_estimator(common.layers, estimator, model, device, runs.Described.of_file(file))
    if surface is not None:
        chosen = runs.with_surface(chosen, runs.load_surface(surface), surface)
    for note in chosen.notes:
        say(note)
    if chosen.reason is not None:
        say(f"answered by {chosen.name}; {chosen.reason}")
    return chosen


def _report(located: Located, file: Path, options: str | None) -> str:
    """Show the table, and what to check where the answer is in doubt; return the headline.

    On a surface that was not calibrated `options` are the words that calibrate it by the same estimator.
    """
    show_table(f"{file}: {located.estimator}", runs.COLUMNS, located.table())
    for doubt in located.doubts():
        say(f"  {doubt}")
    if located.file_misfit and options is not None:
        say(f"  what may mend it: risctl calibrate-surface {shlex.quote(str(file))}{options}")
    sources = counted(int(located.num_sources.sum()), "source")
    return f"{sources} in {counted(len(located), 'scene')}; ± is one standard deviation"


def _words(chosen: Chosen, model: str | None, num_sources: int | None, surface: Path | None) -> str:
    """The options that give the same answer again."""
    by = f" --model {shlex.quote(model)}" if model else ""
    by += "" if model and chosen.name == LEARNED else f" --estimator {chosen.name}"
    if surface is not None:
        by += f" --surface {shlex.quote(str(surface))}"
    return by if num_sources is None else f"{by} --num-sources {num_sources}"

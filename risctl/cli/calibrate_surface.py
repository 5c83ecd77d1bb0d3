"""`risctl calibrate-surface`: the errors of a real surface, from measurements of unknown sources."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from risctl import runs
from risctl.cli.console import closing, dry_run, note, say, time_left
from risctl.cli.eval import is_override
from risctl.cli.options import Common, Ending, common_options
from risctl.errors import CheckFailedError, InputError, require_range
from risctl.text import Document

if TYPE_CHECKING:
    from risctl.inference.surface.calibrate import Round


@common_options
def calibrate_surface(
    common: Common,
    overrides: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Measurements of one surface; SECTION.KEY=VALUE.")
    ],
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("surface.json"),
    anchors: Annotated[
        Path | None, typer.Option(help="Known positions: JSON as locate writes it, of some scenes.")
    ] = None,
    estimate: Annotated[
        str, typer.Option(help="gains, states, positions, or some joined by +.", metavar="KINDS")
    ] = "gains",
    start: Annotated[
        str, typer.Option(help="nominal, or anchors: nothing is known of the phases.", metavar="START")
    ] = "nominal",
    held_out: Annotated[float, typer.Option(help="Share of the scenes that judge the calibration.")] = 0.2,
    num_sources: Annotated[int | None, typer.Option(help="Sources in every scene; absent: counted.")] = None,
    estimator: Annotated[
        str | None, typer.Option(help="Locates the sources on the way; absent: as in locate.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="RUN|CHECKPOINT", help="Model of the learned estimator.")
    ] = None,
) -> Document | Ending:
    """Find the errors of a real surface from measurements.

    That is gains, states or positions of its elements. Sources, their number, powers and noise are unknown.
    What the first file says of its wavelength, elements, symbols and so on is stronger than the settings, and
    the others say the same. Exit status 3 where scenes that were held out do not become more likely and the
    surface is not nominal within its error bars.
    """
    files = [Path(word) for word in overrides if not is_override(word)]
    for word in overrides:
        common = common.with_override(word) if is_override(word) else common
    if not files:
        raise InputError("files", "", "at least one measurement file", "none")
    runs.check_destination("out", out, (".json",))
    request = runs.CalibrationRequest(tuple(estimate.split("+")), start, held_out, num_sources)
    device, described = runs.start(common.machine), runs.Described.of_file(files[0])
    chosen = runs.choose_estimator(common.layers, estimator, model, device, described)
    require_range("num_sources", num_sources, 1, chosen.config.physics.max_sources)
    if common.dry_run:
        return dry_run("calibrate-surface", chosen.config, chosen.needs(files[0]), out)
    parts = runs.read_parts(chosen, files)
    known = {} if anchors is None else runs.read_anchors(anchors, sum(map(len, parts)))
    for sentence in (*chosen.notes, runs.describe_surface(chosen.config.physics)):
        say(sentence)
    surface = runs.calibrate_surface(chosen, parts, request, known, files, _rounds(request))
    document = runs.write_surface(out, surface)
    for line in surface.words()[1:]:
        say(line)
    stated = {"--surface": out, "--estimator": estimator, "--model": model, "--num-sources": num_sources}
    flags = [str(part) for pair in stated.items() if pair[1] is not None for part in pair]
    again = f"risctl locate {shlex.join([str(files[0]), *flags])}{common.again}"
    closing(out, surface.words()[0], again)
    answer = {"command": "calibrate-surface", "out": str(out), "words": surface.words(), "surface": document}
    if surface.accepted:
        return answer
    failure = "held-out scenes are no likelier than with the nominal surface"
    return Ending(answer, CheckFailedError.exit_status, failure)


def _rounds(request: runs.CalibrationRequest) -> runs.RoundListener:
    """Say what comes, and return what says a line after every round: the most there can be, and the time."""
    most, done, began = runs.most_rounds(request), 0, time.monotonic()
    say(f"at most {most} rounds: each locates the sources through the surface found so far")

    def listen(round_: Round) -> None:
        nonlocal done
        done += 1
        note(f"{runs.round_words(round_)}; at most {time_left(time.monotonic() - began, done, most)}")

    return listen

"""`risctl bench`: how fast this machine is, beside the targets and naive baselines."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from risctl import runs
from risctl.cli.console import closing, dry_run, note, progress, say, show_table
from risctl.cli.options import Common, common_options
from risctl.errors import InputError, require_range
from risctl.text import ABSENT, Document

if TYPE_CHECKING:
    from risctl.evaluation.timing import Figure
    from risctl.runs import Benchmark

COLUMNS = ("figure", "unit", "median", "smallest", "largest", "target", "met", "naive baseline", "speed-up")
MARKS = {True: "yes", False: "MISSED", None: ABSENT}


@common_options
def bench(
    common: Common,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer scenes and repeats.")] = False,
) -> Document:
    """Measure speed on one CPU thread.

    Scenes, covariances, training, estimators and MUSIC spectra.
    """
    config = common.layers.resolve()
    require_range("threads", common.machine.threads, 1, 1)
    if common.machine.device not in ("auto", "cpu"):
        raise InputError("device", "", "cpu (CPU seconds are what is measured)", common.machine.device)
    if common.dry_run:
        needs = runs.needs_of_benchmark(config, quick)
        return dry_run("bench", config, needs, "temporary files, removed at once")
    found = runs.benchmark(config, quick, progress)
    if found.left_out is not None:
        note(f"learned left out: {found.left_out}")
    _report(found)
    return {
        "command": "bench",
        "quick": quick,
        "plan": asdict(found.plan),
        "machine": found.machine,
        "figures": [asdict(f) | {"met": f.met, "times_better": f.speed_up} for f in found.figures],
    }


def _report(found: Benchmark) -> None:
    figures, machine = found.figures, found.machine
    show_table("Speed, CPU seconds of one thread", COLUMNS, [_row(figure) for figure in figures])
    for name in dict.fromkeys(f.reference_name for f in figures if f.reference_name):
        of = ", ".join(f.name for f in figures if f.reference_name == name)
        say(f"  naive baseline of {of}: {name}")
    say(f"  {machine['processor']}, {machine['cores']} cores, 1 thread, torch {machine['torch_build']}")
    say(f"  load before {machine['load_before']}, after {machine['load_after']}")
    judged = [figure for figure in figures if figure.met is not None]
    met = sum(bool(figure.met) for figure in judged)
    headline = f"{met} of {len(judged)} targets met (a busy machine is slower: look at the load)"
    closing("nothing is written (--json prints the document)", headline, "risctl demo")


def _row(figure: Figure) -> tuple[str, ...]:
    numbers = (figure.value, figure.low, figure.high, figure.target)
    return (
        figure.name,
        figure.unit,
        *(_number(value) for value in numbers),
        MARKS[figure.met],
        _number(figure.reference),
        ABSENT if figure.speed_up is None else f"{figure.speed_up:.1f}",
    )


def _number(value: float | None) -> str:
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

"""`risctl bench`: how fast this machine is, beside the targets and beside the obvious way."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from risctl.cli.console import closing, note, say, show_table
from risctl.cli.documents import Document
from risctl.cli.machine import hardware, use_threads
from risctl.cli.options import Common, common_options, require_range
from risctl.errors import InputError

if TYPE_CHECKING:
    from risctl.config import Config
    from risctl.evaluation.bench import Figure, Plan
    from risctl.inference import Estimator

COLUMNS = ("figure", "unit", "median", "smallest", "largest", "target", "met", "obvious way", "times better")
MARKS = {True: "yes", False: "MISSED", None: "–"}


@common_options
def bench(
    common: Common,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer scenes and repeats.")] = False,
) -> Document:
    """Measure speed on one CPU thread: scenes, covariances, training, estimators, MUSIC spectra."""
    config = common.resolve()
    require_range("--threads", common.threads, 1, 1)
    if common.device not in ("auto", "cpu"):
        raise InputError("--device", "", "cpu (CPU seconds are what is measured)", common.device)
    if common.dry_run:
        return _dry_run(config, quick)
    use_threads(common.threads)
    from risctl.evaluation.bench import QUICK, Plan

    return run_bench(config, QUICK if quick else Plan(), quick)


def run_bench(config: Config, plan: Plan, quick: bool) -> Document:
    """Measure, show the table, return the document."""
    from risctl.evaluation.bench import benchmarks

    machine, before = describe_machine(), load()
    figures = []
    for figure in benchmarks(config, plan, reference_estimator(config)):
        note(f"measured: {figure.name}")
        figures.append(figure)
    machine |= {"load_before": before, "load_after": load()}
    _report(figures, machine)
    return {
        "command": "bench",
        "quick": quick,
        "plan": asdict(plan),
        "machine": machine,
        "figures": [asdict(f) | {"met": f.met, "times_better": f.speed_up} for f in figures],
    }


def reference_estimator(config: Config) -> Estimator | None:
    """Return the learned estimator of the shipped model; None, said aloud, where it does not fit."""
    from risctl.cli.estimators import LEARNED, make_estimator
    from risctl.cli.models import load_reference

    try:
        loaded = load_reference(config, "cpu")
    except InputError as error:
        note(f"learned left out: {error}")
        return None
    return make_estimator(LEARNED, config, loaded, "cpu")


def describe_machine() -> Document:
    """Return processor, threads and versions."""
    import torch

    from risctl.cli.provenance import versions

    threads = {"threads": 1, "torch_build": torch.__version__}
    return hardware("cpu") | threads | {"versions": versions()}


def load() -> list[float] | None:
    """Return the load averages of 1, 5, 15 minutes; None where the system has none."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None


def _report(figures: list[Figure], machine: Document) -> None:
    show_table("Speed, CPU seconds of one thread", COLUMNS, [_row(figure) for figure in figures])
    for name in dict.fromkeys(f.reference_name for f in figures if f.reference_name):
        of = ", ".join(f.name for f in figures if f.reference_name == name)
        say(f"  obvious way of {of}: {name}")
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
        "–" if figure.speed_up is None else f"{figure.speed_up:.1f}",
    )


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _dry_run(config: Config, quick: bool) -> Document:
    from risctl.cli.needs import PROCESS_BYTES, Needs, dry_run
    from risctl.data.layout import dataset_bytes
    from risctl.evaluation.bench import QUICK, Plan

    plan = QUICK if quick else Plan()
    disk = dataset_bytes(config.physics, plan.written_scenes, plan.written_scenes)
    needs = Needs(disk_bytes=disk, memory_bytes=PROCESS_BYTES + 2 * disk)
    return dry_run("bench", config, needs, "temporary files, removed at once")

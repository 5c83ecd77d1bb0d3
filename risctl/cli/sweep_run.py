"""What `risctl eval --sweep` does: a whole evaluation at every value, kept as soon as it is done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from risctl.cli.console import closing, note, say, show_table
from risctl.cli.documents import Document, json_text
from risctl.cli.estimators import CEILING
from risctl.cli.evaluation_run import (
    Request,
    evaluate_source,
    make_run_directory,
    needs_of,
    next_command,
    open_source,
    record_of,
)
from risctl.cli.machine import use_threads
from risctl.cli.models import model_record
from risctl.cli.sweeps import FLAG, SNR, Axis
from risctl.errors import InputError

if TYPE_CHECKING:
    from risctl.cli.runs import RunDirectory
    from risctl.config import Config
    from risctl.evaluation import Results, Sweep

FOLDER = Path("eval")
REQUEST = FOLDER / "request.json"  # what the command line asked for, for `--resume`
POINT_BYTES = 120_000  # figures of one estimator at one value
SWEEP_BYTES = 1_000_000  # table and picture of a sweep


@dataclass(frozen=True)
class Planned:
    """A sweep with the configuration of each of its values."""

    axis: Axis
    configs: tuple[Config, ...]


def plan_sweeps(request: Request) -> tuple[Planned, ...]:
    """Resolve the configuration of every value before anything runs.

    Raises:
        InputError: a value that the configuration, or the trained model, does not allow.
    """
    if request.data is not None:
        raise InputError(FLAG, "", "no --data (a dataset has its own physics)", request.data)
    plans = []
    for axis in request.sweeps:
        configs = tuple(_resolved(request, axis, i) for i in range(len(axis.values)))
        plans.append(Planned(axis, configs))
    if set(plans[0].configs[0].evaluation.estimators) == {CEILING}:
        raise InputError("--estimators", "", f"an estimator beside the reference {CEILING!r}", CEILING)
    return tuple(plans)


def _resolved(request: Request, axis: Axis, index: int) -> Config:
    """Return the configuration at one value; what is wrong with it is the sweep's fault, which is named."""
    from risctl.evaluation import value_text

    try:
        return request.resolve(axis.override(index))
    except InputError as error:
        if request.model is not None and error.where == str(request.model.path):  # names both values
            raise
        key = axis.key if axis.key == SNR else error.key
        where = f"{FLAG} {axis.key}={value_text(axis.values[index])}"
        raise InputError(where, key, error.expected, error.got) from None


def dry_run_sweeps(request: Request) -> Document:
    """Show what would run and what it needs."""
    from dataclasses import replace

    from risctl.cli.needs import dry_run

    plans = plan_sweeps(request)
    base = request.resolve()
    values = sum(len(plan.axis.values) for plan in plans)
    disk = values * len(base.evaluation.estimators) * POINT_BYTES + len(plans) * SWEEP_BYTES
    needs = replace(needs_of(request, base), disk_bytes=disk)
    document = dry_run("eval", base, needs, "runs/eval/<utc-time>_<preset>_<id>/")
    for plan in plans:
        say(f"# sweep        {plan.axis.word}, {base.evaluation.scenes} scenes a value")
    return document | {"sweeps": [{"key": p.axis.key, "values": list(p.axis.values)} for p in plans]}


def run_sweeps(request: Request, resumed: Path | None = None) -> Document:
    """Run every sweep, or what an earlier run of it left undone; write JSON, CSV and pictures."""
    use_threads(request.common.threads)
    plans = plan_sweeps(request)
    with _run_directory(request, resumed) as run:
        note(f"run: {run.path} (what interrupts it loses nothing: risctl eval --resume {run.path})")
        (run.path / FOLDER).mkdir(exist_ok=True)
        done = [(plan, _run_sweep(run.path / FOLDER, request, plan)) for plan in plans]
    files = [path for _, (_, paths) in done for path in paths]
    sweeps = [sweep for _, (sweep, _) in done]
    _show(run.path, sweeps, next_command(request))
    return {
        "command": "eval",
        "run": str(run.path),
        "files": [str(path) for path in files],
        "sweeps": [sweep.model_dump(mode="json") for sweep in sweeps],
    }


def _run_directory(request: Request, resumed: Path | None) -> RunDirectory:
    from risctl.cli.runs import RunDirectory

    config, source = open_source(request, request.resolve())
    if resumed is None:
        asked = {REQUEST: json_text(describe(request)).encode()}
        return make_run_directory(request, config, source, asked)
    run = RunDirectory(resumed, "eval")
    run.go_on(record_of(request, config, source))
    return run


def describe(request: Request) -> Document:
    """Return what `--resume` needs to know beside the run's `config.json`."""
    return {
        "target": None if request.target is None else str(Path(request.target).absolute()),
        "sweeps": [axis.word for axis in request.sweeps],
        "known_num_sources": request.known_num_sources,
        "batch": request.batch,
        "workers": request.workers,
        "plots": request.plots,
        "seed": request.common.seed,
    }


def _run_sweep(directory: Path, request: Request, plan: Planned) -> tuple[Sweep, list[Path]]:
    from risctl.evaluation import assemble, sweep_stem, write_sweep

    points = directory / f"{sweep_stem(plan.axis.key)}_points"
    points.mkdir(exist_ok=True)
    sweep = assemble(plan.axis.key, plan.axis.values, list(_figures(points, request, plan)))
    files = write_sweep(directory, sweep)
    if request.plots:
        from risctl.evaluation.plots import save_figure, sweep_figure

        files.append(save_figure(sweep_figure(sweep), directory / f"{sweep_stem(plan.axis.key)}.png"))
    return sweep, files


def _figures(directory: Path, request: Request, plan: Planned) -> Iterator[Results]:
    """Yield the figures at each value: those of an earlier run, or new ones, kept at once."""
    from risctl.evaluation import StoredPoint, read_point, value_text, write_point

    for i, (value, config) in enumerate(zip(plan.axis.values, plan.configs, strict=True)):
        path, marks = directory / f"{i:02d}.json", point_fingerprints(request, config)
        stored = read_point(path)
        label = f"{plan.axis.key}={value_text(value)}"
        if stored is not None:
            if stored.fingerprint not in marks:
                expected = "figures of the same settings, model and version (else start a new sweep)"
                raise InputError(path, "fingerprint", expected, stored.fingerprint)
            note(f"{label}: done before")
            yield stored.results
            continue
        results = evaluate_source(request, *open_source(request, config), label=label).results
        write_point(path, StoredPoint(fingerprint=marks[0], results=results))
        yield results


def point_fingerprints(request: Request, config: Config) -> tuple[str, str]:
    """Return 16 hexadecimal digits that change with whatever the figures at a value follow from.

    The second are those that risctl 0.1.0 wrote.
    """
    from risctl import __version__
    from risctl.config import canonical_json
    from risctl.config.former import digest16, former_canonical_json
    from risctl.covariance.identity import covariance_fingerprint, former_covariance_fingerprint

    model = None if request.model is None else model_record(request.model)
    texts = []
    for canonical, covariance in (
        (canonical_json, covariance_fingerprint),
        (former_canonical_json, former_covariance_fingerprint),
    ):
        if request.model is not None and model is not None:
            model["covariance_fingerprint"] = covariance(request.model.covariance)
        own = [__version__, request.known_num_sources, request.common.seed or 0, request.batch, model]
        texts.append(canonical(config) + json.dumps(own, sort_keys=True))
    return digest16(texts[0]), digest16(texts[1])


def _show(run: Path, sweeps: list[Sweep], following: str) -> None:
    from risctl.evaluation import sweep_headline, sweep_table

    for sweep in sweeps:
        table = sweep_table(sweep)
        show_table(table.title, table.columns, table.rows)
        say(f"  {table.note}")
        say()
    closing(run, " | ".join(sweep_headline(sweep) for sweep in sweeps), following)

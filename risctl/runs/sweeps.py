"""Sweeps: a whole evaluation at every value of a setting, each kept as soon as it is done."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from risctl import __version__
from risctl.config import Config, canonical_json, load_config
from risctl.config.former import digest16
from risctl.config.layers import Layers, Machine
from risctl.config.parse import parse_json
from risctl.data.atomic import remove_leftovers
from risctl.errors import InputError
from risctl.evaluation import (
    Results,
    StoredPoint,
    Sweep,
    assemble,
    read_point,
    sweep_stem,
    value_text,
    write_point,
    write_sweep,
)
from risctl.evaluation.axes import SNR, SWEEP, Axis, parse_sweeps
from risctl.evaluation.results import Record
from risctl.registry import estimator_names
from risctl.runs.directory import RunDirectory
from risctl.runs.drawings import draw_run
from risctl.runs.evaluation import (
    EvaluationRequest,
    evaluate_source,
    make_run_directory,
    open_source,
    record_of,
)
from risctl.runs.machine import use_threads
from risctl.runs.models import model_record
from risctl.runs.names import CONFIG, EVAL_FOLDER
from risctl.runs.needs import Needs
from risctl.runs.progress import Progress, silent
from risctl.runs.report import reported
from risctl.text import Document, json_text

REQUEST = Path(EVAL_FOLDER) / "request.json"  # what was asked for, to resume from
POINT_BYTES = 120_000  # figures of one estimator at one value
SWEEP_BYTES = 1_000_000  # table and picture of a sweep
Configs = dict[Axis, tuple[Config, ...]]  # of every value of every axis


class StoredSweeps(Record):
    """`request.json`: what resuming needs to know beside the run's `config.json`."""

    target: str | None = None
    sweeps: Annotated[tuple[str, ...], Field(min_length=1)]
    known_num_sources: bool = False
    batch: int = 128
    workers: int = 1
    plots: bool = True
    pictures: str = "png"
    seed: int | None = None


@dataclass(frozen=True)
class Swept:
    """Sweeps in their run directory, and the files written."""

    run: Path
    sweeps: list[Sweep]
    files: list[Path]

    def document(self) -> Document:
        """The document of the run, ready for JSON."""
        return {
            "run": str(self.run),
            "files": [str(path) for path in self.files],
            "sweeps": [sweep.model_dump(mode="json") for sweep in self.sweeps],
        }


def plan_sweeps(request: EvaluationRequest) -> Configs:
    """Resolve the configuration of every value before anything runs.

    Raises:
        InputError: a value that the configuration, or the trained model, does not allow.
    """
    if request.data is not None:
        raise InputError(SWEEP, "", "no dataset (a dataset has its own physics)", request.data)
    configs = {
        axis: tuple(_resolved(request, axis, i) for i in range(len(axis.values))) for axis in request.axes
    }
    names = set(configs[request.axes[0]][0].evaluation.estimators)
    if names <= set(estimator_names("oracle")):
        raise InputError("estimators", "", "an estimator beside the oracle", ", ".join(names))
    return configs


def _resolved(request: EvaluationRequest, axis: Axis, index: int) -> Config:
    """The configuration at one value; an error in it names the sweep."""
    try:
        return request.resolve(axis.override(index))
    except InputError as error:
        if request.model is not None and error.where == str(request.model.path):  # names both values
            raise
        key = axis.key if axis.key == SNR else error.key
        where = f"{SWEEP} {axis.key}={value_text(axis.values[index])}"
        raise InputError(where, key, error.expected, error.got) from None


def needs_of_sweeps(request: EvaluationRequest, config: Config) -> Needs:
    """Estimate disk and memory of all sweeps."""
    values = sum(len(axis.values) for axis in request.axes)
    disk = values * len(config.evaluation.estimators) * POINT_BYTES + len(request.axes) * SWEEP_BYTES
    return replace(request.needs(config), disk_bytes=disk)


def sweep(
    request: EvaluationRequest,
    resume: Path | None = None,
    progress: Progress = silent,
    announce: Callable[[Path], None] | None = None,
    reused: Callable[[str], None] | None = None,
) -> Swept:
    """Run every sweep, or what an earlier run of it left undone; write JSON, CSV and pictures.

    Args:
        request: the evaluation, with `axes`.
        resume: the run to go on with; see `resumed_request`.
        progress: opens a display for every value.
        announce: called with the run directory before the first value.
        reused: called with the label of each value that was done before.
    """
    use_threads(1)
    configs = plan_sweeps(request)
    with reported(_run_directory(request, resume), request.plots) as run:
        if announce is not None:
            announce(run.path)
        folder = run.path / EVAL_FOLDER
        folder.mkdir(exist_ok=True)
        done = [
            _run_sweep(folder, request, axis, at, progress, reused or (lambda label: None))
            for axis, at in configs.items()
        ]
        files = [path for _, paths in done for path in paths]
        if request.plots:
            files += draw_run(run.path, request.pictures)
    return Swept(run.path, [found for found, _ in done], files)


def _run_directory(request: EvaluationRequest, resumed: Path | None) -> RunDirectory:
    config, source = open_source(request, request.resolve())
    if resumed is None:
        asked = {REQUEST: json_text(_stored(request).model_dump(mode="json")).encode()}
        return make_run_directory(request, config, source, asked)
    run = RunDirectory(resumed, "eval")
    run.resume(record_of(request, config, source))
    return run


def _stored(request: EvaluationRequest) -> StoredSweeps:
    return StoredSweeps(
        target=None if request.model_path is None else str(Path(request.model_path).absolute()),
        sweeps=tuple(axis.word for axis in request.axes),
        known_num_sources=request.known_num_sources,
        batch=request.batch,
        workers=request.workers,
        plots=request.plots,
        pictures=request.pictures,
        seed=request.layers.seed,
    )


def _run_sweep(
    directory: Path,
    request: EvaluationRequest,
    axis: Axis,
    configs: tuple[Config, ...],
    progress: Progress,
    reused: Callable[[str], None],
) -> tuple[Sweep, list[Path]]:
    stem = sweep_stem(axis.key)
    points = directory / f"{stem}_points"
    points.mkdir(exist_ok=True)
    for folder in (directory, points):
        remove_leftovers(folder)  # of a process that was killed
    found = assemble(axis.key, axis.values, list(_figures(points, request, axis, configs, progress, reused)))
    return found, write_sweep(directory, found)


def _figures(
    directory: Path,
    request: EvaluationRequest,
    axis: Axis,
    configs: tuple[Config, ...],
    progress: Progress,
    reused: Callable[[str], None],
) -> Iterator[Results]:
    """Yield the figures at each value: those of an earlier run, or new ones, kept at once."""
    for i, (value, config) in enumerate(zip(axis.values, configs, strict=True)):
        path, mark = directory / f"{i:02d}.json", point_fingerprint(request, config)
        stored = read_point(path)
        label = f"{axis.key}={value_text(value)}"
        if stored is not None:
            if stored.fingerprint != mark:
                expected = "figures of the same settings, model and version (else start a new sweep)"
                raise InputError(path, "fingerprint", expected, stored.fingerprint)
            reused(label)
            yield stored.results
            continue
        at, source = open_source(request, config)
        results = evaluate_source(request, at, source, progress, label).results
        write_point(path, StoredPoint(fingerprint=mark, results=results))
        yield results


def point_fingerprint(request: EvaluationRequest, config: Config) -> str:
    """16 hexadecimal digits that change with whatever the figures at a value follow from."""
    model = None if request.model is None else model_record(request.model)
    own = [__version__, request.known_num_sources, request.layers.seed or 0, request.batch, model]
    return digest16(canonical_json(config) + json.dumps(own, sort_keys=True))


def resumed_request(layers: Layers, run: Path, machine: Machine | None = None) -> EvaluationRequest:
    """The request of the sweep in the directory `run`.

    Raises:
        InputError: there is no sweep in `run`, or `layers` states settings: the run has its own.
        DamagedFileError: its files are not what was written.
    """
    stated = {
        "preset": layers.preset,
        "config": layers.file,
        "seed": layers.seed,
        "override": ", ".join(layers.overrides) or None,
    }
    for name, value in stated.items():
        if value is not None:
            raise InputError(
                name, "", "none for a sweep that is resumed (the run has its own settings)", value
            )
    for path in (CONFIG, REQUEST):
        if not (run / path).is_file():
            raise InputError("resume", "", f"a run of a sweep (with {path})", run)
    path = run / REQUEST
    asked = parse_json(StoredSweeps, path.read_bytes(), path)
    config = load_config(None, run / CONFIG)
    return EvaluationRequest(
        layers=replace(layers, file=run / CONFIG, seed=asked.seed),
        estimators=config.evaluation.estimators,
        scenes=config.evaluation.scenes,
        known_num_sources=asked.known_num_sources,
        workers=asked.workers,
        batch=asked.batch,
        plots=asked.plots,
        pictures=asked.pictures,
        model_path=asked.target,
        axes=parse_sweeps(asked.sweeps),
        machine=machine or Machine(),
    )

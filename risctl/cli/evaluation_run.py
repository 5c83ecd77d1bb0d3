"""What `risctl eval` does once its flags are understood."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from risctl.cli.console import closing, progress, say, show_table
from risctl.cli.documents import Document
from risctl.cli.machine import resolve_device, use_threads
from risctl.cli.options import Common
from risctl.errors import InputError

if TYPE_CHECKING:
    from risctl.cli.needs import Needs
    from risctl.cli.runs import RunDirectory
    from risctl.config import Config
    from risctl.data import SceneSource
    from risctl.evaluation import Evaluation
    from risctl.inference import Estimator

ROWS_BYTES = 1_500  # of one estimator and scene in CSV, measured, rounded up
FIGURES_BYTES = 1_500_000  # tables and pictures of a run


@dataclass(frozen=True)
class Request:
    """What the command line asked for."""

    common: Common
    data: Path | None
    estimators: tuple[str, ...] | None
    scenes: int | None
    known_num_sources: bool
    workers: int
    batch: int
    plots: bool

    def resolve(self) -> Config:
        """Return the configuration with the flags in it: what the run's `config.json` holds."""
        from risctl.config import Config, parse_section

        if self.common.threads != 1:  # the timings and the equality over workers rest on it
            raise InputError("--threads", "", "1 (an evaluation uses --workers)", self.common.threads)
        config = self.common.resolve()
        values = config.model_dump()
        if self.estimators is not None:
            values["evaluation"]["estimators"] = self.estimators
        if self.scenes is not None:
            values["evaluation"]["scenes"] = self.scenes
        if self.data is None:
            values["physics"] |= {"stratified": True, "snr_values_db": config.evaluation.snr_values_db}
        return parse_section(Config, values, "eval")


def dry_run_evaluation(request: Request) -> Document:
    """Show what would run and what it needs."""
    from risctl.cli.needs import dry_run

    config = request.resolve()
    return dry_run("eval", config, needs_of(request, config), "runs/eval/<utc-time>_<preset>_<id>/")


def needs_of(request: Request, config: Config) -> Needs:
    """Estimate disk and memory of an evaluation."""
    from risctl.cli.needs import PROCESS_BYTES, Needs

    processes = 1 if request.workers == 1 else request.workers + 1
    covariances = request.batch * config.physics.num_elements**2 * 16 * 4
    return Needs(
        disk_bytes=config.evaluation.scenes * len(config.evaluation.estimators) * ROWS_BYTES + FIGURES_BYTES,
        memory_bytes=processes * (PROCESS_BYTES + covariances),
    )


def run_evaluation(request: Request) -> Document:
    """Run the estimators, write a run directory, show the tables."""
    use_threads(request.common.threads)
    from risctl.evaluation import headline

    device = device_of(request)
    config, source = open_source(request, request.resolve())
    with _run_directory(request, config, source, device) as run:
        evaluation, files = evaluate_into(run.path, request, config, source, device)
    show_figures(evaluation)
    closing(run.path, headline(evaluation.results), "risctl locate FILE --estimator nomp")
    return {
        "command": "eval",
        "run": str(run.path),
        "files": [str(path) for path in files],
        "results": evaluation.results.model_dump(mode="json"),
    }


def device_of(request: Request) -> str:
    """Return the device; several workers share the CPU, never an accelerator."""
    wanted = request.common.device
    device = resolve_device("cpu" if wanted == "auto" and request.workers > 1 else wanted)
    if device != "cpu" and request.workers > 1:
        raise InputError("--workers", "", f"1 on {device}", request.workers)
    return device


def evaluate_into(
    run: Path, request: Request, config: Config, source: SceneSource, device: str
) -> tuple[Evaluation, list[Path]]:
    """Evaluate; write figures and pictures into the directory `eval` of `run`; return both."""
    evaluation = _evaluate(request, config, source, device)
    files = _write(run, evaluation)
    if request.plots:
        files += _draw(run, evaluation, config, source)
    return evaluation, files


def open_source(request: Request, config: Config) -> tuple[Config, SceneSource]:
    """Return the scenes, and the configuration with the physics they were made with."""
    from risctl.config import Config, parse_section
    from risctl.data import SceneStream, open_dataset

    if request.data is None:
        count = config.evaluation.scenes
        return config, SceneStream(config.physics, config.data.seed, "test", count)
    store = open_dataset(request.data)
    store.verify()  # a damaged shard ends the command here, not hours later
    if request.scenes is not None and request.scenes > len(store):
        raise InputError("--scenes", "", f"at most the {len(store)} scenes of {request.data}", request.scenes)
    values = config.model_dump()
    values["physics"] = store.physics.model_dump()
    values["data"] |= {"source": "store", "seed": store.seed}
    values["evaluation"]["scenes"] = request.scenes or len(store)
    return parse_section(Config, values, request.data), store


def _run_directory(request: Request, config: Config, source: SceneSource, device: str) -> RunDirectory:
    from risctl.cli.provenance import provenance
    from risctl.cli.runs import RunDirectory

    dataset: dict[str, Any] = {"path": None, "hash": source.fingerprint}
    if request.data is not None:
        dataset["path"] = str(request.data.absolute())
    seeds = {"data.seed": config.data.seed, "bootstrap": request.common.seed or 0}
    record = provenance(device, request.common.threads, seeds, dataset)
    return RunDirectory.create("eval", request.common.preset, config, record)


def _evaluate(request: Request, config: Config, source: SceneSource, device: str) -> Evaluation:
    from risctl.evaluation import evaluate
    from risctl.inference import build_estimator

    estimators: dict[str, Estimator] = {
        name: build_estimator(name, config.physics, config.covariance, config.inference, device=device)
        for name in config.evaluation.estimators
    }
    with progress("scenes") as update:
        return evaluate(
            source,
            estimators,
            config.physics,
            config.evaluation,
            num_scenes=config.evaluation.scenes,
            batch=request.batch,
            workers=request.workers,
            num_sources_known=request.known_num_sources,
            device=device,
            seed=request.common.seed or 0,
            progress=update,
        )


def _write(run: Path, evaluation: Evaluation) -> list[Path]:
    from risctl.evaluation import write_evaluation

    directory = run / "eval"
    directory.mkdir()
    return write_evaluation(directory, evaluation)


def _draw(run: Path, evaluation: Evaluation, config: Config, source: SceneSource) -> list[Path]:
    from risctl.cli.evaluation_pictures import draw_example
    from risctl.evaluation.plots import write_plots

    directory = run / "eval"
    return [
        *write_plots(directory, evaluation.results),
        *draw_example(directory, evaluation, config, source),
    ]


def show_figures(evaluation: Evaluation) -> None:
    """Show the tables: sources found, errors beside the bound, by source count, time."""
    from risctl.evaluation import accuracy_table, count_table, detection_table, timing_table

    for make in (detection_table, accuracy_table, count_table, timing_table):
        table = make(evaluation.results)
        show_table(table.title, table.columns, table.rows)
        if table.note:
            say(f"  {table.note}")
        say()

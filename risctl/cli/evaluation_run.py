"""What `risctl eval` does once its flags are understood."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from risctl.cli.alignment import spot_check_estimator
from risctl.cli.console import closing, progress, say, show_table
from risctl.cli.documents import Document
from risctl.cli.estimators import LEARNED, make_estimator
from risctl.cli.machine import resolve_device, use_threads
from risctl.cli.models import config_over_model, load_model, model_record, refuse_other_surface
from risctl.cli.options import Common
from risctl.errors import InputError

if TYPE_CHECKING:
    from risctl.cli.needs import Needs
    from risctl.cli.runs import RunDirectory
    from risctl.config import Config
    from risctl.data import SceneSource
    from risctl.evaluation import Evaluation
    from risctl.inference import Estimator
    from risctl.model.load import LoadedModel

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
    target: str | None = None

    @cached_property
    def device(self) -> str:
        """The device; several workers share the CPU, never an accelerator."""
        wanted = self.common.device
        device = resolve_device("cpu" if wanted == "auto" and self.workers > 1 else wanted)
        if device != "cpu" and self.workers > 1:
            raise InputError("--workers", "", f"1 on {device}", self.workers)
        return device

    @cached_property
    def model(self) -> LoadedModel | None:
        """The trained model, read once; None if there is none."""
        return None if self.target is None else load_model(self.target, self.device)

    def resolve(self) -> Config:
        """Return the configuration with the flags in it: what the run's `config.json` holds."""
        from risctl.config import Config, parse_section

        if self.common.threads != 1:  # the timings and the equality over workers rest on it
            raise InputError("--threads", "", "1 (an evaluation uses --workers)", self.common.threads)
        config = self.common.resolve() if self.model is None else config_over_model(self.common, self.model)
        values = config.model_dump()
        values["evaluation"]["estimators"] = self._estimator_names(config)
        if self.scenes is not None:
            values["evaluation"]["scenes"] = self.scenes
        if self.data is None:
            values["physics"] |= {"stratified": True, "snr_values_db": config.evaluation.snr_values_db}
        return parse_section(Config, values, "eval")

    def _estimator_names(self, config: Config) -> tuple[str, ...]:
        """Return what was asked for; else the configured ones, a model's own answer in front."""
        if self.estimators is not None:
            return self.estimators
        names = tuple(name for name in config.evaluation.estimators if name != LEARNED)
        if self.model is None and len(names) < len(config.evaluation.estimators):
            raise InputError("evaluation.estimators", "", "a run or checkpoint beside 'learned'", "none")
        return names if self.model is None else (LEARNED, *names)


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
        parameters=0 if request.model is None else model_record(request.model)["parameters"],
    )


def run_evaluation(request: Request) -> Document:
    """Run the estimators, write a run directory, show the tables."""
    use_threads(request.common.threads)
    from risctl.evaluation import headline

    config, source = open_source(request, request.resolve())
    with _run_directory(request, config, source) as run:
        evaluation, files = evaluate_into(run.path, request, config, source)
    show_figures(evaluation)
    answer = "--estimator nomp" if request.target is None else f"--model {request.target}"
    closing(run.path, headline(evaluation.results), f"risctl locate FILE {answer}")
    return {
        "command": "eval",
        "run": str(run.path),
        "files": [str(path) for path in files],
        "results": evaluation.results.model_dump(mode="json"),
    }


def evaluate_into(
    run: Path, request: Request, config: Config, source: SceneSource
) -> tuple[Evaluation, list[Path]]:
    """Evaluate; write figures and pictures into the directory `eval` of `run`; return both."""
    evaluation = _evaluate(request, config, source)
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
    if request.model is not None:
        refuse_other_surface(config.physics, store.physics, request.data)
    store.verify()  # a damaged shard ends the command here, not hours later
    if request.scenes is not None and request.scenes > len(store):
        raise InputError("--scenes", "", f"at most the {len(store)} scenes of {request.data}", request.scenes)
    values = config.model_dump()
    values["physics"] = store.physics.model_dump()
    values["data"] |= {"source": "store", "seed": store.seed}
    values["evaluation"]["scenes"] = request.scenes or len(store)
    return parse_section(Config, values, request.data), store


def _run_directory(request: Request, config: Config, source: SceneSource) -> RunDirectory:
    from risctl.cli.provenance import provenance
    from risctl.cli.runs import RunDirectory

    dataset: dict[str, Any] = {"path": None, "hash": source.fingerprint}
    if request.data is not None:
        dataset["path"] = str(request.data.absolute())
    seeds = {"data.seed": config.data.seed, "bootstrap": request.common.seed or 0}
    record = provenance(request.device, request.common.threads, seeds, dataset)
    if request.model is not None:
        record["model"] = model_record(request.model)
    name = request.common.preset_name if request.model is None else request.common.preset or "model"
    return RunDirectory.create("eval", name, config, record)


def _evaluate(request: Request, config: Config, source: SceneSource) -> Evaluation:
    from risctl.covariance import PIPELINE_VERSION, covariance_fingerprint
    from risctl.evaluation import evaluate

    estimators: dict[str, Estimator] = {
        name: make_estimator(name, config, request.model, request.device)
        for name in config.evaluation.estimators
    }
    if request.model is not None and LEARNED in estimators:
        first = source.scenes(0, min(request.batch, config.evaluation.scenes)).to(request.device)
        spot_check_estimator(estimators[LEARNED], request.model.network, config, first)
    with progress("scenes") as update:
        evaluation = evaluate(
            source,
            estimators,
            config.physics,
            config.evaluation,
            num_scenes=config.evaluation.scenes,
            batch=request.batch,
            workers=request.workers,
            num_sources_known=request.known_num_sources,
            device=request.device,
            seed=request.common.seed or 0,
            progress=update,
        )
    identity = {
        "covariance_fingerprint": covariance_fingerprint(config.covariance),
        "pipeline_version": PIPELINE_VERSION,
        "checkpoint": None if request.model is None else str(request.model.path),
    }
    return replace(evaluation, results=evaluation.results.model_copy(update=identity))


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

"""What `risctl eval` does once its flags are understood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from risctl.cli.alignment import spot_check_estimator
from risctl.cli.console import closing, progress, say, show_table
from risctl.cli.documents import Document
from risctl.cli.estimators import CEILING, LEARNED, make_estimator, make_reference
from risctl.cli.machine import resolve_device, use_threads
from risctl.cli.models import (
    REFERENCE,
    config_over_model,
    load_model,
    load_reference,
    model_record,
    own_config,
    refuse_mismatch,
    refuse_other_surface,
    with_model,
)
from risctl.cli.options import Common
from risctl.cli.sweeps import Axis
from risctl.errors import InputError

if TYPE_CHECKING:
    from risctl.cli.needs import Needs
    from risctl.cli.runs import RunDirectory
    from risctl.config import Config
    from risctl.data import SceneSource
    from risctl.evaluation import Evaluation
    from risctl.inference import Estimator, Oracle
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
    sweeps: tuple[Axis, ...] = ()
    beside: Mapping[str, str] = field(default_factory=dict)  # other trained models, by the name they go under

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
        """The trained model, read once: the one named, else the shipped one where it fits and is wanted."""
        if self.target is not None:
            return load_model(self.target, self.device)
        if self.estimators is not None and LEARNED not in self.estimators:
            return None
        config = self._scenes_config
        try:
            return load_reference(config, self.device)
        except InputError as error:
            if self.estimators is not None:
                raise
            say(f"estimator {LEARNED} left out: {error}")
            return None

    @property
    def _scenes_config(self) -> Config:
        """The configuration with the physics of the dataset, where there is one."""
        from risctl.data import open_dataset

        config = self.common.resolve()
        if self.data is None:
            return config
        return config.model_copy(update={"physics": open_dataset(self.data).physics})

    def resolve(self, word: str | None = None) -> Config:
        """Return the configuration with the flags in it: what the run's `config.json` holds.

        `word` is one more override, the last: a value of a sweep.
        """
        from risctl.config import Config, parse_section

        if self.common.threads != 1:  # the timings and the equality over workers rest on it
            raise InputError("--threads", "", "1 (an evaluation uses --workers)", self.common.threads)
        common = self.common if word is None else self.common.with_last_override(word)
        config = self._resolved(common)
        values = config.model_dump()
        values["evaluation"]["estimators"] = self._estimator_names(config)
        if self.scenes is not None:
            values["evaluation"]["scenes"] = self.scenes
        if self.data is None:
            values["physics"] |= {"stratified": True, "snr_values_db": config.evaluation.snr_values_db}
        return parse_section(Config, values, "eval")

    def _resolved(self, common: Common) -> Config:
        if self.model is None:
            return common.resolve()
        if self.target is not None:
            return config_over_model(common, self.model)
        config = common.resolve()
        refuse_mismatch(own_config(self.model), config, REFERENCE)
        return with_model(config, self.model)

    def _estimator_names(self, config: Config) -> tuple[str, ...]:
        """Return what was asked for; else the configured ones, a model's own answer in front."""
        if self.estimators is not None:
            return self.estimators
        names = tuple(name for name in config.evaluation.estimators if name != LEARNED)
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
    with make_run_directory(request, config, source) as run:
        evaluation, files = evaluate_into(run.path, request, config, source)
    show_figures(evaluation)
    closing(run.path, headline(evaluation.results), next_command(request))
    return {
        "command": "eval",
        "run": str(run.path),
        "files": [str(path) for path in files],
        "results": evaluation.results.model_dump(mode="json"),
    }


def next_command(request: Request) -> str:
    """Return what to type next."""
    if request.target is not None:
        return f"risctl locate FILE --model {request.target}"
    return "risctl locate FILE" if request.model is not None else "risctl locate FILE --estimator nomp"


def evaluate_into(
    run: Path, request: Request, config: Config, source: SceneSource
) -> tuple[Evaluation, list[Path]]:
    """Evaluate; write figures and pictures into the directory `eval` of `run`; return both."""
    evaluation = evaluate_source(request, config, source)
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


def make_run_directory(
    request: Request, config: Config, source: SceneSource, files: Mapping[Path, bytes] | None = None
) -> RunDirectory:
    """Make the run's directory, with `files` in it from the start."""
    from risctl.cli.runs import RunDirectory

    name = request.common.preset_name if request.model is None else request.common.preset or "model"
    return RunDirectory.create("eval", name, config, record_of(request, config, source), files)


def record_of(request: Request, config: Config, source: SceneSource) -> Document:
    """Return where the figures come from: the provenance of a run."""
    from risctl.cli.provenance import provenance

    dataset: dict[str, Any] = {"path": None, "hash": source.fingerprint}
    if request.data is not None:
        dataset["path"] = str(request.data.absolute())
    seeds = {"data.seed": config.data.seed, "bootstrap": request.common.seed or 0}
    record = provenance(request.device, request.common.threads, seeds, dataset)
    if request.model is not None:
        record["model"] = model_record(request.model)
    return record


def evaluate_source(
    request: Request, config: Config, source: SceneSource, label: str = "scenes"
) -> Evaluation:
    """Run the configured estimators and references on the scenes, progress shown under `label`."""
    from risctl.covariance import PIPELINE_VERSION, covariance_fingerprint
    from risctl.evaluation import evaluate

    names = config.evaluation.estimators
    estimators: dict[str, Estimator] = {
        name: make_estimator(name, config, request.model, request.device) for name in names if name != CEILING
    }
    for name, target in request.beside.items():
        estimators = {name: _other_model(request, config, source, target), **estimators}
    references: dict[str, Oracle] = {
        name: make_reference(name, config, request.device) for name in names if name == CEILING
    }
    if request.model is not None and LEARNED in estimators:
        first = source.scenes(0, min(request.batch, config.evaluation.scenes)).to(request.device)
        spot_check_estimator(estimators[LEARNED], request.model.network, config, first)
    with progress(label) as update:
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
            references=references,
        )
    identity = {
        "covariance_fingerprint": covariance_fingerprint(config.covariance),
        "pipeline_version": PIPELINE_VERSION,
        "checkpoint": None if request.model is None else str(request.model.path),
    }
    return replace(evaluation, results=evaluation.results.model_copy(update=identity))


def _other_model(request: Request, config: Config, source: SceneSource, target: str) -> Estimator:
    """Return the learned estimator of another model than the request's own, checked on the first scenes."""
    loaded = load_model(target, request.device)
    config = with_model(config, loaded)
    estimator = make_estimator(LEARNED, config, loaded, request.device)
    first = source.scenes(0, min(request.batch, config.evaluation.scenes)).to(request.device)
    spot_check_estimator(estimator, loaded.network, config, first)
    return estimator


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
    from risctl.evaluation import (
        accuracy_table,
        count_table,
        detection_table,
        reference_table,
        timing_table,
    )

    for make in (detection_table, accuracy_table, count_table, reference_table, timing_table):
        table = make(evaluation.results)
        if not table.rows:
            continue
        show_table(table.title, table.columns, table.rows)
        if table.note:
            say(f"  {table.note}")
        say()

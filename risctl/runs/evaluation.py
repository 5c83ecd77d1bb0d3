"""Evaluations in run directories: estimators on scenes, scored beside the Cramer-Rao bound."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from risctl.config import Config, parse_section
from risctl.config.layers import Layers, Machine
from risctl.covariance import PIPELINE_VERSION, covariance_fingerprint
from risctl.data import SceneSource, SceneStream, open_dataset, write_atomically
from risctl.errors import InputError, require_file, require_range
from risctl.evaluation import (
    Evaluation,
    ExternalEstimator,
    read_answers,
    write_evaluation,
)
from risctl.evaluation import evaluate as run_estimators
from risctl.evaluation.alignment.sides import MeasuredArrays
from risctl.evaluation.axes import Axis
from risctl.inference import Estimator, build_estimator, build_oracle
from risctl.model.load import LoadedModel, load_checkpoint
from risctl.parallel import workers_for
from risctl.physics import Scenes
from risctl.plots.example import make_example
from risctl.registry import estimator_names
from risctl.runs.calibrated import load_surface
from risctl.runs.directory import RunDirectory
from risctl.runs.drawings import check_kind, draw_run
from risctl.runs.machine import resolve_device, use_threads
from risctl.runs.models import (
    LEARNED,
    REFERENCE,
    config_over_model,
    load_reference,
    model_record,
    own_config,
    refuse_conflicts,
    refuse_other_surface,
    spot_check_estimator,
    with_model,
)
from risctl.runs.names import EVAL_FOLDER, EXAMPLE_FILE
from risctl.runs.needs import PROCESS_BYTES, Needs
from risctl.runs.progress import Progress, silent
from risctl.runs.provenance import provenance
from risctl.runs.report import reported
from risctl.text import Document
from risctl.training import Measured

ROWS_BYTES = 1_500  # of one estimator and scene in CSV, measured, rounded up
FIGURES_BYTES = 1_500_000  # tables and pictures of a run


@dataclass(frozen=True)
class EvaluationRequest:
    """An evaluation before it starts.

    Attributes:
        layers: settings.
        data: dataset; None: scenes are simulated, as many in every cell of SNR and source count.
        estimators: names; None: those of the configuration, the model's own in front.
        scenes: how many; None: the configured number, or all of `data`.
        known_num_sources: the estimators are told K.
        workers: processes of one thread each.
        batch: scenes estimated at once.
        plots: draw pictures.
        pictures: their format, `png`, `pdf` or `svg`.
        model_path: trained model (run or checkpoint); None: the shipped one, where it fits.
        axes: settings to sweep, each on its own.
        surface: calibration that the estimators see the scenes through; None: a nominal surface.
        beside: further estimators by name: a function of one scene's arrays (see
            `risctl.evaluation.ExternalEstimator`), or the path of another trained model.
        answers: JSON files with another program's answers for the scenes of `data`, by name.
        machine: device and threads.
        place: directory of the run; None: one below `runs/` with a name of its own.
    """

    layers: Layers = field(default_factory=Layers)
    data: Path | None = None
    estimators: tuple[str, ...] | None = None
    scenes: int | None = None
    known_num_sources: bool = False
    workers: int = 1
    batch: int = 128
    plots: bool = True
    pictures: str = "png"
    model_path: str | None = None
    axes: tuple[Axis, ...] = ()
    surface: Path | None = None
    beside: Mapping[str, Callable[..., Any] | str | Path] = field(default_factory=dict)
    answers: Mapping[str, Path] = field(default_factory=dict)
    machine: Machine = field(default_factory=Machine)
    place: Path | None = None

    @cached_property
    def device(self) -> str:
        """The device; several workers share the CPU, never an accelerator."""
        wanted = self.machine.device
        device = resolve_device("cpu" if wanted == "auto" and self.workers > 1 else wanted)
        if device != "cpu" and self.workers > 1:
            raise InputError("workers", "", f"1 on {device}", self.workers)
        return device

    @property
    def model(self) -> LoadedModel | None:
        """The trained model, read once: the one named, else the shipped one where it fits and is wanted."""
        return self._model_or_reason[0]

    @property
    def left_out(self) -> str | None:
        """Why the shipped model is left out; None where it is used, or was not wanted."""
        return self._model_or_reason[1]

    @property
    def split_note(self) -> str | None:
        """What to know of a dataset that is not of the test split; None of one that is."""
        split = "test" if self.data is None else open_dataset(self.data).split
        if split == "test":
            return None
        return f"{self.data} is of the split {split}: a model may have been fitted to its scenes"

    @cached_property
    def _model_or_reason(self) -> tuple[LoadedModel | None, str | None]:
        device = self.device  # refused before anything else
        if self.model_path is not None:
            return load_checkpoint(self.model_path, device), None
        if self.estimators is not None and not set(self.estimators) & set(estimator_names("learned")):
            return None, None
        config = self.layers.resolve()
        if self.data is not None:
            config = config.model_copy(update={"physics": open_dataset(self.data).physics})
        try:
            return load_reference(config, device), None
        except InputError as error:
            if self.estimators is not None:
                raise
            return None, str(error)

    def __post_init__(self) -> None:
        for name, high in (("scenes", 100_000_000), ("workers", 256), ("batch", 100_000)):
            require_range(name, getattr(self, name), 1, high)
        check_kind(self.pictures)
        if self.answers and self.data is None:
            raise InputError("answers", "", "a dataset (data) beside it, whose scenes are answered", "none")
        for path in (self.surface, *self.answers.values()):
            if path is not None:
                require_file(path)
        if self.axes and self.surface is not None:
            raise InputError("sweep", "", "no calibrated surface beside it", self.surface)
        if self.axes and (self.beside or self.answers):
            raise InputError("sweep", "", "registered estimators alone", "others beside them")
        names = [*(self.estimators or ()), *self.beside, *self.answers]
        for name in names:
            if names.count(name) > 1 or (name in estimator_names() and name not in (self.estimators or ())):
                raise InputError("evaluation", "estimators", "every name once, none of the registry's", name)
        for name, other in self.beside.items():
            inner = "<" in getattr(other, "__qualname__", "")  # <lambda>, or <locals> of another function
            if inner and self.workers > 1:  # other processes find a function by module and name
                raise InputError("workers", "", f"1, or {name} at the top of a module", self.workers)

    def resolve(self, word: str | None = None) -> Config:
        """The configuration with this request in it: what the run's `config.json` holds.

        Args:
            word: one more override, the last: a value of a sweep.
        """
        if self.machine.threads not in (None, 1):  # the timings and the equality over workers rest on it
            raise InputError("threads", "", "1 (an evaluation has worker processes)", self.machine.threads)
        config = self._resolved(self.layers if word is None else self.layers.with_overrides(word))
        values = config.model_dump()
        values["evaluation"]["estimators"] = self._estimator_names(config)
        if self.scenes is not None:
            values["evaluation"]["scenes"] = self.scenes
        if self.data is None:
            values["physics"] |= {"stratified": True, "snr_values_db": config.evaluation.snr_values_db}
        return parse_section(Config, values, "eval")

    def _resolved(self, layers: Layers) -> Config:
        if self.model is None:
            return layers.resolve()
        if self.model_path is not None:
            return config_over_model(layers, self.model)
        config = layers.resolve()
        refuse_conflicts(own_config(self.model), config, REFERENCE, ("covariance",))
        return with_model(config, self.model)

    def _estimator_names(self, config: Config) -> tuple[str, ...]:
        if self.estimators is not None:
            return self.estimators
        if self.model is None:
            return tuple(
                name for name in config.evaluation.estimators if name not in estimator_names("learned")
            )
        return (LEARNED, *(name for name in config.evaluation.estimators if name != LEARNED))

    def needs(self, config: Config) -> Needs:
        """Estimate disk and memory."""
        processes = 1 if self.workers == 1 else self.workers + 1
        covariances = self.batch * config.physics.num_elements**2 * 16 * 4
        rows = config.evaluation.scenes * len(config.evaluation.estimators) * ROWS_BYTES
        return Needs(
            disk_bytes=rows + FIGURES_BYTES,
            memory_bytes=processes * (PROCESS_BYTES + covariances),
            parameters=0 if self.model is None else model_record(self.model)["parameters"],
        )


def evaluation_workers(layers: Layers, scenes: int | None, machine: Machine) -> int:
    """Processes for an evaluation where none are stated: the processor's cores, one on an accelerator."""
    if resolve_device(machine.device) != "cpu":
        return 1
    return workers_for(layers.resolve().evaluation.scenes if scenes is None else scenes)


@dataclass(frozen=True)
class Evaluated:
    """An evaluation in its run directory: the figures with their raw rows, and the files written."""

    run: Path
    evaluation: Evaluation
    files: list[Path]

    def document(self) -> Document:
        """The document of the run, ready for JSON."""
        return {
            "run": str(self.run),
            "files": [str(path) for path in self.files],
            "results": self.evaluation.results.model_dump(mode="json"),
        }


def evaluate(request: EvaluationRequest, progress: Progress = silent) -> Evaluated:
    """Run the estimators and write a run directory.

    Raises:
        InputError: settings, a model or scenes that do not fit together.
        CheckFailedError: a learned estimator does not compute what its training computed.
    """
    use_threads(1)
    config, source = open_source(request, request.resolve())
    with reported(make_run_directory(request, config, source), request.plots) as run:
        evaluation, files = evaluate_into(run.path, request, config, source, progress)
    return Evaluated(run.path, evaluation, files)


def evaluate_into(
    run: Path, request: EvaluationRequest, config: Config, source: SceneSource, progress: Progress = silent
) -> tuple[Evaluation, list[Path]]:
    """Evaluate; write figures and pictures into the directory `eval` of `run`; return both."""
    evaluation = evaluate_source(request, config, source, progress)
    directory = run / EVAL_FOLDER
    directory.mkdir()
    files = write_evaluation(directory, evaluation)
    if request.plots:
        example = make_example(evaluation, config, source)
        write_atomically(directory / EXAMPLE_FILE, example.model_dump_json().encode())
        files += [directory / EXAMPLE_FILE, *draw_run(run, request.pictures)]
    return evaluation, files


def open_source(request: EvaluationRequest, config: Config) -> tuple[Config, SceneSource]:
    """The scenes, and the configuration with the physics they were made with."""
    if request.data is None:
        count = config.evaluation.scenes
        return config, SceneStream(config.physics, config.data.seed, "test", count)
    store = open_dataset(request.data)
    if request.model is not None:
        refuse_other_surface(config.physics, store.physics, request.data)
    store.verify()  # a damaged shard ends the run here, not hours later
    if request.scenes is not None and request.scenes > len(store):
        raise InputError("scenes", "", f"at most the {len(store)} scenes of {request.data}", request.scenes)
    values = config.model_dump()
    values["physics"] = store.physics.model_dump()
    values["data"] |= {"source": "store", "seed": store.seed}
    values["evaluation"]["scenes"] = request.scenes or len(store)
    return parse_section(Config, values, request.data), store


def make_run_directory(
    request: EvaluationRequest,
    config: Config,
    source: SceneSource,
    files: Mapping[Path, bytes] | None = None,
) -> RunDirectory:
    """Make the run's directory, with `files` in it from the start."""
    name = request.layers.name if request.model is None else request.layers.preset or "model"
    return RunDirectory.create("eval", name, config, record_of(request, config, source), files, request.place)


def record_of(request: EvaluationRequest, config: Config, source: SceneSource) -> Document:
    """The provenance of the run's figures."""
    dataset: dict[str, Any] = {"path": None, "hash": source.fingerprint}
    if request.data is not None:
        dataset["path"] = str(request.data.absolute())
    seeds = {"data.seed": config.data.seed, "bootstrap": request.layers.seed or 0}
    record = provenance(request.device, 1, seeds, dataset) | {"preset": request.layers.name}
    if request.model is not None:
        record["model"] = model_record(request.model)
    return record


def evaluate_source(
    request: EvaluationRequest,
    config: Config,
    source: SceneSource,
    progress: Progress = silent,
    label: str = "scenes",
) -> Evaluation:
    """Run the configured estimators and references on the scenes, progress shown under `label`."""
    device, model = request.device, request.model
    sections = config.physics, config.covariance, config.inference, device
    oracles = estimator_names("oracle")
    names = config.evaluation.estimators
    estimators: dict[str, Estimator] = {
        name: build_estimator(name, *sections, model) for name in names if name not in oracles
    }
    first = _checkable(source.scenes(0, min(request.batch, config.evaluation.scenes)).to(device))
    for name in estimator_names("learned"):
        if model is not None and name in estimators:
            spot_check_estimator(estimators[name], model.network, config, first)
    if request.surface is not None:
        surface = load_surface(request.surface)
        surface.check(config.physics, request.surface)
        estimators = {name: surface.seen_by(made, config.physics) for name, made in estimators.items()}
    for name, other in request.beside.items():
        if isinstance(other, str | Path):
            made = _other_model(other, config, device, first)
        else:
            made = ExternalEstimator(name, other)
        estimators = {name: made, **estimators}
    for name, path in request.answers.items():
        estimators[name] = read_answers(path, name)
    references = {name: build_oracle(name, *sections) for name in names if name in oracles}
    with progress(label) as update:
        update(0, config.evaluation.scenes)
        evaluation = run_estimators(
            source,
            estimators,
            config.physics,
            config.evaluation,
            num_scenes=config.evaluation.scenes,
            batch=request.batch,
            workers=request.workers,
            num_sources_known=request.known_num_sources,
            device=device,
            seed=request.layers.seed or 0,
            progress=update,
            references=references,
        )
    identity = {
        "covariance_fingerprint": covariance_fingerprint(config.covariance),
        "pipeline_version": PIPELINE_VERSION,
        "checkpoint": None if model is None else str(model.path),
    }
    return replace(evaluation, results=evaluation.results.model_copy(update=identity))


def _checkable(scenes: Scenes) -> Measured:
    """Scenes that the alignment check reads: those with a source, whose loss is defined, or none's truth."""
    several = scenes.num_sources > 0
    return scenes[several] if bool(several.any()) else MeasuredArrays(scenes.y, scenes.H, scenes.codes)


def _other_model(path: str | Path, config: Config, device: str, first: Measured) -> Estimator:
    """The learned estimator of another model than the request's own, checked on the first scenes."""
    loaded = load_checkpoint(path, device)
    config = with_model(config, loaded)
    estimator = build_estimator(LEARNED, config.physics, config.covariance, config.inference, device, loaded)
    spot_check_estimator(estimator, loaded.network, config, first)
    return estimator


def parse_estimators(text: str) -> tuple[str, ...]:
    """The names of a comma-separated list, each once; `InputError` for an unknown one."""
    names = tuple(part.strip() for part in text.split(","))
    for name in names:
        if name not in estimator_names():
            raise InputError("estimators", "", f"one of {', '.join(estimator_names())}", repr(name))
    if len(set(names)) != len(names):
        raise InputError("estimators", "", "every estimator once", text)
    return names


def parse_answers(words: Sequence[str]) -> dict[str, Path]:
    """`{name: file}` from words `NAME=FILE`; `InputError` for another form, or a name that is there twice."""
    found: dict[str, Path] = {}
    for word in words:
        name, equals, file = word.partition("=")
        if not (name and equals and file):
            raise InputError("answers", "", "NAME=FILE", repr(word))
        if name in found:
            raise InputError("answers", name, "every name once", "two files")
        found[name] = Path(file)
    return found

"""`risctl demo`: everything at work, offline: a training, estimates beside the bound, a measurement file."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from risctl.cli.console import closing, say, show_table
from risctl.cli.documents import Document, Ending, versioned, write_json
from risctl.cli.estimators import LEARNED, make_estimator
from risctl.cli.evaluation_run import Request, evaluate_into, open_source, show_figures
from risctl.cli.gen_data import write_scenes
from risctl.cli.locate import describe, locate_file
from risctl.cli.machine import use_threads
from risctl.cli.options import Common, common_options, require_range
from risctl.errors import InputError
from risctl.registry import estimator_names

if TYPE_CHECKING:
    from risctl.cli.runs import RunDirectory
    from risctl.cli.training_report import Trained
    from risctl.config import Config
    from risctl.data import SceneSource
    from risctl.evaluation import SourceRows
    from risctl.inference import Estimates
    from risctl.physics import Scenes

CLASSICAL = estimator_names("classical")
TRAINED = "just trained"  # the name of the demo's own model in the tables
LOCATED_COUNTS = (1, 2, 3)  # sources of the measured scenes
COLUMNS = (
    "scene",
    "azimuth deg: true",
    "found",
    "+-",
    "elevation deg: true",
    "found",
    "+-",
    "range m: true",
    "found",
    "+-",
    "off by m",
    "bound",
)


@common_options
def demo(
    common: Common,
    scenes: Annotated[int, typer.Option(help="Scenes evaluated, spread over SNR and source count.")] = 90,
    workers: Annotated[int, typer.Option(help="Worker processes of one thread each.")] = 2,
    batch: Annotated[int, typer.Option(help="Scenes estimated at once.")] = 10,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of the training; the preset's if absent (minutes).")
    ] = None,
) -> Document | Ending:
    """Show everything at work: a short training, estimates beside the bound, pictures, a measurement file."""
    require_range("--scenes", scenes, 1, 100_000)
    require_range("--workers", workers, 1, 256)
    require_range("--batch", batch, 1, 100_000)
    require_range("--epochs", epochs, 1, 100_000)
    if common.device not in ("auto", "cpu"):
        raise InputError("--device", "", "cpu (eval and locate use accelerators)", common.device)
    on_cpu = replace(common, device="cpu")
    if epochs is not None:
        on_cpu = on_cpu.with_override(f"training.epochs={epochs}")
    request = Request(on_cpu, None, None, scenes, False, workers, batch, True)
    names = CLASSICAL if request.model is None else (LEARNED, *CLASSICAL)
    config = replace(
        request, estimators=CLASSICAL
    ).resolve()  # the network to be trained, not the shipped one
    request = replace(request, estimators=names)
    if common.dry_run:
        return _dry_run(request, config)
    use_threads(common.threads)
    with _run_directory(request, config) as run:
        return _demo(run, request, config)


def _demo(run: RunDirectory, request: Request, config: Config) -> Document | Ending:
    from risctl.evaluation import headline

    say(f"[1/4] scenes: {request.scenes} simulated, written as a dataset, read back with hashes checked")
    summary = write_scenes(config, run.path / "data", "test", config.evaluation.scenes)
    say(f"[2/4] training: {config.training.epochs} epochs of scenes made on the way, none of those above")
    trained = train_network(request.common)
    if isinstance(trained, Ending):
        run.end("interrupted", trained.exit_status, trained.message)
        return trained
    request = replace(request, beside={TRAINED: trained["run"]})
    config, source = open_source(replace(request, data=run.path / "data", scenes=None), request.resolve())
    names = ", ".join((TRAINED, *config.evaluation.estimators))
    say(f"[3/4] estimates: {names}, number of sources not given, beside the Cramer-Rao bound")
    evaluation, files = evaluate_into(run.path, request, config, source)
    show_figures(evaluation)
    say("[4/4] a measurement file (y, H and codes, nothing else): where the sources are")
    located, written = locate_example(run.path, request, config, source)
    own = "" if request.model is not None else f" --model {trained['run']}"
    closing(run.path, headline(evaluation.results), f"risctl locate {run.path / 'measurements.npz'}{own}")
    return {
        "command": "demo",
        "run": str(run.path),
        "dataset": asdict(summary) | {"directory": str(run.path / "data")},
        "training": trained,
        "files": [*trained["files"], *(str(path) for path in (*files, *written))],
        "results": evaluation.results.model_dump(mode="json"),
        "located": located,
    }


def train_network(common: Common) -> Document | Ending:
    """Train in a run of its own, under `runs/train`; return its document."""
    from risctl.cli.training_run import TrainingRequest, prepare, train_into_run

    wanted = TrainingRequest(common, "train")
    return train_into_run(wanted, prepare(wanted), _trained)


def _trained(trained: Trained) -> Document:
    from risctl.cli.training_report import draw_curves, outcome_document, outcome_sentence

    curves = draw_curves(trained)
    say(f"      {outcome_sentence(trained)}")
    say(f"      curves: {curves}")
    say()
    return outcome_document(trained, (curves,))


def locate_example(
    run: Path, request: Request, config: Config, source: SceneSource
) -> tuple[Document, list[Path]]:
    """Write a few scenes as a measurement file, locate their sources, show them beside the truth."""
    from risctl.data import write_measurements

    scenes = measured_scenes(source)
    file, answer = run / "measurements.npz", run / "positions.json"
    write_measurements(file, scenes.y, scenes.H, scenes.codes)
    name = CLASSICAL[0] if request.model is None else LEARNED
    estimator = make_estimator(name, config, request.model, "cpu")
    estimates = locate_file(config, file, estimator, None, "cpu", request.batch, request.model)
    document = {"estimator": name, "scenes": describe(estimates)}
    write_json(answer, versioned(document))
    rows = beside_truth(scenes, estimates, config)
    show_table(f"{file}: {name}", COLUMNS, [_row(rows, i) for i in range(len(rows))])
    say("  +-: one standard deviation, the estimator's own; bound: Cramer-Rao bound of the position")
    return document, [file, answer]


def measured_scenes(source: SceneSource) -> Scenes:
    """Return, of the highest SNR, the first scene of each of `LOCATED_COUNTS`, as far as there are."""
    import torch

    from risctl.physics import Scenes

    scenes = source.scenes(0, len(source))
    high = scenes.snr_db >= scenes.snr_db.max() - 1e-3
    found = [(high & (scenes.num_sources == count)).nonzero().flatten()[:1] for count in LOCATED_COUNTS]
    chosen = torch.cat(found) if any(len(rows) for rows in found) else high.nonzero().flatten()[:1]
    return Scenes.concatenate([scenes[int(i) : int(i) + 1] for i in chosen])


def beside_truth(scenes: Scenes, estimates: Estimates, config: Config) -> SourceRows:
    """Return each source with the estimate assigned to it and its bound, then estimates left over."""
    from risctl.evaluation.chunks import answers_of, truth_of
    from risctl.evaluation.score import score

    truth = truth_of(scenes, 0, config.physics)
    return score(truth, answers_of(estimates), config.physics, config.evaluation).sources


def _row(rows: SourceRows, i: int) -> tuple[str, ...]:
    triples = zip(rows.truth[i], rows.estimate[i], rows.std[i], strict=True)
    cells = (_number(value) for triple in triples for value in triple)
    return str(rows.scene[i]), *cells, _number(rows.error[i, 3]), _number(rows.bound[i, 3])


def _number(value: float) -> str:
    """Three decimals; a dash for what is absent (a source not found, an estimate without a source)."""
    return f"{value:.3f}" if value == value else "–"


def _run_directory(request: Request, config: Config) -> RunDirectory:
    from risctl.cli.provenance import provenance
    from risctl.cli.runs import RunDirectory

    seeds = {"data.seed": config.data.seed, "bootstrap": request.common.seed or 0}
    record = provenance("cpu", request.common.threads, seeds, {"path": "data", "hash": None})
    return RunDirectory.create("demo", request.common.preset_name, config, record)


def _dry_run(request: Request, config: Config) -> Document:
    from risctl.cli.evaluation_run import needs_of
    from risctl.cli.needs import Needs, dry_run
    from risctl.cli.training_needs import needs_of_training
    from risctl.cli.training_run import TrainingRequest, prepare
    from risctl.data.layout import dataset_bytes

    evaluation = needs_of(request, config)
    training = needs_of_training(prepare(TrainingRequest(request.common, "train")).plan())
    disk = dataset_bytes(config.physics, config.evaluation.scenes, config.data.shard_scenes)
    needs = Needs(
        disk_bytes=evaluation.disk_bytes + training.disk_bytes + disk,
        memory_bytes=max(evaluation.memory_bytes, training.memory_bytes),
        parameters=training.parameters,
    )
    return dry_run("demo", config, needs, "runs/demo/<utc-time>_<preset>_<id>/, runs/train/...")

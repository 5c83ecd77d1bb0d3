"""`risctl calibrate`: fit the count fusion of a trained model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from risctl.cli.console import closing, progress, show_table
from risctl.cli.documents import Document
from risctl.cli.machine import use_threads
from risctl.cli.models import config_over_model, load_model
from risctl.cli.options import Common, common_options, require_range
from risctl.errors import InputError

if TYPE_CHECKING:
    from risctl.config import Config
    from risctl.evaluation.calibration import CountData, Fit
    from risctl.inference import LearnedEstimator
    from risctl.model.load import LoadedModel

BANDS_DB = (-5.0, 0.0, 5.0, 10.0, 15.0)  # lower edges of the reported SNR bands


@common_options
def calibrate(
    common: Common,
    target: Annotated[str, typer.Argument(metavar="RUN|CHECKPOINT", help="Trained model.")],
    scenes: Annotated[int, typer.Option(help="Scenes to fit on, behind those of the training.")] = 40_000,
    val_scenes: Annotated[int, typer.Option(help="Validation scenes that choose the epoch.")] = 8_000,
    workers: Annotated[int, typer.Option(help="Worker processes of one thread each.")] = 1,
) -> Document:
    """Fit what tells the source count from head and likelihood together; it is kept beside the checkpoint."""
    require_range("--scenes", scenes, 256, 10_000_000)
    require_range("--val-scenes", val_scenes, 256, 10_000_000)
    require_range("--workers", workers, 1, 256)
    if common.device not in ("auto", "cpu"):
        raise InputError("--device", "", "cpu", common.device)
    use_threads(common.threads)
    loaded = load_model(target, "cpu", fusion=False)
    config = config_over_model(common, loaded)
    if not config.inference.moves:
        raise InputError("inference", "moves", "true (the fusion weighs what the moves find)", "false")
    if common.dry_run:
        return _dry_run(config)
    return _calibrate(config, loaded, scenes, val_scenes, workers)


def _calibrate(config: Config, loaded: LoadedModel, scenes: int, val_scenes: int, workers: int) -> Document:
    from risctl.data import SceneStream
    from risctl.evaluation.calibration import collect_counts, fit_fusion

    estimator = _estimator(config, loaded)
    parts = {}
    seen = cursor_behind(loaded)
    for split, start, count in (("train", seen, scenes), ("val", config.data.val_scenes, val_scenes)):
        stream = SceneStream(config.physics, config.data.seed, split)
        with progress(f"{split} scenes") as update:
            parts[split] = collect_counts(estimator, stream, start, count, workers, update)
    fit = fit_fusion(parts["train"], parts["val"], config.training.seed)
    rows = accuracy_rows(fit, parts["val"])
    path = _save(config, loaded, fit, {"train": [seen, scenes], "val": [config.data.val_scenes, val_scenes]})
    show_table("source count right on validation scenes, by SNR", ("", *_bands(), "all"), rows)
    headline = f"cross-entropy {fit.cross_entropy:.4f}, count right {fit.accuracy:.3f}"
    closing(path, headline, f"risctl eval {loaded.path.parents[1]}")
    return {"command": "calibrate", "file": str(path), "fit": _figures(fit), "table": rows}


def _estimator(config: Config, loaded: LoadedModel) -> LearnedEstimator:
    from risctl.inference import build_learned

    inference = config.inference.model_copy(update={"count_by": "best"})
    return build_learned(loaded.network, config.physics, loaded.covariance, inference)


def cursor_behind(loaded: LoadedModel) -> int:
    """Index of the first scene of the training split that the model's training never drew.

    A training that goes over one set of scenes again and again counts every pass.

    Raises:
        InputError: an exported model, which no longer knows.
    """
    from risctl.model.checkpoint import read_checkpoint

    state = read_checkpoint(loaded.path).state
    if state.exported:
        raise InputError(loaded.path, "", "a checkpoint of a training", "an exported one")
    reached = int(state.training["progress"]["cursor"])
    return max(reached, int(loaded.config["data"]["train_scenes"]))


def accuracy_rows(fit: Fit, data: CountData) -> list[list[Any]]:
    """Share of right counts, mean over K, by SNR band: the head's, the evidence's and the fusion's."""
    import torch

    with torch.no_grad():
        scores = fit.network(data.head, data.evidence, data.figures)
    ways = {"head": data.head, "evidence": data.evidence, "fusion": scores}
    edges = data.snr_db.new_tensor(BANDS_DB[1:])
    band = torch.bucketize(data.snr_db, edges, right=True)
    rows = []
    for name, score in ways.items():
        right = (score.argmax(1) + 1 == data.num_sources).double()
        cells = [
            _mean_over_counts(right[band == b], data.num_sources[band == b]) for b in range(len(BANDS_DB))
        ]
        rows.append([name, *cells, round(float(right.mean()), 3)])
    return rows


def _mean_over_counts(right: Any, num_sources: Any) -> float | None:
    shares = [float(right[num_sources == k].mean()) for k in num_sources.unique().tolist()]
    return round(sum(shares) / len(shares), 3) if shares else None


def _bands() -> list[str]:
    return [f"{low:g}..{low + 5:g} dB" for low in BANDS_DB]


def _figures(fit: Fit) -> dict[str, Any]:
    return {"cross_entropy": fit.cross_entropy, "accuracy": fit.accuracy, "epoch": fit.epoch}


def _save(config: Config, loaded: LoadedModel, fit: Fit, scenes: dict[str, list[int]]) -> Any:
    from risctl.model.fusion import FusionState, fusion_path, save_fusion, weights_hash

    path = fusion_path(loaded.path)
    state = FusionState(
        weights_hash=weights_hash(loaded.network.state_dict()),
        figures=fit.network.figures,
        max_sources=fit.network.max_sources,
        hidden=fit.network.hidden,
        search=config.inference.model_dump(mode="json"),
        fitted={"scenes": scenes, "seed": config.data.seed, **_figures(fit)},
    )
    save_fusion(path, fit.network, state)
    return path


def _dry_run(config: Config) -> Document:
    from risctl.cli.needs import PROCESS_BYTES, Needs, dry_run

    return dry_run(
        "calibrate",
        config,
        Needs(disk_bytes=100_000, memory_bytes=PROCESS_BYTES),
        "a file beside the checkpoint",
    )

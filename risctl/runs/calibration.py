"""Calibration of a trained model: fitting the count fusion, which is kept beside its checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from risctl.config import Config
from risctl.config.layers import Layers
from risctl.data import SceneStream
from risctl.data.atomic import try_writing
from risctl.errors import InputError
from risctl.evaluation.calibration import CountData, Fit, collect_counts, fit_fusion
from risctl.inference import build_learned
from risctl.model.checkpoint import read_checkpoint
from risctl.model.fusion import FusionState, fusion_path, save_fusion, weights_hash
from risctl.model.load import LoadedModel, load_checkpoint
from risctl.runs.machine import use_threads
from risctl.runs.models import config_over_model
from risctl.runs.progress import Progress, silent

BANDS_DB = (-5.0, 0.0, 5.0, 10.0, 15.0)  # lower edges of the reported SNR bands


@dataclass(frozen=True)
class Calibrated:
    """A fitted count fusion.

    Attributes:
        file: where it was written.
        model: the checkpoint it belongs to.
        fit: cross-entropy, share of right counts and chosen epoch on validation scenes.
        table: share of right counts by SNR band, one row per way of counting: name, bands, all.
    """

    file: Path
    model: Path
    fit: dict[str, Any]
    table: list[list[Any]]


def prepare_calibration(layers: Layers, target: str) -> tuple[Config, LoadedModel]:
    """Read the model and resolve settings; `InputError` for settings it can't be calibrated with."""
    use_threads(1)
    loaded = load_checkpoint(target, "cpu", fusion=False)
    config = config_over_model(layers, loaded)
    if not config.inference.moves:
        raise InputError("inference", "moves", "true (the fusion weighs what the moves find)", "false")
    return config, loaded


def calibrate(
    config: Config,
    loaded: LoadedModel,
    scenes: int = 40_000,
    val_scenes: int = 8_000,
    workers: int = 1,
    progress: Progress = silent,
) -> Calibrated:
    """Fit the count fusion of a trained model.

    Args:
        config: settings over the model's own.
        loaded: the trained model.
        scenes: scenes to fit on, behind those of the training.
        val_scenes: validation scenes that choose the epoch.
        workers: processes of one thread each.
        progress: opens a display.
    """
    try_writing(fusion_path(loaded.path))
    inference = config.inference.model_copy(update={"count_by": "best"})
    estimator = build_learned(loaded.network, config.physics, loaded.covariance, inference)
    ranges = {"train": (first_unseen(loaded), scenes), "val": (config.data.val_scenes, val_scenes)}
    parts = {}
    for split, (start, count) in ranges.items():
        stream = SceneStream(config.physics, config.data.seed, split)
        with progress(f"{split} scenes") as update:
            parts[split] = collect_counts(estimator, stream, start, count, workers, update)
    fit = fit_fusion(parts["train"], parts["val"], config.training.seed)
    figures = {"cross_entropy": fit.cross_entropy, "accuracy": fit.accuracy, "epoch": fit.epoch}
    table = accuracy_rows(fit, parts["val"])
    path = fusion_path(loaded.path)
    state = FusionState(
        weights_hash=weights_hash(loaded.network.state_dict()),
        figures=fit.network.figures,
        max_sources=fit.network.max_sources,
        hidden=fit.network.hidden,
        search=config.inference.model_dump(mode="json"),
        fitted={
            "scenes": {split: list(pair) for split, pair in ranges.items()},
            "seed": config.data.seed,
            **figures,
        },
    )
    save_fusion(path, fit.network, state)
    return Calibrated(path, loaded.path, figures, table)


def first_unseen(loaded: LoadedModel) -> int:
    """Index of the first scene of the training split that the model's training never drew.

    A training that goes over one set of scenes again and again counts every pass.

    Raises:
        InputError: an exported model, which does not say.
    """
    state = read_checkpoint(loaded.path).state
    if state.exported:
        raise InputError(loaded.path, "", "a checkpoint of a training", "an exported one")
    reached = int(state.training["progress"]["cursor"])
    return max(reached, int(loaded.config["data"]["train_scenes"]))


def accuracy_rows(fit: Fit, data: CountData) -> list[list[Any]]:
    """Share of right counts, mean over K, by SNR band: the head's, the evidence's and the fusion's."""
    with torch.no_grad():
        scores = fit.network(data.head, data.evidence, data.figures)
    band = torch.bucketize(data.snr_db, data.snr_db.new_tensor(BANDS_DB[1:]), right=True)
    rows = []
    for name, score in {"head": data.head, "evidence": data.evidence, "fusion": scores}.items():
        right = (score.argmax(1) + 1 == data.num_sources).double()
        cells = [
            _mean_over_counts(right[band == b], data.num_sources[band == b]) for b in range(len(BANDS_DB))
        ]
        rows.append([name, *cells, round(float(right.mean()), 3)])
    return rows


def _mean_over_counts(right: Tensor, num_sources: Tensor) -> float | None:
    shares = [float(right[num_sources == k].mean()) for k in torch.unique(num_sources).tolist()]
    return round(sum(shares) / len(shares), 3) if shares else None

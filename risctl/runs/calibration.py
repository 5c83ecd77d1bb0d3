"""Calibration of an estimator: fitting the probabilities that it states and decides by.

The fit of a trained model is kept beside its checkpoint; that of NOMP, which needs no training, is shipped.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from risctl.config import Config, nomp_calibration
from risctl.config.layers import Layers
from risctl.data import SceneStream
from risctl.data.atomic import try_writing
from risctl.errors import InputError
from risctl.evaluation.calibration import (
    Batch,
    CountData,
    Finder,
    Fit,
    chunk_size,
    collect_counts,
    count_accuracy,
    fit_fusion,
    other_kinds,
)
from risctl.inference import build_learned
from risctl.inference.nomp import NompEstimator
from risctl.model.fusion import FusionState, fusion_path, save_fusion, weights_hash
from risctl.model.load import LoadedModel, load_checkpoint
from risctl.parallel import workers_for
from risctl.physics import FieldOfView
from risctl.runs.answer import check_destination
from risctl.runs.machine import use_threads
from risctl.runs.models import config_over_model
from risctl.runs.progress import Progress, silent

BANDS_DB = (-5.0, 0.0, 5.0, 10.0, 15.0)  # lower edges of the reported SNR bands
NOMP = "nomp"
OTHER_SHARE = 1 / 3  # of the scenes, of other dimensions and priors than the configuration's
OTHER_SCENES = 16  # of each kind: many kinds, so that none is learned by heart
BEYOND_DB = 2.5  # by which their SNR exceeds that of the configuration, so that no prior ends where it does
SEED_OFFSET = (
    2**40
)  # from the seed of training, validation and test scenes: no seed shares a scene with another


@dataclass(frozen=True)
class Calibrated:
    """A fit.

    Attributes:
        file: where it was written.
        model: the checkpoint it belongs to, or the estimator's name.
        fit: of the counts cross-entropy, share right and chosen epoch, of the sources the expected
            calibration error; on validation scenes.
        table: share of right counts by SNR band, one row per way of counting: name, bands, all.
    """

    file: Path
    model: Path | str
    fit: dict[str, Any]
    table: list[list[Any]]


@dataclass(frozen=True)
class Subject:
    """What is calibrated: settings, and the trained model; None: NOMP, whose fit goes to `file`."""

    config: Config
    model: LoadedModel | None
    file: Path

    def finder(self) -> Finder:
        """The estimator itself."""
        config = self.config
        inference = config.inference.model_copy(update={"count_by": "best"})
        if self.model is None:
            return NompEstimator.from_config(config.physics, config.covariance, inference, "cpu")
        return build_learned(self.model.network, config.physics, self.model.covariance, inference)


def prepare_calibration(layers: Layers, target: str, out: Path | None = None) -> Subject:
    """Read the model, or `nomp`, and resolve settings.

    Args:
        layers: settings. target: run, checkpoint or `nomp`. out: file of the fit; None: its usual place.

    Raises:
        InputError: settings it can't be calibrated with, or an `out` that cannot be written.
    """
    use_threads(1)
    check_destination("out", out, (".safetensors",))
    if target == NOMP:
        config = layers.resolve()
        if any(FieldOfView.from_config(config.physics).known):
            raise InputError("physics", "known_*", "none: NOMP's probabilities are of full positions", "one")
        if config.physics.symbols != "gaussian":
            expected = "gaussian: of pilots the evidence is the probability"
            raise InputError("physics", "symbols", expected, config.physics.symbols)
        return Subject(config, None, out or nomp_calibration())
    loaded = load_checkpoint(target, "cpu", fusion=False)
    config = config_over_model(layers, loaded)
    if not config.inference.moves:
        raise InputError("inference", "moves", "true (the fusion weighs what the moves find)", "false")
    return Subject(config, loaded, out or fusion_path(loaded.path))


def calibrate(
    subject: Subject,
    scenes: int = 20_000,
    val_scenes: int = 4_000,
    workers: int | None = 1,
    progress: Progress = silent,
) -> Calibrated:
    """Fit the probabilities of counts and sources.

    Two thirds of the scenes are of the configuration, with 0 to K_max sources; the others of a broad mixture
    of dimensions, power spreads and coherences. They come from a seed of their own, so that none was trained
    on or is a test scene.

    Args:
        subject: what is calibrated.
        scenes: scenes to fit on.
        val_scenes: validation scenes that choose the epoch.
        workers: processes of one thread each; None: one for every core.
        progress: opens a display.
    """
    workers = workers or workers_for(scenes)
    finder, config = subject.finder(), subject.config
    try_writing(subject.file)
    parts = {}
    for split, count in {"train": scenes, "val": val_scenes}.items():
        with progress(f"{split} scenes") as update:
            update(0, count)
            batches = calibration_scenes(config, split, count)
            parts[split] = collect_counts(finder, batches, workers, partial(_of_all, update, count))
    fit = fit_fusion(parts["train"], parts["val"], config.training.seed)
    figures = {
        "cross_entropy": fit.cross_entropy,
        "accuracy": fit.accuracy,
        "epoch": fit.epoch,
        "calibration_error": fit.calibration_error,
    }
    state = FusionState(
        weights_hash="" if subject.model is None else weights_hash(subject.model.network.state_dict()),
        figures=parts["train"].figures.shape[1],
        source_figures=parts["train"].sources.shape[2],
        max_sources=fit.network.max_sources,
        hidden=fit.network.hidden,
        search=config.inference.model_dump(mode="json"),
        fitted={"scenes": {"train": scenes, "val": val_scenes}, "seed": calibration_seed(config), **figures},
    )
    save_fusion(subject.file, fit.network, state)
    model = NOMP if subject.model is None else subject.model.path
    return Calibrated(subject.file, model, figures, accuracy_rows(fit, parts["val"]))


def calibration_seed(config: Config) -> int:
    """Seed of the scenes of a calibration."""
    return (config.data.seed + SEED_OFFSET) % 2**63


def _of_all(update: Callable[[int, int], None], total: int, done: int) -> None:
    update(done, total)


def calibration_scenes(config: Config, split: str, count: int) -> Iterator[Batch]:
    """The scenes of a calibration: of the configuration, and of the other kinds; one kind in memory at a
    time."""
    physics = config.physics
    broad = {"min_sources": 0, "stratified": False, "snr_values_db": ()}
    broad |= {"snr_min_db": physics.snr_min_db - BEYOND_DB, "snr_max_db": physics.snr_max_db + BEYOND_DB}
    physics = physics.model_copy(update=broad)
    seed, kinds = calibration_seed(config), int(count * OTHER_SHARE) // OTHER_SCENES
    usual = count - kinds * OTHER_SCENES
    yield Batch(SceneStream(physics, seed, split), 0, usual, size=chunk_size(physics))
    for index, kind in enumerate(other_kinds(physics, kinds, seed=len(split))):
        stream, first = SceneStream(kind, seed, split), usual + index * OTHER_SCENES
        yield Batch(stream, first, OTHER_SCENES, usual=False, size=chunk_size(kind))


def accuracy_rows(fit: Fit, data: CountData) -> list[list[Any]]:
    """Share of right counts, mean over K, by SNR band in scenes of the usual kind: the ways of counting."""
    with torch.no_grad():
        scores = fit.network(data.head, data.evidence, data.figures)
    band = torch.bucketize(data.snr_db, data.snr_db.new_tensor(BANDS_DB[1:]), right=True)
    rows, ways = [], {"evidence": data.evidence, "fusion": scores}
    if bool(data.head.any()):
        ways = {"head": torch.nn.functional.pad(data.head, (1, 0), value=-torch.inf)} | ways
    for name, score in ways.items():
        right = (score.argmax(1) == data.num_sources).double()
        here = [data.usual & (data.num_sources > 0) & (band == b) for b in range(len(BANDS_DB))]
        cells = [_mean_over_counts(right[rows_], data.num_sources[rows_]) for rows_ in here]
        rows.append([name, *cells, round(count_accuracy(score, data), 3)])
    return rows


def _mean_over_counts(right: Tensor, num_sources: Tensor) -> float | None:
    shares = [float(right[num_sources == k].mean()) for k in torch.unique(num_sources).tolist()]
    return round(sum(shares) / len(shares), 3) if shares else None

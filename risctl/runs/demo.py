"""The measurement file of a demonstration, located and scored beside its truth."""

from dataclasses import dataclass
from pathlib import Path

import torch

from risctl.config import Config
from risctl.data import SceneSource, write_measurements
from risctl.evaluation import SourceRows
from risctl.evaluation.chunks import answers_of, truth_of
from risctl.evaluation.score import score
from risctl.physics import Scenes
from risctl.runs.directory import RunDirectory
from risctl.runs.evaluation import EvaluationRequest
from risctl.runs.locate import Chosen, Found, locate_file
from risctl.runs.progress import Progress, silent
from risctl.runs.provenance import provenance

LOCATED_COUNTS = (1, 2, 3)  # sources of the measured scenes


@dataclass(frozen=True)
class LocatedExample:
    """A measurement file with the estimates of its sources, and both beside the truth and the bound."""

    file: Path
    found: Found
    rows: SourceRows


def demo_directory(request: EvaluationRequest, config: Config) -> RunDirectory:
    """Make the run directory of a demonstration."""
    seeds = {"data.seed": config.data.seed, "bootstrap": request.layers.seed or 0}
    threads = request.machine.threads or 1
    record = provenance("cpu", threads, seeds, {"path": "data", "hash": None})
    return RunDirectory.create("demo", request.layers.name, config, record, place=request.place)


def locate_example(
    directory: Path, chosen: Chosen, source: SceneSource, batch: int = 64, progress: Progress = silent
) -> LocatedExample:
    """Write a few scenes as a measurement file, locate their sources, and score them."""
    scenes = measured_scenes(source)
    file, config = directory / "measurements.npz", chosen.config
    write_measurements(file, scenes.y, scenes.H, scenes.codes)
    found = locate_file(chosen, file, None, batch, progress)
    truth = truth_of(scenes, 0, config.physics)
    rows = score(truth, answers_of(found.estimates), config.physics, config.evaluation).sources
    return LocatedExample(file, found, rows)


def measured_scenes(source: SceneSource) -> Scenes:
    """Of the highest SNR, the first scene of each of `LOCATED_COUNTS`, as far as there are."""
    scenes = source.scenes(0, len(source))
    high = scenes.snr_db >= scenes.snr_db.max() - 1e-3
    found = [(high & (scenes.num_sources == count)).nonzero().flatten()[:1] for count in LOCATED_COUNTS]
    chosen = torch.cat(found) if any(len(rows) for rows in found) else high.nonzero().flatten()[:1]
    return Scenes.concatenate([scenes[int(i) : int(i) + 1] for i in chosen])

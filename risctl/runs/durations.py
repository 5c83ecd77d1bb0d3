"""How long a run would take, from a moment of its work on this machine."""

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from risctl.config import Config
from risctl.data import SceneStream, read_measurements
from risctl.errors import RisctlError
from risctl.evaluation.calibration import collect_counts
from risctl.evaluation.results import Results
from risctl.hpo.timing import time_trial
from risctl.parallel import workers_for
from risctl.plots import result_figures, save_figure
from risctl.runs.calibration import NOMP, Subject, calibration_scenes
from risctl.runs.evaluation import EvaluationRequest, evaluate_source
from risctl.runs.locate import Chosen, locate_measurements
from risctl.runs.machine import use_threads
from risctl.runs.needs import Needs
from risctl.runs.training import PreparedTraining
from risctl.training import TrainingPlan

FEW, MORE = 8, 32  # scenes of the two evaluations that are timed; what both spend once cancels
# Over the time of the pictures of the results: with the scene and the report, and the report alone; measured.
DRAWN, REPORTED = 1.6, 0.5
SIMULATED = 512
FUSION_BYTES = 100_000


def seconds_of_training(prepared: PreparedTraining) -> float | None:
    """Seconds of a training from a few of its steps, on simulated scenes; None: they cannot be taken."""
    data = prepared.config.data.model_copy(update={"source": "stream"})
    config = prepared.config.model_copy(update={"data": data})
    try:
        timed = time_trial(TrainingPlan.from_config(config, device=prepared.device), prepared.processes)
    except RisctlError:  # too few scenes for a batch, or a loss that is not finite: the run itself will tell
        return None
    plan = prepared.plan
    return (
        plan.total_steps * timed.step + plan.training.epochs * plan.validation_scenes * timed.validated_scene
    )


def seconds_of_evaluation(request: EvaluationRequest, config: Config, values: int = 1) -> float:
    """Seconds of an evaluation, at each of `values` of a sweep, from a few simulated scenes.

    Loading is what it took this process, in CPU time; so long does every worker load, and all at once.
    """
    started = time.process_time() * (1 + (request.workers > 1) * values)
    use_threads(1)
    stream = SceneStream(config.physics, config.data.seed, "test", MORE)
    few = replace(request, workers=1, beside={}, answers={})
    spent = []
    for scenes in (FEW, MORE):
        section = config.evaluation.model_copy(update={"scenes": scenes, "bootstrap": 0})
        began = time.perf_counter()
        found = evaluate_source(few, config.model_copy(update={"evaluation": section}), stream)
        spent.append(time.perf_counter() - began)
    each = max(spent[1] - spent[0], 0.0) / (MORE - FEW)
    drawn = (DRAWN if request.plots else REPORTED) * _seconds_of_drawing(found.results)
    return started + values * (drawn + spent[0] + each * config.evaluation.scenes / request.workers)


def seconds_of_locating(chosen: Chosen, file: Path, num_sources: int | None, batch: int | None) -> float:
    """Seconds until the scenes of a measurement file are answered, from its first ones."""
    started = time.process_time()
    data = read_measurements(file, num_elements=chosen.config.physics.num_elements)
    spent, counts = [], [min(count, len(data)) for count in (FEW, MORE)]
    for count in counts:
        began = time.perf_counter()
        locate_measurements(chosen, data.part(slice(0, count), "cpu"), num_sources, batch, where=file)
        spent.append(time.perf_counter() - began)
    each = max(spent[1] - spent[0], 0.0) / max(counts[1] - counts[0], 1)
    return started + spent[1] + each * (len(data) - counts[1])


def _seconds_of_drawing(results: Results) -> float:
    """Seconds of the pictures of an evaluation."""
    began = time.perf_counter()
    with TemporaryDirectory() as directory:
        for name, draw in result_figures(results).items():
            save_figure(draw(), Path(directory) / f"{name}.png")
    return time.perf_counter() - began


def needs_of_calibration(subject: Subject, scenes: int, workers: int | None = None) -> Needs:
    """Estimate disk and memory of fitting the probabilities of a model or of NOMP."""
    loaded, processes = subject.model, workers or workers_for(scenes)
    request = EvaluationRequest(workers=processes, estimators=(NOMP,))
    if loaded is not None:
        request = EvaluationRequest(workers=processes, model_path=str(loaded.path))
    return replace(request.needs(subject.config), disk_bytes=FUSION_BYTES)


def seconds_of_calibration(subject: Subject, scenes: int, workers: int | None = None) -> float:
    """Seconds until `scenes` scenes are searched, from a few of them, the fit left out."""
    started = time.process_time()
    use_threads(1)
    finder, processes = subject.finder(), workers or workers_for(scenes)
    spent = []
    for count in (FEW, MORE):
        batches = calibration_scenes(subject.config, "val", count)
        began = time.perf_counter()
        collect_counts(finder, batches)
        spent.append(time.perf_counter() - began)
    each = max(spent[1] - spent[0], 0.0) / (MORE - FEW)
    return each * scenes / processes + started * (1 + (processes > 1))


def seconds_of_dataset(config: Config, num_scenes: int, workers: int = 1) -> float:
    """Seconds to simulate a dataset."""
    stream = SceneStream(config.physics, config.data.seed, "train", 2 * SIMULATED)
    stream.scenes(0, SIMULATED)
    began = time.perf_counter()
    stream.scenes(SIMULATED, 2 * SIMULATED)
    return (time.perf_counter() - began) / SIMULATED * num_scenes / workers

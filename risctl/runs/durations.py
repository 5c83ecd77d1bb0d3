"""How long a run would take, from a moment of its work on this machine."""

import time
from dataclasses import replace

from risctl.config import Config
from risctl.data import SceneStream
from risctl.errors import RisctlError
from risctl.hpo.timing import time_trial
from risctl.parallel import workers_for
from risctl.runs.calibration import NOMP, Subject
from risctl.runs.evaluation import EvaluationRequest, evaluate_source
from risctl.runs.machine import use_threads
from risctl.runs.models import LEARNED
from risctl.runs.needs import Needs
from risctl.runs.training import PreparedTraining
from risctl.training import TrainingPlan

FEW, MORE = 8, 32  # scenes of the two evaluations that are timed; what both spend once cancels
SIMULATED = 512
FUSION_BYTES = 100_000


def seconds_of_training(prepared: PreparedTraining) -> float | None:
    """Seconds of a training from a few of its steps, on simulated scenes; None: they cannot be taken."""
    data = prepared.config.data.model_copy(update={"source": "stream"})
    config = prepared.config.model_copy(update={"data": data})
    try:
        timed = time_trial(TrainingPlan.from_config(config, device=prepared.device))
    except RisctlError:  # too few scenes for a batch, or a loss that is not finite: the run itself will tell
        return None
    plan = prepared.plan
    return (
        plan.total_steps * timed.step + plan.training.epochs * plan.validation_scenes * timed.validated_scene
    )


def seconds_of_evaluation(request: EvaluationRequest, config: Config, values: int = 1) -> float:
    """Seconds of an evaluation, at each of `values` of a sweep, from a few simulated scenes."""
    use_threads(1)
    stream = SceneStream(config.physics, config.data.seed, "test", MORE)
    few = replace(request, workers=1, beside={}, answers={})
    spent = []
    for scenes in (FEW, MORE):
        section = config.evaluation.model_copy(update={"scenes": scenes, "bootstrap": 0})
        began = time.perf_counter()
        evaluate_source(few, config.model_copy(update={"evaluation": section}), stream)
        spent.append(time.perf_counter() - began)
    each = max(spent[1] - spent[0], 0.0) / (MORE - FEW)
    return values * (spent[0] + each * config.evaluation.scenes / request.workers)


def needs_of_calibration(subject: Subject, workers: int | None = None) -> Needs:
    """Estimate disk and memory of fitting the probabilities of a model or of NOMP."""
    return replace(_answering(subject, workers or 1).needs(subject.config), disk_bytes=FUSION_BYTES)


def seconds_of_calibration(subject: Subject, scenes: int, workers: int | None = None) -> float:
    """Seconds until the estimator has answered `scenes` scenes."""
    request = _answering(subject, workers or workers_for(scenes))
    section = subject.config.evaluation.model_copy(
        update={"scenes": scenes, "estimators": request.estimators}
    )
    return seconds_of_evaluation(request, subject.config.model_copy(update={"evaluation": section}))


def _answering(subject: Subject, workers: int) -> EvaluationRequest:
    """The evaluation that takes as long as its scenes."""
    if subject.model is None:
        return EvaluationRequest(estimators=(NOMP,), workers=workers)
    return EvaluationRequest(estimators=(LEARNED,), workers=workers, model_path=str(subject.model.path))


def seconds_of_dataset(config: Config, num_scenes: int, workers: int = 1) -> float:
    """Seconds to simulate a dataset."""
    stream = SceneStream(config.physics, config.data.seed, "train", 2 * SIMULATED)
    stream.scenes(0, SIMULATED)
    began = time.perf_counter()
    stream.scenes(SIMULATED, 2 * SIMULATED)
    return (time.perf_counter() - began) / SIMULATED * num_scenes / workers

"""The overfit gate: whether a network can learn a few hundred scenes by heart, and what is wrong if not."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from risctl.config import Config, LossConfig, fingerprint
from risctl.config.layers import Layers, Machine
from risctl.covariance import covariance_fingerprint
from risctl.errors import CheckFailedError, DamagedFileError, DivergedError, InputError, StorageError
from risctl.losses import main_weights
from risctl.runs.directory import RUNS
from risctl.runs.documents import read_document, write_json
from risctl.runs.drawings import draw_run
from risctl.runs.names import VERDICT_FILE
from risctl.runs.records import METRICS, STEP, of_kind, read_metrics, recorded_outcome
from risctl.runs.training import (
    Announce,
    PreparedTraining,
    Trained,
    open_run,
    prepare_training,
    train_in,
)
from risctl.text import Document, number, versioned
from risctl.training import Listener, Outcome, StopFlag, inactive_terms, moved_share

READY_BELOW, BROKEN_ABOVE = 0.5, 1.0
MAX_EPOCHS = 30
GATE_SCENES = 512
LARGEST_RISE = 5.0  # of the validation loss over the lowest before it: more is an explosion
PRESET = "overfit"

Verdict = Literal["ready", "debug", "broken"]


@dataclass(frozen=True)
class Check:
    """One figure of the gate.

    Attributes:
        name: of the figure.
        value: what was measured, None if it was not.
        wanted: the condition in words.
        met: whether it holds.
        fatal: whether missing it means broken rather than debug.
    """

    name: str
    value: float | None
    wanted: str
    met: bool
    fatal: bool = False


@dataclass(frozen=True)
class Gate:
    """The verdict and the figures it rests on, all of the best epoch."""

    verdict: Verdict
    checks: tuple[Check, ...]

    @property
    def missed(self) -> str:
        """The figures that were missed, in words."""
        return ", ".join(f"{c.name} {number(c.value)} (wanted {c.wanted})" for c in self.checks if not c.met)


def judge(
    outcome: Outcome,
    epochs: Sequence[Mapping[str, Any]],
    steps: Sequence[Mapping[str, Any]],
    weights: Mapping[str, float],
    failure: str | None = None,
) -> Gate:
    """Judge a training by the figures of its best epoch and the records of its steps.

    Args:
        outcome: how it ended.
        epochs: its validations as recorded, in order.
        steps: its steps as recorded.
        weights: weight of every loss term.
        failure: the error that ended it before its end, None if none did.
    """
    best = [entry for entry in epochs if entry["epoch"] == outcome.best_epoch]
    figures: Mapping[str, float | None] = best[0]["metrics"] if best else {}
    totals = [entry["val"]["total"] for entry in epochs]
    rise, moved, idle = largest_rise(totals), moved_share(steps), inactive_terms(epochs, weights)
    checks: tuple[Check, ...] = (
        _limit("validation loss", outcome.best_value, READY_BELOW, fatal_beyond=BROKEN_ABOVE),
        _limit("NMSE of R_blend", figures.get("nmse_blend"), 0.25),
        _limit("median angle error, deg, >= 10 dB", figures.get("median_angle_deg_high_snr"), 1.0),
        _limit("K right", figures.get("count_accuracy"), 0.95, above=True),
        Check("steps skipped", outcome.skipped, "0", outcome.skipped == 0, fatal=True),
        Check("steps sanitised", outcome.sanitised, "0", outcome.sanitised == 0, fatal=True),
        Check("steps that moved the parameters", moved, "above 0.5", moved > 0.5, fatal=True),
        Check("inactive gap, margin or align terms", len(idle), "0", not idle),
        Check("largest rise", rise, f"below {LARGEST_RISE:g} times", rise < LARGEST_RISE, fatal=True),
    )
    if failure is not None:
        checks += (Check("training", None, "without an error", met=False, fatal=True),)
    missed = [check for check in checks if not check.met]
    verdict: Verdict = "ready" if not missed else "broken" if any(c.fatal for c in missed) else "debug"
    return Gate(verdict, checks)


def largest_rise(totals: Sequence[float | None]) -> float:
    """The largest ratio of a loss to the lowest before it; infinite if one is not a number."""
    lowest, largest = math.inf, 1.0
    for total in totals:
        if total is None or not math.isfinite(total):
            return math.inf
        largest = max(largest, total / lowest if lowest > 0 else 1.0)
        lowest = min(lowest, total)
    return largest


def _limit(
    name: str, value: float | None, limit: float, above: bool = False, fatal_beyond: float | None = None
) -> Check:
    """Compare a figure with its limit; an absent one is missed, and fatal if it can be."""
    wanted = f"{'above' if above else 'below'} {limit:g}"
    if value is None or not math.isfinite(value):
        return Check(name, None, wanted, met=False, fatal=fatal_beyond is not None)
    fatal = fatal_beyond is not None and value >= fatal_beyond
    return Check(name, value, wanted, value > limit if above else value < limit, fatal)


def departures(config: Config) -> list[str]:
    """In what a run under these settings differs from the gate, in words; empty if in nothing."""
    scenes, found = config.data.train_scenes, []
    if scenes != GATE_SCENES:
        found.append(f"{scenes} scenes instead of {GATE_SCENES}")
    if config.loss != LossConfig():
        found.append("loss weights other than the defaults")
    return found


def fingerprints(config: Config, scenes: int) -> dict[str, str]:
    """Fingerprints that a verdict holds for: network without dropout, losses, covariances, surface, scenes.

    Dropout is left out because the gate trains without it, and it adds nothing that could be learned. The
    number of scenes is that of the gate, not of the training it stands before.
    """
    return {
        "model": fingerprint(config.model.model_copy(update={"dropout": 0.0})),
        "loss": fingerprint(config.loss),
        "covariance": covariance_fingerprint(config.covariance),
        "physics": fingerprint(config.physics),
        "scenes": str(scenes),
    }


def gate_document(gate: Gate, config: Config, outcome: Outcome, failure: str | None = None) -> dict[str, Any]:
    """The content of `overfit.json`."""
    differs = departures(config)
    return {
        "verdict": gate.verdict,
        "reason": failure,
        "is_gate": not differs,
        "departures": differs,
        "ready_below": READY_BELOW,
        "checks": [asdict(check) for check in gate.checks],
        "scenes": config.data.train_scenes,
        "epochs": outcome.epochs,
        "head": config.model.head,
        "fingerprints": fingerprints(config, config.data.train_scenes),
        "checkpoint": None if outcome.best_path is None else str(outcome.best_path),
    }


def passed_gate(config: Config, runs: Path = RUNS) -> Path | None:
    """The newest `overfit.json` that found this network, losses and surface ready; None if none did.

    Runs that were not the gate (`is_gate`) never count.
    """
    wanted = fingerprints(config, GATE_SCENES)
    for path in sorted(runs.glob(f"overfit/*/{VERDICT_FILE}"), reverse=True):
        try:
            found = read_document(path)
        except (DamagedFileError, StorageError):
            continue
        ready = found.get("verdict") == "ready" and found.get("is_gate") is True
        if ready and found.get("fingerprints") == wanted:
            return path
    return None


@dataclass(frozen=True)
class Judged:
    """A training that was judged by the gate.

    Attributes:
        trained: the training.
        gate: verdict and figures.
        verdict: what `overfit.json` holds.
        failure: the error that ended the training before its end, None if none did.
    """

    trained: Trained
    gate: Gate
    verdict: Document
    failure: str | None = None

    @property
    def label(self) -> str:
        """The verdict, with what the run lacked to be the gate."""
        differs = self.verdict["departures"]
        return self.gate.verdict + (f" (not the gate: {', '.join(differs)})" if differs else "")

    def document(self) -> Document:
        """The document of the run, ready for JSON."""
        document = self.trained.document()
        document["files"].append(str(self.trained.run / VERDICT_FILE))
        return document | self.verdict

    @property
    def message(self) -> str:
        """The verdict and its reason on one line."""
        return f"overfit: {self.label}: {self.failure or self.gate.missed}"


def prepare_overfit(
    layers: Layers, resume: Path | None = None, tensorboard: bool = False, machine: Machine | None = None
) -> PreparedTraining:
    """Prepare the gate's training, of the preset `overfit` where none is named.

    Raises:
        InputError: settings under which a pass would mean nothing; see `prepare_training` for others.
    """
    layers = layers.with_default(PRESET)
    prepared = prepare_training(layers, PRESET, resume=resume, tensorboard=tensorboard, machine=machine)
    check_gate_settings(prepared.config)
    return prepared


def check_gate_settings(config: Config) -> None:
    """Refuse settings under which a pass would mean nothing."""
    if config.data.validate_on != "train" or not config.data.repeat:
        expected = 'data.validate_on = "train" and data.repeat = true (the same scenes again and again)'
        raise InputError("overfit", "data", expected, f"other scenes (start from the preset {PRESET})")
    if config.data.val_scenes != config.data.train_scenes:
        expected = f"data.train_scenes, {config.data.train_scenes}: the same scenes"
        raise InputError("overfit", "data.val_scenes", expected, config.data.val_scenes)
    if config.training.epochs > MAX_EPOCHS:
        raise InputError("overfit", "training.epochs", f"at most {MAX_EPOCHS}", config.training.epochs)


def overfit(
    prepared: PreparedTraining,
    listeners: Sequence[Listener] = (),
    stop: StopFlag | None = None,
    announce: Announce | None = None,
) -> Judged | Trained:
    """Train on a few hundred scenes and judge; a training that an error ends is judged by its records.

    Returns:
        The verdict; the training alone where `stop` ended it.

    Raises:
        CheckFailedError: inference would not compute what is trained; nothing was trained.
        StorageError: the disk refuses, or another process trains in that directory.
    """
    prepared.check_alignment()
    with open_run(prepared, announce) as (run, record):
        failure = None
        try:
            trained = train_in(run, record, prepared, listeners, stop)
        except (DivergedError, CheckFailedError) as error:
            failure = str(error)
            records = read_metrics(run.path / METRICS) if (run.path / METRICS).exists() else []
            trained = Trained(run.path, prepared.config, recorded_outcome(run.path, records), records)
        if trained.outcome.stopped_by is not None:
            return trained
        judged = _judged(trained, failure, prepared.pictures)
        if judged.gate.verdict != "ready":
            run.end("failed", CheckFailedError.exit_status, failure or judged.message)
        return judged


def _judged(trained: Trained, failure: str | None, kind: str) -> Judged:
    """Judge, write `overfit.json`, draw the curves."""
    steps = of_kind(trained.records, STEP)
    gate = judge(trained.outcome, trained.epochs, steps, main_weights(trained.config.loss), failure)
    verdict = gate_document(gate, trained.config, trained.outcome, failure)
    write_json(trained.run / VERDICT_FILE, versioned(verdict))
    if trained.epochs:
        trained = replace(trained, files=tuple(draw_run(trained.run, kind)))
    return Judged(trained, gate, verdict, failure)

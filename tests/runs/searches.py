"""Searches that were never run: trials, outcomes, their events, and an engine that tells them."""

import importlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from risctl.config import Config, load_config
from risctl.hpo import (
    SearchEvent,
    SearchOutcome,
    SearchPlan,
    TrialEnded,
    TrialEpoch,
    TrialRecord,
    TrialStarted,
    importance,
    preset_parameters,
)
from tests.runs.tiny import NETWORK, SURFACE

SPACE = (
    "search.epochs=4",
    "search.spaces.wide.model.width.low=8",
    "search.spaces.wide.model.width.step=8",
    "search.spaces.wide.model.width.high=24",
    "search.spaces.wide.model.depth.low=1",
    "search.spaces.wide.model.depth.high=3",
    "data.train_scenes=160",
    "data.val_scenes=64",
)
WORDS = (*SURFACE, *NETWORK, *SPACE)
METRICS = {
    "nmse_blend": 0.3,
    "nmse_pred": 0.5,
    "count_accuracy": 0.8,
    "median_angle_deg_high_snr": 2.5,
    "median_range_m_high_snr": 0.7,
}


def config() -> Config:
    return load_config("search", overrides=WORDS)


def params(number: int) -> dict[str, Any]:
    """Return the preset's own values for trial 0, others for the rest."""
    own = preset_parameters(config())
    assert own is not None
    lr = 1e-4 * 4 ** (((7 * number) % 24) / 24)
    varied = {"training.lr": lr, "model.width": 8 + 8 * (number % 3), "model.dropout": 0.01 * (number % 20)}
    return dict(own) | (varied if number else {})


def record(number: int, value: float | None, state: Any = "complete", **changes: Any) -> TrialRecord:
    """Return a trial whose loss fell to `value` over its epochs."""
    ended = 4 if state == "complete" else 2
    losses = () if value is None else tuple(value * (1 + 0.5 / (i + 1) ** 2) for i in range(ended - 1))
    trial = TrialRecord(
        number=number,
        state=state,
        value=value,
        params=params(number),
        secondary={} if value is None else METRICS,
        epochs=losses if value is None else (*losses, value),
        seconds=12.0 + number,
        directory=Path(f"trials/{number:04}"),
    )
    return replace(trial, **changes)


def trials(count: int = 12) -> tuple[TrialRecord, ...]:
    """Return trials whose loss follows the learning rate; some pruned."""
    found = []
    for i in range(count):
        loss = 1.0 - 0.2 * math.log(params(i)["training.lr"] / 1e-4)
        found.append(record(i, loss, "pruned" if i > 8 and loss > 0.9 else "complete"))
    return tuple(found)


def outcome(records: Sequence[TrialRecord] | None = None, **changes: Any) -> SearchOutcome:
    records = tuple(trials() if records is None else records)
    complete = [trial for trial in records if trial.state == "complete" and trial.value is not None]
    found = SearchOutcome(
        trials=records,
        best=min(complete, key=lambda trial: trial.value or 0.0, default=None),
        stopped_by=None,
        study_name="risctl-wide",
        storage_url="sqlite:///study.db",
        baseline=next((trial for trial in records if trial.number == 0), None),
    )
    return replace(found, **changes)


def plan(count: int = 12, **changes: Any) -> SearchPlan:
    return SearchPlan(config(), count, study_name="risctl-wide", **changes)


def events(records: Iterable[TrialRecord], worker: int = 0) -> Iterable[SearchEvent]:
    """Tell trials one after the other."""
    for trial in records:
        yield TrialStarted(trial.number, trial.params, worker)
        for i, loss in enumerate(trial.epochs):
            yield TrialEpoch(trial.number, i, loss, METRICS)
        if trial.state != "running":
            yield TrialEnded(trial.number, trial.state, trial.value, trial.reason, trial.seconds)


class Story:
    """An engine whose trials are known beforehand; it remembers how it was called."""

    def __init__(self, found: SearchOutcome) -> None:
        self.found = found
        self.plan: SearchPlan | None = None
        self.resume: bool | None = None
        self.error: Exception | None = None
        self.earlier: tuple[TrialRecord, ...] = ()

    def __call__(
        self, plan: SearchPlan, _run: Path, listeners: Any, _stop: Any, resume: bool
    ) -> SearchOutcome:
        self.plan, self.resume = plan, resume
        if self.error is not None:
            raise self.error
        for worker, part in ((-1, self.earlier), (0, self.found.trials[len(self.earlier) :])):
            for event in events(part, worker):
                for listener in listeners:
                    listener(event)
        return self.found


def tell(patch: pytest.MonkeyPatch) -> Story:
    """Put a search of twelve trials in the engine's place, without pictures, which take longest."""
    story = Story(outcome())
    patch.setattr(importlib.import_module("risctl.runs.search"), "run_search", story)
    patch.setattr("risctl.runs.search_report.draw_run", lambda *_: [])
    patch.setattr(importance, "SHUFFLES", 1)
    return story

"""What a search would need: its trials, parameters, disk, memory, and its time from one timed step."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from risctl.cli.console import say, show_table
from risctl.cli.documents import Document
from risctl.cli.hpo_prepare import COMMAND, PreparedSearch
from risctl.cli.hpo_state import number
from risctl.cli.needs import Needs, dry_run
from risctl.cli.training_state import readable_seconds

if TYPE_CHECKING:
    from risctl.search import SearchPlan
    from risctl.search.timing import TrialTime
    from risctl.training import TrainingPlan

STUDY_BYTES = 300_000  # a study's file, and the pictures
Params = dict[str, bool | int | float | str]


def dry_run_search(prepared: PreparedSearch) -> Document:
    """Show settings, space and needs; nothing is written."""
    from risctl.config.search import setting
    from risctl.search.timing import time_trial

    plan = prepared.plan
    writes = str(prepared.earlier or f"runs/{COMMAND}/<utc-time>_<preset>_<id>/")
    own, largest = _training(plan, {}), _training(plan, largest_network(plan))
    document = dry_run(COMMAND, plan.config, _needs(plan, largest), writes)
    space = plan.config.search.parameters
    rows = [(key, number(setting(plan.config, key)), str(parameter)) for key, parameter in space.items()]
    show_table(f"Space {plan.config.search.space}", ("parameter", "preset", "searched"), rows)
    times = {"preset": time_trial(own), "largest network": time_trial(largest)}
    estimate = {name: _whole(plan, found) for name, found in times.items()}
    _say_times(plan, times, estimate)
    return document | {
        "study": plan.study_name,
        "trials": plan.trials,
        "workers": plan.workers,
        "devices": list(plan.devices),
        "gate": gate_words(prepared),
        "space": {key: str(parameter) for key, parameter in space.items()},
        "trial": {name: asdict(found) | {"seconds": found.seconds} for name, found in times.items()},
        "seconds": estimate,
    }


def _say_times(plan: SearchPlan, times: dict[str, TrialTime], estimate: dict[str, float]) -> None:
    say(f"# {plan.trials} trials of {plan.config.search.epochs} epochs, {plan.workers} at a time")
    for name, found in times.items():
        one, whole = readable_seconds(found.seconds), readable_seconds(estimate[name])
        step = f"{found.parameters:,} parameters, {1000 * found.step:.0f} ms a step"
        say(f"# {name}: {step}, {found.steps:,} steps: a trial {one}, all of them at most {whole}")
    say("# pruning and early stopping, which save a part of it, are not counted")


def gate_words(prepared: PreparedSearch) -> str | None:
    """Say which passed gate lets the search start; None if there is none."""
    from risctl.cli.gate import passed_gate
    from risctl.cli.hpo_prepare import overfit_command

    passed = passed_gate(prepared.config)
    missing = f"none; without --force the search refuses to start: {overfit_command(prepared.config)}"
    say(f"# overfit gate: {passed or missing}")
    return None if passed is None else str(passed)


def largest_network(plan: SearchPlan) -> Params:
    """Return the parameters of the space that make the network largest."""
    found: Params = {}
    for key, parameter in plan.config.search.parameters.items():
        numbers = [value for value in parameter.probes if not isinstance(value, bool | str)]
        if key in ("model.width", "model.depth", "model.blocks") and numbers:
            found[key] = max(numbers)
    return found


def _training(plan: SearchPlan, params: Params) -> TrainingPlan:
    from risctl.search import trial_config, trial_plan

    return trial_plan(trial_config(plan.config, params), plan.devices[0])


def _whole(plan: SearchPlan, found: TrialTime) -> float:
    """Return the seconds of all trials, in rounds of as many as there are workers."""
    return -(-plan.trials // plan.workers) * found.seconds


def _needs(plan: SearchPlan, largest: TrainingPlan) -> Needs:
    """Return what the search needs at most: all networks as large as the largest."""
    from risctl.cli.training_needs import CHECKPOINTS, FLOAT_BYTES, STORED_COPIES, needs_of_training

    trial = needs_of_training(largest)
    stored = CHECKPOINTS * STORED_COPIES * FLOAT_BYTES * trial.parameters
    return Needs(
        disk_bytes=plan.trials * stored + STUDY_BYTES,
        memory_bytes=plan.workers * trial.memory_bytes + Needs().memory_bytes,
        parameters=trial.parameters,
    )

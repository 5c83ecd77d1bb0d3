"""How a search ended, for people: the best against the preset, what mattered, go or no-go, files."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from risctl.cli.console import closing, say, show_table
from risctl.cli.documents import Document, Ending, versioned, write_json
from risctl.cli.hpo_prepare import COMMAND
from risctl.cli.hpo_presets import BEST, FOUND, best_preset, found_preset
from risctl.cli.hpo_state import number
from risctl.cli.hpo_tables import (
    EPOCHS,
    IMPORTANCE,
    TRIALS,
    direction,
    epochs_csv,
    importance_csv,
    trials_csv,
)
from risctl.cli.signals import SIGNAL_STATUS
from risctl.cli.training_state import readable_seconds
from risctl.errors import CheckFailedError

if TYPE_CHECKING:
    from risctl.search import SearchOutcome, SearchPlan, TrialRecord
    from risctl.search.importance import Importance
    from risctl.search.verdict import Verdict

SEARCH_FILE = "search.json"
SHOWN = 30  # trials in the table at the end
FIGURES = {
    "count_accuracy": "source count right",
    "median_angle_deg_high_snr": "median angle error, deg, >= 10 dB",
    "median_range_m_high_snr": "median range error, m, >= 10 dB",
    "nmse_blend": "NMSE of R_blend",
}


def conclude(run: Path, plan: SearchPlan, outcome: SearchOutcome) -> Document | Ending:
    """Write every file of the report, say what was found, return the document with its exit status."""
    from risctl.search.verdict import judge_search

    verdict = judge_search(outcome, plan.trials)
    mattered = what_mattered(plan, outcome)
    files = write_files(run, plan, outcome, mattered)
    _show(plan, outcome, verdict, mattered)
    document = search_document(run, plan, outcome, verdict, mattered)
    document["files"] = [str(path) for path in (*files, run / SEARCH_FILE)]
    write_json(run / SEARCH_FILE, versioned(document))
    closing(run, headline(outcome, verdict), next_command(run, outcome))
    return _ending(run, document, outcome, verdict)


def _ending(run: Path, document: Document, outcome: SearchOutcome, verdict: Verdict) -> Document | Ending:
    if outcome.stopped_by is not None:
        following = resume_command(run, outcome)
        message = f"stopped with {outcome.finished} trials finished; go on with: {following}"
        return Ending(document, SIGNAL_STATUS + outcome.stopped_by, message)
    if outcome.gave_up is not None:
        return Ending(document, CheckFailedError.exit_status, f"hpo: given up: {outcome.gave_up}")
    if not verdict.go:
        return Ending(document, CheckFailedError.exit_status, f"hpo: no-go: {verdict.missed}")
    return document


def what_mattered(plan: SearchPlan, outcome: SearchOutcome) -> tuple[Importance, ...]:
    """Return the importance of the parameters, from the trials that have a loss."""
    from risctl.search.importance import importances
    from risctl.search.space import distributions

    ended = with_loss(outcome.trials)
    losses = [float(trial.value) for trial in ended if trial.value is not None]
    space = distributions(plan.config)
    return importances(losses, [trial.params for trial in ended], space, plan.seed)


def with_loss(trials: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the trials that ended with a finite loss."""
    return [
        trial
        for trial in trials
        if trial.state in ("complete", "pruned") and trial.value is not None and trial.value == trial.value
    ]


def write_files(
    run: Path, plan: SearchPlan, outcome: SearchOutcome, mattered: Sequence[Importance]
) -> list[Path]:
    """Write tables, pictures and presets; return their paths."""
    from risctl.cli.hpo_pictures import draw_search
    from risctl.data.atomic import write_atomically

    best, contents = (
        outcome.best,
        {
            TRIALS: trials_csv(outcome.trials, list(plan.config.search.parameters)),
            EPOCHS: epochs_csv(outcome.trials),
            IMPORTANCE: importance_csv(mattered),
        },
    )
    if best is not None:
        contents[BEST] = best_preset(plan.config, best, outcome.baseline, run)
        contents[FOUND] = found_preset(plan.config, best, run)
    for name, text in contents.items():
        write_atomically(run / name, text.encode())
    return [*(run / name for name in contents), *draw_search(run, plan, outcome, mattered)]


def search_document(
    run: Path, plan: SearchPlan, outcome: SearchOutcome, verdict: Verdict, mattered: Sequence[Importance]
) -> Document:
    """Return what `search.json` and `--json` hold."""
    from dataclasses import asdict

    from risctl.search.verdict import spread

    return {
        "command": COMMAND,
        "run": str(run),
        "study": {"name": outcome.study_name, "storage": outcome.storage_url},
        "space": {key: str(parameter) for key, parameter in plan.config.search.parameters.items()},
        "asked": plan.trials,
        "finished": outcome.finished,
        "stopped_by": outcome.stopped_by,
        "gave_up": outcome.gave_up,
        "spread": spread(outcome.trials),
        "best": None if outcome.best is None else asdict(outcome.best),
        "preset": None if outcome.baseline is None else asdict(outcome.baseline),
        "importance": [asdict(entry) | {"above_chance": entry.above_chance} for entry in mattered],
        "verdict": {"go": verdict.go, "findings": [asdict(finding) for finding in verdict.findings]},
        "trials": [asdict(trial) for trial in outcome.trials],
    }


def _show(plan: SearchPlan, outcome: SearchOutcome, verdict: Verdict, mattered: Sequence[Importance]) -> None:
    _show_trials(outcome)
    if outcome.best is not None:
        _show_best(plan, outcome.best, outcome.baseline)
    _show_importance(plan, mattered)
    rows = [(f.name, f.found, f.wanted, "yes" if f.met else "NO") for f in verdict.findings]
    show_table("Go or no-go", ("figure", "found", "wanted", "met"), rows)


def _show_trials(outcome: SearchOutcome) -> None:
    trials = outcome.trials
    shown = sorted(sorted(trials, key=_order)[:SHOWN], key=lambda trial: trial.number)
    title = "Trials" if len(shown) == len(trials) else f"The best {len(shown)} of {len(trials)} trials"
    rows = [(_name(trial, outcome), *_cells(trial)) for trial in shown]
    angle, count = "angle deg", "count right"
    show_table(title, ("trial", "state", "loss", angle, count, "epochs", "time", "reason"), rows)
    say("  loss: lowest validation loss (pruned: until then); angle: median at >= 10 dB, at the same epoch")
    say()


def _order(trial: TrialRecord) -> tuple[bool, float, int]:
    return trial.state != "complete", float("inf") if trial.value is None else trial.value, trial.number


def _name(trial: TrialRecord, outcome: SearchOutcome) -> str:
    best, own = outcome.best, outcome.baseline
    marks = [
        word
        for word, other in (("best", best), ("preset", own))
        if other is not None and other.number == trial.number
    ]
    return " ".join([str(trial.number), *marks])


def _cells(trial: TrialRecord) -> tuple[str, ...]:
    return (
        trial.state,
        number(trial.value),
        number(trial.secondary.get("median_angle_deg_high_snr")),
        number(trial.secondary.get("count_accuracy")),
        str(len(trial.epochs)),
        readable_seconds(trial.seconds),
        trial.reason or (f"{len(trial.deaths)} worker deaths" if trial.deaths else ""),
    )


def _show_best(plan: SearchPlan, best: TrialRecord, preset: TrialRecord | None) -> None:
    """Show the best trial's parameters and figures beside the preset's."""
    from risctl.config.search import setting

    space = plan.config.search.parameters
    rows: list[tuple[Any, ...]] = [
        (key, number(setting(plan.config, key)), number(best.params[key]), str(space[key])) for key in space
    ]
    rows.append(("validation loss", number(None if preset is None else preset.value), number(best.value), ""))
    measured: Mapping[str, float] = {} if preset is None else preset.secondary
    for key, label in FIGURES.items():
        rows.append((label, number(measured.get(key)), number(best.secondary.get(key)), ""))
    seconds = None if preset is None else preset.seconds
    rows.append(("time of the trial", readable_seconds(seconds), readable_seconds(best.seconds), ""))
    show_table(f"The best trial, {best.number}, beside the preset", ("", "preset", "best", "searched"), rows)
    say("  inference.* is drawn and recorded, but has no part in the validation loss")
    say()


def _show_importance(plan: SearchPlan, mattered: Sequence[Importance]) -> None:
    from risctl.search.importance import MIN_TRIALS

    if not mattered:
        say(f"What mattered: not known from fewer than {MIN_TRIALS} trials with a loss")
        say()
        return
    rows = [(entry.key, f"{entry.share:.0%}", f"{entry.chance:.0%}", direction(entry)) for entry in mattered]
    show_table("What mattered", ("parameter", "importance", "by chance", "direction"), rows)
    say("  by chance: what a parameter without effect exceeds in one of twenty searches like this one")
    say()


def headline(outcome: SearchOutcome, verdict: Verdict) -> str:
    """Return go or no-go, and the best loss beside the preset's."""
    best, preset = outcome.best, outcome.baseline
    go = "go" if verdict.go else "no-go"
    if outcome.stopped_by is not None:
        go = f"stopped after {outcome.finished} trials"
    if best is None:
        return f"{go}: no trial completed"
    against = "not measured" if preset is None else number(preset.value)
    figures = [
        f"{label} {number(best.secondary[key])}" for key, label in FIGURES.items() if key in best.secondary
    ]
    text = (
        f"{go}: best validation loss {number(best.value)} (trial {best.number}; the preset's own: {against})"
    )
    return "; ".join([text, ", ".join(figures[:2])]).rstrip("; ")


def next_command(run: Path, outcome: SearchOutcome) -> str:
    """Return what to type next."""
    if outcome.stopped_by is not None or outcome.best is None:
        return resume_command(run, outcome)
    return f"risctl train --config {run / BEST}"


def resume_command(run: Path, outcome: SearchOutcome) -> str:
    """Return what goes on with the search; a shared study is named again, its password is never shown."""
    own = outcome.storage_url.startswith("sqlite:")
    return f"risctl hpo --resume {run}" + ("" if own else f" --storage {shlex.quote(outcome.storage_url)}")

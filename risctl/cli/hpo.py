"""`risctl hpo`: search the hyper-parameters."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from risctl import runs
from risctl.cli.console import closing, dry_run, say, show_pictures, show_table
from risctl.cli.options import Common, Ending, FormatOption, NameOption, OutOption, common_options
from risctl.cli.overfit import conclude, run_gate
from risctl.cli.screens.search import SearchState, search_screen
from risctl.cli.signals import stop_on_signals
from risctl.cli.train import announce
from risctl.errors import InputError, require_range
from risctl.text import Document, counted, number, parameter_list, readable_seconds

if TYPE_CHECKING:
    from risctl.hpo import SearchOutcome, TrialRecord
    from risctl.runs import PreparedSearch, Searched

SHOWN = 30  # trials in the table at the end
WorkersOption = Annotated[
    int | None,
    typer.Option(
        help="Trials at a time, a process each; absent: one a core or GPU, a quarter of few trials."
    ),
]


@common_options
def hpo(
    common: Common,
    trials: Annotated[
        int | None, typer.Option(help="Trials that are to end; the preset's if absent (24).")
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="Search space of the preset: wide, narrow, or one of your own.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of a trial; the preset's if absent.")] = None,
    workers: WorkersOption = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            envvar="RISCTL_STORAGE",
            help="postgresql+psycopg://... that several machines share; absent: a file in the run.",
        ),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Name of the study; made from the settings if absent.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Go on with this run, in its own directory.")
    ] = None,
    name: NameOption = None,
    out: OutOption = None,
    pictures: FormatOption = "png",
    force: Annotated[
        bool, typer.Option("--force", help="Start without a passed overfit gate for this network.")
    ] = False,
) -> Document | Ending:
    """Search the hyper-parameters.

    If no overfit gate was passed for these settings, it runs first. What is interrupted goes on with
    --resume, and no trial is lost.
    """
    require_range("trials", trials, 1, 100_000)
    require_range("workers", workers, 1, 256)
    require_range("epochs", epochs, 1, 100_000)
    for key, value in (("space", space), ("epochs", epochs)):
        common = common if value is None else common.with_override(f"search.{key}={value}")
    place = runs.run_place("hpo", name, out)
    if resume is not None and place is not None:
        raise InputError("resume", "", "no name or out beside it (the run has its directory)", place)
    prepare = functools.partial(
        runs.prepare_search, common.layers, trials, workers, storage, study, resume, machine=common.machine
    )
    try:
        prepared = prepare(need_gate=not (force or common.dry_run))
    except runs.GateNotPassedError as error:
        failed = _run_gate(common, error.settings)
        if failed is not None:
            return failed
        prepared = prepare()
    prepared = replace(prepared, pictures=pictures, place=place)
    if common.dry_run:
        return _dry_run(prepared)
    return _search(prepared)


def _search(prepared: PreparedSearch) -> Document | Ending:
    """Run the search with a display."""
    state = SearchState(prepared.plan.trials, prepared.config.search.epochs, prepared.preset)
    with stop_on_signals() as stop, search_screen(state, stop) as screen:
        found = runs.search(prepared, [screen], stop, announce)
    return _conclude(found)


def _run_gate(common: Common, settings: Mapping[str, Any]) -> Ending | None:
    """Run the overfit gate with the settings that the search needs; how it ended unless it was passed."""
    words = _gate_words(settings)
    say("no overfit gate was passed for these settings: it runs first (--force starts without it)")
    say(f"  {shlex.join(['risctl', 'overfit', *words])}")
    layers = replace(common.layers, preset=None, file=None, overrides=tuple(words))
    ended = conclude(run_gate(runs.prepare_overfit(layers, machine=common.machine)))
    return ended if isinstance(ended, Ending) else None


def _gate_words(settings: Mapping[str, Any]) -> list[str]:
    """The override words of the overfit run whose pass lets a search start."""
    texts = {key: v if isinstance(v, str) else runs.toml_value(v) for key, v in settings.items()}
    return [f"{key}={text}" for key, text in texts.items()]


def _dry_run(prepared: PreparedSearch) -> Document:
    """Show settings, space, needs and time; nothing is written."""
    plan, config = prepared.plan, prepared.config
    writes = prepared.resumed or prepared.place or "runs/hpo/<utc-time>_<preset>_<id>/"
    space = {key: str(parameter) for key, parameter in config.search.parameters.items()}
    rows = [(key, number(runs.setting(config, key)), text) for key, text in space.items()]
    show_table(f"Space {config.search.space}", ("parameter", "preset", "searched"), rows)
    times = prepared.times()
    seconds = {name: prepared.seconds(trial) for name, trial in times.items()}
    document = dry_run("hpo", config, prepared.needs(), writes, seconds["preset"])
    trials, epochs = counted(plan.trials, "trial"), counted(config.search.epochs, "epoch")
    say(f"# {trials} of {epochs}, {plan.workers} at a time")
    for name, trial in times.items():
        one, whole = readable_seconds(trial.seconds), readable_seconds(seconds[name])
        step = f"{trial.parameters:,} parameters, {1000 * trial.step:.0f} ms per step"
        say(f"# {name}: {step}, {counted(trial.steps, 'step')}: a trial {one}, all of them at most {whole}")
    say("# pruning and early stopping, which save a part of it, are not counted")
    passed = runs.passed_gate(config)
    say(f"# overfit gate: {passed or 'none was passed for these settings: it runs first, a few minutes'}")
    return document | {
        "study": plan.study_name,
        "trials": plan.trials,
        "workers": plan.workers,
        "devices": list(plan.devices),
        "gate": None if passed is None else str(passed),
        "space": space,
        "trial": {name: asdict(trial) | {"seconds": trial.seconds} for name, trial in times.items()},
        "seconds": seconds,
    }


def _conclude(found: Searched) -> Document | Ending:
    """Show what was found; return the document with its exit status."""
    outcome, resume = found.outcome, _resume_command(found)
    _show_trials(outcome)
    if outcome.best is not None:
        _show_best(found, outcome.best, outcome.baseline)
    _show_importance(found)
    rows = [(f.name, f.found, f.wanted, "yes" if f.met else "NO") for f in found.verdict.findings]
    show_table("Go or no-go", ("figure", "found", "wanted", "met"), rows)
    show_pictures(runs.pictures(found.document["files"]))
    over = outcome.stopped_by is None and outcome.best is not None
    best = shlex.quote(str(found.run / runs.BEST))
    closing(found.run, headline(found), f"risctl train --preset full --config {best}" if over else resume)
    if found.failure is None:
        return found.document
    again = f"; go on with: {resume}" if outcome.stopped_by is not None else ""
    return Ending(found.document, found.exit_status, found.failure + again)


def _show_trials(outcome: SearchOutcome) -> None:
    trials = outcome.trials
    shown = sorted(sorted(trials, key=_order)[:SHOWN], key=lambda trial: trial.number)
    title = "Trials" if len(shown) == len(trials) else f"The best {len(shown)} of {len(trials)} trials"
    figures = {figure.name: figure.short for figure in runs.FIGURES if figure.brief}
    rows = [
        (
            _name(trial, outcome),
            trial.state,
            number(trial.value),
            *(number(trial.secondary.get(key)) for key in figures),
            str(len(trial.epochs)),
            readable_seconds(trial.seconds),
            trial.reason or (f"{len(trial.deaths)} worker deaths" if trial.deaths else ""),
        )
        for trial in shown
    ]
    show_table(title, ("trial", "state", "loss", *figures.values(), "epochs", "time", "reason"), rows)
    say("  loss: lowest validation loss (pruned: until then); angle: median at >= 10 dB, same epoch")
    say()


def _order(trial: TrialRecord) -> tuple[bool, float, int]:
    return trial.state != "complete", float("inf") if trial.value is None else trial.value, trial.number


def _name(trial: TrialRecord, outcome: SearchOutcome) -> str:
    marked = {"best": outcome.best, "preset": outcome.baseline}
    marks = [word for word, other in marked.items() if other is not None and other.number == trial.number]
    return " ".join([str(trial.number), *marks])


def _show_best(found: Searched, best: TrialRecord, preset: TrialRecord | None) -> None:
    """Show the best trial's parameters and figures beside the preset's."""
    config = found.plan.config
    space = config.search.parameters
    chosen, drawn = runs.split_parameters(best.params)
    rows: list[tuple[Any, ...]] = [
        (key, number(runs.setting(config, key)), number(chosen[key]), str(space[key]))
        for key in space
        if key in chosen
    ]
    rows.append(("validation loss", number(None if preset is None else preset.value), number(best.value), ""))
    measured: Mapping[str, float] = {} if preset is None else preset.secondary
    for figure in runs.FIGURES:
        values = number(measured.get(figure.name)), number(best.secondary.get(figure.name))
        rows.append((figure.row, *values, ""))
    seconds = None if preset is None else preset.seconds
    rows.append(("time of the trial", readable_seconds(seconds), readable_seconds(best.seconds), ""))
    show_table(f"The best trial, {best.number}, beside the preset", ("", "preset", "best", "searched"), rows)
    if drawn:
        say(f"  drawn, but without part in the loss and not in {runs.BEST}: {parameter_list(drawn)}")
    say()


def _show_importance(found: Searched) -> None:
    if found.importances:
        rows = [(e.key, f"{e.share:.0%}", f"{e.chance:.0%}", runs.direction(e)) for e in found.importances]
        show_table("What mattered", ("parameter", "importance", "by chance", "direction"), rows)
        say("  by chance: what a parameter without effect exceeds in one of twenty searches like this one")
    else:
        say(f"What mattered: not known from fewer than {runs.MIN_TRIALS} trials with a loss")
    say()


def headline(found: Searched) -> str:
    """Go or no-go, and the best loss beside the preset's."""
    best, preset = found.outcome.best, found.outcome.baseline
    go = "go" if found.verdict.go else "no-go"
    if found.outcome.stopped_by is not None:
        go = f"stopped after {found.outcome.finished} trials"
    if best is None:
        return f"{go}: no trial completed"
    against = "not measured" if preset is None else number(preset.value)
    loss = f"best validation loss {number(best.value)} (trial {best.number}; the preset's own: {against})"
    figures = runs.figure_sentences(best.secondary, brief=True)
    return "; ".join([f"{go}: {loss}", ", ".join(figures)]).rstrip("; ")


def _resume_command(found: Searched) -> str:
    """The command that resumes the search; a shared study is named again, its password is never shown."""
    url = found.outcome.storage_url
    shared = "" if url.startswith("sqlite:") else f" --storage {shlex.quote(url)}"
    return f"risctl hpo --resume {shlex.quote(str(found.run))}{shared}"

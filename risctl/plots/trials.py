"""The pictures of a search: history, what mattered, parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from risctl.cli.hpo_tables import direction

if TYPE_CHECKING:
    from risctl.config import Config
    from risctl.config.search import Parameter
    from risctl.evaluation.plots.parallel import Scale
    from risctl.evaluation.plots.search import Bar, DrawnTrial
    from risctl.search import SearchOutcome, SearchPlan, TrialRecord
    from risctl.search.importance import Importance

HISTORY, MATTERED, PARALLEL = "history.png", "importance.png", "parallel.png"


def draw_search(
    run: Path, plan: SearchPlan, outcome: SearchOutcome, mattered: Sequence[Importance]
) -> list[Path]:
    """Draw what there is; return the files."""
    from risctl.evaluation.plots.parallel import parallel_figure
    from risctl.evaluation.plots.search import history_figure, importance_figure
    from risctl.evaluation.plots.style import save_figure

    trials = [_drawn(trial) for trial in outcome.trials if trial.state != "running"]
    preset = None if outcome.baseline is None else outcome.baseline.number
    title = f"{run}: {outcome.finished} of {plan.trials} trials, space {plan.config.search.space}"
    figures = {HISTORY: history_figure(trials, preset, title)}
    if mattered:
        figures[MATTERED] = importance_figure(_bars(mattered), f"What mattered in {len(trials)} trials")
    figures[PARALLEL] = parallel_figure(trials, scales(plan.config), preset, title)
    return [save_figure(figure, run / name) for name, figure in figures.items()]


def _drawn(trial: TrialRecord) -> DrawnTrial:
    from risctl.evaluation.plots.search import DrawnTrial

    return DrawnTrial(trial.number, trial.state, trial.value, trial.params, dict(enumerate(trial.epochs)))


def _bars(mattered: Sequence[Importance]) -> list[Bar]:
    from risctl.evaluation.plots.search import Bar

    return [Bar(entry.key, entry.share, entry.chance, direction(entry)) for entry in mattered]


def scales(config: Config) -> list[Scale]:
    """Return the axes of the parallel coordinates; those that have no part in the loss stand last."""
    from risctl.config.search import setting
    from risctl.search.importance import WITHOUT_EFFECT

    space = config.search.parameters
    order = sorted(space, key=lambda key: (key.startswith(f"{WITHOUT_EFFECT}."), key))
    return [_scale(key, space[key], isinstance(setting(config, key), int)) for key in order]


def _scale(key: str, parameter: Parameter, whole: bool) -> Scale:
    from risctl.evaluation.plots.parallel import Scale

    if parameter.choices is not None:
        return Scale(key, choices=parameter.choices)
    low, high = parameter.bounds
    step = parameter.step or (1.0 if whole else 0.0)
    return Scale(key, low, high, parameter.log, step)

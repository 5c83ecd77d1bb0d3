"""The pictures of a search: history, importance of the parameters, parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from risctl.config import Config
from risctl.config.search import Parameter, setting
from risctl.hpo import SearchOutcome, SearchPlan
from risctl.hpo.importance import WITHOUT_EFFECT, Importance
from risctl.plots.parallel import Scale, parallel_figure
from risctl.plots.search import history_figure, importance_figure
from risctl.plots.style import save_figure

HISTORY, IMPORTANCE, PARALLEL = "history.png", "importance.png", "parallel.png"


def draw_search(
    run: Path, plan: SearchPlan, outcome: SearchOutcome, importances: Sequence[Importance]
) -> list[Path]:
    """Draw what there is; return the files."""
    trials = [trial for trial in outcome.trials if trial.state != "running"]
    preset = None if outcome.baseline is None else outcome.baseline.number
    title = f"{run}: {outcome.finished} of {plan.trials} trials, space {plan.config.search.space}"
    figures = {HISTORY: history_figure(trials, preset, title)}
    if importances:
        figures[IMPORTANCE] = importance_figure(importances, f"What mattered in {len(trials)} trials")
    figures[PARALLEL] = parallel_figure(trials, scales(plan.config), preset, title)
    return [save_figure(figure, run / name) for name, figure in figures.items()]


def scales(config: Config) -> list[Scale]:
    """The axes of the parallel coordinates; parameters that don't enter the loss come last."""
    space = config.search.parameters
    order = sorted(space, key=lambda key: (key.startswith(f"{WITHOUT_EFFECT}."), key))
    return [_scale(key, space[key], isinstance(setting(config, key), int)) for key in order]


def _scale(key: str, parameter: Parameter, whole: bool) -> Scale:
    if parameter.choices is not None:
        return Scale(key, choices=parameter.choices)
    low, high = parameter.bounds
    return Scale(key, low, high, parameter.log, parameter.step or (1.0 if whole else 0.0))

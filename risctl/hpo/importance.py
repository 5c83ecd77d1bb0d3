"""Importance of parameters: PED-ANOVA beside its chance level, and the direction of the effect.

Watanabe, Bansal, Hutter: PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary
Subspaces, IJCAI 2023. It asks how far the parameters of the best trials are distributed differently from
those of all trials. Only the order of the losses counts, so a pruned trial can stay in: it was stopped
because it was among the worse ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import spearmanr

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

BEST_SHARE = 0.25  # of the trials: those whose parameters are compared with all
MIN_TRIALS = 10  # three of them among the best
SHUFFLES = 40
WITHOUT_EFFECT = "inference"  # the section whose settings do not enter the validation loss


def has_effect(key: str) -> bool:
    """Whether the validation loss depends on a setting."""
    return key.partition(".")[0] != WITHOUT_EFFECT


@dataclass(frozen=True)
class Importance:
    """Importance of one parameter.

    Attributes:
        key: `section.key`.
        share: of the importance of all parameters; they sum to one.
        chance: 95 % quantile of the share of a parameter without any effect in searches like this; 1 if that
            is more than all parameters have together.
        trend: Spearman's rank correlation with the loss (negative: larger values were better); None for
            parameters without an order, and where one of the two never changed.
        clear: whether it is significant at the 5 % level.
    """

    key: str
    share: float
    chance: float
    trend: float | None
    clear: bool = False

    @property
    def above_chance(self) -> bool:
        """Whether the parameter exceeds its chance level."""
        return self.share > self.chance


def importances(
    losses: Sequence[float],
    params: Sequence[Mapping[str, Any]],
    distributions: Mapping[str, BaseDistribution],
    seed: int = 0,
) -> tuple[Importance, ...]:
    """Importance of every parameter that enters the loss, largest first.

    It is empty if too little is known: few trials, one parameter, equal losses.

    Args:
        losses: of the trials, finite.
        params: of the trials, by `section.key`.
        distributions: of the parameters.
        seed: of the shuffles that give the chance level.
    """
    keys = [key for key in distributions if has_effect(key)]
    if len(losses) < MIN_TRIALS or len(set(losses)) < 2 or len(keys) < 2:
        return ()
    searched = {key: distributions[key] for key in keys}
    rows = [{key: row[key] for key in keys} for row in params]
    found = _divergences(losses, rows, searched)
    whole = sum(found.values()) or 1.0
    shuffle = np.random.default_rng(seed)
    orders = [shuffle.permutation(np.asarray(losses)).tolist() for _ in range(SHUFFLES)]
    mixed = [_divergences(order, rows, searched) for order in orders]
    result = []
    for key in keys:
        chance = float(np.quantile([shares[key] for shares in mixed], 0.95))
        trend, clear = _trend([row[key] for row in rows], losses)
        result.append(Importance(key, found[key] / whole, min(chance / whole, 1.0), trend, clear))
    return tuple(sorted(result, key=lambda entry: (-entry.share, entry.key)))


def _divergences(
    losses: Sequence[float], rows: Sequence[Mapping[str, Any]], distributions: Mapping[str, BaseDistribution]
) -> dict[str, float]:
    """Pearson's divergence of the best trials' values from all trials', by parameter."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for row, loss in zip(rows, losses, strict=True):
        space = dict(distributions)
        study.add_trial(optuna.trial.create_trial(params=dict(row), distributions=space, value=loss))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=BEST_SHARE)
    return evaluator.evaluate(study)  # not yet divided by their sum, which shuffles must not share


def _trend(values: Sequence[Any], losses: Sequence[float]) -> tuple[float | None, bool]:
    """Spearman's correlation and whether it is significant; it needs numbers, and both must change."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if not numbers or len(set(values)) < 2:
        return None, False
    found = spearmanr(values, losses)
    return float(found.statistic), bool(found.pvalue < 0.05)

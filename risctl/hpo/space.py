"""The search space as distributions, and the draw of a trial's parameters."""

from collections.abc import Mapping, Sequence

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState

from risctl.config import Config
from risctl.config.search import Parameter, setting
from risctl.hpo.plan import Params, SearchPlan
from risctl.hpo.trial import preset_parameters


def distributions(config: Config) -> dict[str, BaseDistribution]:
    """Distributions of the chosen space by setting; of integers where the setting is one."""
    space = config.search.parameters
    return {key: _distribution(parameter, setting(config, key)) for key, parameter in space.items()}


def _distribution(parameter: Parameter, own: object) -> BaseDistribution:
    if parameter.choices is not None:
        return CategoricalDistribution(parameter.choices)
    low, high = parameter.bounds
    if isinstance(own, int):
        return IntDistribution(int(low), int(high), log=parameter.log, step=int(parameter.step or 1))
    return FloatDistribution(low, high, log=parameter.log, step=parameter.step)


def draw(plan: SearchPlan, space: Mapping[str, BaseDistribution], trials: Sequence[FrozenTrial]) -> Params:
    """Parameters of the next trial: the preset's own first, then those that earlier trials suggest.

    They follow from the seed, the number of the trial, and what is known when it begins. No two trials of a
    study, on whatever machine, draw from the same random numbers.
    """
    own = preset_parameters(plan.config)
    if not trials and own is not None:
        return own
    sequence = np.random.SeedSequence(plan.seed, spawn_key=(len(trials),))
    sampler = TPESampler(
        n_startup_trials=plan.config.search.startup_trials,
        multivariate=True,
        constant_liar=True,  # a running trial counts as bad: the next draw keeps clear of it
        seed=int(sequence.generate_state(1)[0]),
    )
    study = optuna.create_study(sampler=sampler, direction="minimize")
    study.add_trials([trial for trial in trials if trial.state != TrialState.WAITING])
    return study.ask(dict(space)).params

"""The search space as distributions, and the draw of a trial's parameters."""

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from risctl.config import Config
from risctl.config.search import Parameter, setting
from risctl.hpo.importance import has_effect
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

    Those that the loss does not depend on are drawn at random, apart. All follow from the seed, the number of
    the trial, and what is known when it begins. No two trials of a study, on whatever machine, draw from the
    same random numbers.
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
    study.add_trials([_with_effect(trial) for trial in trials if trial.state != TrialState.WAITING])
    drawn = study.ask({key: d for key, d in space.items() if has_effect(key)}).params
    blind = optuna.create_study(sampler=RandomSampler(seed=int(sequence.generate_state(2)[1])))
    others = blind.ask({key: d for key, d in space.items() if not has_effect(key)}).params
    return {key: (drawn | others)[key] for key in space}


def _with_effect(trial: FrozenTrial) -> FrozenTrial:
    """The trial without the parameters that its value does not depend on, which would blur the others'."""
    kept = copy.copy(trial)
    kept.params = {key: value for key, value in trial.params.items() if has_effect(key)}
    kept.distributions = {key: d for key, d in trial.distributions.items() if has_effect(key)}
    return kept

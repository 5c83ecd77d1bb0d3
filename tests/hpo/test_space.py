"""Spaces and trials: what is drawn, and what a trial then trains."""

from collections.abc import Sequence

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from risctl.config import Config, load_config
from risctl.config.former import FORMER
from risctl.errors import InputError
from risctl.hpo import SearchPlan, preset_parameters, trial_config, with_parameters
from risctl.hpo.importance import has_effect
from risctl.hpo.plan import Params
from risctl.hpo.space import distributions, draw
from risctl.hpo.trial import check_settings, settings_of
from risctl.training import TrainingPlan
from tests.hpo.small import small_config, small_plan

WIDER = {"lr": {"low": 1e-3, "high": 1.0}}


def _history(seed: int, count: int, config: Config) -> list[FrozenTrial]:
    """Trials whose value is the worse, the higher their rate."""
    plan, space = small_plan(config=config, seed=seed), distributions(config)
    trials: list[FrozenTrial] = []
    for _ in range(count):
        params = dict(draw(plan, space, trials))
        value = params["training.lr"] + params["model.dropout"]
        ended = {"value": value, "intermediate_values": {0: value}}
        trials.append(optuna.create_trial(params=params, distributions=space, **ended))
    return trials


@pytest.mark.parametrize("name", ["wide", "narrow"])
def test_a_shipped_space_holds_its_preset(name: str) -> None:
    config = load_config("search", None, [f"search.space={name}"])
    own = preset_parameters(config)
    assert with_parameters(config, own) == config
    assert own.keys() == distributions(config).keys()


def test_kinds_of_distributions() -> None:
    space = distributions(load_config("search"))
    assert space["training.lr"] == FloatDistribution(1e-4, 4e-4, log=True)
    assert space["training.batch"] == CategoricalDistribution((64, 80))
    assert isinstance(space["model.width"], IntDistribution)
    assert isinstance(space["model.dropout"], FloatDistribution)
    assert list(space) == sorted(space)


def test_the_first_trial_is_the_preset_if_the_space_holds_it() -> None:
    config = small_config()
    assert draw(small_plan(config=config), distributions(config), []) == preset_parameters(config)
    outside = with_parameters(config, {"training.lr": 0.5})
    assert preset_parameters(outside) is None
    drawn = draw(small_plan(config=outside), distributions(outside), [])
    assert 1e-3 <= drawn["training.lr"] <= 1e-1


def test_draws_follow_from_the_seed_and_the_trials_before() -> None:
    config = small_config()
    first, again, other = ([trial.params for trial in _history(seed, 8, config)] for seed in (0, 0, 1))
    assert first == again
    assert first[0] == other[0]  # the preset
    assert all(a != b for a, b in zip(first[1:], other[1:], strict=True))
    assert len({params["training.lr"] for params in first}) == 8


def test_later_draws_learn_from_the_trials() -> None:
    """The mean of what the model suggests is better than the mean of the random start."""
    config = small_config(startup_trials=10)
    values = [trial.value for seed in range(2) for trial in _history(seed, 30, config)]
    start = [v for i, v in enumerate(values) if 1 <= i % 30 < 10]
    late = [v for i, v in enumerate(values) if i % 30 >= 20]
    assert sum(late) / len(late) < 0.7 * sum(start) / len(start)


def test_what_the_loss_does_not_depend_on_does_not_steer_the_draw() -> None:
    """Settings of inference are drawn apart: with them or without, the others are drawn the same."""
    config = load_config("search", None, ["search.startup_trials=2"])
    space, plan = distributions(config), small_plan(config=config)
    alone = {key: d for key, d in space.items() if has_effect(key)}
    assert alone.keys() < space.keys()
    trials, fewer = [], []
    for value in (1.0, 0.5, 0.7, 0.2):
        drawn = dict(draw(plan, space, trials))
        assert drawn.keys() == space.keys()
        kept = {key: drawn[key] for key in alone}
        assert kept.items() <= draw(plan, alone, fewer).items()  # the first is the whole preset
        trials.append(optuna.create_trial(params=drawn, distributions=space, value=value))
        fewer.append(optuna.create_trial(params=kept, distributions=alone, value=value))


def test_running_trials_have_their_part_in_the_next_draw() -> None:
    """Unlike failed ones, which the sampler leaves out: after some histories the next draw is another."""
    config = small_config(startup_trials=0)
    space, elsewhere = distributions(config), 0
    for seed in range(10):
        history = _history(seed, 8, config)
        best = dict(min(history, key=lambda trial: trial.value or 0.0).params)

        def drawn(state: TrialState, history: Sequence[FrozenTrial], best: Params) -> object:
            others = [optuna.create_trial(state=state, params=best, distributions=space) for _ in range(4)]
            return draw(small_plan(config=config), space, [*history, *others])

        running, failed = (drawn(state, history, best) for state in (TrialState.RUNNING, TrialState.FAIL))
        assert running == drawn(TrialState.RUNNING, history, best)
        elsewhere += running != failed
    assert elsewhere >= 2


def test_a_trial_takes_length_and_patience_from_the_search() -> None:
    config = load_config("search", None, ["training.curriculum=true", "search.epochs=5", "search.patience=2"])
    trial = trial_config(config, {"training.lr": 3e-4, "model.width": 16})
    assert (trial.training.lr, trial.model.width) == (3e-4, 16)
    assert (trial.training.epochs, trial.training.early_stop_patience) == (5, 2)
    assert (trial.training.curriculum, trial.training.swa_fraction) == (False, 0.0)
    assert trial.training.beta_jitter == config.search.beta_jitter
    assert trial.loss == config.loss
    plan = TrainingPlan.from_config(trial)
    assert plan.total_steps == 5 * (config.data.train_scenes // 64)
    assert plan.train.fingerprint == TrainingPlan.from_config(trial_config(config, {})).train.fingerprint


def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(InputError, match=r"training\.batch"):
        trial_config(small_config(), {"training.batch": 0})


@pytest.mark.parametrize(
    ("plan", "key"),
    [
        (small_plan(config=small_config(epochs=4)), "search.epochs"),
        (small_plan(config=small_config(startup_trials=9)), "search.startup_trials"),
        (small_plan(seed=1), "seed"),
        (small_plan(config=small_config(spaces={"small": {"training": WIDER}})), "search.space"),
    ],
)
def test_other_settings_than_the_studys_are_named(plan: SearchPlan, key: str) -> None:
    with pytest.raises(InputError, match=key):
        check_settings(settings_of(small_plan()), settings_of(plan), "study.db")


def test_a_study_that_was_begun_before_a_renaming_goes_on() -> None:
    wanted = settings_of(small_plan())
    stored = {FORMER.get(key, key): value for key, value in wanted.items()}
    assert stored.keys() != wanted.keys()
    check_settings(stored, wanted, "study.db")
    with pytest.raises(InputError, match=r"loss\.detection_std"):
        check_settings(stored | {"loss.own_std": 0.5}, wanted, "study.db")


def test_more_trials_are_no_other_settings() -> None:
    more = small_plan(9, config=small_config(trials=9), workers=3)
    check_settings(settings_of(small_plan(4)), settings_of(more), "study.db")

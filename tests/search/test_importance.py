"""What mattered: a parameter that rules the loss is found, one without effect is not, whatever the seed."""

from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from risctl.search import importance as module
from risctl.search.importance import MIN_TRIALS, importances

SPACE = {
    "training.lr": FloatDistribution(1e-4, 1e-2, log=True),
    "model.width": IntDistribution(8, 48, step=8),
    "model.head": CategoricalDistribution(("structured", "factors")),
    "inference.range_grid": CategoricalDistribution((121, 161)),
}


@pytest.fixture(autouse=True)
def _few_shuffles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHUFFLES", 12)


def _draw(count: int, seed: int = 0) -> list[dict[str, Any]]:
    r = np.random.default_rng(seed)
    return [
        {
            "training.lr": float(10 ** r.uniform(-4, -2)),
            "model.width": int(8 * r.integers(1, 7)),
            "model.head": str(r.choice(["structured", "factors"])),
            "inference.range_grid": int(r.choice([121, 161])),
        }
        for _ in range(count)
    ]


def test_the_parameter_that_rules_the_loss_comes_first_with_its_direction() -> None:
    rows = _draw(32)
    losses = [5.0 + float(np.log10(row["training.lr"])) for row in rows]
    found = importances(losses, rows, SPACE)
    assert (found[0].key, found[0].above_chance, found[0].clear) == ("training.lr", True, True)
    assert found[0].trend == pytest.approx(1.0)  # smaller was better
    assert sum(entry.share for entry in found) == pytest.approx(1.0)
    others = {entry.key: entry for entry in found[1:]}
    assert set(others) == {"model.width", "model.head"}
    assert others["model.head"].trend is None


def test_a_choice_that_rules_the_loss_is_found_though_it_has_no_order() -> None:
    rows, noise = _draw(64, seed=1), np.random.default_rng(2).normal(size=64)
    losses = [(row["model.head"] == "factors") + 0.1 * float(x) for row, x in zip(rows, noise, strict=True)]
    found = importances(losses, rows, SPACE)
    assert (found[0].key, found[0].above_chance) == ("model.head", True)


def test_few_trials_or_one_parameter_tell_nothing() -> None:
    rows = _draw(MIN_TRIALS)
    losses = [float(i) for i in range(MIN_TRIALS)]
    assert importances(losses[1:], rows[1:], SPACE) == ()
    assert importances(losses, rows, {"training.lr": SPACE["training.lr"]}) == ()
    assert importances([1.0] * MIN_TRIALS, rows, SPACE) == ()
    assert len(importances(losses, rows, SPACE)) == 3


def test_the_same_trials_give_the_same_figures() -> None:
    rows, losses = _draw(16), [float(i % 7) for i in range(16)]
    assert importances(losses, rows, SPACE) == importances(losses, rows, SPACE)


def test_a_parameter_that_never_changed_has_no_trend() -> None:
    rows = [row | {"model.width": 16} for row in _draw(16)]
    found = {entry.key: entry for entry in importances([float(i) for i in range(16)], rows, SPACE)}
    assert found["model.width"].trend is None
    assert not found["model.width"].clear

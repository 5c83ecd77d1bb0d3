"""Search spaces are data: what is accepted, what is refused in one line, and how they are written down."""

from pathlib import Path
from typing import Any

import pytest

from risctl.config import Config, diff_configs, load_config
from risctl.config.search import Parameter
from risctl.config.toml import tables_to_toml
from risctl.errors import InputError


def _load(tmp_path: Path, line: str) -> Config:
    path = tmp_path / "mine.toml"
    path.write_text(f"[search]\nspace = 'mine'\n[search.spaces.mine]\n{line}")
    return load_config("search", path)


def test_the_shipped_spaces() -> None:
    wide = load_config("search").search
    assert {key: str(parameter) for key, parameter in wide.parameters.items()} == {
        "inference.nf_mle_iters": "one of 0, 2",
        "inference.range_grid": "one of 121, 161",
        "model.depth": "1 to 3",
        "model.dropout": "0 to 0.2",
        "model.width": "32 to 80 in steps of 16",
        "training.batch": "one of 64, 80",
        "training.lr": "0.0001 to 0.0004, log",
    }
    narrow = load_config("search", overrides=["search.space=narrow"]).search
    assert set(narrow.parameters) == {"training.lr", "training.weight_decay", "model.dropout"}


@pytest.mark.parametrize(
    "line",
    [
        "training.weight_decay = { low = 1e-3, high = 1e-1, log = true }",
        "'model.dropout' = { low = 0.0, high = 0.5, step = 0.1 }",
        "model.head = { choices = ['structured', 'factors'] }",
        "model.blocks = { low = 1, high = 3 }",
        "covariance.beta = { low = 0.1, high = 0.5 }",
        "training.compile = { choices = [false, true] }",
    ],
)
def test_a_parameter_is_added_by_a_line_of_a_file(line: str, tmp_path: Path) -> None:
    key = line.partition(" ")[0].strip("'")
    assert set(_load(tmp_path, line).search.parameters) == {key}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("training.lrr = { low = 1e-4, high = 1e-3 }", "nearest: training.lr"),
        ("loss.K = { low = 0.1, high = 0.5 }", "a setting of covariance, model, training, inference"),
        ("data.seed = { low = 1, high = 2 }", "a setting of covariance, model, training, inference"),
        ("training.epochs = { low = 1, high = 2 }", "see search.epochs"),
        ("training.lr = { low = -1.0, high = 1.0 }", "greater than 0"),
        ("training.batch = { low = 8.5, high = 16.5 }", "training.batch takes"),
        ("model.width = { low = 16, high = 20, step = 4 }", "a multiple of 8"),
        ("model.width = { low = 16, high = 36, step = 8 }", "whole number of steps"),
        ("model.head = { choices = ['structured', 'flat'] }", "model.head takes"),
        ("training.lr = { low = 1e-3, high = 1e-4 }", "more than low"),
        ("training.lr = { low = 1e-3 }", "low and high, or choices"),
        ("training.lr = { low = 1e-4, high = 1e-3, choices = [1e-3] }", "a range or choices"),
        ("training.lr = { low = 0.0, high = 1e-3, log = true }", "above 0 with log"),
        ("training.lr = { low = 1e-4, high = 1e-3, log = true, step = 1e-4 }", "none with log"),
        ("training.batch = { choices = [64, 64] }", "distinct values"),
        ("training.batch = { choices = [] }", "at least 1 item"),
        ("training.lr = { low = 1e-4, high = nan }", "training.lr.high: expected a finite number, got nan"),
        ("training.lr = { low = 1e-4, high = 1e-3, size = 3 }", "a known key"),
        ("training.lr = { low = 1e-4, high = true }", "a finite number"),
        ("training.batch = { choices = [64, [80]] }", "a finite number"),
    ],
)
def test_what_trials_cannot_take_is_refused_with_its_file(line: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        _load(tmp_path, line)
    for part in (said, "search.spaces.mine", str(tmp_path / "mine.toml")):
        assert part in str(error.value)
    assert error.value.exit_status == 2


def test_an_unknown_space_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="one of narrow, wide"):
        load_config("search", overrides=["search.space=wild"])


def test_a_word_changes_one_end_of_a_range() -> None:
    config = load_config("search", overrides=["search.spaces.wide.training.lr.low=5e-5"])
    assert config.search.parameters["training.lr"].bounds == (5e-5, 4e-4)


def test_a_space_survives_being_written_down(tmp_path: Path) -> None:
    config = load_config("search")
    path = tmp_path / "all.toml"
    path.write_text(tables_to_toml(config.model_dump(mode="json")))
    assert load_config("quick", path) == config
    assert "lr = { low = 0.0001, high = 0.0004, log = true }" in path.read_text()


def test_a_difference_of_spaces_is_named_though_one_lacks_it() -> None:
    found = diff_configs(load_config("quick"), load_config("search"))
    assert found["search.spaces.narrow.training.lr.high"] == (None, 3e-4)
    back = diff_configs(load_config("search"), load_config("quick"))
    assert back["search.spaces.narrow.training.lr.high"] == (3e-4, None)


def test_presets_without_a_space_have_no_parameters() -> None:
    assert load_config("quick").search.parameters == {}


@pytest.mark.parametrize(
    ("parameter", "inside", "outside"),
    [
        (Parameter(low=16, high=48, step=8), [16, 24, 48], [8, 20, 56, True, "16"]),
        (Parameter(low=1e-4, high=4e-4, log=True), [1e-4, 2e-4, 4e-4], [9e-5, 5e-4, float("nan")]),
        (Parameter(low=0.0, high=0.3, step=0.1), [0.0, 0.1, 0.2, 0.3], [0.15]),
        (Parameter(choices=(64, 80)), [64, 80], [72, 64.0, "64"]),
        (Parameter(choices=(True, False)), [True], [1, 0]),
    ],
)
def test_a_parameter_knows_its_values(parameter: Parameter, inside: list[Any], outside: list[Any]) -> None:
    assert all(parameter.holds(value) for value in inside)
    assert not any(parameter.holds(value) for value in outside)
    assert all(parameter.holds(value) for value in parameter.probes)

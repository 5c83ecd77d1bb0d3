"""What a search needs before it starts, and how it refuses in one line."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from risctl.cli.documents import write_json
from risctl.cli.gate import GATE_SCENES, fingerprints, passed_gate
from risctl.cli.hpo_prepare import SearchRequest, overfit_command, prepare_search, worker_devices
from risctl.cli.machine import resolve_device

from risctl.cli.app import main
from risctl.cli.options import Common
from risctl.config import Config, load_config
from risctl.errors import CheckFailedError, InputError
from tests.cli.searches import WORDS, config


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _common(*words: str, **changes: Any) -> Common:
    values: dict[str, Any] = {
        "preset": None,
        "config_file": None,
        "overrides": (*WORDS, *words),
        "json": False,
        "device": "cpu",
        "seed": None,
        "dry_run": False,
        "threads": 1,
    }
    return Common(**values | changes)


def _prepare(*words: str, force: bool = True, **changes: Any) -> Any:
    return prepare_search(SearchRequest(_common(*words), force=force, **changes))


def _write_gate(found: Config, verdict: str = "ready") -> None:
    path = Path("runs/overfit/now")
    path.mkdir(parents=True, exist_ok=True)
    document = {"verdict": verdict, "is_gate": True, "fingerprints": fingerprints(found, GATE_SCENES)}
    write_json(path / "overfit.json", document)


def test_without_a_passed_gate_nothing_starts_and_the_command_is_named() -> None:
    with pytest.raises(
        CheckFailedError, match=r"type: risctl overfit .*model\.width=8.* \(or --force\)"
    ) as error:
        _prepare(force=False)
    assert error.value.exit_status == 3
    assert not Path("runs").exists()


def test_the_named_command_is_of_the_network_that_is_searched() -> None:
    command = shlex.split(overfit_command(config()))
    assert command[:2] == ["risctl", "overfit"]
    gate = load_config("overfit", overrides=command[2:])
    assert fingerprints(gate, 512) == fingerprints(config(), 512)


def test_the_named_command_can_be_typed_in_a_shell() -> None:
    found = load_config("search", overrides=["model.map_alphas=[1.0, 2.0]", "model.head=factors"])
    assert overfit_command(found) == "risctl overfit model.head=factors 'model.map_alphas=[1.0, 2.0]'"
    assert overfit_command(load_config("search")) == "risctl overfit"


def test_a_passed_gate_opens_and_a_failed_one_does_not() -> None:
    _write_gate(config())
    assert passed_gate(config()) is not None
    assert _prepare(force=False).plan.trials == 24
    _write_gate(config(), "debug")
    with pytest.raises(CheckFailedError):
        _prepare(force=False)


def test_the_gate_of_another_network_does_not_open() -> None:
    _write_gate(load_config("search"))
    with pytest.raises(CheckFailedError):
        _prepare(force=False)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("training.epochs=3", "search.epochs"),
        ("training.curriculum=true", "off in trials"),
        ("training.seed=3", "the seed of the search"),
        ("data.source=store", "stream"),
        ("model.width=64", "values that include 64"),
        ("training.lr=0.01", "values that include 0.01"),
        ("data.train_scenes=70", "at most the 70 scenes"),
        ("search.space=wild", "one of narrow, wide"),
    ],
)
def test_what_could_not_run_is_refused(word: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        _prepare(word)


def test_a_preset_without_a_space_is_refused() -> None:
    common = _common(preset="quick", overrides=())
    with pytest.raises(InputError, match="a search space"):
        prepare_search(SearchRequest(common, force=True))


def test_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="workers"):
        _prepare()


def test_the_plan_is_what_was_asked_for() -> None:
    plan = _prepare(trials=7, workers=3, storage="postgresql+psycopg://u@h/d", study="mine").plan
    assert (plan.trials, plan.workers, plan.storage_url, plan.study_name) == (
        7,
        3,
        "postgresql+psycopg://u@h/d",
        "mine",
    )
    assert plan.config.search.trials == 7
    assert plan.devices == ("cpu",)


def test_the_same_settings_have_the_same_study_whatever_the_number_of_trials() -> None:
    name = _prepare(trials=7).plan.study_name
    assert _prepare(trials=9, workers=2).plan.study_name == name
    assert _prepare("training.weight_decay=0.5").plan.study_name != name


def test_the_seed_is_that_of_scenes_training_and_sampler() -> None:
    plan = prepare_search(SearchRequest(_common(seed=5), force=True)).plan
    assert (plan.seed, plan.config.data.seed, plan.config.training.seed) == (5, 5, 5)


def test_workers_take_all_accelerators_in_turn_or_the_one_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert worker_devices("cpu", 4) == ("cpu",)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert resolve_device("cuda") == "cuda:0"
    assert worker_devices("auto", 3) == ("cuda:0", "cuda:1", "cuda:2")
    assert worker_devices("cuda", 8) == ("cuda:0", "cuda:1", "cuda:2", "cuda:3")
    assert worker_devices("cuda:2", 8) == ("cuda:2",)


@pytest.mark.parametrize(
    "arguments", [("--trials", "0"), ("--workers", "0"), ("--resume", "nowhere"), ("--device", "tpu")]
)
def test_bad_flags_are_one_line(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hpo", *arguments, "--force"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.out == ""

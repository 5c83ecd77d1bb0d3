"""Runs that go on, and forks: what they keep, what may change, what is refused."""

import shutil
from pathlib import Path

import pytest

from risctl import runs
from risctl.config import load_config
from risctl.config.layers import Layers, Machine
from risctl.errors import DamagedFileError, InputError
from risctl.runs.records import STEP, of_kind, read_metrics
from tests.runs.tiny import (
    WITHOUT_SCENES,
    killed_at_once,
    status_of,
    tiny,
    train,
    train_until,
    write_datasets,
)

CHANGED = Layers(overrides=("training.epochs=3", "training.lr=0.001"))


@pytest.mark.parametrize(
    ("word", "stored"),
    [
        ("training.lr=0.001", "0.0004"),
        ("covariance.beta=0.25", "0.3"),
        ("physics.num_snapshots=5", "4"),
        ("training.epochs=3", "2"),
    ],
)
def test_a_run_refuses_other_science(run: Path, word: str, stored: str) -> None:
    with pytest.raises(InputError) as refused:
        runs.prepare_training(Layers(overrides=(word,)), resume=run)
    key, _, wanted = word.partition("=")
    assert (refused.value.where, refused.value.key, refused.value.got) == (str(run), key, wanted)
    assert refused.value.expected.startswith(f"{stored}, which the run began with (a fork begins another")
    assert status_of(run)["state"] == "done"


def test_a_run_takes_what_is_no_science_and_a_fork_the_rest(run: Path) -> None:
    with pytest.raises(InputError):
        runs.prepare_training(Layers("full"), resume=run)
    assert train(Layers(overrides=("training.checkpoint_seconds=5.0",)), resume=run).outcome.finished
    fork = train(CHANGED, resume=run, fork=True)
    assert fork.run != run
    assert (fork.outcome.steps, fork.outcome.epochs) == (12, 3)
    assert fork.outcome.first_value == fork.outcome.best_value
    assert runs.read_document(fork.run / "provenance.json")["forked_from"] == str(run.absolute())
    assert [entry["step"] for entry in of_kind(fork.records, STEP)] == [9, 10, 11, 12]
    assert len(of_kind(read_metrics(run / "metrics.jsonl"), STEP)) == 8


def test_a_fork_cannot_be_of_another_network(run: Path) -> None:
    with pytest.raises(
        InputError, match=r"model\.width: expected 8, which its weights were made for, got 16"
    ):
        runs.prepare_training(Layers(overrides=("model.width=16",)), resume=run, fork=True)


def test_a_fork_killed_before_it_saved_anything_is_still_that_fork(run: Path) -> None:
    whole = train(CHANGED, resume=run, fork=True).outcome
    fork = killed_at_once(CHANGED, resume=run, fork=True)
    found = train(Layers(), resume=fork).outcome
    assert (found.best_value, found.steps) == (whole.best_value, whole.steps)
    assert load_config(None, fork / "config.json").training.lr == 0.001


def test_an_advanced_fork_goes_on_as_itself_with_a_free_setting_changed(run: Path) -> None:
    layers = Layers(overrides=("training.epochs=4", "training.lr=0.001"))
    whole = train(layers, resume=run, fork=True).outcome
    fork = train_until(14, layers, resume=run, fork=True).run
    free = Layers(overrides=("training.checkpoint_seconds=5.0",))
    assert train_until(15, free, resume=fork).run == fork
    found = train(Layers(), resume=fork).outcome
    for key in ("best_value", "best_epoch", "first_value", "steps"):
        assert getattr(found, key) == getattr(whole, key)


def test_a_fork_without_changes_killed_at_once_has_its_own_best() -> None:
    run = train_until(5, tiny()).run
    assert status_of(run)["best_value"] is not None
    fork = killed_at_once(Layers(), resume=run, fork=True)
    found = train(Layers(), resume=fork).outcome
    assert found.first_value == found.best_value
    assert found.best_epoch == 1
    assert (fork / "checkpoints/best.safetensors").is_file()


@pytest.mark.parametrize("words", [(), ("training.epochs=1",)])
def test_a_fork_with_nothing_left_to_train_is_refused(run: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"training\.epochs: expected more than 2 \(already done\)"):
        runs.prepare_training(Layers(overrides=words), resume=run, fork=True)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(InputError, match="none saved yet"):
        runs.prepare_training(CHANGED, resume=run, fork=True)


def test_a_run_on_part_of_a_dataset_goes_on_with_that_part() -> None:
    write_datasets(Path("ds"))
    layers = Layers(overrides=(*WITHOUT_SCENES, "data.train_scenes=16", "data.val_scenes=8"))
    run = train_until(3, layers, data=Path("ds")).run
    assert train(Layers(), resume=run).outcome.steps == 4
    assert train(Layers(), resume=run, data=Path("ds")).outcome.steps == 4
    forked = runs.prepare_training(CHANGED, resume=run, fork=True).config.data
    assert (forked.train_scenes, forked.val_scenes) == (16, 8)


def test_a_number_of_scenes_in_a_file_counts_as_stated() -> None:
    write_datasets(Path("ds"))
    Path("own.toml").write_text("[data]\ntrain_scenes = 16\n")
    layers = Layers(file=Path("own.toml"), overrides=WITHOUT_SCENES)
    data = runs.prepare_training(layers, data=Path("ds")).config.data
    assert (data.train_scenes, data.val_scenes) == (16, 24)


def test_a_resumed_run_keeps_its_threads_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    monkeypatch.setattr("risctl.runs.training.use_threads", used.append)
    run = train(tiny(), machine=Machine("cpu", 2)).run
    train(Layers(), resume=run)
    train(Layers(), resume=run, machine=Machine(threads=1))
    assert used == [2, 2, 1]
    record = runs.read_document(run / "provenance.json")
    assert [entry["threads"] for entry in record["resumed"]] == [2, 1]


def test_a_resumed_run_asks_for_its_device_unless_told(run: Path) -> None:
    assert runs.prepare_training(Layers(), resume=run).device == "cpu"
    record = runs.read_document(run / "provenance.json")
    record["hardware"]["device"] = "cuda:97"
    runs.write_json(run / "provenance.json", record)
    with pytest.raises(InputError, match="cuda:97"):
        runs.prepare_training(Layers(), resume=run)
    with pytest.raises(InputError, match="cuda:98"):
        runs.prepare_training(Layers(), resume=run, machine=Machine("cuda:98"))
    assert runs.prepare_training(Layers(), resume=run, machine=Machine("cpu")).device == "cpu"


def test_a_provenance_that_names_no_threads_is_damaged(run: Path) -> None:
    record = runs.read_document(run / "provenance.json") | {"threads": "many"}
    runs.write_json(run / "provenance.json", record)
    with pytest.raises(DamagedFileError, match=r"provenance\.json"):
        runs.prepare_training(Layers(), resume=run)


def test_a_run_goes_on_under_its_own_command_only(run: Path) -> None:
    with pytest.raises(InputError, match="command: expected a run of overfit, got one of train"):
        runs.prepare_overfit(Layers(), resume=run)
    failed = killed_at_once(tiny(), command="overfit")
    with pytest.raises(InputError, match="command: expected a run of train, got one of overfit"):
        runs.prepare_training(Layers(), resume=failed)
    assert status_of(failed)["command"] == "overfit"
    shutil.copytree(run / "checkpoints", failed / "checkpoints")
    forked = runs.prepare_training(CHANGED, resume=failed, fork=True)
    assert (forked.command, forked.config.training.epochs) == ("train", 3)

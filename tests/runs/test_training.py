"""Trainings in run directories: complete, stopped, resumed, from datasets; what does not fit is refused."""

import signal
from pathlib import Path
from typing import Any

import pytest

from risctl import runs
from risctl.config import PhysicsConfig, load_config
from risctl.config.layers import Layers
from risctl.data import exclusive_lock, write_dataset
from risctl.errors import InputError, StorageError
from risctl.model.checkpoint import read_checkpoint
from risctl.runs.records import EPOCH, STEP, of_kind, read_metrics
from tests.runs.tiny import (
    SURFACE,
    WITHOUT_SCENES,
    after_step,
    status_of,
    tiny,
    train,
    train_until,
    write_datasets,
)

LAST = Path("checkpoints/last.safetensors")
OTHER = {"data": Path("d/train"), "val_data": Path("other")}


def test_a_training_leaves_a_complete_run() -> None:
    made: list[Path] = []
    trained = runs.train(runs.prepare_training(tiny(seed=7)), announce=made.append)
    run, outcome = trained.run, trained.outcome
    assert made == [run]
    assert run.parent == Path("runs/train")
    status = status_of(run)
    assert (status["state"], status["epochs"], status["steps"]) == ("done", 2, 8)
    config = load_config(None, run / "config.json")
    assert config == trained.config == load_config("quick", None, tiny(seed=7).words)
    assert (config.training.seed, config.data.seed) == (7, 7)
    provenance = runs.read_document(run / "provenance.json")
    assert provenance["seeds"] == {"data.seed": 7, "training.seed": 7}
    assert set(provenance["dataset"]) == {"train", "validation"}
    records = read_metrics(run / "metrics.jsonl")
    assert records == trained.records
    assert [record["step"] for record in of_kind(records, STEP)] == list(range(1, 9))
    totals = [record["val"]["total"] for record in of_kind(records, EPOCH)]
    assert (outcome.best_value, outcome.first_value) == (min(totals), totals[0])
    assert trained.files == (run / "curves.png",)
    assert trained.files[0].read_bytes().startswith(b"\x89PNG")
    assert (run / "checkpoints" / "best.safetensors").is_file()
    assert read_checkpoint(run / LAST).state.config == config.model_dump(mode="json")


def test_a_stopped_training_is_saved_and_goes_on_to_the_same_end(trained: Path) -> None:
    stopped = train_until(5, tiny())
    assert (stopped.outcome.steps, stopped.outcome.stopped_by, stopped.files) == (5, signal.SIGTERM, ())
    found = status_of(stopped.run)
    assert (found["state"], found["exit_status"], found["steps"]) == ("interrupted", 143, 5)
    assert found["message"] == "stopped and saved after step 5"
    resumed = train(Layers(), resume=stopped.run)
    assert (resumed.run, resumed.outcome.steps) == (stopped.run, 8)
    assert status_of(stopped.run)["state"] == "done"
    assert len(runs.read_document(stopped.run / "provenance.json")["resumed"]) == 1
    ours, theirs = read_checkpoint(stopped.run / LAST), read_checkpoint(trained / LAST)
    assert all(bool((ours.tensors[name] == theirs.tensors[name]).all()) for name in theirs.tensors)
    mine, whole = (
        of_kind(records, STEP) for records in (resumed.records, read_metrics(trained / "metrics.jsonl"))
    )
    assert [record["total"] for record in mine] == [record["total"] for record in whole]


def test_a_run_that_another_process_writes_is_left_alone(run: Path) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with exclusive_lock(run / ".lock"), pytest.raises(StorageError, match="locked"):
        train(Layers(), resume=run)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_run_killed_before_it_saved_anything_begins_anew(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    again = train(Layers(), resume=run)
    assert again.outcome.steps == len(of_kind(again.records, STEP)) == 8


def test_datasets_bring_their_physics_and_numbers_of_scenes() -> None:
    write_datasets(Path("d"))
    words = Layers(overrides=WITHOUT_SCENES)
    trained = train(words, data=Path("d"))
    assert trained.config.physics == load_config("quick", None, SURFACE).physics
    assert (trained.config.data.source, trained.config.data.seed) == ("store", 3)
    assert (trained.config.data.train_scenes, trained.config.data.val_scenes) == (40, 24)
    dataset = runs.read_document(trained.run / "provenance.json")["dataset"]
    assert [Path(dataset[part]["path"]).name for part in ("train", "validation")] == ["train", "val"]
    assert train(Layers(), resume=trained.run).outcome.steps == 10
    alone = runs.prepare_training(words.with_overrides("data.val_scenes=16"), data=Path("d/train"))
    assert alone.sources.record()["validation"]["path"] is None


@pytest.mark.parametrize(
    ("how", "words", "where", "key", "expected"),
    [
        ({"data": Path("d/val")}, (), "d/val", "split", "train"),
        ({"data": Path("d/train"), "val_data": Path("d/train")}, (), "d/train", "split", "val"),
        (OTHER, (), "other", "physics.ris_columns", "as in d/train"),
        ({"val_data": Path("d/val")}, (), "val_data", "", "a training dataset (data)"),
        ({"data": Path("d")}, ("physics.num_snapshots=5",), "data", "", "no physics.* override"),
        ({}, ("data.source=store",), "data", "", 'a dataset beside data.source = "store"'),
        ({"fork": True}, (), "fork", "", "a run to resume"),
    ],
)
def test_datasets_that_do_not_fit_are_refused(
    how: dict[str, Any], words: tuple[str, ...], where: str, key: str, expected: str
) -> None:
    write_datasets(Path("d"))
    other = PhysicsConfig(num_snapshots=4, num_antennas=8)
    write_dataset(Path("other"), other, seed=0, split="val", num_scenes=8, shard_scenes=8)
    with pytest.raises(InputError) as refused:
        runs.prepare_training(Layers(overrides=words), **how)
    assert (refused.value.where, refused.value.key) == (where, key)
    assert expected in refused.value.expected
    assert not Path("runs").exists()


def test_a_resumed_run_wants_the_scenes_it_began_with() -> None:
    write_datasets(Path("d"))
    run = train(Layers(overrides=WITHOUT_SCENES), data=Path("d")).run
    write_datasets(Path("e"), shard_scenes=20)
    with pytest.raises(InputError, match="scenes the run began with"):
        runs.prepare_training(Layers(), resume=run, data=Path("e"), val_data=Path("d/val"))


def test_without_the_tensorboard_package_its_scalars_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("risctl.runs.tensorboard.find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"^tensorboard: expected the tensorboard package"):
        runs.prepare_training(tiny(), tensorboard=True)


def test_a_training_that_fails_says_so_in_its_run() -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        train(tiny("training.lr=1.0", "training.clip=1e9"), after_step(3, fail))
    (run,) = Path("runs/train").iterdir()
    found = status_of(run)
    assert (found["state"], found["exit_status"]) == ("failed", 5)
    assert "No space left" in found["message"]
    assert load_config(None, run / "config.json").training.lr == 1.0


def test_needs_are_estimated_before_anything_is_written() -> None:
    needs = runs.prepare_training(tiny()).needs
    assert needs.parameters > 1000
    assert needs.memory_bytes > 400_000_000
    needs = runs.prepare_overfit(Layers(overrides=("model.head=factors",))).needs
    assert needs.parameters > 10_000
    assert needs.disk_bytes > 1_000_000
    assert not Path("runs").exists()

"""An interrupted run ends where the uninterrupted one ends, to the last bit."""

from pathlib import Path
from typing import Any

import pytest
import torch

from risctl.errors import DamagedFileError, InputError, StorageError
from risctl.model.checkpoint import read_checkpoint, save_checkpoint
from risctl.training import EpochResult, StopFlag
from risctl.training.validation import Validator
from tests.training import checks
from tests.training.checks import Log, resumes_to_the_same_end, train_until
from tests.training.small import Recorder, real_network, state_hash, train_small, weighted_terms


@pytest.mark.parametrize("step", range(1, 13))
def test_stopped_after_any_step(tmp_path: Path, step: int) -> None:
    resumes_to_the_same_end(tmp_path, step)


@pytest.mark.parametrize(
    "settings",
    [
        {"repeat": False},
        {"curriculum": True, "curriculum_until": (0.3, 0.6)},
        {"curriculum": True, "curriculum_until": (0.3, 0.6), "repeat": False},
        {"accumulate": 2, "batch": 4},
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"ema_decay": 0.0},
        {"swa_fraction": 0.0},
        {"train_scenes": 35},
    ],
    ids=str,
)
def test_stopped_under_other_settings(tmp_path: Path, settings: dict[str, Any]) -> None:
    resumes_to_the_same_end(tmp_path, 7, **settings)


@pytest.mark.parametrize("step", [2, 7, 11])
def test_the_real_network_under_the_real_losses(tmp_path: Path, step: int) -> None:
    resumes_to_the_same_end(tmp_path, step, make=real_network, objective=weighted_terms())


def test_stopped_in_a_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, log, stop = Log(), Log(), StopFlag()
    train_small(tmp_path / "reference", reference)
    original = Validator._rows

    def rows(self: Any, *args: Any) -> Any:
        stop.request(2)
        return original(self, *args)

    monkeypatch.setattr(Validator, "_rows", rows)
    outcome = train_small(tmp_path / "other", log, stop=stop)
    assert (outcome.steps, outcome.epochs, outcome.stopped_by) == (4, 0, 2)
    monkeypatch.undo()
    train_small(tmp_path / "other", log, resume=True)
    assert state_hash(tmp_path / "other") == state_hash(tmp_path / "reference")
    assert log.values() == reference.values()


def test_a_stop_before_the_first_step_saves_too(tmp_path: Path) -> None:
    stop = StopFlag()
    stop.request(15)
    outcome = train_small(tmp_path / "a", stop=stop)
    assert (outcome.steps, outcome.stopped_by, outcome.finished) == (0, 15, False)
    assert outcome.last_path.is_file()
    train_small(tmp_path / "a", resume=True)
    train_small(tmp_path / "b")
    assert state_hash(tmp_path / "a") == state_hash(tmp_path / "b")


def test_saving_rarely_changes_nothing(tmp_path: Path) -> None:
    often = train_small(tmp_path / "a")
    rarely = train_small(tmp_path / "b", checkpoint_seconds=1e6)
    a, b = (read_checkpoint(outcome.last_path).tensors for outcome in (often, rarely))
    assert {k: v.tolist() for k, v in a.items()} == {k: v.tolist() for k, v in b.items()}


def test_resuming_a_finished_run_does_nothing(tmp_path: Path) -> None:
    first = train_small(tmp_path)
    before = state_hash(tmp_path)
    recorder = Recorder()
    second = train_small(tmp_path, recorder, resume=True)
    assert state_hash(tmp_path) == before
    assert not recorder.of(EpochResult)
    assert second == first


def test_early_stopping_counts_on_through_an_interruption(tmp_path: Path) -> None:
    settings = {"epochs": 30, "lr": 0.2, "early_stop_patience": 2, "swa_fraction": 0.0}
    reference = train_small(tmp_path / "reference", **settings)
    assert (reference.early_stopped, reference.finished) == (True, True)
    assert reference.epochs < 30
    train_until((reference.epochs - 1) * 4 + 1, tmp_path / "other", **settings)
    other = train_small(tmp_path / "other", resume=True, **settings)
    assert other.epochs == reference.epochs
    assert state_hash(tmp_path / "other") == state_hash(tmp_path / "reference")


def test_the_best_value_follows_the_lowest_validation(tmp_path: Path) -> None:
    checks.best_value_follows_the_lowest_validation(tmp_path)


def test_the_best_checkpoint_is_that_of_the_best_epoch(tmp_path: Path) -> None:
    outcome = train_small(tmp_path, epochs=4, lr=3e-3)
    state = read_checkpoint(outcome.best_path).state
    assert (state.best_value, state.epoch) == (outcome.best_value, outcome.best_epoch + 1)


@pytest.mark.parametrize(
    ("key", "value"), [("training.lr", 2e-2), ("training.seed", 1), ("data.train_scenes", 40)]
)
def test_other_science_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    train_until(2, tmp_path)
    with pytest.raises(InputError, match=key):
        train_small(tmp_path, resume=True, **{key.partition(".")[2]: value})
    train_small(tmp_path, resume=True, checkpoint_seconds=3.0)


def test_a_fork_may_change_it(tmp_path: Path) -> None:
    train_until(6, tmp_path)
    recorder = Recorder()
    outcome = train_small(tmp_path, recorder, resume=True, fork=True, epochs=4, batch=16)
    assert (outcome.finished, outcome.epochs) == (True, 4)
    assert outcome.steps == 6 + 3 * 2  # from the start of the second epoch, of two steps now
    assert [result.epoch for result in recorder.of(EpochResult)] == [1, 2, 3]
    assert recorder.of(EpochResult)[0].best


def test_a_fork_may_bring_a_loss_scaler(tmp_path: Path) -> None:
    train_until(6, tmp_path)
    assert train_small(tmp_path, resume=True, fork=True, precision="fp16").finished


@pytest.mark.parametrize(
    "changed",
    [{"scale": float("1e39")}, {"scale": -1.0}, {"_growth_tracker": 0.5}, {"growth_interval": 0}, {"x": 1}],
    ids=str,
)
def test_a_malformed_loss_scaler_is_refused(tmp_path: Path, changed: dict[str, Any]) -> None:
    train_until(6, tmp_path, precision="fp16")
    found = read_checkpoint(tmp_path / "checkpoints/last.safetensors")
    training = found.state.training | {"scaler": found.state.training["scaler"] | changed}
    save_checkpoint(found.path, found.tensors, found.state.model_copy(update={"training": training}))
    with pytest.raises(DamagedFileError, match="loss scaler"):
        train_small(tmp_path, resume=True, precision="fp16")


def test_two_runs_cannot_share_a_directory(tmp_path: Path) -> None:
    def intrude(event: object) -> None:
        if isinstance(event, EpochResult):
            with pytest.raises(StorageError, match="locked"):
                train_small(tmp_path)

    assert train_small(tmp_path, intrude, epochs=1).finished


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    leftover = tmp_path / "checkpoints" / ".last.safetensors.0123456789ab.tmp"
    leftover.write_bytes(b"half a checkpoint")
    train_small(tmp_path, epochs=1)
    assert not leftover.exists()


def test_only_the_backbone_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(self))
    network = real_network()
    train_small(tmp_path, network=network, epochs=1, compile=True)
    assert compiled == [network.backbone]

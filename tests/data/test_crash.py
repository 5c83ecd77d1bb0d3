"""Writers that die at any instant, and writers that share a directory."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from risctl.data import open_dataset
from risctl.errors import DamagedFileError, InputError
from tests.data.small import tree, write_small
from tests.processes import Server

Tree = dict[str, bytes]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """The dataset as an undisturbed writer leaves it."""
    return tree(write_small(tmp_path_factory.mktemp("expected") / "dataset"))


def _check_then_complete(directory: Path, expected: Tree, settings: dict[str, int]) -> None:
    if (directory / "dataset.json").exists():
        open_dataset(directory).verify()
    else:
        with pytest.raises((DamagedFileError, InputError)):
            open_dataset(directory)
    write_small(directory, **settings)
    assert tree(directory) == expected


def test_death_before_every_single_file_operation(
    tmp_path: Path, writers: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One writer per file operation of an undisturbed run, each dying just before it."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)  # as in the dying writers
    settings = {"num_scenes": 60, "shard_scenes": 30}
    expected = tree(write_small(tmp_path / "expected", **settings))
    deaths = 0
    for count in range(1, 1000):
        directory = tmp_path / str(count)
        status = writers.run(directory, crash_at=count, **settings)
        assert status in (0, 99)
        _check_then_complete(directory, expected, settings)
        if status == 0:
            break
        deaths += 1
    assert deaths > 50


def test_kill_9_at_random_moments(tmp_path: Path, writers: Server) -> None:
    settings = {"num_scenes": 1000, "shard_scenes": 100}
    begin = time.monotonic()
    assert writers.run(tmp_path / "expected", **settings) == 0
    duration = time.monotonic() - begin
    expected = tree(tmp_path / "expected")
    rng = random.Random(3)
    killed = 0
    for trial in range(8):
        directory = tmp_path / str(trial)
        pid = writers.start(directory, **settings)
        time.sleep(rng.uniform(0.02, 0.9) * duration)
        os.kill(pid, signal.SIGKILL)
        killed += writers.wait(pid) == -signal.SIGKILL
        _check_then_complete(directory, expected, settings)
    assert killed >= 4


def test_shares_at_once_make_one_dataset(tmp_path: Path, writers: Server, expected: Tree) -> None:
    for trial in range(4):
        directory = tmp_path / str(trial)
        pids = [writers.start(directory, shard=(i, 2)) for i in range(2)]
        assert writers.wait(pids) == [0, 0]
        assert tree(directory) == expected


def test_writers_of_the_same_shards_do_not_disturb_each_other(
    tmp_path: Path, writers: Server, expected: Tree
) -> None:
    pids = [writers.start(tmp_path / "same") for _ in range(3)]
    assert writers.wait(pids) == [0, 0, 0]
    assert tree(tmp_path / "same") == expected

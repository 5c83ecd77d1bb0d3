import errno
import json
import os
import shutil
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from risctl.config import ImpairmentConfig
from risctl.data import open_dataset
from risctl.errors import DamagedFileError, InputError, StorageError
from risctl.physics import Scenes, simulate_scenes
from tests.data.small import SHARDS, SMALL, forge, tree, write, write_small

IMPAIRMENTS = ImpairmentConfig(dead_elements=0.1)


def test_the_summary_counts_what_was_done(tmp_path: Path) -> None:
    first = write(tmp_path / "d", shard=(1, 2))
    assert (first.written, first.kept, first.finished_shards, first.complete) == (1, 0, 1, False)
    second = write(tmp_path / "d")
    assert (second.written, second.kept, second.repaired, second.finished_shards) == (2, 1, 0, 3)
    assert second.complete
    assert second.fingerprint == open_dataset(tmp_path / "d").fingerprint
    assert second.num_bytes == sum((tmp_path / "d" / name).stat().st_size for name in SHARDS)


def test_a_second_run_verifies_and_touches_nothing(tmp_path: Path) -> None:
    shards = [write_small(tmp_path / "d") / name for name in SHARDS]
    before, content = [shard.stat().st_mtime_ns for shard in shards], tree(tmp_path / "d")
    summary = write(tmp_path / "d")
    assert (summary.kept, summary.written) == (3, 0)
    assert ([shard.stat().st_mtime_ns for shard in shards], tree(tmp_path / "d")) == (before, content)


@pytest.mark.parametrize("damage", ["flip", "cut", "missing", "link"])
def test_a_damaged_shard_is_made_anew(tmp_path: Path, damage: str) -> None:
    directory = write_small(tmp_path / "d")
    expected, shard = tree(directory), directory / SHARDS[1]
    content = shard.read_bytes()
    shard.unlink()
    if damage == "flip":
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut":
        shard.write_bytes(content[:-1])
    elif damage == "link":
        (tmp_path / "outside").write_bytes(content)
        shard.symlink_to(tmp_path / "outside")
    summary = write(directory)
    assert (summary.kept, summary.repaired) == (2, 1)
    assert not shard.is_symlink()
    assert tree(directory) == expected


def _edit_partial(directory: Path) -> None:
    path = directory / "dataset.partial.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": 6}))


def _forge_a_hash(directory: Path) -> None:
    forge(directory, lambda values: values["shards"][1].update(content_hash="0" * 64))


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (_forge_a_hash, DamagedFileError, r"dataset\.json.*shard-00001\.safetensors"),
        (lambda d: forge(d, lambda v: v["generator"].update(version=2)), InputError, r"generator\.version"),
        (lambda d: (d / "dataset.json").unlink(), InputError, "shards without"),
        (_edit_partial, DamagedFileError, r"dataset\.partial\.json.*edited"),
    ],
    ids=["hashes of other scenes", "another generator", "no manifest", "an edited partial manifest"],
)
def test_a_manifest_that_does_not_fit_is_refused_and_the_shards_kept(
    tmp_path: Path, change: Any, error: type[Exception], said: str
) -> None:
    directory = write_small(tmp_path / "d", shard=(0, 2) if change is _edit_partial else (0, 1))
    change(directory)
    before = tree(directory)
    with pytest.raises(error, match=said):
        write(directory)
    assert tree(directory) == before


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": 6}, "seed"),
        ({"split": "val"}, "split"),
        ({"num_scenes": 151}, "num_scenes"),
        ({"shard_scenes": 71}, "shard_scenes"),
        ({"physics": SMALL.model_copy(update={"wavelength": 0.31})}, "physics.wavelength"),
        ({"physics": SMALL.model_copy(update={"impairments": IMPAIRMENTS})}, "physics.impairments"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_dataset_in_the_directory_is_refused(
    tmp_path: Path, changes: dict[str, Any], key: str, finished: bool
) -> None:
    directory = write_small(tmp_path / "d", shard=(0, 1) if finished else (0, 2))
    before = tree(directory)
    with pytest.raises(InputError, match=key):
        write(directory, **changes)
    assert tree(directory) == before


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("x")
    with pytest.raises(InputError, match="a directory"):
        write(tmp_path / "d")
    with pytest.raises(StorageError, match="Not a directory"):
        write(tmp_path / "d" / "below")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("shard", share) for share in ((2, 2), (-1, 2), (0, 0))),
        *((key, 0) for key in ("workers", "num_scenes", "shard_scenes")),
        *(("seed", -1), ("split", "dev")),
    ],
)
def test_bad_arguments_write_nothing(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(InputError, match=key):
        write(tmp_path / "d", **{key: value})
    assert not (tmp_path / "d").exists()


def test_more_shares_than_shards(tmp_path: Path) -> None:
    for index in range(7):
        summary = write(tmp_path / "d", shard=(index, 7))
        assert summary.written == (index < 3)
        assert summary.complete == (index >= 2)


def test_worker_processes_write_the_same_bytes(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    settings = {"num_scenes": 1600, "shard_scenes": 280}
    summary = write(tmp_path / "w", workers=2, progress=lambda *now: seen.append(now), **settings)
    assert summary.written == 6
    write(tmp_path / "d", **settings)
    assert tree(tmp_path / "w") == tree(tmp_path / "d")
    assert (len(seen), seen[-1]) == (6, (1600, 1600))


def test_progress_rises_to_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write(tmp_path / "d", progress=lambda *now: seen.append(now))
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {600}
    assert seen[-1] == (600, 600)
    assert len(seen) > 3
    seen.clear()
    write(tmp_path / "d", shard=(0, 2), progress=lambda *now: seen.append(now))
    assert seen == [(280, 320), (320, 320)]


def test_no_room_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(total=10**9, used=10**9, free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StorageError, match=r"needs 1\.\d MB of disk space, 1\.0 MB are free"):
        write(tmp_path / "d")
    assert not list((tmp_path / "d").glob("shard*"))


@pytest.mark.parametrize("after", [0, 1, 5, 20, 40])
def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    calls, pwrite = count(), os.pwrite

    def full(*args: Any) -> int:
        if next(calls) >= after:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(*args)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(StorageError, match=r"No space left on device$") as caught:
            write(tmp_path / "d")
    assert "\n" not in str(caught.value)
    assert not [path for path in (tmp_path / "d").iterdir() if path.suffix == ".tmp"]
    assert write(tmp_path / "d").complete
    assert tree(tmp_path / "d") == tree(write_small(tmp_path / "expected"))


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, pwrite = tree(write_small(tmp_path / "expected")), os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:1000], at))
    assert tree(write_small(tmp_path / "d")) == expected


def test_an_interrupt_keeps_finished_shards_and_leaves_no_litter(tmp_path: Path) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done > 400:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "d", progress=interrupt)
    assert not list((tmp_path / "d").glob(".*.tmp"))
    summary = write(tmp_path / "d")
    assert (summary.kept, summary.written) == (1, 2)


def test_an_error_of_the_progress_display_is_not_blamed_on_the_disk(tmp_path: Path) -> None:
    with pytest.raises(BrokenPipeError):
        write(tmp_path / "d", progress=Mock(side_effect=BrokenPipeError(errno.EPIPE, "Broken pipe")))


def test_a_vanished_directory_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        write(tmp_path / "d", progress=lambda *_: shutil.rmtree(tmp_path / "d", ignore_errors=True))


def test_a_killed_worker_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProcessPoolExecutor, "submit", Mock(side_effect=BrokenProcessPool))
    with pytest.raises(StorageError, match="a worker process was killed"):
        write(tmp_path / "d", workers=2)


def test_scenes_that_no_reader_accepts_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_signal(*args: Any, **options: Any) -> Scenes:
        scenes = simulate_scenes(*args, **options)
        scenes.noise_var[3] = 0
        return scenes

    monkeypatch.setattr("risctl.data.stream.simulate_scenes", without_signal)
    with pytest.raises(InputError, match="noise_var above 0 in every scene"):
        write(tmp_path / "d")
    assert not list((tmp_path / "d").glob("*shard*"))

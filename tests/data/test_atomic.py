import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from risctl.data.atomic import exclusive_lock, remove_leftovers, replacing, write_atomically
from risctl.data.mapped import read_regular
from risctl.errors import DamagedFileError, StorageError


def test_reading_takes_memory_for_the_file_and_not_for_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    tracemalloc.start()
    try:
        assert read_regular(path, limit=2**33) == b"x" * 1000
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    with pytest.raises(DamagedFileError, match="at most 999 bytes"):
        read_regular(path, limit=999)


def test_content_replaces_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"", b"three" * 1000):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["file"]


def test_an_error_in_the_block_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError), replacing(path) as descriptor:
        os.write(descriptor, b"new" + None)  # type: ignore[operator]
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_missing_directory_and_one_in_the_way_are_storage_errors_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    for place, said in (("none/file", "No such file or directory$"), ("file", "Is a directory$")):
        with pytest.raises(StorageError, match=said):
            write_atomically(tmp_path / place, b"x")
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_atomically(tmp_path / "link", b"x")
    assert (tmp_path / "target").read_bytes() == b"precious"
    assert not (tmp_path / "link").is_symlink()


def test_leftovers_of_the_dead_go_and_work_of_the_living_stays(tmp_path: Path) -> None:
    (tmp_path / ".shard.0123456789ab.tmp").write_bytes(b"left by a killed writer")
    (tmp_path / "mine.tmp").write_bytes(b"not ours")
    with replacing(tmp_path / "file") as descriptor:
        os.write(descriptor, b"x")
        remove_leftovers(tmp_path)
        assert len(list(tmp_path.glob(".file.*.tmp"))) == 1
        assert not (tmp_path / ".shard.0123456789ab.tmp").exists()
    assert sorted(os.listdir(tmp_path)) == ["file", "mine.tmp"]


def test_a_lock_keeps_others_out_and_dies_with_its_holder(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    code = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print(flush=True); input()"
    command = [sys.executable, "-c", code, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(StorageError, match="still locked by another process"), exclusive_lock(lock, 0.05):
            pass
        holder.kill()
    with exclusive_lock(lock, 0.05):
        pass

from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file

from risctl.config import PhysicsConfig
from risctl.data import SceneStream, dataset_bytes, open_dataset, shards
from risctl.data.layout import ShardLayout, scene_shapes
from risctl.errors import DamagedFileError, StorageError
from tests.data.small import SCENES, SMALL, tree, write_small
from tests.data.test_stream import equal


@pytest.mark.parametrize("shard_scenes", [7, 256, 280, 599, 1000])
def test_the_disk_changes_nothing(tmp_path: Path, shard_scenes: int) -> None:
    store = open_dataset(write_small(tmp_path / "d", shard_scenes=shard_scenes))
    stream = SceneStream(SMALL, 5, "test", SCENES)
    assert (len(store), store.physics, store.seed, store.split) == (SCENES, SMALL, 5, "test")
    for start, stop in ((0, SCENES), (7, 13), (SCENES - 1, SCENES)):
        assert equal(store.scenes(start, stop), stream.scenes(start, stop))


def test_take_gathers_across_shards_in_the_order_asked_for(tmp_path: Path) -> None:
    store = open_dataset(write_small(tmp_path / "d"))
    indices = torch.tensor([599, 0, 281, 280, 279, 0])
    assert equal(store.take(indices), store.scenes(0, SCENES)[indices])
    for outside in (600, -1):
        with pytest.raises(IndexError):
            store.take(torch.tensor([outside]))


def test_what_is_returned_is_a_copy(tmp_path: Path) -> None:
    store = open_dataset(write_small(tmp_path / "d"))
    store.scenes(0, 10).y.zero_()
    assert store.scenes(0, 10).y.abs().min() > 0


def test_any_safetensors_reader_reads_a_shard(tmp_path: Path) -> None:
    directory = write_small(tmp_path / "d")
    scenes = SceneStream(SMALL, 5, "test").scenes(280, 560).tensors()
    loaded = load_file(directory / "shard-00001.safetensors")
    assert loaded.keys() == scenes.keys()
    assert all(torch.equal(loaded[name], scenes[name]) for name in scenes)


def test_tensors_have_the_types_and_shapes_of_the_format() -> None:
    scenes = SceneStream(PhysicsConfig(), 0, "train").scenes(0, 2)
    for name, (dtype, shape) in scene_shapes(PhysicsConfig()).items():
        tensor = scenes.tensors()[name]
        assert (str(tensor.dtype), tensor.shape) == (f"torch.{dtype}", (2, *shape))


def test_a_scene_costs_less_than_25_kilobytes_and_every_tensor_is_aligned() -> None:
    assert dataset_bytes(PhysicsConfig(), 1024, 1024) / 1024 < 25_000
    assert dataset_bytes(PhysicsConfig(), 100, 30) == sum(
        ShardLayout(PhysicsConfig(), n).nbytes for n in (30, 30, 30, 10)
    )
    for scenes in (1, 3, 64):
        for place in ShardLayout(SMALL, scenes).tensors.values():
            assert place.start % torch.empty(0, dtype=getattr(torch, place.dtype)).element_size() == 0


def test_a_shard_is_checked_at_its_first_touch_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write_small(tmp_path / "d")
    content = bytearray((directory / "shard-00001.safetensors").read_bytes())
    content[-1] ^= 1
    (directory / "shard-00001.safetensors").write_bytes(content)
    store = open_dataset(directory)
    store.scenes(0, 280)
    for _ in range(2):
        with pytest.raises(DamagedFileError, match=r"shard-00001\.safetensors: damaged"):
            store.scenes(279, 281)
    open_dataset(directory, verify=False).scenes(279, 281)
    hash_file = Mock()
    monkeypatch.setattr(shards, "hash_file", hash_file)
    with pytest.raises(DamagedFileError):
        open_dataset(directory).scenes(0, 1)
    assert hash_file.call_count == 1


def test_one_check_serves_all_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hash_file = Mock(wraps=shards.hash_file)
    monkeypatch.setattr(shards, "hash_file", hash_file)
    store = open_dataset(write_small(tmp_path / "d"))
    for start in range(0, SCENES, 10):
        store.scenes(start, start + 10)
    assert hash_file.call_count == 3


def test_every_flipped_byte_of_a_shard_is_found(tmp_path: Path) -> None:
    directory = write_small(tmp_path / "d", num_scenes=1, shard_scenes=1)
    shard = directory / "shard-00000.safetensors"
    content = shard.read_bytes()
    for position in range(0, len(content), 13):
        shard.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        with pytest.raises(DamagedFileError, match=r"shard-00000\.safetensors"):
            open_dataset(directory).verify()


def test_the_manifests_path_or_a_link_will_do_and_reading_writes_nothing(tmp_path: Path) -> None:
    directory = write_small(tmp_path / "d")
    before = tree(directory)
    (tmp_path / "link").symlink_to(directory)
    for place in (directory / "dataset.json", tmp_path / "link"):
        store = open_dataset(place)
        store.verify()
        assert (len(store), store.fingerprint) == (600, open_dataset(str(directory)).fingerprint)
    assert tree(directory) == before


def test_what_cannot_be_read_is_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = write_small(tmp_path / "d")

    def refuse(path: object, *_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(StorageError, match=r"dataset\.json: Permission denied$"):
        open_dataset(directory)

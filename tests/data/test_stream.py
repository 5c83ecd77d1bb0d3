from pathlib import Path
from typing import Any

import pytest
import torch

from risctl.config import ImpairmentConfig, PhysicsConfig
from risctl.data import SceneStream, open_dataset
from risctl.data.stream import BLOCK, PrefetchStream, shared_surface
from risctl.errors import InputError
from risctl.physics import ArrayGeometry, Scenes, received_signal, steering_vector
from tests.data.small import SCENES, SMALL, write_small


def equal(a: Scenes, b: Scenes) -> bool:
    left, right = a.tensors(), b.tensors()
    return all(torch.equal(left[name], right[name]) for name in left) and a.phase_bits == b.phase_bits


@pytest.mark.parametrize("batch", [1, 7, 64, 100, 600])
def test_a_scene_does_not_depend_on_the_batch(batch: int) -> None:
    stream = SceneStream(SMALL, 5, "test", SCENES)
    whole = stream.scenes(0, SCENES)
    for start in range(0, SCENES, batch):
        stop = min(start + batch, SCENES)
        assert equal(stream.scenes(start, stop), whole[start:stop])


def test_a_scene_does_not_depend_on_the_length_or_the_thread_count() -> None:
    scene = SceneStream(SMALL, 5, "test", 320).scenes(280, 320)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = SceneStream(SMALL, 5, "test").scenes(280, 320)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert equal(scene, again)


def test_the_default_array_too() -> None:
    stream = SceneStream(PhysicsConfig(), 0, "train", 2 * BLOCK)
    whole = stream.scenes(0, 2 * BLOCK)
    assert equal(stream.scenes(63, 66), whole[63:66])


def test_no_two_splits_or_seeds_share_a_scene() -> None:
    seeds = (0, 1, 2**32, 2**32 + 1, 2**62)
    sources = [SceneStream(SMALL, seed, split) for seed in seeds for split in ("train", "val", "test")]
    found = {y.numpy().tobytes() for source in sources for y in source.scenes(0, 130).y}
    assert len(found) == len(sources) * 130


def test_stratified_scenes_cycle_on_their_index(tmp_path: Path) -> None:
    physics = SMALL.model_copy(update={"stratified": True, "snr_values_db": (0.0, 10.0)})
    scenes = SceneStream(physics, 1, "val").scenes(60, 130)
    expected = [(1 + i % 3, (0.0, 10.0)[(i // 3) % 2]) for i in range(60, 130)]
    assert list(zip(scenes.num_sources.tolist(), scenes.snr_db.tolist(), strict=True)) == expected
    write_small(tmp_path / "d", physics=physics, seed=1, split="val", num_scenes=130, shard_scenes=33)
    assert equal(open_dataset(tmp_path / "d").scenes(60, 130), scenes)


def test_fingerprints_tell_sources_apart() -> None:
    given = [(SMALL, 0, "train"), (SMALL, 1, "train"), (SMALL, 0, "val"), (SMALL, 0, "train", 10)]
    given.append((PhysicsConfig(), 0, "train"))
    found = [SceneStream(*arguments).fingerprint for arguments in given]
    assert len(set(found)) == len(given)
    assert SceneStream(*given[0]).fingerprint == found[0]


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 3), (4, 3), (0, 11), (10, 11)])
def test_intervals_outside_are_refused(start: int, stop: int) -> None:
    with pytest.raises(IndexError, match=f"scenes {start}:{stop} of 10"):
        SceneStream(SMALL, 0, "train", 10).scenes(start, stop)


def test_an_endless_stream_has_no_length_but_a_far_scene() -> None:
    stream = SceneStream(SMALL, 0, "train")
    with pytest.raises(TypeError):
        len(stream)
    assert len(stream.scenes(10**9, 10**9 + 2)) == 2


@pytest.mark.parametrize(
    ("given", "word"),
    [((-1, "val"), "seed"), ((2**63, "val"), "seed"), ((0, "dev"), "split"), ((0, "val", 0), "num_scenes")],
)
def test_bad_arguments_are_refused(given: tuple[Any, ...], word: str) -> None:
    with pytest.raises(InputError, match=word):
        SceneStream(SMALL, *given)


def test_batches_in_order_make_each_block_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    stream = SceneStream(SMALL, 1, "val")
    generate = stream._generate
    monkeypatch.setattr(stream, "_generate", lambda block: made.append(block) or generate(block))
    for start in range(0, 2 * BLOCK, BLOCK // 4):
        stream.scenes(start, start + BLOCK // 4)
    assert made == [0, 1]


@pytest.mark.slow
def test_prefetched_scenes_are_those_of_the_stream_in_any_order() -> None:
    stream, prefetched = SceneStream(SMALL, 3, "train"), PrefetchStream(SceneStream(SMALL, 3, "train"), 1)
    try:
        for start, stop in ((100, 700), (700, 720), (720, 1300), (5000, 5200)):
            assert equal(prefetched.scenes(start, stop), stream.scenes(start, stop)), start
        assert prefetched.known_fingerprints == stream.known_fingerprints
        prefetched.close()
        assert equal(prefetched.scenes(10, 20), stream.scenes(10, 20))
    finally:
        prefetched.close()


def test_a_shared_surface_is_that_of_the_seed_in_every_split() -> None:
    """The gains that turn the nominal surface's data into the data are the same, whatever split and block."""
    faults = ImpairmentConfig(phase_error_deg=30.0, shared=True)
    physics = PhysicsConfig(impairments=faults, snr_values_db=(100.0,), min_sources=1, max_sources=1)
    truth = shared_surface(physics, 5).gain
    assert truth is not None
    for split, first in (("train", 0), ("test", BLOCK)):
        scenes = SceneStream(physics, 5, split, BLOCK + 2).scenes(first, first + 2)
        geometry = ArrayGeometry.from_config(physics)
        place = (x[:, :1] for x in (scenes.azimuth, scenes.elevation, scenes.range))
        A = steering_vector(*place, geometry) * truth
        source = scenes.power[:, :1], scenes.symbols[:, :1]
        expected = received_signal(scenes.H, scenes.codes, A, *source)
        torch.testing.assert_close(scenes.y, expected, rtol=1e-3, atol=1e-3)
    other = shared_surface(physics, 6).gain
    assert other is not None
    assert not torch.equal(truth, other)
    with pytest.raises(InputError, match=r"impairments\.shared"):
        shared_surface(PhysicsConfig(), 5)

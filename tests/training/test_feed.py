"""Which scenes a step sees: orders, passes, curriculum, and the cursor that is all the sampler's state."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from risctl.config import TrainingConfig
from risctl.data import SceneStream, open_dataset, write_dataset
from risctl.errors import InputError
from risctl.training.feed import Feed, Filter, Sampler, filter_of, phase_of, prefetch_workers
from tests.training.small import PHYSICS, small_plan


def test_a_stream_is_taken_in_order() -> None:
    assert Sampler(0, None).indices(7, 5).tolist() == [7, 8, 9, 10, 11]


def test_each_pass_over_a_finite_set_visits_every_scene_once() -> None:
    sampler = Sampler(3, 20)
    passes = [sampler.indices(20 * k, 20).tolist() for k in range(4)]
    for order in passes:
        assert sorted(order) == list(range(20))
    assert len({tuple(order) for order in passes}) == 4
    assert sampler.indices(15, 10).tolist() == passes[0][15:] + passes[1][:5]
    assert sampler.indices(20, 20).tolist() == passes[1]  # nothing is remembered
    assert Sampler(4, 20).indices(0, 20).tolist() != passes[0]


def test_orders_are_uniform() -> None:
    """Every scene comes first equally often (chi-square with 9 degrees of freedom, 99.9 % point 27.9)."""
    counts = torch.bincount(torch.cat([Sampler(1, 10).indices(10 * k, 1) for k in range(1000)]), minlength=10)
    assert float(((counts - 100.0) ** 2 / 100.0).sum()) < 27.9


def test_scenes_of_a_stream_are_new_in_every_epoch_unless_repeated() -> None:
    fresh, again = Feed(small_plan(repeat=False)), Feed(small_plan(repeat=True))
    stream = SceneStream(PHYSICS, 0, "train")
    scenes, cursor = fresh.draw(32, 8, None)
    assert cursor == 40
    assert torch.equal(scenes.y, stream.scenes(32, 40).y)
    first, second = (again.draw(start, 32, None)[0] for start in (0, 32))
    assert not torch.equal(first.y, second.y)
    assert torch.equal(first.snr_db.sort().values, second.snr_db.sort().values)


def test_scenes_are_made_in_advance_beside_an_accelerator_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("risctl.training.feed.cores", lambda: 12)
    plan = small_plan()
    beside = replace(plan, device=torch.device("cuda"))
    assert (prefetch_workers(plan), prefetch_workers(beside)) == (0, 11)
    stated = replace(beside, data=plan.data.model_copy(update={"prefetch_workers": 3}))
    assert prefetch_workers(stated) == 3


def test_a_dataset_on_a_disk_is_the_same_set(tmp_path: Path) -> None:
    write_dataset(tmp_path / "d", PHYSICS, seed=0, split="train", num_scenes=32, shard_scenes=10)
    plan = small_plan(repeat=True)
    data = plan.data.model_copy(update={"repeat": False})
    stored = replace(plan, train=open_dataset(tmp_path / "d"), data=data)
    assert stored.repeats
    a, b = Feed(plan).draw(5, 40, None)[0], Feed(stored).draw(5, 40, None)[0]
    for name, x in a.tensors().items():
        assert torch.equal(x, b.tensors()[name]), name


@pytest.mark.parametrize("repeat", [True, False])
def test_a_filter_skips_scenes_and_nothing_else(repeat: bool) -> None:
    feed, wanted = Feed(small_plan(repeat=repeat)), Filter(2, 5.0)
    candidates = feed.draw(0, 200, None)[0]
    expected = candidates[wanted.accepts(candidates).nonzero().flatten()]
    assert 10 < len(expected) < 150
    cursor, parts = 0, []
    for _ in range(5):
        scenes, cursor = feed.draw(cursor, 4, wanted)
        assert len(scenes) == 4
        parts.append(scenes.y)
    assert torch.equal(torch.cat(parts), expected.y[:20])
    assert bool((expected.num_sources <= 2).all())
    assert bool((expected.snr_db >= 5.0).all())


def test_a_filter_that_nothing_passes_is_refused() -> None:
    with pytest.raises(InputError, match="next to none"):
        Feed(small_plan()).draw(0, 4, Filter(1, 90.0))


def test_the_phases_of_the_curriculum() -> None:
    training = TrainingConfig(epochs=10, curriculum=True, curriculum_until=(0.2, 0.5))
    assert [phase_of(training, epoch) for epoch in range(10)] == [0] * 2 + [1] * 3 + [2] * 5
    assert [filter_of(training, epoch) for epoch in (0, 2, 5)] == [Filter(2, 10.0), Filter(3, 0.0), None]
    off = training.model_copy(update={"curriculum": False})
    assert [filter_of(off, epoch) for epoch in range(10)] == [None] * 10


def test_an_epoch_shorter_than_a_step_is_refused() -> None:
    with pytest.raises(InputError, match=r"batch \* accumulate"):
        _ = small_plan(batch=64).steps_per_epoch


def test_a_repeated_stream_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="repeat from memory"):
        Feed(small_plan(train_scenes=50_000_000))

"""Every shipped preset is valid and says what the contract asks of it."""

import pytest

from risctl.config import fingerprint, load_config, preset_names, preset_path, preset_summary


@pytest.mark.parametrize("name", preset_names())
def test_a_shipped_preset_is_valid_and_described(name: str) -> None:
    load_config(name)
    assert preset_path(name).read_text(encoding="utf-8").startswith("# ")
    assert len(preset_summary(name)) > 20


def test_presets_share_physics_and_covariance() -> None:
    """A model trained under one preset must be usable under another."""
    configs = [load_config(name) for name in preset_names()]
    assert len({fingerprint(config.physics) for config in configs}) == 1
    assert len({fingerprint(config.covariance) for config in configs}) == 1


def test_full_has_the_published_size() -> None:
    full = load_config("full")
    assert (full.data.train_scenes, full.data.val_scenes) == (80_000, 16_000)
    assert 140 <= full.training.epochs <= 200
    assert (full.training.curriculum, full.training.swa_fraction) == (True, 0.2)
    assert full.inference.range_grid == 241


def test_overfit_sees_the_same_512_scenes_twice() -> None:
    config = load_config("overfit")
    data = config.data
    assert (data.train_scenes, data.val_scenes, data.validate_on) == (512, 512, "train")
    assert config.training.epochs <= 30


def test_search_has_no_curriculum_and_no_averaging() -> None:
    training, search = load_config("search").training, load_config("search").search
    assert (training.curriculum, training.swa_fraction) == (False, 0)
    assert training.beta_jitter == search.beta_jitter == 0.02
    assert (search.trials, search.epochs, search.patience) == (24, 24, 8)
    assert (search.pruner_warmup_epochs, search.pruner_min_trials) == (6, 8)

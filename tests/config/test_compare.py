"""Fingerprints, differences, and TOML that reads back."""

from __future__ import annotations

from pathlib import Path

from risctl.config import Config, PhysicsConfig, diff_configs, fingerprint, load_config
from risctl.config.toml import to_toml


def test_fingerprints_depend_on_values_only() -> None:
    assert fingerprint(PhysicsConfig()) == fingerprint(PhysicsConfig.model_validate({"wavelength": 0.3}))
    assert fingerprint(PhysicsConfig()) != fingerprint(PhysicsConfig.model_validate({"wavelength": 0.31}))
    assert len(fingerprint(Config())) == 16


def test_the_fingerprint_of_the_default_physics_never_moves() -> None:
    """Datasets and checkpoints carry it: a change here must be meant."""
    assert fingerprint(PhysicsConfig()) == "678d018119474a77"


def test_differences() -> None:
    assert diff_configs(Config(), Config()) == {}
    other = load_config(None, None, ["physics.impairments.dead_elements=0.1", "data.seed=1"])
    assert diff_configs(Config(), other) == {
        "data.seed": (0, 1),
        "physics.impairments.dead_elements": (0.0, 0.1),
    }


def test_toml_reads_back(tmp_path: Path) -> None:
    config = load_config("full", None, ["physics.snr_values_db=[0, 10.5]", "physics.wavefront=planar"])
    file = tmp_path / "all.toml"
    file.write_text(to_toml(config))
    assert load_config(None, file) == config

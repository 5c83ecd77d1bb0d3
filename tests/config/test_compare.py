"""Fingerprints, differences, and TOML that reads back."""

import json
from pathlib import Path

import pytest

from risctl.config import (
    Config,
    CovarianceConfig,
    PhysicsConfig,
    canonical_json,
    diff_configs,
    fingerprint,
    known_fingerprints,
    load_config,
)
from risctl.config.toml import to_toml
from risctl.covariance import is_covariance_fingerprint


def test_fingerprints_depend_on_values_only() -> None:
    assert fingerprint(PhysicsConfig()) == fingerprint(PhysicsConfig.model_validate({"wavelength": 0.3}))
    assert fingerprint(PhysicsConfig()) != fingerprint(PhysicsConfig.model_validate({"wavelength": 0.31}))
    assert len(fingerprint(Config())) == 16


def test_only_what_differs_from_the_defaults_counts() -> None:
    config = load_config(None, None, ["physics.impairments.dead_elements=0.1", "model.width=32"])
    expected = {"defaults_version": 1, "physics": {"impairments": {"dead_elements": 0.1}}}
    assert json.loads(canonical_json(config)) == expected


# Fingerprints as risctl 0.1.0 wrote them.
CHANGED = (
    "physics.pair_coherence=0.8",
    "physics.impairments.dead_elements=0.1",
    "loss.own_std=0.5",
    "model.width=48",
)
FORMER = {
    (): {"physics": "678d018119474a77", "model": "4f709a6f7d9dc408", "loss": "1679312ac1ad1f40"},
    CHANGED: {"physics": "5bbd9e5f226f6db7", "model": "6e044dba4c21b6bc", "loss": "378cb2f87d1f29d8"},
}


@pytest.mark.parametrize(("words", "former"), FORMER.items())
def test_former_fingerprints_are_known(words: tuple[str, ...], former: dict[str, str]) -> None:
    """If this fails with a changed default, raise DEFAULTS_VERSION and write the new value here."""
    config = load_config(None, None, words)
    assert {name: known_fingerprints(getattr(config, name), name)[1] for name in former} == former


def test_former_fingerprints_of_the_covariance_pipeline_are_known() -> None:
    assert is_covariance_fingerprint("43e477d1c8a1920b", CovarianceConfig())
    assert not is_covariance_fingerprint("43e477d1c8a1920b", CovarianceConfig(beta=0.4))


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

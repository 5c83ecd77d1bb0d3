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
from risctl.config.former import former_canonical_json
from risctl.config.toml import tables_to_toml
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
CHANGED = ("physics.pair_coherence=0.8", "physics.impairments.dead_elements=0.1")
FORMER = {(): "678d018119474a77", CHANGED: "5bbd9e5f226f6db7"}


@pytest.mark.parametrize(("words", "former"), FORMER.items())
def test_former_fingerprints_are_known(words: tuple[str, ...], former: str) -> None:
    """If this fails with a changed default, raise DEFAULTS_VERSION and write the new value here."""
    physics = load_config(None, None, words).physics
    assert known_fingerprints(physics, "physics")[1] == former


def test_a_former_value_has_its_former_fingerprint() -> None:
    def text(*words: str) -> dict[str, object]:
        physics = load_config(None, None, ["covariance.center=false", *words]).physics
        return json.loads(former_canonical_json(physics, "physics"))

    assert text("physics.symbols=coherent")["symbols"] == "coherent"
    assert "fading" not in text("physics.symbols=coherent")
    assert text("physics.symbols=constant")["symbols"] == "constant"


def test_former_fingerprints_of_the_covariance_pipeline_are_known() -> None:
    assert is_covariance_fingerprint("43e477d1c8a1920b", CovarianceConfig())
    assert not is_covariance_fingerprint("43e477d1c8a1920b", CovarianceConfig(beta=0.4))


def test_differences() -> None:
    assert diff_configs(Config(), Config()) == {}
    other = load_config(None, None, ["physics.impairments.dead_elements=0.1", "data.seed=1"])
    expected = {"data.seed": (0, 1), "physics.impairments.dead_elements": (0.0, 0.1)}
    assert diff_configs(Config(), other) == expected


def test_toml_reads_back(tmp_path: Path) -> None:
    config = load_config("full", None, ["physics.snr_values_db=[0, 10.5]", "physics.wavefront=planar"])
    file = tmp_path / "all.toml"
    file.write_text(tables_to_toml(config.model_dump(mode="json")))
    assert load_config(None, file) == config

"""The schema: defaults, strictness, ranges, and rules between fields."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from risctl.config import (
    Config,
    CovarianceConfig,
    EvaluationConfig,
    ImpairmentConfig,
    PhysicsConfig,
    TrainingConfig,
)
from risctl.config.parse import known_keys

SECTIONS = ("physics", "data", "covariance", "model", "loss", "training", "inference", "evaluation", "search")


def test_the_sections_are_the_nine_of_the_contract() -> None:
    assert tuple(Config.model_fields) == SECTIONS


def test_the_defaults_are_the_published_problem() -> None:
    physics = PhysicsConfig()
    assert physics.num_elements == 144
    assert (physics.num_antennas, physics.num_snapshots, physics.max_sources) == (16, 16, 5)
    assert (physics.wavelength, physics.element_spacing, physics.phase_bits) == (0.3, 0.5, 3)
    covariance = CovarianceConfig()
    assert (covariance.beta, covariance.tikhonov_alpha, covariance.eps_cov) == (0.30, 1e-3, 1e-3)
    assert (covariance.range_weight, covariance.center) == (0.3, True)


def test_there_is_one_place_for_covariance_settings() -> None:
    leaves, _ = known_keys(Config)
    for knob in CovarianceConfig.model_fields:
        assert [key for key in leaves if key.rpartition(".")[2] == knob] == [f"covariance.{knob}"]


@pytest.mark.parametrize("name", SECTIONS)
def test_every_field_is_described(name: str) -> None:
    section = Config.model_fields[name].annotation
    assert [key for key, field in section.model_fields.items() if not field.description] == []


def test_sections_are_frozen_and_hashable() -> None:
    physics = PhysicsConfig()
    with pytest.raises(ValidationError):
        physics.wavelength = 1.0
    assert hash(physics) == hash(PhysicsConfig())


BAD: dict[type[BaseModel], list[dict[str, Any]]] = {
    PhysicsConfig: [
        *({"wavelength": value} for value in (0.0, float("nan"), float("inf"), "0.3", True)),
        *({"num_antennas": value} for value in (16.0, True)),
        {"amplitude_taper": 1},
        {"phase_bits": 9},
        {"wavefront": "round"},
        {"unknown": 1},
        {"min_sources": 3, "max_sources": 2},
        {"max_sources": 4, "num_antennas": 2, "num_snapshots": 2},
        {"codebook": "dft", "elements": {"positions": [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]}},
        *({"known_elevation_deg": value} for value in (90.0, "high", None, True, float("nan"))),
        *({"known_range_m": value} for value in (0.0, "far", None, True, float("nan"))),
        {"ris_columns": 1, "ris_rows": 5},
        {"range_min": 2.0, "range_max": 2.0},
        {"rician_k_min": 3.0, "rician_k_max": 2.0},
        {"snr_min_db": 3.0, "snr_max_db": 2.0},
        {"snr_values_db": [float("nan")]},
        {"stratified": True},
        {"symbols": "coherent"},
        {"static_path": True},
        {"fading": "rayleigh"},
        {"symbols": "constant", "static_path": True, "num_snapshots": 1},
    ],
    ImpairmentConfig: [{"dead_elements": 1.0}, {"phase_error_deg": -1.0}],
    CovarianceConfig: [{"beta": 1.1}, {"tikhonov_alpha": 0.0}, {"normalisation": "none"}],
    EvaluationConfig: [
        *({"snr_values_db": values} for values in ([], [10.0, 0.0])),
        *({"estimators": names} for names in (["nomp", "nomp"], ["oracle"])),
    ],
    TrainingConfig: [{"warmup_fraction": 0.9, "swa_fraction": 0.2}],
    Config: [{"physics": {"symbols": "constant"}}, {"physics": {"num_snapshots": 1}}],
}


@pytest.mark.parametrize(("section", "values"), [(key, bad) for key, table in BAD.items() for bad in table])
def test_bad_values_are_refused(section: type[BaseModel], values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        section.model_validate(values)


def test_constant_symbols_need_an_uncentred_covariance() -> None:
    config = Config.model_validate({"physics": {"symbols": "constant"}, "covariance": {"center": False}})
    assert config.physics.symbols == "constant"


def test_whole_numbers_stand_for_floats() -> None:
    assert isinstance(PhysicsConfig.model_validate({"wavelength": 1}).wavelength, float)

"""The configuration: a frozen, strict schema, the shipped presets, and how they are resolved."""

from risctl.config.compare import canonical_json, diff_configs, fingerprint, flatten, known_fingerprints
from risctl.config.elements import ElementsConfig
from risctl.config.former import current_names
from risctl.config.layers import load_config
from risctl.config.network import LossConfig, ModelConfig, TrainingConfig
from risctl.config.parse import parse_section
from risctl.config.physics import ImpairmentConfig, PhysicsConfig
from risctl.config.presets import (
    nomp_calibration,
    preset_directory,
    preset_names,
    preset_path,
    preset_summary,
    reference_directory,
)
from risctl.config.results import EvaluationConfig, InferenceConfig
from risctl.config.schema import Config, CovarianceConfig, DataConfig
from risctl.config.search import SearchConfig

__all__ = [
    "Config",
    "CovarianceConfig",
    "DataConfig",
    "ElementsConfig",
    "EvaluationConfig",
    "ImpairmentConfig",
    "InferenceConfig",
    "LossConfig",
    "ModelConfig",
    "PhysicsConfig",
    "SearchConfig",
    "TrainingConfig",
    "canonical_json",
    "current_names",
    "diff_configs",
    "fingerprint",
    "flatten",
    "known_fingerprints",
    "load_config",
    "nomp_calibration",
    "parse_section",
    "preset_directory",
    "preset_names",
    "preset_path",
    "preset_summary",
    "reference_directory",
]

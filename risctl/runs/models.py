"""Trained models of a run: the settings they bring, what may not contradict them, the alignment check."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from risctl.config import Config, PhysicsConfig, diff_configs, parse_section, reference_directory
from risctl.config.layers import Layers
from risctl.config.toml import toml_value
from risctl.errors import InputError
from risctl.evaluation.alignment import TwoSides, spot_check
from risctl.inference import Estimator, LearnedEstimator, build_learned
from risctl.model import RisNetwork
from risctl.model.load import LoadedModel, load_checkpoint
from risctl.training import Measured, usable_precision

# What the network's weights were fitted to. Everything else in `physics` may differ: other antennas and
# snapshots, other codes, noise and channels are what a model is tried on.
SURFACE = (
    "wavelength",
    "ris_columns",
    "ris_rows",
    "element_spacing",
    "elements",
    "max_sources",
    "azimuth_limit_deg",
    "elevation_limit_deg",
    "range_min",
    "range_max",
    "known_elevation_deg",
    "known_range_m",
    "wavefront",
    "amplitude_taper",
)
LEARNED = "learned"
REFERENCE = "the shipped model"
TRAINED_WITH = "which the model was trained with"
FIXED_SECTIONS = ("covariance", "model")


def load_model(path: str | Path | None = None, device: str = "cpu") -> LoadedModel:
    """Read a trained model; None: the one that comes with risctl."""
    return load_checkpoint(reference_directory() if path is None else path, device)


def load_reference(config: Config, device: str) -> LoadedModel:
    """Read the model that comes with risctl, for a configuration that names none.

    Raises:
        InputError: it is not for that surface, or that covariance; naming the first key that differs.
        StorageError: it is missing.
    """
    loaded = load_checkpoint(reference_directory(), device)
    refuse_conflicts(own_config(loaded), config, REFERENCE, ("covariance",))
    return loaded


def own_config(loaded: LoadedModel) -> Config:
    """The configuration that the model was trained with."""
    return parse_section(Config, loaded.config, loaded.path)


def with_model(config: Config, loaded: LoadedModel) -> Config:
    """The configuration with the model's own `model` section: nobody asked for another."""
    return config.model_copy(update={"model": loaded.model})


def config_over_model(layers: Layers, loaded: LoadedModel) -> Config:
    """Resolve the settings over the model's own; none of them may contradict the model.

    Raises:
        InputError: naming the first key that differs and both values.
    """
    own = own_config(loaded)
    config = layers.resolve_over(own)
    refuse_conflicts(own, config, loaded.path)
    return config


def refuse_conflicts(
    own: Config, config: Config, where: str | Path, sections: Sequence[str] = FIXED_SECTIONS
) -> None:
    """Refuse another surface than the trained model's own, or other values in the `sections` named."""
    for key, (trained, wanted) in diff_configs(own, config).items():
        section, _, name = key.partition(".")
        if section in sections or (section == "physics" and name.partition(".")[0] in SURFACE):
            raise InputError(where, key, f"{_brief(trained)}, {TRAINED_WITH}", _brief(wanted))


def refuse_other_surface(
    own: PhysicsConfig, physics: PhysicsConfig, where: str | Path, why: str = TRAINED_WITH
) -> None:
    """Refuse scenes of another surface than the model's."""
    trained, found = own.model_dump(mode="json"), physics.model_dump(mode="json")
    for name in SURFACE:
        if trained[name] != found[name]:
            expected = f"{_brief(trained[name])}, {why}"
            raise InputError(where, f"physics.{name}", expected, _brief(found[name]))


def _brief(value: object) -> str:
    """A setting's value as it is written, or its beginning: positions may be thousands of numbers."""
    text = toml_value(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def model_record(loaded: LoadedModel) -> dict[str, Any]:
    """Which model answered, for provenance and documents."""
    return {
        "checkpoint": str(loaded.path),
        "epoch": loaded.epoch,
        "step": loaded.step,
        "best_value": loaded.best_value,
        "parameters": sum(p.numel() for p in loaded.network.parameters()),
        "covariance_fingerprint": loaded.covariance_fingerprint,
    }


def alignment_subject(network: RisNetwork, config: Config, device: str) -> TwoSides:
    """The two sides of a network: the training step's, and the predictor of `eval` and `locate`."""
    inference = config.inference.model_copy(update={"count_by": "best"})  # nothing is counted here
    return TwoSides(
        network=network,
        training_covariance=config.covariance,
        estimator=build_learned(network, config.physics, config.covariance, inference, device),
        physics=config.physics,
        stated=config.covariance,
        precision=usable_precision(config.training.precision, torch.device(device)),
        loss=config.loss,
    )


def spot_check_network(network: RisNetwork, config: Config, measured: Measured, device: str) -> None:
    """Check a network before it is trained, in evaluation mode; its mode is put back.

    Raises:
        CheckFailedError: training and inference would not compute the same.
    """
    mode = network.training
    network.eval()
    try:
        spot_check(alignment_subject(network, config, device), measured)
    finally:
        network.train(mode)


def spot_check_estimator(
    estimator: Estimator, network: RisNetwork, config: Config, measured: Measured
) -> None:
    """Check the very estimator that is about to be used against the training step's path.

    Raises:
        CheckFailedError: training and inference do not compute the same.
    """
    if isinstance(estimator, LearnedEstimator):
        subject = alignment_subject(network, config, str(measured.y.device))
        spot_check(replace(subject, estimator=estimator), measured)

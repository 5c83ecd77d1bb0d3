"""A trained model on the command line: the configuration it brings, and what may not contradict it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from risctl.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from risctl.cli.options import Common
    from risctl.config import Config, PhysicsConfig
    from risctl.model.load import LoadedModel

# What the network's weights were fitted to. Everything else in `physics` may differ: other antennas and
# snapshots, other codes, noise and channels are what a model is tried on.
SURFACE = (
    "wavelength",
    "ris_columns",
    "ris_rows",
    "element_spacing",
    "max_sources",
    "azimuth_limit_deg",
    "elevation_limit_deg",
    "range_min",
    "range_max",
    "wavefront",
    "amplitude_taper",
)
REFERENCE = "the reference model"
TRAINED_WITH = "which the model was trained with"
FIXED_SECTIONS = ("covariance", "model")


def load_model(target: str, device: str, fusion: bool = True) -> LoadedModel:
    """Read the checkpoint `target`, or the best one of the run `target`, with its count fusion if wanted."""
    from pathlib import Path

    from risctl.model.load import load_checkpoint

    return load_checkpoint(Path(target), device, fusion)


def load_reference(config: Config, device: str) -> LoadedModel:
    """Read the model that comes with risctl, for a configuration that names none.

    Raises:
        InputError: it is not for that surface, or that covariance; naming the first key that differs.
        StorageError: it is missing.
    """
    from risctl.config import reference_directory

    loaded = load_model(str(reference_directory()), device)
    refuse_mismatch(own_config(loaded), config, REFERENCE)
    return loaded


def refuse_mismatch(own: Config, config: Config, where: str | Path) -> None:
    """Refuse a covariance or a surface other than the trained model's own."""
    from risctl.config import diff_configs

    for key, (trained, wanted) in diff_configs(own, config).items():
        section, _, name = key.partition(".")
        if section == "covariance" or (section == "physics" and name in SURFACE):
            raise InputError(where, key, f"{_value(trained)}, {TRAINED_WITH}", _value(wanted))


def with_model(config: Config, loaded: LoadedModel) -> Config:
    """Return the configuration with the model's own `model` section: nobody asked for another."""
    return config.model_copy(update={"model": loaded.model})


def own_config(loaded: LoadedModel) -> Config:
    """Return the configuration that the model was trained with."""
    from risctl.config import Config, parse_section

    return parse_section(Config, loaded.config, loaded.path)


def config_over_model(common: Common, loaded: LoadedModel) -> Config:
    """Return the configuration over the model's own; nothing on the command line may contradict the model.

    Raises:
        InputError: naming the first key that differs and both values.
    """
    own = own_config(loaded)
    config = common.resolve_over(own)
    refuse_conflicts(own, config, loaded.path)
    return config


def refuse_conflicts(own: Config, config: Config, path: Path) -> None:
    """Refuse a covariance, a model or a surface other than the trained model's own."""
    from risctl.config import diff_configs

    for key, (trained, wanted) in diff_configs(own, config).items():
        section, _, name = key.partition(".")
        if section in FIXED_SECTIONS or (section == "physics" and name in SURFACE):
            raise InputError(
                path, key, f"{_value(trained)}, which the model was trained with", _value(wanted)
            )


def refuse_other_surface(
    own: PhysicsConfig,
    physics: PhysicsConfig,
    where: str | Path,
    why: str = TRAINED_WITH,
) -> None:
    """Refuse scenes of another surface than the model's."""
    trained, found = own.model_dump(mode="json"), physics.model_dump(mode="json")
    for name in SURFACE:
        if trained[name] != found[name]:
            expected = f"{_value(trained[name])}, {why}"
            raise InputError(where, f"physics.{name}", expected, _value(found[name]))


def model_record(loaded: LoadedModel) -> dict[str, Any]:
    """Return which model answered, for provenance and documents."""
    return {
        "checkpoint": str(loaded.path),
        "epoch": loaded.epoch,
        "step": loaded.step,
        "best_value": loaded.best_value,
        "parameters": sum(p.numel() for p in loaded.network.parameters()),
        "covariance_fingerprint": loaded.covariance_fingerprint,
    }


def _value(value: object) -> str:
    """Return a setting as TOML writes it: true, 0.3, "structured"."""
    from risctl.config.toml import toml_value

    return toml_value(value)

"""Estimators by name, each from the sections of the configuration that it reads."""

from importlib import import_module
from typing import Any

from risctl.config import CovarianceConfig, InferenceConfig, PhysicsConfig
from risctl.errors import InputError
from risctl.inference.ceiling import Oracle
from risctl.inference.estimates import GeneralEstimator
from risctl.inference.pilots import PilotNompEstimator
from risctl.model.load import LoadedModel
from risctl.physics.geometry import Device
from risctl.registry import ESTIMATORS, Kind, estimator_names


def build_estimator(
    name: str,
    physics: PhysicsConfig,
    covariance: CovarianceConfig,
    inference: InferenceConfig,
    device: Device = "cpu",
    model: LoadedModel | None = None,
) -> GeneralEstimator:
    """The estimator `name` for a surface.

    Args:
        name: of the registry. physics: surface, field of view and largest source count.
        covariance: of a classical estimator; the learned one has the covariance it was trained with.
        inference: stages, grids and refinement. device: where it computes.
        model: network of the learned estimator.

    Raises:
        InputError: there is no such estimator, or it needs a trained model and none is given; the settings
            do not suit the model.
    """
    if model is not None and name in estimator_names("learned"):
        return _registered(name, "learned").from_model(model, physics, inference, device)
    if physics.symbols == "constant" and name in estimator_names("classical", "learned"):
        if name != "nomp":
            got = f"{name!r}, which needs symbols that vary over the snapshots"
            raise InputError("estimator", "", "nomp with physics.symbols=constant", got)
        return PilotNompEstimator.from_config(physics, covariance, inference, device)
    kinds: tuple[Kind, ...] = ("classical",) if model is None else ("learned", "classical")
    return _registered(name, *kinds).from_config(physics, covariance, inference, device)


def build_oracle(
    name: str,
    physics: PhysicsConfig,
    covariance: CovarianceConfig,
    inference: InferenceConfig,
    device: Device = "cpu",
) -> Oracle:
    """The oracle `name` for a surface; arguments and errors as above."""
    return _registered(name, "oracle").from_config(physics, covariance, inference, device)


def _registered(name: str, *kinds: Kind) -> Any:
    """The class of the estimator `name`, which has to be of one of these kinds."""
    if name not in estimator_names(*kinds):
        raise InputError("estimator", "", "one of " + ", ".join(estimator_names(*kinds)), repr(name))
    module, _, attribute = ESTIMATORS[name].path.partition(":")
    return getattr(import_module(module), attribute)

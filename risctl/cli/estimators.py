"""Names of estimators on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from risctl.errors import InputError

if TYPE_CHECKING:
    from risctl.config import Config
    from risctl.inference import Estimator
    from risctl.model.load import LoadedModel

LEARNED = "learned"


def estimator_names() -> tuple[str, ...]:
    """Return the names this version knows."""
    from risctl.config.results import EstimatorName

    return get_args(EstimatorName)


def check_estimator(flag: str, name: str, has_model: bool) -> None:
    """Refuse a name that is no estimator, and the learned one without a model."""
    names = estimator_names()
    if name not in names:
        raise InputError(flag, "", f"one of {', '.join(names)}", repr(name))
    if name == LEARNED and not has_model:
        raise InputError(flag, "", "a run or checkpoint beside 'learned'", "none")


def parse_estimators(flag: str, text: str, has_model: bool) -> tuple[str, ...]:
    """Return the names of a comma-separated list, each once."""
    names = tuple(part.strip() for part in text.split(","))
    for name in names:
        check_estimator(flag, name, has_model)
    if len(set(names)) != len(names):
        raise InputError(flag, "", "every estimator once", text)
    return names


def make_estimator(name: str, config: Config, loaded: LoadedModel | None, device: str) -> Estimator:
    """Return the estimator `name`; `learned` is the model that was read."""
    if name != LEARNED:
        from risctl.inference import build_estimator

        return build_estimator(name, config.physics, config.covariance, config.inference, device=device)
    from risctl.inference.learned import build_learned

    assert loaded is not None
    return build_learned(loaded.network, loaded.covariance, config.physics, config.inference, device)

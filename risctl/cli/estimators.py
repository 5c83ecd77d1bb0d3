"""Names of estimators on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from risctl.errors import InputError
from risctl.registry import estimator_names

if TYPE_CHECKING:
    from risctl.config import Config
    from risctl.inference import Estimator, Oracle
    from risctl.model.load import LoadedModel

LEARNED = "learned"
CEILING = "ceiling"  # told the truth: a reference that simulated scenes have, and nobody's measurements


def check_estimator(flag: str, name: str, has_truth: bool = False) -> None:
    """Refuse a name that is no estimator, and a reference without the truth."""
    names = tuple(known for known in estimator_names() if has_truth or known != CEILING)
    if name == CEILING and not has_truth:
        got = f"{name!r}, a reference that must be told the truth (risctl eval has it)"
        raise InputError(flag, "", f"one of {', '.join(names)}", got)
    if name not in names:
        raise InputError(flag, "", f"one of {', '.join(names)}", repr(name))


def parse_estimators(flag: str, text: str) -> tuple[str, ...]:
    """Return the names of a comma-separated list, each once."""
    names = tuple(part.strip() for part in text.split(","))
    for name in names:
        check_estimator(flag, name, has_truth=True)
    if len(set(names)) != len(names):
        raise InputError(flag, "", "every estimator once", text)
    return names


def make_reference(name: str, config: Config, device: str) -> Oracle:
    """Return the reference `name`."""
    from risctl.inference import build_oracle

    return build_oracle(name, config.physics, config.covariance, config.inference, device)


def make_estimator(name: str, config: Config, loaded: LoadedModel | None, device: str) -> Estimator:
    """Return the estimator `name`; `learned` is the model that was read."""
    from risctl.inference import build_estimator

    return build_estimator(name, config.physics, config.covariance, config.inference, device, loaded)

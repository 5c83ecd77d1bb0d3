"""Names of estimators on the command line."""

from __future__ import annotations

from typing import get_args

from risctl.errors import InputError

LEARNED = "learned"


def estimator_names() -> tuple[str, ...]:
    """Return the names this version knows."""
    from risctl.config.results import EstimatorName

    return get_args(EstimatorName)


def check_estimator(flag: str, name: str) -> None:
    """Refuse a name that is not an estimator of this version."""
    names = estimator_names()
    if name not in names:
        late = " (learned estimators are not in this version)" if name == LEARNED else ""
        raise InputError(flag, "", f"one of {', '.join(names)}{late}", repr(name))


def parse_estimators(flag: str, text: str) -> tuple[str, ...]:
    """Return the names of a comma-separated list, each once."""
    names = tuple(part.strip() for part in text.split(","))
    for name in names:
        check_estimator(flag, name)
    if len(set(names)) != len(names):
        raise InputError(flag, "", "every estimator once", text)
    return names


def refuse_learned(flag: str, target: str | None) -> None:
    """Refuse a run or checkpoint: this version has no learned estimators."""
    if target is not None:
        names = ", ".join(estimator_names())
        expected = f"no run or checkpoint (learned estimators are not in this version; {names} are)"
        raise InputError(flag, "", expected, repr(target))

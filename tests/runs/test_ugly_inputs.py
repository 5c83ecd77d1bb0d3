"""Measurements that no instrument should give: an answer or one line from every estimator."""

from collections.abc import Callable

import numpy as np
import pytest

import risctl
from risctl.errors import RisctlError
from risctl.registry import estimator_names
from tests.runs.others import Arrays, simulated

Generator = np.random.Generator
QUICK = ("learned", "nomp")  # the others in the slow suite


def _spoilt(name: str, rng: Generator) -> Arrays:
    """Two scenes with a fault of one kind, of random size and place."""
    L, M = int(rng.integers(2, 9)), int(rng.integers(2, 9))
    file = simulated(
        int(rng.integers(1, 4)),
        float(rng.uniform(-5, 30)),
        2,
        int(rng.integers(1 << 30)),
        snapshots=L,
        antennas=M,
    )
    y, H, codes = (x.copy() for x in (file.y, file.H, file.codes))
    at = tuple(int(rng.integers(size)) for size in (L, M))
    FAULTS[name](y, H, codes, at)
    return Arrays(y, H, codes)


def _one_live(y: np.ndarray, H: np.ndarray, codes: np.ndarray, at: tuple[int, ...]) -> None:
    y[:, np.arange(y.shape[1]) != at[0]] = 0.0


def _one_number(y: np.ndarray, H: np.ndarray, codes: np.ndarray, at: tuple[int, ...]) -> None:
    keep = y[:, at[0], at[1]].copy()
    y[:] = 0.0
    y[:, at[0], at[1]] = keep


def _rank_one(y: np.ndarray, H: np.ndarray, codes: np.ndarray, at: tuple[int, ...]) -> None:
    H[:] = H[:, :, :1] * H[:, :1, :] / H[:, :1, :1]
    y[:] = y[:, :, :1] * H[:, None, :, 0] / H[:, None, :1, 0]


def _set(which: str, value: Callable[[np.ndarray], object]) -> Callable[..., None]:
    def fault(y: np.ndarray, H: np.ndarray, codes: np.ndarray, at: tuple[int, ...]) -> None:
        array = {"y": y, "H": H, "codes": codes}[which]
        array[:] = value(array)

    return fault


FAULTS: dict[str, Callable[..., None]] = {
    "nothing": lambda y, H, codes, at: None,
    "zeros": _set("y", lambda y: 0.0),
    "one live snapshot": _one_live,
    "one number": _one_number,
    "equal snapshots": _set("y", lambda y: y[:, :1]),
    "equal antennas": _set("H", lambda H: H[:, :1]),
    "equal y on all antennas": _set("y", lambda y: y[..., :1]),
    "constant": _set("y", lambda y: 1.0 + 1.0j),
    "rank one": _rank_one,
    "no channel of half of the elements": _set("H", lambda H: H * (np.arange(H.shape[2]) % 2)),
    "one element": _set("H", lambda H: H * (np.arange(H.shape[2]) == 5)),
    "one code throughout": _set("codes", lambda codes: codes[:, :1]),
    "codes of no modulus in a snapshot": _set("codes", lambda c: c * (np.arange(c.shape[1]) > 0)[:, None]),
    "tiny": _set("y", lambda y: 1e-36 * y),
    "huge": _set("H", lambda H: 1e30 * H),
    "an outlier": _set("y", lambda y: np.where(y == y.flat[0], 1e12 * y, y)),
    "the same scene twice": _set("y", lambda y: y[:1]),
    "not a number": _set("y", lambda y: np.where(y == y.flat[0], np.nan, y)),
}


ESTIMATORS = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in estimator_names("learned", "classical")
]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", FAULTS)
def test_there_is_an_answer_or_one_line(name: str, estimator: str) -> None:
    for seed in range(2):
        file = _spoilt(name, np.random.default_rng([seed, len(name)]))
        try:
            located = risctl.locate(file.y, file.H, file.codes, estimator=estimator)
        except RisctlError as error:
            refused = str(error)
        else:
            refused = ""
        assert "\n" not in refused
        if refused:
            assert name not in ("nothing", "the same scene twice", "rank one", "huge")
            continue
        str(located)
        for i, K in enumerate(located.num_sources):
            assert np.isfinite(located.positions[i, :K]).all()
            assert np.isfinite(located.power[i, :K]).all()

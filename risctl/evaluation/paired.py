"""Two evaluations of the same scenes, or two estimators of one, compared scene by scene.

Scenes differ far more from one another than two estimators do on one of them: the difference of two figures
over the same scenes has a much narrower interval than either figure. Scenes are drawn with replacement, the
same ones for both (paired bootstrap; Efron and Tibshirani 1993, chapter 8).
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from risctl.data.atomic import storage_errors
from risctl.errors import DamagedFileError, InputError
from risctl.evaluation.bootstrap import percentile_interval

Floats = npt.NDArray[np.float64]
SCENES, SOURCES = "scenes.csv", "sources.csv"
TRUTH = ("true_azimuth_deg", "true_elevation_deg", "true_range_m")
RESAMPLES = 1_000
FALSE_ALARMS = (0.01, 0.03, 0.1, 0.3)  # per scene, at which probabilities of detection are compared
EVENTS = {"near": "within 2 m", "matched": "in the gate"}  # columns of a report: what it is to detect one
REPORTS_AT_ONCE = 4_000_000  # of all resamples, which are sorted by their probability together


@dataclass(frozen=True)
class Difference:
    """A figure in two evaluations of the same scenes.

    Attributes:
        estimator: its name in both, or `first / second`.
        figure: name of the figure, with its unit.
        snr_db: SNR of the scenes; None: all.
        first, second: the figure in each; None where nothing was found.
        low, high: 95 % interval of `second - first`.
    """

    estimator: str
    figure: str
    snr_db: float | None
    first: float | None
    second: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class _Raw:
    """Columns of one estimator, by name: one row a scene, one row a true source, one row a report."""

    scenes: dict[str, Floats]
    sources: dict[str, Floats]
    reports: dict[str, Floats]


def same_scenes(first: Path, second: Path) -> bool:
    """Whether two directories of figures are of the same scenes: same order, same true sources."""
    ours, theirs = ([_read(path / name) for name in (SCENES, SOURCES)] for path in (first, second))
    if not all((*ours, *theirs)):
        return False
    (a, of_a), (b, of_b) = ([next(iter(table.values())) for table in tables] for tables in (ours, theirs))
    of_a, of_b = _true(of_a), _true(of_b)
    return all(np.array_equal(a[key], b[key]) for key in ("scene", "num_sources", "snr_db")) and all(
        np.array_equal(of_a[key], of_b[key]) for key in ("scene", "source", "snr_db", *TRUTH)
    )


def paired_differences(
    first: Path, second: Path, names: tuple[str, str] | None = None, seed: int = 0
) -> list[Difference]:
    """Compare estimators of two directories of figures, which may be one and the same; see `same_scenes`.

    The figures: recall, K right, GOSPA, RMSE of azimuth and range of the sources that both found, and, where
    probabilities of sources are stated, the share detected at `FALSE_ALARMS` false ones per scene and at as
    many as the second reports in all: within the cut-off of 2 m, which probabilities are of, and in the gate.

    Args:
        names: the estimator in each; None: all that both have, each with itself.

    Raises:
        InputError: an estimator that is not there.
    """
    ours, theirs = _raw(first), _raw(second)
    pairs = [(name, name) for name in ours if name in theirs] if names is None else [names]
    found: list[Difference] = []
    for name, other in pairs:
        for directory, rows, wanted in ((first, ours, name), (second, theirs, other)):
            if wanted not in rows:
                raise InputError(directory, "estimator", " or ".join(rows), wanted)
        label = name if name == other else f"{name} / {other}"
        for snr in (None, *np.unique(ours[name].scenes["snr_bin_db"])):
            found += _of_bin(ours[name], theirs[other], label, None if snr is None else float(snr), seed)
    return found


def _of_bin(a: _Raw, b: _Raw, label: str, snr: float | None, seed: int) -> Iterator[Difference]:
    rows = np.ones(len(a.scenes["scene"]), bool) if snr is None else a.scenes["snr_bin_db"] == snr
    weights = _weights(int(rows.sum()), seed)
    for figure, (top_a, below_a, top_b, below_b), root in _sums(a, b, rows):
        draws = _draw(top_b, below_b, weights, root) - _draw(top_a, below_a, weights, root)
        values = _ratio(top_a, below_a, root), _ratio(top_b, below_b, root)
        yield Difference(label, figure, snr, *values, *percentile_interval(draws))
    once = np.ones((1, weights.shape[1]))
    ends = [f"at {rate:g} false per scene" for rate in FALSE_ALARMS] + ["at the false ones of the second"]
    for event, place in EVENTS.items():
        measured, drawn = _detections(a, b, rows, once, event), _detections(a, b, rows, weights, event)
        for i, end in enumerate(ends):
            first, second = (float(side[0, i]) for side in measured)
            if np.isfinite([first, second]).all():
                interval = percentile_interval(drawn[1][:, i] - drawn[0][:, i])
                yield Difference(label, f"detected {place} {end}", snr, first, second, *interval)


def _detections(
    a: _Raw, b: _Raw, rows: npt.NDArray[np.bool_], weights: Floats, event: str
) -> tuple[Floats, Floats]:
    """Shares of the true sources that each detects, in each resample, at `FALSE_ALARMS` and at all of b's."""
    place, of_scene = b.reports["scene"].astype(int), b.scenes["scene"].astype(int)
    hits = np.bincount(place, b.reports[event], int(of_scene.max()) + 1)[of_scene[rows]]
    estimated, count = (weights @ b.scenes[key][rows] for key in ("num_estimated", "num_sources"))
    of_b = (estimated - weights @ hits) / weights.sum(1)
    rates = np.column_stack([np.tile(FALSE_ALARMS, (len(weights), 1)), of_b])
    first, second = (_detected(side, rows, weights, rates, event) for side in (a, b))
    second[:, -1] = weights @ hits / count
    return first, second


def _detected(side: _Raw, rows: npt.NDArray[np.bool_], weights: Floats, rates: Floats, event: str) -> Floats:
    """Share of the true sources detected, reports taken by falling probability, up to so many false ones.

    Args:
        rows: scenes. weights: how often each is drawn in each resample [R, scenes].
        rates: false ones per scene [R, F]. event: column that says whether a report detects a source.

    Returns:
        [R, F], NaN where all reports together have no more false ones, or have no probability.
    """
    place = np.full(int(side.scenes["scene"].max()) + 1, -1)
    place[side.scenes["scene"][rows].astype(int)] = np.arange(int(rows.sum()))
    of_scene, order = place[side.reports["scene"].astype(int)], np.argsort(-side.reports["probability"])
    order = order[(of_scene[order] >= 0) & np.isfinite(side.reports["probability"][order])]
    true, scene = side.reports[event][order] == 1, of_scene[order]
    found = np.full(rates.shape, np.nan)
    step = max(1, REPORTS_AT_ONCE // max(len(order), 1))
    for start in range(0, len(weights) if len(order) else 0, step):
        part = slice(start, start + step)
        drawn, scenes = weights[part][:, scene], weights[part].sum(1, keepdims=True)
        false = np.cumsum(drawn * ~true, axis=1) / scenes
        hits = np.cumsum(drawn * true, axis=1) / (weights[part] @ side.scenes["num_sources"][rows])[:, None]
        for i in range(rates.shape[1]):
            taken = (false <= rates[part, i, None]).sum(1)
            share = np.take_along_axis(hits, np.maximum(taken, 1)[:, None] - 1, 1)[:, 0]
            found[part, i] = np.where(taken == len(order), np.nan, np.where(taken == 0, 0.0, share))
    return found


def _sums(
    a: _Raw, b: _Raw, rows: npt.NDArray[np.bool_]
) -> Iterator[tuple[str, tuple[Floats, Floats, Floats, Floats], bool]]:
    """Every figure as numerator and denominator per scene, of both; and whether it is the root of them."""
    count = a.scenes["num_sources"][rows]
    ones = np.ones_like(count)
    found = [side.scenes["num_matched"][rows] for side in (a, b)]
    right = [(side.scenes["num_estimated"][rows] == count).astype(float) for side in (a, b)]
    gospa = [side.scenes["gospa_m"][rows] for side in (a, b)]
    yield "recall", (found[0], count, found[1], count), False
    yield "K right", (right[0], ones, right[1], ones), False
    yield "GOSPA, m", (gospa[0], ones, gospa[1], ones), False
    both = (a.sources["matched"] == 1) & (b.sources["matched"] == 1)
    place = np.searchsorted(a.scenes["scene"], a.sources["scene"][both])
    numbers = np.bincount(place, minlength=len(rows)).astype(float)[rows]
    for key, label in (("error_azimuth_deg", "azimuth RMSE, deg"), ("error_range_m", "range RMSE, m")):
        squares: list[Floats] = [
            np.bincount(place, side.sources[key][both] ** 2, len(rows)).astype(float)[rows] for side in (a, b)
        ]
        yield label, (squares[0], numbers, squares[1], numbers), True


def _weights(scenes: int, seed: int) -> Floats:
    """How often each scene is drawn in each resample, [RESAMPLES, scenes]."""
    share = np.full(scenes, 1 / scenes)
    return np.random.default_rng(seed).multinomial(scenes, share, RESAMPLES).astype(float)


def _ratio(top: Floats, below: Floats, root: bool) -> float | None:
    if not below.sum():
        return None
    value = float(top.sum() / below.sum())
    return value**0.5 if root else value


def _draw(top: Floats, below: Floats, weights: Floats, root: bool) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        values: Floats = (weights @ top) / (weights @ below)
    return np.sqrt(values) if root else values


def _raw(directory: Path) -> dict[str, _Raw]:
    scenes, sources = _read(directory / SCENES), _read(directory / SOURCES)
    both = [name for name in scenes if name in sources]
    return {name: _Raw(scenes[name], _true(sources[name]), _reports(sources[name])) for name in both}


def _true(columns: dict[str, Floats]) -> dict[str, Floats]:
    """The rows of true sources: an estimate without one has source -1."""
    rows = columns["source"] >= 0
    return {key: values[rows] for key, values in columns.items()}


def _reports(columns: dict[str, Floats]) -> dict[str, Floats]:
    """The rows of the estimates, assigned to a source or not."""
    rows = np.isfinite(columns["estimated_range_m"])
    return {key: columns[key][rows] for key in ("scene", *EVENTS, "probability")}


def _read(path: Path) -> dict[str, dict[str, Floats]]:
    """The columns of a CSV file of raw rows, by estimator; NaN where a value is absent."""
    with storage_errors(path), path.open(encoding="utf-8", newline="") as stream:
        lines = list(csv.reader(stream))
    try:
        header, body = lines[0][1:], lines[1:]
        names = [line[0] for line in body]
        table = np.array([[float(cell or "nan") for cell in line[1:]] for line in body]).reshape(
            -1, len(header)
        )
    except (IndexError, ValueError) as error:
        raise DamagedFileError(path, "a table of raw rows", error) from None
    rows = {name: [i for i, other in enumerate(names) if other == name] for name in dict.fromkeys(names)}
    return {name: dict(zip(header, table[at].T, strict=True)) for name, at in rows.items()}

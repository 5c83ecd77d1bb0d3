"""Percentile bootstrap over scenes, for statistics that are ratios of sums over scenes.

Sources of one scene share their noise and their channel, so the scene is what gets resampled. Count accuracy,
recall, precision and (squared) RMSE over bound are all of the form sum_i a_i / sum_i b_i over scenes i, so
one weighted sum per resample serves them together. Efron, Tibshirani, "An Introduction to the Bootstrap",
chapter 13. A share that is 0 or 1 in the sample has an interval of no width: no resample can hold what the
sample lacks.
"""

from collections.abc import Iterator

import numpy as np

from risctl.evaluation.positions import FloatArray, IntArray

LEVEL = 0.95
_DRAWS_AT_ONCE = 2_000_000


def resampling_weights(scenes: int, resamples: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """Yield blocks (resamples in block, scenes): how often each scene is drawn; rows sum to `scenes`."""
    block = max(1, _DRAWS_AT_ONCE // max(scenes, 1))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = rng.integers(scenes, size=(rows, scenes)) + np.arange(rows)[:, None] * scenes
        yield np.bincount(drawn.ravel(), minlength=rows * scenes).reshape(rows, scenes)


def resampled_sums(values: FloatArray, resamples: int, rng: np.random.Generator) -> FloatArray:
    """Column sums of `values` (scenes, Q) over each resample of its rows: (resamples, Q)."""
    if len(values) == 0:
        return np.zeros((resamples, values.shape[1]))
    blocks = [weights @ values for weights in resampling_weights(len(values), resamples, rng)]
    return np.concatenate([np.zeros((0, values.shape[1])), *blocks])


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """numerator / denominator, NaN where the denominator is not positive."""
    safe = np.where(denominator > 0, denominator, 1.0)
    return np.where(denominator > 0, numerator / safe, np.nan)


def percentile_interval(samples: FloatArray, level: float = LEVEL) -> tuple[float | None, float | None]:
    """The central interval holding `level` of the samples.

    (None, None) where more than the rest of them are not finite: without those the interval would be that of
    the scenes in which the figure happens to exist.
    """
    finite = samples[np.isfinite(samples)]
    if len(finite) == 0 or len(finite) < level * len(samples):
        return None, None
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

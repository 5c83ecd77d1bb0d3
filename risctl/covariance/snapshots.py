"""The one way from what was measured to a covariance factor."""

from __future__ import annotations

from torch import Tensor

from risctl.config import CovarianceConfig
from risctl.covariance.precision import require_finite
from risctl.covariance.ridge import ridge_back_projection
from risctl.covariance.sample import sample_factor


def snapshot_factor(y: Tensor, H: Tensor, codes: Tensor, covariance: CovarianceConfig) -> Tensor:
    """Factor F [B, N, L] of the sample covariance ``R_samp = F F^H`` (trace N) of measured scenes.

    Args:
        y: snapshots, complex [B, L, M].
        H: channel, complex [B, M, N].
        codes: RIS codes, complex [B, L, N].
        covariance: ridge strength and centring.

    Raises:
        MeasurementError: naming the first scene with a value that is not finite or without energy.
    """
    for name, x in (("y", y), ("H", H), ("codes", codes)):
        require_finite(x, name)
    a = ridge_back_projection(y, H, codes, covariance.tikhonov_alpha)
    return sample_factor(a, covariance.center)

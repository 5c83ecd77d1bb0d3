"""From snapshots to covariance factors: the only path, for training and for inference alike."""

from risctl.covariance.ridge import ridge_back_projection
from risctl.covariance.sample import sample_covariance, sample_factor
from risctl.covariance.snapshots import snapshot_factor
from risctl.covariance.subspace import leading_subspace

__all__ = [
    "leading_subspace",
    "ridge_back_projection",
    "sample_covariance",
    "sample_factor",
    "snapshot_factor",
]

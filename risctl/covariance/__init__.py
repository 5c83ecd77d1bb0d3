"""Covariance factors from snapshots: one pipeline for training and inference."""

from risctl.covariance.lowrank import LowRank, leading_subspace
from risctl.covariance.pipeline import (
    PIPELINE_VERSION,
    Covariances,
    blend_weight,
    blended_covariance,
    covariance_fingerprint,
    covariances,
    is_covariance_fingerprint,
    predicted_covariance,
    snapshot_factor,
    snapshot_factor_through,
)
from risctl.covariance.precision import full_precision
from risctl.covariance.ridge import ridge_back_projection
from risctl.covariance.sample import sample_factor

__all__ = [
    "PIPELINE_VERSION",
    "Covariances",
    "LowRank",
    "blend_weight",
    "blended_covariance",
    "covariance_fingerprint",
    "covariances",
    "full_precision",
    "is_covariance_fingerprint",
    "leading_subspace",
    "predicted_covariance",
    "ridge_back_projection",
    "sample_factor",
    "snapshot_factor",
    "snapshot_factor_through",
]

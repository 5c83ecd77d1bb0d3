"""Fingerprint of the covariance pipeline: results with the same one used the same arithmetic."""

from __future__ import annotations

from risctl.config import CovarianceConfig
from risctl.config.compare import canonical_json
from risctl.config.former import digest16, former_canonical_json

# Raise it with any change that makes the same measurements and settings give other covariances.
PIPELINE_VERSION = 1


def covariance_fingerprint(covariance: CovarianceConfig) -> str:
    """16 hexadecimal digits: BLAKE2b over the pipeline's version and the settings in canonical form."""
    return digest16(f"{PIPELINE_VERSION}:{canonical_json(covariance)}")


def is_covariance_fingerprint(stored: str, covariance: CovarianceConfig) -> bool:
    """Whether `stored` was made for these settings and this pipeline, by this version or by risctl 0.1.0."""
    former = digest16(f"{PIPELINE_VERSION}:{former_canonical_json(covariance, 'covariance')}")
    return stored in (covariance_fingerprint(covariance), former)

"""The name of a covariance pipeline: two results with the same one were made by the same arithmetic."""

from __future__ import annotations

import hashlib

from risctl.config import CovarianceConfig
from risctl.config.compare import canonical_json

# Raise it with any change that makes the same measurements and knobs give other covariances.
PIPELINE_VERSION = 1


def covariance_fingerprint(covariance: CovarianceConfig) -> str:
    """16 hexadecimal digits: BLAKE2b over the pipeline's version and the knobs in canonical form."""
    text = f"{PIPELINE_VERSION}:{canonical_json(covariance)}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

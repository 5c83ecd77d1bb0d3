"""Predicted and blended covariance as dense N x N matrices, by the definition."""

import numpy as np

from tests.oracle.covariance import to_trace_n


def predicted_covariance(A_angle: np.ndarray, A_range: np.ndarray, range_weight: float = 0.3) -> np.ndarray:
    """R_pred [N,N] = A_angle A_angle^H + range_weight A_range A_range^H, Hermitian, trace N."""
    return to_trace_n(A_angle @ A_angle.conj().T + range_weight * A_range @ A_range.conj().T)


def blended_covariance(
    R_pred: np.ndarray, R_samp: np.ndarray, beta: float = 0.3, eps_cov: float = 1e-3
) -> np.ndarray:
    """R_blend [N,N] = (1 - beta) R_pred + beta R_samp, Hermitian, trace N, then eps_cov I added."""
    return to_trace_n((1.0 - beta) * R_pred + beta * R_samp) + eps_cov * np.eye(len(R_pred))

"""Back-projection, sample, predicted and blended covariance as dense matrices, by the definition."""

import numpy as np


def back_projection(Phi: np.ndarray, y: np.ndarray, tikhonov_alpha: float = 1e-3) -> np.ndarray:
    """a [L,N]: a_l = (Phi_l^H Phi_l + alpha_l I_N)^{-1} Phi_l^H y_l, by an N x N solve.

    alpha_l = tikhonov_alpha (tr(Phi_l^H Phi_l)/N + 1e-12).
    """
    rows = []
    for Phi_l, y_l in zip(Phi, y, strict=True):
        gram, N = Phi_l.conj().T @ Phi_l, Phi_l.shape[1]
        alpha = tikhonov_alpha * (np.trace(gram).real / N + 1e-12)
        rows.append(np.linalg.solve(gram + alpha * np.eye(N), Phi_l.conj().T @ y_l))
    return np.stack(rows)


def to_trace_n(R: np.ndarray) -> np.ndarray:
    """(R + R^H)/2, scaled to trace N."""
    R = (R + R.conj().T) / 2.0
    return R * (len(R) / np.trace(R).real)


def sample_covariance(a: np.ndarray, center: bool = True) -> np.ndarray:
    """R_samp [N,N] from a [L,N]: sum_l a_l a_l^H / divisor, Hermitian, trace N.

    Centred: the mean over l is taken out first and the divisor is max(L-1, 1); otherwise L.
    """
    num_snapshots = len(a)
    if center:
        a = a - a.mean(axis=0)
    total = np.zeros((a.shape[1], a.shape[1]), dtype=np.complex128)
    for a_l in a:
        total += np.outer(a_l, a_l.conj())
    return to_trace_n(total / (max(num_snapshots - 1, 1) if center else num_snapshots))


def predicted_covariance(A_angle: np.ndarray, A_range: np.ndarray, range_weight: float = 0.3) -> np.ndarray:
    """R_pred [N,N] = A_angle A_angle^H + range_weight A_range A_range^H, Hermitian, trace N."""
    return to_trace_n(A_angle @ A_angle.conj().T + range_weight * A_range @ A_range.conj().T)


def blended_covariance(
    R_pred: np.ndarray, R_samp: np.ndarray, beta: float = 0.3, eps_cov: float = 1e-3
) -> np.ndarray:
    """R_blend [N,N] = (1 - beta) R_pred + beta R_samp, Hermitian, trace N, then eps_cov I added."""
    return to_trace_n((1.0 - beta) * R_pred + beta * R_samp) + eps_cov * np.eye(len(R_pred))

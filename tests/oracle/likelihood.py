"""Log-likelihoods of one scene, constants included.

Gaussian model (symbols random):        y_l ~ CN(0, Phi_l A diag(p) A^H Phi_l^H + sigma^2 I).
Conditional model (amplitudes unknown): y_l ~ CN(Phi_l A x_l, sigma^2 I).
Stoica and Nehorai, "Performance study of conditional and unconditional direction-of-arrival
estimation", 1990.
"""

import numpy as np

from .geometry import Array, steering_matrix
from .signals import noise_free


def snapshot_covariance(Phi_l: np.ndarray, A: np.ndarray, powers: np.ndarray, noise_var: float) -> np.ndarray:
    """S_l [M,M] = Phi_l A diag(p) A^H Phi_l^H + sigma^2 I."""
    B = Phi_l @ A
    return B @ np.diag(powers) @ B.conj().T + noise_var * np.eye(len(B))


def gaussian_log_likelihood(
    array: Array, Phi: np.ndarray, y: np.ndarray, positions: np.ndarray, powers: np.ndarray, noise_var: float
) -> float:
    """sum_l -(M log pi + log det S_l + y_l^H S_l^{-1} y_l)."""
    A, total = steering_matrix(array, positions), 0.0
    for Phi_l, y_l in zip(Phi, y, strict=True):
        S = snapshot_covariance(Phi_l, A, powers, noise_var)
        quadratic = (y_l.conj() @ np.linalg.solve(S, y_l)).real
        total -= len(y_l) * np.log(np.pi) + np.linalg.slogdet(S)[1] + quadratic
    return float(total)


def conditional_log_likelihood(
    array: Array,
    Phi: np.ndarray,
    y: np.ndarray,
    positions: np.ndarray,
    amplitudes: np.ndarray,
    noise_var: float,
) -> float:
    """-L M log(pi sigma^2) - sum_l ||y_l - Phi_l A x_l||^2 / sigma^2, amplitudes x [K,L]."""
    residual = y - noise_free(Phi, steering_matrix(array, positions), amplitudes)
    return float(-y.size * np.log(np.pi * noise_var) - np.sum(np.abs(residual) ** 2) / noise_var)


def fitted_amplitudes(array: Array, Phi: np.ndarray, y: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """x [K,L]: the least-squares x_l = argmin ||y_l - Phi_l A x||."""
    A = steering_matrix(array, positions)
    columns = [np.linalg.lstsq(Phi_l @ A, y_l)[0] for Phi_l, y_l in zip(Phi, y, strict=True)]
    return np.stack(columns, axis=1)


def residual_energy(array: Array, Phi: np.ndarray, y: np.ndarray, positions: np.ndarray) -> float:
    """V = sum_l min_x ||y_l - Phi_l A x||^2."""
    x = fitted_amplitudes(array, Phi, y, positions)
    return float(np.sum(np.abs(y - noise_free(Phi, steering_matrix(array, positions), x)) ** 2))

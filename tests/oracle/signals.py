"""Channel, codes, snapshots and the exact source covariance of one scene."""

import numpy as np

from .geometry import Array, steering


def bs_response(num_antennas: int, sin_angle: float) -> np.ndarray:
    """[M], unit modulus: half-wavelength uniform linear array, b_m = exp(j pi m sin psi)."""
    return np.array([np.exp(1j * np.pi * m * sin_angle) for m in range(num_antennas)])


def line_of_sight(
    array: Array, num_antennas: int, sin_angle: float, phi: float, theta: float, distance: float = 100.0
) -> np.ndarray:
    """[M,N], unit modulus, rank one: b(psi) (sqrt(N) a(phi, theta, distance))^T, spherical wavefront.

    The transpose, not the conjugate transpose: the wave that leaves element n towards the direction
    travels d_n, as one that arrives from there does.
    """
    plain = Array(array.columns, array.rows, array.spacing, array.wavelength)
    ris = np.sqrt(array.num_elements) * steering(plain, phi, theta, distance)
    return np.outer(bs_response(num_antennas, sin_angle), ris)


def rician(los: np.ndarray, scattered: np.ndarray, k_factor: float) -> np.ndarray:
    """H [M,N] = sqrt(kappa/(kappa+1)) LOS + sqrt(1/(kappa+1)) NLOS, kappa the linear K-factor."""
    return np.sqrt(k_factor / (k_factor + 1.0)) * los + np.sqrt(1.0 / (k_factor + 1.0)) * scattered


def codes_from_index(code_index: np.ndarray, phase_bits: int = 3) -> np.ndarray:
    """c = exp(j 2 pi q / 2^bits), same shape as `code_index`."""
    return np.exp(2j * np.pi * np.asarray(code_index, dtype=np.float64) / 2**phase_bits)


def sensing_matrices(H: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Phi [L,M,N]: Phi_l = H diag(c_l), from H [M,N] and codes [L,N]."""
    return np.stack([H @ np.diag(code) for code in codes])


def noise_free(Phi: np.ndarray, A: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """mu [L,M]: mu_l = Phi_l A x_l, with amplitudes x [K,L], x_{k,l} = sqrt(p_k) s_{k,l}."""
    return np.stack([Phi[ell] @ (A @ amplitudes[:, ell]) for ell in range(len(Phi))])


def true_covariance(A: np.ndarray, powers: np.ndarray) -> np.ndarray:
    """R_true [N,N] = A diag(p) A^H, scaled to trace N."""
    R = A @ np.diag(powers) @ A.conj().T
    return R * (len(R) / np.trace(R).real)

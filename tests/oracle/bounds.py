"""Cramer-Rao bounds by definition: the whole Fisher matrix by finite differences, plainly inverted.

Conditional (deterministic): Stoica and Nehorai, "MUSIC, maximum likelihood, and Cramer-Rao bound", 1989,
with a sensing matrix Phi_l of its own for each snapshot. Unconditional (stochastic): the Slepian-Bangs
formula. Positions come first and source by source: (phi_1, theta_1, r_1, phi_2, ...).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .geometry import Array, source_position, steering_matrix
from .likelihood import snapshot_covariance
from .signals import noise_free


@dataclass(frozen=True)
class Bound:
    """Standard deviations [K] in rad and m (position: root of the Cartesian trace), covariance [3K,3K]."""

    covariance: np.ndarray
    azimuth: np.ndarray
    elevation: np.ndarray
    range: np.ndarray
    position: np.ndarray


def central_difference(function: Callable, point: np.ndarray, index: int, step: float) -> np.ndarray:
    """df/dx_i, fourth order: (8 (f(+h) - f(-h)) - (f(+2h) - f(-2h))) / (12 h)."""
    e = np.zeros_like(point)
    e[index] = step
    near, far = function(point + e) - function(point - e), function(point + 2 * e) - function(point - 2 * e)
    return (8.0 * near - far) / (12.0 * step)


def position_steps(positions: np.ndarray) -> np.ndarray:
    """[3K]: 2e-4 rad in the angles and 1e-3 r in range, where truncation and rounding are both ~1e-10."""
    return np.concatenate([[2e-4, 2e-4, 1e-3 * position[2]] for position in positions])


def cartesian_jacobian(position: np.ndarray) -> np.ndarray:
    """[3,3]: d(x,y,z)/d(phi,theta,r)."""
    steps = position_steps(position[None])
    return np.stack(
        [central_difference(lambda q: source_position(*q), position, i, steps[i]) for i in range(3)], axis=1
    )


def bound_from_fisher(fisher: np.ndarray, positions: np.ndarray) -> Bound:
    """The position block of F^{-1} (F scaled to unit diagonal before the inversion, and back after)."""
    scale = np.sqrt(np.diag(fisher))
    inverse = np.linalg.inv(fisher / np.outer(scale, scale)) / np.outer(scale, scale)
    size = positions.size
    covariance, std = inverse[:size, :size], np.sqrt(np.diag(inverse)[:size]).reshape(-1, 3)
    spread = []
    for k, position in enumerate(positions):
        J, block = cartesian_jacobian(position), covariance[3 * k : 3 * k + 3, 3 * k : 3 * k + 3]
        spread.append(np.sqrt(np.trace(J @ block @ J.T)))
    return Bound(covariance, std[:, 0], std[:, 1], std[:, 2], np.array(spread))


def pack_conditional(positions: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """[3K + 2KL]: positions, Re x, Im x."""
    return np.concatenate([positions.ravel(), amplitudes.real.ravel(), amplitudes.imag.ravel()])


def unpack_conditional(vector: np.ndarray, num_sources: int) -> tuple[np.ndarray, np.ndarray]:
    """(positions [K,3], amplitudes [K,L]), the inverse of `pack_conditional`."""
    real, imag = np.split(vector[3 * num_sources :], 2)
    return vector[: 3 * num_sources].reshape(-1, 3), (real + 1j * imag).reshape(num_sources, -1)


def conditional_fisher(
    array: Array, Phi: np.ndarray, positions: np.ndarray, amplitudes: np.ndarray, noise_var: float
) -> np.ndarray:
    """F over (positions, Re x, Im x, sigma^2): (2/sigma^2) Re(J^H J), J = d mu/d theta; last LM/sigma^4."""

    def mean(vector: np.ndarray) -> np.ndarray:
        q, x = unpack_conditional(vector, len(positions))
        return noise_free(Phi, steering_matrix(array, q), x).ravel()

    point = pack_conditional(positions, amplitudes)
    # The mean is linear in x: any step is exact there.
    steps = np.concatenate([position_steps(positions), np.ones(2 * amplitudes.size)])
    J = np.stack([central_difference(mean, point, i, steps[i]) for i in range(point.size)], axis=1)
    fisher = np.zeros((point.size + 1, point.size + 1))
    fisher[:-1, :-1] = 2.0 / noise_var * (J.conj().T @ J).real
    fisher[-1, -1] = J.shape[0] / noise_var**2
    return fisher


def unconditional_fisher(
    array: Array, Phi: np.ndarray, positions: np.ndarray, powers: np.ndarray, noise_var: float
) -> np.ndarray:
    """F over (positions, p, sigma^2), Slepian-Bangs: sum_l tr(S_l^{-1} dS_l/di S_l^{-1} dS_l/dj)."""
    point = np.concatenate([positions.ravel(), powers, [noise_var]])
    # The covariance is linear in p and sigma^2: any step is exact there.
    steps = np.concatenate([position_steps(positions), powers, [noise_var]])

    def covariances(v: np.ndarray) -> np.ndarray:
        A = steering_matrix(array, v[: positions.size].reshape(-1, 3))
        return np.stack([snapshot_covariance(Phi_l, A, v[positions.size : -1], v[-1]) for Phi_l in Phi])

    S = covariances(point)
    terms = [
        np.linalg.solve(S, central_difference(covariances, point, i, steps[i])) for i in range(point.size)
    ]
    fisher = np.zeros((point.size, point.size))
    for i, left in enumerate(terms):
        for j, right in enumerate(terms):
            fisher[i, j] = np.einsum("lmn,lnm->", left, right).real
    return fisher


def conditional_bound(
    array: Array, Phi: np.ndarray, positions: np.ndarray, amplitudes: np.ndarray, noise_var: float
) -> Bound:
    """The bound with the amplitudes x [K,L] as unknown constants."""
    return bound_from_fisher(conditional_fisher(array, Phi, positions, amplitudes, noise_var), positions)


def unconditional_bound(
    array: Array, Phi: np.ndarray, positions: np.ndarray, powers: np.ndarray, noise_var: float
) -> Bound:
    """The bound with Gaussian symbols and unknown powers [K] and noise variance."""
    return bound_from_fisher(unconditional_fisher(array, Phi, positions, powers, noise_var), positions)

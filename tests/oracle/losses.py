"""The twelve loss terms of one scene, from N x N matrices and dense eigendecompositions.

Positions are rows (phi, theta, r); `truth` is (positions [K,3], powers [K]); R has its load on the diagonal.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from .geometry import Array, element_positions, unit_vector

Truth = tuple[np.ndarray, np.ndarray]


def covariance_nmse(R: np.ndarray, R_true: np.ndarray, lam_diag: float = 1.0, lam_off: float = 1.0) -> float:
    """Mean of the diagonal's and the off-diagonal's relative squared error, weighted lam_diag : lam_off."""
    diagonal = np.eye(len(R), dtype=bool)
    error, size = np.abs(R - R_true) ** 2, np.abs(R_true) ** 2
    parts = [error[part].sum() / size[part].sum() for part in (diagonal, ~diagonal)]
    return float((lam_diag * parts[0] + lam_off * parts[1]) / (lam_diag + lam_off))


def coherence(A: np.ndarray, C: np.ndarray) -> float:
    """sum_{i!=j} |a_i^H c_j|^2 / (|a_i|^2 |c_j|^2), to every |.|^2 a millionth of the factor's mean added."""
    total = 0.0
    own = [np.sum(np.abs(A) ** 2, axis=0), np.sum(np.abs(C) ** 2, axis=0)]
    own = [x + 1e-6 * x.mean() + 1e-12 for x in own]
    for i in range(A.shape[1]):
        for j in range(C.shape[1]):
            if i != j:
                total += np.abs(np.vdot(A[:, i], C[:, j])) ** 2 / (own[0][i] * own[1][j])
    return float(total)


def eigenvalue_gap(R: np.ndarray, num_sources: int) -> float:
    """(lambda_K - lambda_{K+1}) / N."""
    values = np.sort(np.linalg.eigvalsh(R))[::-1]
    return float(values[num_sources - 1] - values[num_sources]) / len(R)


def cross_entropy(logits: np.ndarray, num_sources: int) -> float:
    """-log softmax(logits)[K], logits of K = 1, 2, ..."""
    return float(np.log(np.sum(np.exp(logits - logits.max()))) + logits.max() - logits[num_sources - 1])


def smooth_l1(x: np.ndarray, beta: float) -> float:
    """sum of x^2/(2 beta) where |x| < beta, |x| - beta/2 elsewhere."""
    size = np.abs(x)
    return float(np.sum(np.where(size < beta, size**2 / (2 * beta), size - beta / 2)))


def matched_distance(
    slots: np.ndarray, sources: np.ndarray, elevation_factor: float = 1.5, beta: float = 1.0
) -> float:
    """Mean over the sources of smooth-L1 of (dphi, elevation_factor dtheta, dlog r), cheapest assignment."""
    cost = np.zeros((len(sources), len(slots)))
    for k, source in enumerate(sources):
        for j, slot in enumerate(slots):
            difference = source - slot
            difference[2] = np.log(source[2] / slot[2])
            cost[k, j] = smooth_l1(difference * [1.0, elevation_factor, 1.0], beta)
    return float(cost[linear_sum_assignment(cost)].sum() / len(sources))


def direction_chamfer(slots: np.ndarray, power: np.ndarray, truth: Truth) -> float:
    """Chords: from the slots by power share, and from the sources; less than a tenth of a share costs."""
    sources, powers = truth
    share, true_share = power / power.sum(), powers / powers.sum()
    chord = np.array(
        [[np.linalg.norm(unit_vector(*s[:2]) - unit_vector(*t[:2])) for s in slots] for t in sources]
    )
    empty = np.maximum(0.0, 1.0 - share[None, :] / (0.1 * true_share[:, None]))
    return float(share @ chord.min(axis=0) + (chord + 2.0 * empty).min(axis=1).mean())


def signal_projector(R: np.ndarray, num_sources: int) -> np.ndarray:
    """P [N,N] on the K leading eigenvectors."""
    U = np.linalg.eigh(R)[1][:, -num_sources:]
    return U @ U.conj().T


def energy_outside(R: np.ndarray, A: np.ndarray, power: np.ndarray, num_sources: int) -> float:
    """sum_k w_k (1 - a_k^H P a_k), w the power shares."""
    P = signal_projector(R, num_sources)
    inside = np.array([np.vdot(a, P @ a).real for a in A.T])
    return float(np.sum(power / power.sum() * (1.0 - inside)))


def covariance_outside(R: np.ndarray, A: np.ndarray, load: float = 1e-4) -> float:
    """||Q R Q||^2 / ||R||^2 with Q = I - A (A^H A + load I)^{-1} A^H."""
    N, K = A.shape
    Q = np.eye(N) - A @ np.linalg.solve(A.conj().T @ A + load * np.eye(K), A.conj().T)
    return float(np.linalg.norm(Q @ R @ Q) ** 2 / np.linalg.norm(R) ** 2)


def polar_steering(array: Array, u_y: float, u_z: float, q: float) -> np.ndarray:
    """[N]: exact spherical wave of curvature q from direction cosines; q < 0 converges behind the panel."""
    elements = element_positions(array)
    u = np.array([np.sqrt(max(1.0 - u_y**2 - u_z**2, 0.0)), u_y, u_z])
    s = np.sqrt(1.0 - 2.0 * q * elements @ u + q**2 * np.sum(elements**2, axis=1))
    a = np.exp(-1j * array.wavenumber * (s - 1.0) / q)
    return a / np.linalg.norm(a)


def peak_contrast(R: np.ndarray, array: Array, sources: np.ndarray, phase: float = 1.0) -> float:
    """Mean over sources and neighbours of D0 / (D0 + Dj + 1e-3), D = 1 - a^H P a; spherical waves."""
    P = signal_projector(R, len(sources))
    values = []
    for phi, theta, r in sources:
        point = np.array([*unit_vector(phi, theta)[1:], 1.0 / r])
        D0 = _denominator(P, polar_steering(array, *point))
        for i in range(3):
            for sign in (1.0, -1.0):
                step = sign * phase / phase_slope(array, point, i) * np.eye(3)[i]
                values.append(D0 / (D0 + _denominator(P, polar_steering(array, *(point + step))) + 1e-3))
    return float(np.mean(values))


def phase_slope(array: Array, point: np.ndarray, i: int, step: float = 1e-4) -> float:
    """Standard deviation across the elements of d(phase)/d(coordinate i), by central differences."""
    h = step * np.eye(3)[i]
    turn = [
        np.angle(polar_steering(array, *(point + m * h)) * polar_steering(array, *(point - m * h)).conj())
        for m in (1, 2)
    ]
    return float(np.std((8.0 * turn[0] - turn[1]) / (12.0 * step)))


def _denominator(P: np.ndarray, a: np.ndarray) -> float:
    return max(0.0, float(np.vdot(a, a).real - np.vdot(a, P @ a).real))

"""A small generator of random scenes, for the oracle's own checks only."""

from dataclasses import dataclass

import numpy as np

from .geometry import Array, steering_matrix
from .signals import codes_from_index, line_of_sight, noise_free, rician, sensing_matrices


@dataclass(frozen=True)
class Scene:
    """One scene: positions [K,3] (phi, theta, r), powers [K], symbols [K,L], H [M,N], codes [L,N]."""

    array: Array
    positions: np.ndarray
    powers: np.ndarray
    symbols: np.ndarray
    H: np.ndarray
    codes: np.ndarray
    noise_var: float
    y: np.ndarray

    @property
    def amplitudes(self) -> np.ndarray:
        """x [K,L] = sqrt(p_k) s_{k,l}."""
        return np.sqrt(self.powers)[:, None] * self.symbols

    @property
    def Phi(self) -> np.ndarray:
        """[L,M,N]: H diag(c_l)."""
        return sensing_matrices(self.H, self.codes)


def complex_normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """CN(0,1): independent real and imaginary parts of variance 1/2."""
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2.0)


def draw_positions(
    rng: np.random.Generator, array: Array, num_sources: int, max_coherence: float = 0.5
) -> np.ndarray:
    """[K,3]: uniform in phi (+-60 deg), theta (+-30 deg), r (0.5-10 m); a source whose |a_i^H a_j|
    with an earlier one is not below the cap is drawn again."""
    low, high = np.array([-np.pi / 3, -np.pi / 6, 0.5]), np.array([np.pi / 3, np.pi / 6, 10.0])
    positions = np.zeros((0, 3))
    while len(positions) < num_sources:
        trial = np.vstack([positions, rng.uniform(low, high)])
        A = steering_matrix(array, trial)
        if np.all(np.abs(A[:, :-1].conj().T @ A[:, -1]) < max_coherence):
            positions = trial
    return positions


def draw_channel(rng: np.random.Generator, array: Array, num_antennas: int) -> np.ndarray:
    """H [M,N]: Rician, K-factor uniform on 0.5-10, line of sight towards a random direction at 100 m."""
    phi, theta = rng.uniform(-np.pi / 3, np.pi / 3), rng.uniform(-np.pi / 6, np.pi / 6)
    los = line_of_sight(array, num_antennas, np.sin(rng.uniform(-np.pi / 3, np.pi / 3)), phi, theta)
    scattered = complex_normal(rng, num_antennas, array.num_elements)
    return rician(los, scattered, rng.uniform(0.5, 10.0))


def draw_scene(
    rng: np.random.Generator,
    num_sources: int,
    snr_db: float,
    array: Array | None = None,
    num_antennas: int = 16,
    num_snapshots: int = 16,
) -> Scene:
    """y_l = Phi_l A x_l + w_l; powers +-3 dB, symbols CN(0,1), random 3-bit codes.

    sigma^2 = mean(|noise-free y|^2) / SNR.
    """
    array = Array() if array is None else array
    positions = draw_positions(rng, array, num_sources)
    powers = 10.0 ** (rng.uniform(-3.0, 3.0, num_sources) / 10.0)
    symbols = complex_normal(rng, num_sources, num_snapshots)
    H = draw_channel(rng, array, num_antennas)
    codes = codes_from_index(rng.integers(0, 8, (num_snapshots, array.num_elements)))
    x = np.sqrt(powers)[:, None] * symbols
    mu = noise_free(sensing_matrices(H, codes), steering_matrix(array, positions), x)
    noise_var = float(np.mean(np.abs(mu) ** 2) / 10.0 ** (snr_db / 10.0))
    y = mu + np.sqrt(noise_var) * complex_normal(rng, num_snapshots, num_antennas)
    return Scene(array, positions, powers, symbols, H, codes, noise_var, y)

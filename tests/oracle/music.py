"""MUSIC pseudo-spectrum from a dense eigendecomposition. Schmidt, 1986."""

import numpy as np

from .geometry import Array, steering


def noise_subspace(R: np.ndarray, num_sources: int) -> np.ndarray:
    """E_n [N,N-K]: eigenvectors of the N-K smallest eigenvalues of (R + R^H)/2."""
    return np.linalg.eigh((R + R.conj().T) / 2.0)[1][:, : len(R) - num_sources]


def music_null_spectrum(array: Array, R: np.ndarray, num_sources: int, grid: np.ndarray) -> np.ndarray:
    """[G]: ||E_n^H a(phi,theta,r)||^2 at each row (phi, theta, r) of `grid` [G,3]; in 0..1, 0 at a source."""
    E = noise_subspace(R, num_sources)
    return np.array([np.linalg.norm(E.conj().T @ steering(array, *point)) ** 2 for point in grid])


def music_spectrum(array: Array, R: np.ndarray, num_sources: int, grid: np.ndarray) -> np.ndarray:
    """[G]: 1 / ||E_n^H a||^2."""
    return 1.0 / music_null_spectrum(array, R, num_sources, grid)

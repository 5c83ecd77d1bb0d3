"""Where the elements and the sources are, and the steering vector, in plain NumPy."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

Wavefront = Literal["spherical", "fresnel", "planar"]


@dataclass(frozen=True)
class Array:
    """A planar array in the y-z plane and the wave model used for its steering vectors.

    `spacing` is in wavelengths, `wavelength` in metres. With `taper` the amplitude falls as r/d_n. `layout`
    holds the elements (x, y, z) of any other array, in metres.
    """

    columns: int = 12
    rows: int = 12
    spacing: float = 0.5
    wavelength: float = 0.3
    wavefront: Wavefront = "spherical"
    taper: bool = False
    layout: tuple[tuple[float, float, float], ...] = ()

    @property
    def num_elements(self) -> int:
        return len(self.layout) or self.columns * self.rows

    @property
    def wavenumber(self) -> float:
        """k0 = 2 pi / lambda, rad/m."""
        return 2.0 * np.pi / self.wavelength


@cache
def element_positions(array: Array) -> np.ndarray:
    """[N,3] m: element n = i_v N_H + i_h at (0, (i_h-(N_H-1)/2) d, (i_v-(N_V-1)/2) d)."""
    if array.layout:
        return np.array(array.layout)
    d = array.spacing * array.wavelength
    elements = np.zeros((array.num_elements, 3))
    for i_v in range(array.rows):
        for i_h in range(array.columns):
            n = i_v * array.columns + i_h
            elements[n] = 0.0, (i_h - (array.columns - 1) / 2) * d, (i_v - (array.rows - 1) / 2) * d
    elements.flags.writeable = False  # shared by every caller of the cache
    return elements


def unit_vector(phi: float, theta: float) -> np.ndarray:
    """[3]: u = (cos theta cos phi, cos theta sin phi, sin theta)."""
    return np.array([np.cos(theta) * np.cos(phi), np.cos(theta) * np.sin(phi), np.sin(theta)])


def source_position(phi: float, theta: float, r: float) -> np.ndarray:
    """[3] m: r u(phi, theta)."""
    return r * unit_vector(phi, theta)


def distances(array: Array, phi: float, theta: float, r: float) -> np.ndarray:
    """[N] m: the exact d_n = ||r u - e_n||."""
    return np.linalg.norm(source_position(phi, theta, r) - element_positions(array), axis=1)


def excess_path(array: Array, phi: float, theta: float, r: float) -> np.ndarray:
    """[N] m: d_n - r, or its Taylor polynomial in the element coordinates e_n.

    From d_n^2 = r^2 - 2 r u.e_n + |e_n|^2: first order -u.e_n (planar); to second order
    -u.e_n + (|e_n|^2 - (u.e_n)^2)/(2r) (fresnel), whose square holds the y-z cross term.
    """
    if array.wavefront == "spherical":
        return distances(array, phi, theta, r) - r
    elements = element_positions(array)
    along = elements @ unit_vector(phi, theta)
    if array.wavefront == "planar":
        return -along
    return -along + (np.sum(elements**2, axis=1) - along**2) / (2.0 * r)


def steering(array: Array, phi: float, theta: float, r: float) -> np.ndarray:
    """[N], unit norm: a_n = exp(-j k0 (d_n - r))/sqrt(N); times r/d_n and renormalised with `taper`."""
    a = np.exp(-1j * array.wavenumber * excess_path(array, phi, theta, r))
    if array.taper:
        a = a * r / distances(array, phi, theta, r)
    return a / np.linalg.norm(a)


def steering_matrix(array: Array, positions: np.ndarray) -> np.ndarray:
    """A [N,K], one column per row (phi, theta, r) of `positions` [K,3]."""
    return np.stack([steering(array, *position) for position in positions], axis=1)

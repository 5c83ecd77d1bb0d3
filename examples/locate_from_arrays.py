"""From your own arrays to positions: two sources, simulated here with NumPy alone, then located."""

import numpy as np

import risctl

ROWS, COLUMNS, ANTENNAS, SNAPSHOTS = 12, 12, 16, 16
WAVELENGTH, SPACING = 0.3, 0.15  # metres
SOURCES = np.array([[20.0, -5.0, 3.0], [-35.0, 10.0, 6.0]])  # azimuth deg, elevation deg, range m


def steering_matrix(sources: np.ndarray) -> np.ndarray:
    """Unit-norm spherical-wave steering vectors [N, K]; element n = row * COLUMNS + column."""
    column, row = np.meshgrid(np.arange(COLUMNS), np.arange(ROWS))
    y, z = (column - (COLUMNS - 1) / 2) * SPACING, (row - (ROWS - 1) / 2) * SPACING
    elements = np.stack([np.zeros(y.size), y.ravel(), z.ravel()], axis=1)  # x is the surface's normal
    azimuth, elevation, r = np.radians(sources[:, 0]), np.radians(sources[:, 1]), sources[:, 2]
    directions = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    distance = np.linalg.norm(elements[:, None] - r[:, None] * np.stack(directions, axis=1), axis=2)
    return np.exp(-2j * np.pi / WAVELENGTH * (distance - r)) / np.sqrt(len(elements))


def main() -> None:
    """Simulate one scene and locate its sources."""
    rng = np.random.default_rng(0)

    def gaussian(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)

    A, N = steering_matrix(SOURCES), ROWS * COLUMNS
    H = gaussian(ANTENNAS, N)  # channel base station <- surface
    codes = np.exp(2j * np.pi * rng.integers(0, 8, (SNAPSHOTS, N)) / 8)  # what the surface applies
    x = gaussian(SNAPSHOTS, len(SOURCES))  # what the sources send
    clean = np.einsum("mn,ln,nk,lk->lm", H, codes, A, x)
    y = clean + 0.1 * np.sqrt(np.mean(np.abs(clean) ** 2)) * gaussian(SNAPSHOTS, ANTENNAS)  # 20 dB

    located = risctl.locate(y, H, codes)
    print(located)
    print("x, y, z in metres:", located.positions[0, : located.num_sources[0]].round(2).tolist())


if __name__ == "__main__":
    main()

"""An estimator of your own beside ours: the strongest back-projection on a coarse grid, one source."""

import numpy as np
import torch

import risctl
from risctl.physics import ArrayGeometry, steering_vector


def grid() -> np.ndarray:
    """Directions and ranges to try, [G, 3]: azimuth, elevation (rad), range (m)."""
    azimuth, elevation = np.radians(np.arange(-60, 61, 3)), np.radians(np.arange(-30, 31, 3))
    axes = azimuth, elevation, np.array([1.0, 2.0, 4.0, 8.0])
    return np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)


class BackProjection:
    """The grid point whose steering vector explains most energy of the snapshots."""

    def __init__(self, config: risctl.Config) -> None:
        self.points = grid()
        geometry = ArrayGeometry.from_config(config.physics)
        self.steering = steering_vector(*torch.from_numpy(self.points).float().T, geometry).numpy()

    def __call__(self, y: np.ndarray, H: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Locate one source from y [L, M], H [M, N], codes [L, N]."""
        energy = np.zeros(len(self.points))
        for snapshot, code in zip(y, codes, strict=True):
            response = self.steering @ (H * code).T  # [G, M]
            energy += np.abs(response.conj() @ snapshot) ** 2 / np.sum(np.abs(response) ** 2, axis=1)
        return self.points[[energy.argmax()]]


def main() -> None:
    """Evaluate it beside NOMP on scenes with one source."""
    settings = ["physics.max_sources=1", "evaluation.snr_values_db=[20]"]
    config = risctl.load_config("quick", overrides=settings)
    beside = {"nomp": None, "back-projection": BackProjection(config)}
    results = risctl.evaluate(config, beside, scenes=20).evaluation.results
    for cell in results.cells:
        if cell.num_sources is None and cell.snr_db is None:
            azimuth = cell.azimuth_deg.rmse
            print(f"{cell.estimator}: recall {cell.recall.value:.2f}, azimuth RMSE {azimuth:.2f} deg")


if __name__ == "__main__":
    main()

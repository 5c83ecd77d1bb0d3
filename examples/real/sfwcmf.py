"""Four sources deep in the near field of a real aperture of 128 sensors, plain and behind a surface.

Chardon, "Gridless covariance matrix fitting methods for three-dimensional acoustical source localization",
Journal of Sound and Vibration, 2023: microphones on an array of 2.6 x 2.7 m (14 wavelengths), four sources at
about 4.6 m. FOLDER holds `data_sfw.mat` (snapshots `data` [128, L], positions `Pmic` [128, 3], wavenumber
`k`) and `Xgt.mat` (reference positions `Xgt` [4, 3]).

    python examples/real/sfwcmf.py --data FOLDER [--out DIR] [--draws 50]

First the sensors as they are (Phi = I). Then the measured wave fields pass through a synthetic surface:
snapshot l is y_l = H diag(c_l) x_l with x_l one measured snapshot, H a drawn channel to 16 antennas, c_l
random codes of three bits. Both are written to DIR as files that `risctl locate` reads; a table and a
picture compare.
"""

import argparse
from itertools import permutations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.io import loadmat

import risctl

ANTENNAS = SNAPSHOTS = 16
SETTINGS = [
    "physics.range_min=2",  # a measurement room; sources in front, none grazing
    "physics.range_max=10",
    "physics.azimuth_limit_deg=45",
    "physics.amplitude_taper=true",  # a = exp(-j k r) / r
    "physics.max_sources=6",
]
HIT = 0.10  # metres sideways within which a source counts as found


def read(folder: Path) -> tuple[np.ndarray, dict[str, object], np.ndarray]:
    """Snapshots [L, N], description, and reference positions [K, 3] as (away, across, up) in metres.

    The sensors lie in the x-y plane of the published frame and look along its z.
    """
    data, reference = loadmat(folder / "data_sfw.mat"), loadmat(folder / "Xgt.mat")["Xgt"]
    turn = [2, 0, 1]
    described = {"wavelength": 2 * np.pi / float(data["k"].item()), "elements": data["Pmic"][:, turn]}
    return data["data"].T, described, reference[:, turn]


def through_a_surface(x: np.ndarray, draws: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Snapshots [S, L, M], channels [S, M, N] and codes [S, L, N] of `draws` synthetic front ends."""
    rng, N = np.random.default_rng(0), x.shape[1]
    shape = (draws, ANTENNAS, N)
    H = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)
    codes = np.exp(2j * np.pi * rng.integers(0, 8, (draws, SNAPSHOTS, N)) / 8)
    rows = np.stack([rng.permutation(len(x))[:SNAPSHOTS] for _ in range(draws)])
    return np.einsum("smn,sln,sln->slm", H, codes, x[rows]), H, codes


def errors(located: risctl.Located, reference: np.ndarray) -> np.ndarray:
    """Errors [S, K, 3] of each source, the estimates assigned to give the least sum of squares."""
    K = len(reference)
    orders = [list(order) for order in permutations(range(K))]
    tried = np.stack([located.positions[:, :K][:, order] - reference for order in orders])
    best = (tried**2).sum((2, 3)).argmin(0)
    return tried[best, np.arange(len(best))]


def report(name: str, error: np.ndarray, located: risctl.Located) -> None:
    """One line of the table."""
    lateral, depth = np.hypot(error[..., 1], error[..., 2]), np.abs(error[..., 0])
    rms, rms_lateral = np.sqrt((error**2).sum(-1).mean()), np.sqrt((lateral**2).mean())
    print(
        f"{name:>16} {rms:8.4f} {rms_lateral:12.4f} {np.median(lateral):15.4f} {np.median(depth):13.4f}"
        f" {np.mean(lateral < HIT):8.3f} {located.misfit_p_of_all:9.1g}"
    )


def draw(path: Path, reference: np.ndarray, clouds: dict[str, np.ndarray]) -> None:
    """Draw the references and the estimates, face on and from above."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.5))
    for axes, (column, label) in zip(panels, ((2, "up (m)"), (0, "away (m)")), strict=True):
        for name, points in clouds.items():
            axes.plot(points[..., 1].ravel(), points[..., column].ravel(), ".", markersize=4, label=name)
        axes.plot(reference[:, 1], reference[:, column], "o", fillstyle="none", color="k", label="reference")
        axes.set(xlabel="across (m)", ylabel=label)
    panels[0].legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Convert, locate, compare."""
    parser = argparse.ArgumentParser(description="Locate the four sources of the SFWCMF measurements.")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the published files")
    parser.add_argument("--out", type=Path, default=Path("real-sfwcmf"), metavar="DIR")
    parser.add_argument("--draws", type=int, default=50, help="synthetic surfaces")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    x, described, reference = read(options.data)
    plain, surface = options.out / "array.npz", options.out / "surface.npz"
    risctl.write_measurements(plain, x[None], **described)
    risctl.write_measurements(surface, *through_a_surface(x, options.draws), **described)
    config, K = risctl.load_config("quick", overrides=SETTINGS), len(reference)
    print(f"{'':>16} {'rms m':>8} {'rms lateral':>12} {'median lateral':>15}", end=" ")
    print(f"{'median depth':>13} {'recall':>8} {'p of fit':>9}")
    clouds = {}
    for name, file in (("array", plain), ("through surface", surface)):
        measured = risctl.read_measurements(file, None)
        located = risctl.locate(measured, num_sources=K, config=config)
        error = errors(located, reference)
        report(name, error, located)
        clouds[name] = reference + error
    blind = risctl.locate(measured, config=config).num_sources
    counts = ", ".join(f"{K}: {n}" for K, n in zip(*np.unique(blind, return_counts=True), strict=True))
    print(f"sources counted behind the surface (count: draws): {counts}")
    draw(options.out / "sfwcmf.png", reference, clouds)
    print(f"{options.out / 'sfwcmf.png'}; risctl locate reads {plain} and {surface}")


if __name__ == "__main__":
    main()

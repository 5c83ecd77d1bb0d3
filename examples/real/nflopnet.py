"""Near-field localisation with a real nine-antenna line: the measurements of NFLOPnet, without calibration.

Laakso et al., "Near-field localization using machine learning: an empirical study", VTC 2021. Nine coherent
software radios half a wavelength apart, 1.24 GHz, one transmitter indoors at known azimuths and ranges.
FOLDER holds `nflopnet*.npz` with `y` [S, L, 9], `range_m` and `azimuth_rad` [S].

    python examples/real/nflopnet.py --data FOLDER [--out DIR]

writes DIR/nflopnet.npz, which `risctl locate` reads, prints a table, and draws DIR/nflopnet.png.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import risctl

WAVELENGTH = 299_792_458 / 1.24e9
SETTINGS = [
    "physics.range_min=0.3",  # the campaign's transmitter stood 0.5 to 5.5 m away
    "physics.range_max=6",
]


def convert(folder: Path, out: Path) -> tuple[Path, np.ndarray]:
    """Write the measurement file; return it and the true azimuths (degrees) and ranges (metres) [S, 2].

    The radios' gains are not known: each antenna is divided by its own level. A line does not observe
    elevation; transmitter and antennas are at one height.
    """
    published = [np.load(path) for path in sorted(folder.glob("nflopnet*.npz"))]
    if not published:
        raise SystemExit(f"{folder}: expected nflopnet*.npz, got none")
    y = np.concatenate([data["y"] for data in published])
    y = y / np.sqrt(np.mean(np.abs(y) ** 2, axis=1, keepdims=True))
    elements = np.zeros((9, 3))
    elements[:, 1] = (np.arange(9) - 4) * WAVELENGTH / 2
    file = out / "nflopnet.npz"
    risctl.write_measurements(file, y, wavelength=WAVELENGTH, elements=elements, known_elevation_deg=0.0)
    truth = [np.stack([np.degrees(d["azimuth_rad"]), d["range_m"]], axis=-1) for d in published]
    return file, np.concatenate(truth)


def draw(path: Path, truth: np.ndarray, found: np.ndarray) -> None:
    """Draw true and estimated positions, joined, seen from above."""
    figure, axes = plt.subplots(figsize=(6, 6))
    corners = [(r * np.sin(np.radians(a)), r * np.cos(np.radians(a))) for a, r in (truth.T, found.T)]
    axes.plot(*np.stack(corners, axis=1), color="0.7", linewidth=0.8)
    axes.plot(*corners[0], "o", fillstyle="none", label="true")
    axes.plot(*corners[1], "x", label="estimate")
    axes.set(xlabel="across the line (m)", ylabel="away from it (m)", aspect="equal", title="NFLOPnet")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Convert, locate, compare."""
    parser = argparse.ArgumentParser(description="Locate the transmitter of NFLOPnet's measurements.")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the published files")
    parser.add_argument("--out", type=Path, default=Path("real-nflopnet"), metavar="DIR")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    file, truth = convert(options.data, options.out)
    config = risctl.load_config("quick", overrides=SETTINGS)
    located = risctl.locate(risctl.read_measurements(file, None), num_sources=1, config=config)
    found = np.stack([np.degrees(located.azimuth[:, 0]), located.range[:, 0]], axis=-1)
    error = np.abs(found - truth)
    print(f"{'range m':>10} {'positions':>10} {'azimuth error deg':>18} {'range error m':>14}   (medians)")
    for r in np.unique(truth[:, 1]):
        here = truth[:, 1] == r
        azimuth, range_ = np.median(error[here], axis=0)
        print(f"{r:10.1f} {here.sum():10d} {azimuth:18.2f} {range_:14.2f}")
    azimuth, range_ = np.median(error, axis=0)
    print(f"{'all':>10} {len(error):10d} {azimuth:18.2f} {range_:14.2f}")
    print(f"goodness of fit of ideal antennas, all positions together: p = {located.misfit_p_of_all:.1g}")
    draw(options.out / "nflopnet.png", truth, found)
    print(f"{options.out / 'nflopnet.png'}; {file} is what risctl locate reads")


if __name__ == "__main__":
    main()

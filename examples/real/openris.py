"""Directions through a real one-bit surface with one receive port: the measurements of OpenRIS.

Rains et al., OpenRIS (2022), doi 10.5281/zenodo.7415741. A tile of 16 x 16 cells, 3.58 GHz, outdoors; a
network analyser between two horns at 8.3 m, one fixed, one at 0, 3, ..., 180 degrees (90 degrees is
broadside), in the tile's horizontal plane. By reciprocity the moving horn is the source to be found and
the fixed one a base station with ONE antenna at a known place. The eleven configurations of the tile are
eleven codes; one frequency is one scene, its amplitude constant. What does not go by way of the cells'
two states (from horn to horn, off the mount, the mean of the states) is the same in all configurations: a
static path. The cells are taken for ideal.

FOLDER holds `measurements/ff_singletile/tx_<angle>_VV/rx_<angle>/<1..11>.csv` as published.

    python examples/real/openris.py --data FOLDER [--out DIR] [--transmit 135] [--port S43] [--pairs 1000]

writes DIR/openris.npz, which `risctl locate` reads, prints a table, and draws DIR/openris.png.
"""

import argparse
import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import risctl

SIDE, CELL = 16, 0.03  # cells along a side, metres
DISTANCE = 8.3  # of both horns from the centre of the tile, metres
FREQUENCY = 3.58e9
WAVELENGTH = 299_792_458 / FREQUENCY
BEAMS = range(15, 166, 15)  # angles that the eleven configurations send to, degrees
SETTINGS = [
    "physics.azimuth_limit_deg=70",  # the published angles from 20 to 160 degrees
    "physics.max_sources=2",
    "inference.grid_oversampling=8",  # one coordinate: a fine grid costs nothing
]


def horn(angle: float, distance: float) -> np.ndarray:
    """Place [3] of a horn: across the tile (x), up (y) and away from it (z), metres."""
    return distance * np.array([np.cos(np.radians(angle)), 0.0, np.sin(np.radians(angle))])


def codes_of_rule(transmit: float) -> np.ndarray:
    """The states [11, row, column], +1 for +j and -1 for -j, by the published rule (`calc_ris_pr.m`).

    Cell by cell, column after column, the state that makes the running sum of the path from the transmitter
    (at 1 m) over the cells to the receiver (at 100 m) larger; without the patterns of antennas and cells.
    """
    wavelength = 0.3 / 3.58
    place = CELL * np.arange(1, SIDE + 1) + CELL / 2 - SIDE * CELL / 2
    x, y = np.meshgrid(place, place)
    cells = np.stack([x, y, np.zeros_like(x)], axis=-1)
    states = np.empty((len(BEAMS), SIDE, SIDE), dtype=np.int8)
    for k, beam in enumerate(BEAMS):
        there, back = (np.linalg.norm(cells - p, axis=-1) for p in (horn(transmit, 1.0), horn(beam, 100.0)))
        path = 1j * np.exp(-2j * np.pi / wavelength * (there + back)) / (there * back)
        total = 0j
        for column in range(SIDE):
            for row in range(SIDE):
                step = path[row, column]
                states[k, row, column] = -1 if abs(total + step) < abs(total - step) else 1
                total += states[k, row, column] * step
    return states


def read_transmission(path: Path, port: str) -> complex:
    """The transmission at 3.58 GHz from one published file."""
    with path.open(newline="") as stream:
        lines = [line for line in stream if line.strip() and not line.startswith(("!", "BEGIN", "END"))]
    for row in csv.DictReader(lines):
        if float(row["Freq(Hz)"]) == FREQUENCY:
            level, phase = float(row[f"{port}(DB)"]), np.radians(float(row[f"{port}(DEG)"]))
            return complex(10 ** (level / 20) * np.exp(1j * phase))
    raise SystemExit(f"{path}: expected a row for {FREQUENCY:.0f} Hz, got none")


def read_campaign(folder: Path, transmit: int, port: str) -> tuple[np.ndarray, np.ndarray]:
    """Angles of the receive horn [S] in degrees, ascending, and the transmissions [S, 11]."""
    place = folder / "measurements" / "ff_singletile" / f"tx_{transmit}_VV"
    angles = sorted(int(path.name.removeprefix("rx_")) for path in place.glob("rx_*"))
    if not angles:
        raise SystemExit(f"{place}: expected rx_<angle>/<1..11>.csv, got none")
    configurations = range(1, len(BEAMS) + 1)
    y = [[read_transmission(place / f"rx_{a}" / f"{k}.csv", port) for k in configurations] for a in angles]
    return np.array(angles, dtype=float), np.array(y)


def front_end(transmit: float) -> dict[str, object]:
    """The base station's channel, the codes, and what else a measurement file says.

    In the tile's frame y is across (their x) and z up; an azimuth is 90 degrees less the published angle.
    """
    place = (np.arange(SIDE) - (SIDE - 1) / 2) * CELL
    z, y = np.meshgrid(place, place, indexing="ij")
    elements = np.stack([np.zeros(y.size), y.ravel(), z.ravel()], axis=1)
    across, _, away = horn(transmit, DISTANCE)
    path = np.linalg.norm(elements - [away, across, 0.0], axis=1)
    return {
        "H": np.exp(-2j * np.pi / WAVELENGTH * (path - DISTANCE))[None],
        "codes": 1j * codes_of_rule(transmit).reshape(len(BEAMS), -1),
        "wavelength": WAVELENGTH,
        "elements": elements,
        "symbols": "constant",
        "static_path": True,
        "known_elevation_deg": 0.0,
        "known_range_m": DISTANCE,
    }


def locate(file: Path, y: np.ndarray, transmit: float, num_sources: int) -> tuple[np.ndarray, float]:
    """Write scenes y [S, 11] to a measurement file; return angles [S, K] in degrees, and p of the fit."""
    risctl.write_measurements(file, y[..., None], **front_end(transmit))
    config = risctl.load_config("quick", overrides=SETTINGS)
    located = risctl.locate(risctl.read_measurements(file, None), num_sources=num_sources, config=config)
    return 90.0 - np.degrees(located.azimuth[:, :num_sources]), located.misfit_p_of_all


def draw_pairs(angles: np.ndarray, count: int) -> np.ndarray:
    """Indices [count, 2] of positions at least 15 degrees apart."""
    first, second = np.triu_indices(len(angles), 1)
    apart = np.abs(angles[first] - angles[second]) >= 15
    pairs = np.stack([first[apart], second[apart]], axis=1)
    return np.random.default_rng(0).permutation(pairs)[:count]


def draw(path: Path, angles: np.ndarray, error: np.ndarray) -> None:
    """Draw the error at each angle of the source."""
    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    axes.axhspan(-6, 6, color="0.93")
    axes.stem(angles, error, basefmt="0.5")
    axes.set(
        xlabel="angle of the source (degrees, 90 is broadside)", ylabel="error (degrees)", title="OpenRIS"
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    """Convert, locate, compare."""
    parser = argparse.ArgumentParser(description="Locate the moving horn of OpenRIS's measurements.")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the published files")
    parser.add_argument("--out", type=Path, default=Path("real-openris"), metavar="DIR")
    parser.add_argument("--transmit", type=int, default=135, help="angle of the fixed horn, degrees")
    parser.add_argument("--port", choices=("S43", "S34"), default="S43", help="direction of the transmission")
    parser.add_argument("--pairs", type=int, default=1000, help="most sums of two positions to locate")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    angles, y = read_campaign(options.data, options.transmit, options.port)
    seen = (angles >= 20) & (angles <= 160)
    angles, y = angles[seen], y[seen]
    file = options.out / "openris.npz"
    found, p = locate(file, y, options.transmit, 1)
    error = found[:, 0] - angles
    print(f"{'angle deg':>10} {'found':>8} {'error':>7}")
    for row in zip(angles, found[:, 0], error, strict=True):
        print("{:10.0f} {:8.1f} {:7.1f}".format(*row))
    size = np.abs(error)
    within = f"{np.mean(size <= 6):.0%} within 6 deg"
    print(f"{len(error)} positions: median error {np.median(size):.2f} deg, {within}")
    print(f"goodness of fit of ideal elements, all positions together: p = {p:.1g}")
    pairs = draw_pairs(angles, options.pairs)
    if len(pairs):
        sums = y[pairs[:, 0]] + y[pairs[:, 1]]
        both, _ = locate(options.out / "openris-pairs.npz", sums, options.transmit, 2)
        truth, both = np.sort(angles[pairs], axis=1), np.sort(both, axis=1)
        hit = np.abs(both - truth) <= 6
        print(
            f"{len(pairs)} sums of two positions 15 deg or more apart: recall {hit.mean():.3f} within 6 deg"
        )
    draw(options.out / "openris.png", angles, error)
    print(f"{options.out / 'openris.png'}; {file} is what risctl locate reads")


if __name__ == "__main__":
    main()

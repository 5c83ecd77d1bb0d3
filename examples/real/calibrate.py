"""Three real arrays calibrated by their own measurements, and judged on measurements that were not used.

    python examples/real/calibrate.py nflopnet --data FOLDER [--splits 10]
    python examples/real/calibrate.py openris --data FOLDER [--splits 4]
    python examples/real/calibrate.py sfwcmf --data FOLDER [--draws 50]

FOLDER is that of `nflopnet.py`, `openris.py` and `sfwcmf.py` beside this file, which describe the sets. Known
positions are used where a line says so (`known`), else nothing but the snapshots (`blind`).
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nflopnet
import numpy as np
import openris
import sfwcmf
import torch

import risctl
from risctl.data import Measurements

COHERENT = 0.3  # least median correlation of an antenna with the others
NEAR = 0.1  # metres across: a source of sfwcmf is found


def one_snapshot(folder: Path, out: Path) -> tuple[Measurements, np.ndarray]:
    """NFLOPnet's strongest component at each position as a coherent snapshot, and the true positions.

    The transmitter is one tone's worth of bandwidth, so all that 4,096 snapshots add is the radios' noise,
    far below the echoes of the room. An antenna whose signal does not go with the others' (three radios in
    half of the positions) is left out there: its rows of y and Phi are zero.
    """
    file, truth = nflopnet.convert(folder, out)
    data = risctl.read_measurements(file, None)
    y = data.y.numpy()
    correlation = np.abs(np.einsum("sla,slb->sab", y, y.conj())) / y.shape[1]
    kept = np.median(correlation, axis=2) > COHERENT
    _, s, V = np.linalg.svd(y * kept[:, None], full_matrices=False)
    strongest = (s[:, :1] * V[:, 0] / np.sqrt(y.shape[1]))[:, None]
    Phi = (np.eye(9) * kept[:, None])[:, None]
    says = replace(data.description, symbols="constant")
    arrays = {"y": torch.from_numpy(strongest), "Phi": torch.from_numpy(Phi).to(torch.complex64)}
    return replace(data, **arrays, description=says), truth


def part(data: Measurements, rows: np.ndarray) -> Measurements:
    """Some of the scenes."""
    pairs = {name: getattr(data, name) for name in ("y", "H", "codes", "Phi")}
    return replace(data, **{name: None if x is None else x[rows] for name, x in pairs.items()})


def calibrate_nflopnet(options: argparse.Namespace) -> Iterator[tuple[str, np.ndarray]]:
    """Errors [S, 2] (degrees, metres) of the positions that do not calibrate, split by split."""
    data, truth = one_snapshot(options.data, options.out)
    config = risctl.load_config("quick", overrides=[*nflopnet.SETTINGS, "physics.max_sources=1"])
    rng = np.random.default_rng(0)
    for _ in range(options.splits):
        order = rng.permutation(len(truth))
        used, rest = np.sort(order[: options.known]), np.sort(order[options.known :])
        places = [[[np.radians(truth[k, 0]), 0.0, truth[k, 1]]] for k in used]
        for name, anchors in (("nominal", None), ("blind", {}), ("known", dict(enumerate(places)))):
            surface = None
            if anchors is not None:
                surface = risctl.calibrate_surface(
                    part(data, used), anchors=anchors, held_out=0.0, num_sources=1, config=config
                )
            located = risctl.locate(part(data, rest), num_sources=1, config=config, surface=surface)
            found = np.stack([np.degrees(located.azimuth[:, 0]), located.range[:, 0]], axis=-1)
            yield name, np.abs(found - truth[rest])


def calibrate_openris(options: argparse.Namespace) -> Iterator[tuple[str, np.ndarray]]:
    """Errors [S, 1] (degrees) at the angles that did not calibrate: the other half, both ways round.

    A static path leaves the difference of a cell's two states alone: gains are all that can be told of them.
    """
    angles, y = openris.read_campaign(options.data, 135, "S43")
    seen = (angles >= 20) & (angles <= 160)
    angles, y = angles[seen], y[seen]
    file = options.out / "openris.npz"
    risctl.write_measurements(file, y[..., None], **openris.front_end(135))
    data = risctl.read_measurements(file, None)
    config = risctl.load_config("quick", overrides=openris.SETTINGS)
    rng = np.random.default_rng(0)
    for split in range(options.splits):
        order = np.arange(len(angles)) if split < 2 else rng.permutation(len(angles))
        used, rest = order[split % 2 :: 2], order[1 - split % 2 :: 2]
        places = [[[np.radians(90 - a), 0.0, openris.DISTANCE]] for a in angles[used]]
        for name, anchors in (("nominal", None), ("blind", {}), ("known", dict(enumerate(places)))):
            surface = None
            if anchors is not None:
                surface = risctl.calibrate_surface(
                    part(data, used), anchors=anchors, held_out=0.0, num_sources=1, config=config
                )
            located = risctl.locate(part(data, rest), num_sources=1, config=config, surface=surface)
            yield name, np.abs(90.0 - np.degrees(located.azimuth[:, :1]) - angles[rest, None])


def calibrate_sfwcmf(options: argparse.Namespace) -> Iterator[tuple[str, np.ndarray]]:
    """Errors (metres; across, in depth) of four sources from the second half of the snapshots.

    The gains of the sensors are those of the first half; behind the surface 16 antennas, 16 snapshots.
    """
    x, described, reference = sfwcmf.read(options.data)
    first, second, K = x[: len(x) // 2], x[len(x) // 2 :], len(reference)
    config = risctl.load_config("quick", overrides=sfwcmf.SETTINGS)
    r = np.linalg.norm(reference, axis=1)
    angles = np.arctan2(reference[:, 1], reference[:, 0]), np.arcsin(reference[:, 2] / r)
    known = {0: np.stack([*angles, r], axis=1)}
    for name, anchors in (("nominal", None), ("blind", {}), ("known", known)):
        surface = None
        if anchors is not None:
            surface = risctl.calibrate_surface(
                first[None], anchors=anchors, held_out=0.0, num_sources=K, config=config, **described
            )
        seen = {"array": (second[None],), "surface": sfwcmf.through_a_surface(second, options.draws)}
        for front, arrays in seen.items():
            located = risctl.locate(*arrays, num_sources=K, config=config, surface=surface, **described)
            error = sfwcmf.errors(located, reference).reshape(-1, 3)
            yield f"{front}, {name}", np.stack([np.hypot(error[:, 1], error[:, 2]), np.abs(error[:, 0])], 1)


SETS = {
    "nflopnet": (calibrate_nflopnet, ("azimuth deg", "range m")),
    "openris": (calibrate_openris, ("azimuth deg",)),
    "sfwcmf": (calibrate_sfwcmf, ("across m", "depth m")),
}


def main() -> None:
    """Calibrate, locate what is left, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the published files")
    parser.add_argument("--out", type=Path, default=Path("real-calibrated"), metavar="DIR")
    parser.add_argument("--splits", type=int, default=4, help="divisions of the positions in two")
    parser.add_argument("--known", type=int, default=20, help="positions of nflopnet that calibrate")
    parser.add_argument("--draws", type=int, default=50, help="synthetic surfaces")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    calibrate, columns = SETS[options.set]
    errors: dict[str, list[np.ndarray]] = {}
    for name, error in calibrate(options):
        errors.setdefault(name, []).append(error)
    print(f"{'':>18} " + " ".join(f"{c:>24}" for c in columns) + "   (median; mean of the splits' medians)")
    for name, parts in errors.items():
        medians, whole = [np.median(e, axis=0) for e in parts], np.median(np.concatenate(parts), axis=0)
        spread = np.std(medians, axis=0) / np.sqrt(max(len(parts) - 1, 1))
        cells = zip(whole, np.mean(medians, axis=0), spread, strict=True)
        print(f"{name:>18} " + " ".join(f"{a:8.3f} {b:8.3f} +- {c:.3f}" for a, b, c in cells))
    if options.set == "sfwcmf":
        found = (
            f"{name} {np.mean(np.concatenate(parts)[:, 0] <= NEAR):.3f}" for name, parts in errors.items()
        )
        print(f"within {NEAR:g} m across: {', '.join(found)}")


if __name__ == "__main__":
    main()

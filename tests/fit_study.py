"""Level and power of the goodness of fit by kind of file: the figures of docs/your-file.md.

    python tests/fit_study.py [KIND ...] [--estimator learned] [--files 100] [--snr 10 20]

Files of ten scenes, made with the oracle, which shares no code with the library. Of the scenes the shares
with p < 0.01 and with any flag are printed, of the files the number with p < 0.01 and of those in
which another convention is named; with them the p-value of a
Kolmogorov-Smirnov test for uniform p-values of the scenes.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from scipy import stats

from risctl import runs
from risctl.config.layers import Layers
from risctl.data import Measurements
from risctl.inference.goodness import LEVEL, Fit
from tests.runs import others
from tests.runs.others import Arrays, simulated

SCENES = 10  # of a file
SNRS = (-5.0, 0.0, 5.0, 10.0, 15.0, 20.0)

# A file from its SNR, its number of sources (1 to 5 in turn) and its seed
KINDS: dict[str, Callable[[float, int, int], Arrays]] = {
    "ideal": lambda snr, K, seed: simulated(K, snr, SCENES, seed),
    "phase errors": lambda snr, K, seed: others.phase_errors(SCENES, snr, K, seed),
    "azimuth 75": lambda snr, K, seed: simulated(((75.0, 5.0, 4.0),), snr, SCENES, seed),
    "interferer": lambda snr, K, seed: simulated(
        (*others.TWO, (80.0, 0.0, 5.0)), snr, SCENES, seed, powers_db=(0.0, 0.0, 20.0)
    ),
    "200 m": lambda snr, K, seed: simulated(((20.0, 5.0, 200.0),), snr, SCENES, seed),
    "y conjugated": lambda snr, K, seed: others.conjugated(simulated(K, snr, SCENES, seed), "y"),
    "H conjugated": lambda snr, K, seed: others.conjugated(simulated(K, snr, SCENES, seed), "H"),
    "codes conjugated": lambda snr, K, seed: others.conjugated(simulated(K, snr, SCENES, seed), "codes"),
    "sign flipped": lambda snr, K, seed: others.conjugated(simulated(K, snr, SCENES, seed), "H", "codes"),
    "rows for columns": lambda snr, K, seed: others.rows_for_columns(simulated(K, snr, SCENES, seed)),
    "transposed": lambda snr, K, seed: others.transposed(simulated(K, snr, SCENES, seed)),
    "one live snapshot": lambda snr, K, seed: others.one_live_snapshot(SCENES, seed),
    "seven sources": lambda snr, K, seed: simulated(7, snr, SCENES, seed),
}


def fits(chosen: runs.Chosen, files: list[Arrays]) -> list[Fit]:
    """The fit of every file, as `locate` finds it."""
    found = []
    for file in files:
        arrays = (torch.from_numpy(x).to(torch.complex64) for x in (file.y, file.H, file.codes))
        found.append(runs.locate_measurements(chosen, Measurements(*arrays)).fit)
    return found


def line(name: str, found: list[Fit]) -> str:
    """What is said of the files of a kind."""
    p = torch.cat([fit.misfit_p for fit in found])
    p = p[~p.isnan()].numpy()
    flagged = [bool(scene) or any(source) for fit in found for scene, source in _flags(fit)]
    marked = sum(fit.file_p < LEVEL for fit in found)
    named = sum(bool(fit.likelier_convention) for fit in found)
    return (
        f"{name:28s} scenes {np.mean(p < LEVEL):.3f} of {len(p)}, any flag {np.mean(flagged):.3f}, "
        f"files {marked} of {len(found)}, another convention named {named}, "
        f"uniform {stats.kstest(p, 'uniform').pvalue:.3f}"
    )


def _flags(fit: Fit) -> list[tuple[list[str], list[list[str]]]]:
    return list(zip(fit.scene_flags(), fit.source_flags(), strict=True))


def main() -> None:
    """Print a line for every kind and SNR, and of ideal files one for every SNR and every K as well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("kinds", nargs="*", help="; ".join(KINDS))
    parser.add_argument("--estimator", default="learned")
    parser.add_argument("--files", type=int, default=100, help="of a kind and SNR; ideal ones of each K, too")
    parser.add_argument("--snr", type=float, nargs="+", default=(10.0, 20.0))
    args = parser.parse_args()
    torch.set_num_threads(1)
    chosen = runs.choose_estimator(Layers(), args.estimator)
    for kind in args.kinds or KINDS:
        ideal: dict[str, list[Fit]] = {}
        for snr in SNRS if kind == "ideal" else args.snr:
            seed = 100_000 + 1000 * int(snr)  # no two SNRs share noise
            files = [KINDS[kind](snr, 1 + i % 5, seed + i) for i in range(args.files)]
            found = fits(chosen, files)
            print(line(f"{kind}, {snr:g} dB", found), flush=True)
            for i, fit in enumerate(found):
                ideal.setdefault(f"ideal, K = {1 + i % 5}", []).append(fit)
                ideal.setdefault("ideal, all", []).append(fit)
        for name, found in ideal.items() if kind == "ideal" else ():
            print(line(name, found), flush=True)


if __name__ == "__main__":
    main()

"""What constant symbols are worth: NOMP with them and with random symbols on the same scenes.

    python tests/pilots_study.py [--scenes 150]

prints the table of docs/pilots.md: recall (within 5 degrees) with K given and blind, share of scenes whose
sources are counted right, and the error of direction over its bound, K given.
"""

import argparse

import torch
from torch import Tensor

from risctl.config import CovarianceConfig, InferenceConfig
from risctl.inference import Estimates, build_estimator
from risctl.physics import Scenes
from tests.inference.conftest import make_scenes
from tests.inference.test_nomp import angle_errors
from tests.inference.test_pilots import ratio_to_bound

SEED = 2000
RUNS = [(snr, symbols, {}) for snr in (-5.0, 0.0, 5.0, 20.0) for symbols in ("constant", "gaussian")]
RUNS += [(snr, "constant", {"num_antennas": 1, "num_snapshots": 64}) for snr in (5.0, 20.0)]


def _recall(scenes: Scenes, found: Estimates) -> str:
    hits, shares = angle_errors(scenes, found) < 5.0, []
    for K in (1, 3, 5, None):
        here = scenes.source_mask & (torch.ones_like(hits) if K is None else _of(scenes, K).unsqueeze(1))
        shares.append(hits[here].double().mean())
    return _cell(shares)


def _counted(scenes: Scenes, found: Estimates) -> str:
    right, every = found.num_sources == scenes.num_sources, torch.ones(len(scenes), dtype=torch.bool)
    return _cell([right[every if K is None else _of(scenes, K)].double().mean() for K in (1, 3, 5, None)])


def _of(scenes: Scenes, K: int) -> Tensor:
    return scenes.num_sources == K


def _cell(shares: list[Tensor]) -> str:
    one, three, five, every = (f"{float(x):.2f}" for x in shares)
    return f"{one} / {three} / {five}, {every}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Constant against random symbols on the same scenes.")
    parser.add_argument("--scenes", type=int, default=150, help="scenes a row, a fifth of them each K")
    options = parser.parse_args()
    print("| SNR dB | | recall, K given | recall, blind | count right | error / bound |")
    print("|---|---|---|---|---|---|")
    for snr, symbols, changes in RUNS:
        fixed = {"symbols": symbols, "stratified": True, "snr_values_db": (snr,)}
        physics, scenes = make_scenes(options.scenes, seed=SEED, **fixed | changes)
        estimator = build_estimator("nomp", physics, CovarianceConfig(), InferenceConfig(decision="count"))
        given = estimator(scenes.y, scenes.H, scenes.codes, scenes.num_sources.long())
        blind = estimator(scenes.y, scenes.H, scenes.codes)
        ratio = ratio_to_bound(scenes, physics, angle_errors(scenes, given))
        name = symbols.replace("gaussian", "random") + (", M = 1, L = 64" if changes else "")
        cells = (_recall(scenes, given), _recall(scenes, blind), _counted(scenes, blind), f"{ratio:.2f}")
        print(f"| {snr:.0f} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

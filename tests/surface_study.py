"""What a blind calibration of the surface is worth: errors after it over those with the true response.

    python tests/surface_study.py --sites 6 --rows blind anchor mixed few --out study.jsonl
    python tests/surface_study.py --figure docs/surface.png --out study.jsonl

A site is a seed: one surface (phase errors of 0.3 or 1.0 rad, 1 dB of gain jitter, 2 % dead elements) for all
its scenes, calibrated from some of them, their sources unknown. In the others sources are located with the
calibration and with the true response; errors are compared of those that both find within 5 degrees. All
sources that are counted are reported (`decision=count`): none is left out for its errors.
"""

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

import risctl
from risctl.data.stream import shared_surface
from risctl.inference.gaussian import GaussianParameters
from risctl.inference.observation import Observation
from risctl.inference.surface.bound import hybrid_bound
from risctl.inference.surface.likelihood import SceneGroup, fisher_model
from risctl.inference.surface.response import GAINS as GAIN_KIND
from risctl.inference.surface.response import SurfaceResponse
from risctl.inference.surface.scoring import Arrow, Joint, Prior, posterior
from risctl.physics import ArrayGeometry, FieldOfView, Scenes
from risctl.physics.polar import to_polar
from risctl.physics.scenes import rows_by_count
from risctl.runs import CalibratedSurface, Located

GATE = math.radians(5.0)
LIVE = ("phase_error_deg={}", "amplitude_jitter_db=1.0")
GAINS = (*LIVE, "dead_elements=0.02")
DRIFT = 0.05  # rad, of every element from scene to scene
STATES = ("state_amplitude_min=0.2", "state_phase_error_deg=20.0")
# row: impairments, scenes, their SNR (dB), anchored scenes, what is estimated, start
ROWS = {
    "blind": (GAINS, 50, (20.0, 20.0), 0, "gains", "nominal"),
    "anchor": (GAINS, 50, (20.0, 20.0), 1, "gains", "nominal"),
    "mixed": (GAINS, 50, (-5.0, 20.0), 0, "gains", "nominal"),
    "few": (GAINS, 10, (20.0, 20.0), 0, "gains", "nominal"),
    "perfect": ((), 10, (10.0, 10.0), 0, "gains", "nominal"),
    "states": (STATES, 20, (20.0, 20.0), 0, "states", "nominal"),
    "both": ((*GAINS, *STATES), 50, (20.0, 20.0), 0, "gains+states", "nominal"),
    "positions": (("position_error=0.01",), 50, (20.0, 20.0), 0, "positions", "nominal"),
    "random": (("phase_error_deg=180.0",), 40, (20.0, 20.0), 10, "gains", "anchors"),
    "dft": (GAINS, 50, (20.0, 20.0), 0, "gains", "nominal"),
    "hadamard": (GAINS, 50, (20.0, 20.0), 0, "gains", "nominal"),
    "four antennas": (GAINS, 50, (20.0, 20.0), 0, "gains", "nominal"),
    "drift": (LIVE, 50, (20.0, 20.0), 0, "gains", "nominal"),
}
EXTRA = {
    "dft": ("physics.codebook=dft",),
    "hadamard": ("physics.codebook=hadamard",),
    "four antennas": ("physics.num_antennas=4", "physics.max_sources=3"),
}


def scenes_of(
    row: str, sigma: float, snr: tuple[float, float], count: int, seed: int, decision: str
) -> tuple[risctl.Config, Scenes]:
    """Scenes of a site at an SNR between two values."""
    faults = [f"physics.impairments.{fault.format(math.degrees(sigma))}" for fault in ROWS[row][0]]
    words = [*faults, "physics.impairments.shared=true", *EXTRA.get(row, ())]
    words += [f"physics.snr_min_db={snr[0]}", f"physics.snr_max_db={snr[1]}"]
    words.append(f"inference.decision={decision}")
    config = risctl.load_config("quick", overrides=words)
    if row != "drift":
        return config, risctl.simulate(config, count, seed=seed)
    scenes = risctl.simulate(risctl.load_config("quick", overrides=words[len(faults) :]), count, seed=seed)
    gain = shared_surface(config.physics, seed).gain
    assert gain is not None
    drift = torch.randn(scenes.H.shape[::2], generator=torch.Generator().manual_seed(seed)) * DRIFT
    moved = gain.flatten() * torch.exp(1j * drift)  # as if H were of elements that are not ideal
    return config, replace(scenes, H=(scenes.H / moved.unsqueeze(1)).to(scenes.H.dtype))


def truth_of(config: risctl.Config, seed: int, found: CalibratedSurface) -> CalibratedSurface:
    """The calibration that is exactly right, in the form of the one that was found."""
    surface = shared_surface(config.physics, seed)
    N, Q = config.physics.num_elements, 2**config.physics.phase_bits
    gains = torch.ones(N) if surface.gain is None else surface.gain.flatten()
    states = torch.ones(Q) if surface.states is None else surface.states[0]
    nominal = ArrayGeometry.from_config(config.physics).positions
    moved = (surface.geometry.positions.reshape(-1, N, 3)[0] - nominal).double()
    values = {
        "gain_real": tuple(gains.real.tolist()),
        "gain_imag": tuple(gains.to(torch.complex64).imag.tolist()),
        "gain_std": (0.0,) * N,
        "state_real": tuple(states.real.tolist()),
        "state_imag": tuple(states.to(torch.complex64).imag.tolist()),
        "state_std": (0.0,) * Q,
        "displacement_m": tuple(moved.T.flatten().tolist()) if bool(moved.any()) else (),
        "displacement_std_m": (0.0,) * (3 * N) if bool(moved.any()) else (),
        "ramp_covariance": (0.0,) * 9,
    }
    return CalibratedSurface(found.document.model_copy(update=values))


def matched(scenes: Scenes, located: Located, i: int) -> dict[int, int]:
    """True sources of scene i with the found ones that lie within the gate in azimuth and elevation."""
    K, found = int(scenes.num_sources[i]), int(located.num_sources[i])
    azimuth, elevation = (getattr(scenes, x)[i, :K].double().numpy() for x in ("azimuth", "elevation"))
    far = np.maximum(
        abs(azimuth[:, None] - located.azimuth[i, :found]),
        abs(elevation[:, None] - located.elevation[i, :found]),
    )
    pairs = zip(*linear_sum_assignment(np.minimum(far, GATE)), strict=True)
    return {int(k): int(j) for k, j in pairs if far[k, j] < GATE}


def compared(scenes: Scenes, after: Located, known: Located) -> dict[str, list[float]]:
    """Errors of the sources that both find: azimuth, elevation, range; and their stated deviations."""
    rows: dict[str, list[float]] = {}
    for i in range(len(scenes)):
        pairs = [matched(scenes, located, i) for located in (after, known)]
        for k in pairs[0].keys() & pairs[1].keys():
            for name in ("azimuth", "elevation", "range"):
                true = float(getattr(scenes, name)[i, k])
                for label, located, pair in (("after", after, pairs[0]), ("known", known, pairs[1])):
                    error = float(getattr(located, name)[i, pair[k]]) - true
                    std = float(getattr(located, f"std_{name}")[i, pair[k]])
                    rows.setdefault(f"{label} {name}", []).append(error)
                    rows.setdefault(f"{label} {name} in", []).append(float(abs(error) < std))
    return rows


def site(
    row: str, sigma: float, seed: int, tests: int, decision: str = "count", count: int | None = None
) -> dict[str, object]:
    """Calibrate one site from `count` scenes (None: those of the row) and judge it."""
    _, usual, snr, anchored, kinds, start = ROWS[row]
    count = count or usual
    config, scenes = scenes_of(row, sigma, snr, count, seed, decision)
    place = torch.stack([scenes.azimuth, scenes.elevation, scenes.range], -1)
    anchors = {i: place[i, : int(scenes.num_sources[i])] for i in range(anchored)}
    arrays = scenes.y, scenes.H, scenes.codes
    begun = time.process_time()
    surface = risctl.calibrate_surface(
        *arrays, anchors=anchors, estimate=kinds, start=start, held_out=0.0, config=config
    )
    seconds = time.process_time() - begun
    truth = truth_of(config, seed, surface)
    dead = [n for n, g in enumerate(truth.gains.abs().tolist()) if g == 0]
    result: dict[str, object] = {"row": row, "sigma": sigma, "seed": seed, "cpu_seconds": seconds}
    result |= {"scenes": count, "anchored": anchored}
    result |= {
        "relative_error": relative_error(surface, truth),
        "phase_rms": phase_rms(surface, truth, config),
    }
    result |= {
        "dead_missed": len(set(dead) - set(surface.dead)),
        "dead_false": len(set(surface.dead) - set(dead)),
    }
    result["tilt_std_deg"] = surface.tilt_std_deg
    for level in (10.0, 20.0):
        _, all_scenes = scenes_of(row, sigma, (level, level), count + tests, seed, decision)
        part = all_scenes[count:]
        seen = part.y, part.H, part.codes
        after, known = (risctl.locate(*seen, surface=s, config=config) for s in (surface, truth))
        total = int(part.num_sources.sum())
        for label, located in (("after", after), ("known", known)):
            hits = sum(len(matched(part, located, i)) for i in range(len(part)))
            right = float((located.num_sources == part.num_sources.numpy()).mean())
            result |= {f"{level:g} {label} recall": hits / total, f"{level:g} {label} count": right}
        result[f"{level:g}"] = compared(part, after, known)
        if kinds == GAIN_KIND and ROWS[row][0]:
            result[f"{level:g} bound"] = bound_of(config, truth, scenes, part, anchored)
    return result


def groups_of(scenes: Scenes) -> tuple[SceneGroup, ...]:
    """The scenes at their true parameters."""
    obs, groups = Observation.build(scenes.y, scenes.H, scenes.codes).double(), []
    for K, rows in rows_by_count(scenes.num_sources):
        place = (getattr(scenes, x)[rows, :K].double() for x in ("azimuth", "elevation", "range"))
        power, noise = scenes.power[rows, :K].double().log(), scenes.noise_var[rows].double().log()
        params = GaussianParameters(to_polar(*place), power, noise)
        groups.append(SceneGroup(obs[rows], None, params, torch.zeros(len(rows), dtype=torch.bool), rows))
    return tuple(groups)


def bound_of(
    config: risctl.Config, truth: CalibratedSurface, scenes: Scenes, fresh: Scenes, anchored: int
) -> str:
    """Hybrid Cramer-Rao bound of fresh sources over that with known gains: u_y, u_z, 1/r."""
    geometry = ArrayGeometry.from_config(config.physics, dtype=torch.float64)
    known = [replace(g, anchored=g.rows < anchored) for g in groups_of(scenes)]
    joint = Joint(replace(truth.response, states=torch.ones(1, dtype=torch.complex128)), tuple(known))
    mean = SurfaceResponse.nominal(geometry.num_elements).parameters()
    spread = float((truth.gains - 1.0).abs().square().mean()) / 2.0
    prior = Prior(mean, {GAIN_KIND: spread})
    arrow = Arrow.compute(joint, geometry, FieldOfView.from_config(config.physics), prior.kinds)
    covariance = posterior(arrow, joint, prior)
    view = FieldOfView.from_config(config.physics)
    models = [fisher_model(g, joint.response, geometry, prior.kinds) for g in groups_of(fresh)]
    bounds = [hybrid_bound(model, covariance, view) for model in models]
    sums = [sum(getattr(b, x).sum((0, 1)) for b in bounds) for x in ("estimated", "known")]
    return " / ".join(f"{x:.3f}" for x in (sums[0] / sums[1]).sqrt().tolist())


def relative_error(found: CalibratedSurface, true: CalibratedSurface) -> float:
    """``|z g_found - g|^2 / |g|^2`` at the best z; of states where these were estimated."""
    pair = (
        (found.gains, true.gains)
        if "gains" in found.document.kinds
        else (found.response.states, true.response.states)
    )
    a, b = pair
    if len(a) != len(b):
        return math.nan
    z = (a.conj() @ b) / (a.conj() @ a)
    return float((z * a - b).abs().square().sum() / b.abs().square().sum())


def phase_rms(found: CalibratedSurface, true: CalibratedSurface, config: risctl.Config) -> float:
    """Root mean square phase error of live elements, rad, constant, tilts and defocus taken out."""
    p = ArrayGeometry.from_config(config.physics, dtype=torch.float64).positions
    live = true.gains.abs() > 0
    ratio = (found.gains * true.gains.conj())[live]
    phase = (ratio * ratio.sum().conj()).angle()
    D = torch.stack([torch.ones(len(p), dtype=p.dtype), p[:, 1], p[:, 2], p.square().sum(1)], 1)[live]
    rest = phase - D @ torch.linalg.lstsq(D, phase.unsqueeze(1)).solution.squeeze(1)
    return float(rest.square().mean().sqrt())


def summary(sites: list[dict[str, object]]) -> str:
    """Ratios pooled over sites with the standard error over sites, and the rest of the table."""
    lines = [f"{sites[0]['row']}, {sites[0]['sigma']} rad, {len(sites)} sites"]
    names = ("relative_error", "phase_rms", "dead_missed", "dead_false", "cpu_seconds", "tilt_std_deg")
    lines += [f"  {name}: {', '.join(f'{s[name]:.3g}' for s in sites)}" for name in names]
    for level in ("10", "20"):
        text = []
        for name in ("azimuth", "elevation", "range"):
            squares = [[np.square(s[level][f"{x} {name}"]) for x in ("after", "known")] for s in sites]
            each = [math.sqrt(a.mean() / b.mean()) for a, b in squares]
            total = [sum(pair[i].sum() for pair in squares) for i in (0, 1)]
            pooled = math.sqrt(total[0] / total[1])
            error = np.std(each, ddof=1) / math.sqrt(len(each)) if len(each) > 1 else math.nan
            inside = np.concatenate([s[level][f"after {name} in"] for s in sites]).mean()
            without = np.concatenate([s[level][f"known {name} in"] for s in sites]).mean()
            text.append(
                f"{name} {pooled:.3f} ({error:.3f}), inside one sigma {inside:.2f} ({without:.2f} known)"
            )
        share = ", ".join(
            f"{what} {np.mean([s[f'{level} after {what}'] for s in sites]):.3f} "
            f"({np.mean([s[f'{level} known {what}'] for s in sites]):.3f})"
            for what in ("recall", "count")
        )
        lines.append(f"  bound at {level} dB: {'; '.join(str(s.get(f'{level} bound')) for s in sites)}")
        lines.append(f"  tests at {level} dB: {'; '.join(text)}; {share}")
    return "\n".join(lines)


def draw(path: Path, sites: list[dict[str, object]]) -> None:
    """Draw the error of directions at 20 dB against the number of calibration scenes, beside the bound."""
    figure, axes = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
    for anchored, colour, label in ((0, "C0", "blind"), (1, "C1", "one scene of known positions")):
        points = []
        for count in sorted({s["scenes"] for s in sites}):
            here = [s for s in sites if (s["scenes"], s["anchored"]) == (count, anchored)]
            if here:
                ratios = [
                    math.hypot(*(rms(s["20"][f"after {x}"]) for x in ("azimuth", "elevation")))
                    / math.hypot(*(rms(s["20"][f"known {x}"]) for x in ("azimuth", "elevation")))
                    for s in here
                ]
                bounds = [rms([float(x) for x in s["20 bound"].split(" / ")[:2]]) for s in here]
                points.append((count, np.mean(ratios), np.std(ratios) / len(here) ** 0.5, rms(bounds)))
        if points:
            count, ratio, error, bound = np.array(points).T
            axes.errorbar(count, ratio, error, fmt="o", color=colour, capsize=3, label=label)
            axes.plot(count, bound, "--", color=colour, label=f"bound, {label}")
    axes.set(xscale="log", xlabel="calibration scenes at 20 dB", ylabel="error over known response")
    counts = sorted({s["scenes"] for s in sites})
    axes.set_xticks(counts, map(str, counts))
    axes.minorticks_off()
    axes.axhline(1.0, color="0.7", linewidth=0.8)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def rms(x: list[float]) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(x))))


def main() -> None:
    """Run the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=["blind"])
    parser.add_argument("--sigma", nargs="+", type=float, default=[0.3, 1.0])
    parser.add_argument("--sites", type=int, default=2)
    parser.add_argument("--tests", type=int, default=60)
    parser.add_argument("--scenes", type=int, help="that calibrate a site; those of the row if absent")
    parser.add_argument("--figure", type=Path, help="draw the blind and anchored 0.3 rad sites of --out")
    parser.add_argument("--decision", choices=["count", "gospa", "recall"], default="count")
    parser.add_argument("--out", type=Path, help="a line of JSON a site, written as it goes")
    arguments = parser.parse_args()
    if arguments.figure:
        sites = [json.loads(line) for line in arguments.out.read_text().splitlines()]
        gains = [s for s in sites if s["row"] in ("blind", "anchor", "few") and s["sigma"] == 0.3]
        draw(arguments.figure, gains)
        return
    torch.set_num_threads(1)
    for row in arguments.rows:
        for sigma in arguments.sigma if "phase_error_deg={}" in ROWS[row][0] else [0.0]:
            sites = []
            for seed in range(100, 100 + arguments.sites):
                asked = arguments.tests, arguments.decision, arguments.scenes
                sites.append(site(row, sigma, seed, *asked))
                if arguments.out:
                    with arguments.out.open("a") as file:
                        print(json.dumps(sites[-1]), file=file)
            print(summary(sites), flush=True)


if __name__ == "__main__":
    main()

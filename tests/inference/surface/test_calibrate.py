"""Calibration of simulated surfaces, from sources that are located at their true positions."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from risctl.config import ImpairmentConfig, PhysicsConfig
from risctl.data.stream import SceneStream, shared_surface
from risctl.inference.estimates import Estimates
from risctl.inference.observation import Observation
from risctl.inference.surface.calibrate import CalibrationScenes, Calibrator, Round
from risctl.inference.surface.response import GAINS, POSITIONS, STATES, SurfaceResponse
from risctl.physics import ArrayGeometry, Scenes
from risctl.physics.geometry import FieldOfView
from risctl.physics.polar import to_polar

SMALL = {"ris_columns": 4, "ris_rows": 4, "num_antennas": 6, "num_snapshots": 6, "max_sources": 2}
WORN = ImpairmentConfig(phase_error_deg=20.0, amplitude_jitter_db=1.0, shared=True)


def locate_truly(scenes: Scenes, obs: Observation, geometry: ArrayGeometry) -> Estimates:
    """Sources at their true positions: what is tested is the scoring, not the locating."""
    rows = torch.tensor([int((scenes.y == y.to(scenes.y)).all((1, 2)).nonzero()) for y in obs.y])
    part = scenes[rows]
    nan = torch.where(part.source_mask, 0.0, torch.nan)
    result = Estimates.empty(len(rows), part.azimuth.shape[1])
    for name in ("azimuth", "elevation", "range"):
        getattr(result, name)[:] = getattr(part, name).double() + nan
    return result


def problem(
    impairments: ImpairmentConfig, scenes: int, kinds: tuple[str, ...] = (GAINS,), **changes: object
) -> tuple[PhysicsConfig, Scenes, CalibrationScenes, Calibrator]:
    values = SMALL | {"snr_values_db": (20.0,), "impairments": impairments} | changes
    physics = PhysicsConfig(**values)
    drawn = SceneStream(physics, 1, "test", scenes).scenes(0, scenes)
    obs = Observation.build(drawn.y, drawn.H, drawn.codes).double()
    state = drawn.code_index.long().unsqueeze(2)
    anchors = torch.full((scenes, physics.max_sources, 3), torch.nan, dtype=torch.float64)
    geometry = ArrayGeometry.from_config(physics, dtype=torch.float64)
    view, locate = FieldOfView.from_config(physics), partial(locate_truly, drawn)
    calibrator = Calibrator(geometry, view, locate, kinds, 2**physics.phase_bits if STATES in kinds else 1)
    return physics, drawn, CalibrationScenes(obs, state, anchors), calibrator


def last(calibrator: Calibrator, scenes: CalibrationScenes) -> Round:
    return list(calibrator.rounds(scenes))[-1]


def anchored(scenes: CalibrationScenes, drawn: Scenes, rows: slice) -> CalibrationScenes:
    """The same scenes, the true positions of some of them known."""
    points = to_polar(drawn.azimuth.double(), drawn.elevation.double(), drawn.range.double())
    points = points.masked_fill(~drawn.source_mask.unsqueeze(-1), torch.nan)
    anchors = scenes.anchors.clone()
    anchors[rows] = points[rows]
    return CalibrationScenes(scenes.obs, scenes.state, anchors)


def relative_error(found: Tensor, true: Tensor) -> float:
    """``|z found - true|^2 / |true|^2`` at the best complex factor z."""
    factor = (found.conj() @ true) / (found.conj() @ found)
    return float((factor * found - true).abs().square().sum() / true.abs().square().sum())


def test_gains_are_found_within_their_error_bars() -> None:
    """Known positions: what remains is estimation error, as large as the stated covariance says."""
    physics, drawn, scenes, calibrator = problem(WORN, 30)
    found = last(calibrator, anchored(scenes, drawn, slice(None)))
    gain = shared_surface(physics, 1).gain
    assert gain is not None
    true = gain.flatten().to(torch.complex128)
    unit, _ = SurfaceResponse(true, found.response.states, found.response.displacement).normalised((GAINS,))
    error = found.response.parameters()[GAINS] - unit.parameters()[GAINS]
    covariance = found.covariance()
    rank = len(error) - 2  # phase and gain of all are no parameters
    chi2 = float(error @ torch.linalg.pinv(covariance, hermitian=True, rtol=1e-8) @ error)
    assert abs(chi2 - rank) < 4.0 * math.sqrt(2.0 * rank)
    assert relative_error(found.response.gains, true) < 0.3 * relative_error(torch.ones_like(true), true)


def test_likelihood_never_falls_in_a_round_with_the_same_sources() -> None:
    _, drawn, scenes, calibrator = problem(WORN, 12)
    values = [r.log_likelihood for r in calibrator.rounds(anchored(scenes, drawn, slice(None)))]
    assert all(b > a - 1.0 for a, b in pairwise(values))
    assert values[-1] > values[0] - 1.0


def test_a_perfect_surface_stays_perfect() -> None:
    _, _, scenes, calibrator = problem(ImpairmentConfig(), 10, snr_values_db=(10.0,))
    found = last(calibrator, scenes)
    assert relative_error(found.response.gains, torch.ones(16, dtype=torch.complex128)) < 1e-3


def test_anchors_fix_the_tilt() -> None:
    """A common tilt is what blind data determine worst, and one known scene best."""
    _, drawn, scenes, calibrator = problem(WORN, 12)
    tilt = calibrator.geometry.positions[:, 1] * calibrator.geometry.wavenumber

    def tilt_std(round_: Round) -> float:
        g = round_.response.gains
        direction = torch.cat([-g.imag, g.real]) * tilt.repeat(2)
        weight = direction / (direction @ direction)
        return float((weight @ round_.covariance() @ weight).sqrt())

    blind, known = (last(calibrator, s) for s in (scenes, anchored(scenes, drawn, slice(0, 1))))
    assert tilt_std(known) < 0.7 * tilt_std(blind)


def test_states_are_found() -> None:
    """Eight unknowns: far inside a per cent where the dip alone is 80 per cent."""
    worn = ImpairmentConfig(state_amplitude_min=0.2, state_phase_error_deg=20.0, shared=True)
    physics, _, scenes, calibrator = problem(worn, 20, (STATES,))
    found = last(calibrator, scenes)
    states = shared_surface(physics, 1).states
    assert states is not None
    assert relative_error(found.response.states, states[0].to(torch.complex128)) < 2e-3
    assert torch.equal(found.response.gains, torch.ones(16, dtype=torch.complex128))


def test_displacements_are_found() -> None:
    """Known sources: displacements are known better than by their prior, and within their error bars."""
    worn = ImpairmentConfig(position_error=0.01, shared=True)
    physics, drawn, scenes, calibrator = problem(worn, 30, (POSITIONS,))
    found = last(calibrator, anchored(scenes, drawn, slice(None)))
    moved = shared_surface(physics, 1).geometry.positions[0].double() - calibrator.geometry.positions
    error = found.response.displacement - moved
    assert float(error.square().mean()) < 0.5 * float(moved.square().mean())
    z = error.mT.flatten().square() / found.covariance().diagonal()
    assert float(z.mean()) == pytest.approx(1.0, abs=0.5)

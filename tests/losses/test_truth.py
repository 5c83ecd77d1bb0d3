"""The truth as the losses see it, and the stencil around it."""

import math

import numpy as np
import pytest
import torch

from risctl.config import PhysicsConfig
from risctl.losses import Truth
from risctl.losses.music import stencil_steering, stencil_steps
from risctl.physics import ArrayGeometry
from risctl.physics.polar import polar_steering, to_polar
from tests.losses.cases import LOSS, simulated
from tests.oracle import Array, steering_matrix, true_covariance

SCENES = simulated()


def test_covariance_is_the_definition(geometry64: ArrayGeometry) -> None:
    truth = Truth.of(SCENES, geometry64)
    R = truth.covariance().dense().numpy()
    for i, K in enumerate(SCENES.num_sources.tolist()):
        polar = (SCENES.azimuth, SCENES.elevation, SCENES.range)
        position = np.stack([x[i, :K].double().numpy() for x in polar], axis=1)
        expected = true_covariance(steering_matrix(Array(), position), SCENES.power[i, :K].double().numpy())
        np.testing.assert_allclose(R[i], expected, rtol=0, atol=1e-9)
        np.testing.assert_allclose(truth.position[i, :K].numpy(), position, rtol=1e-12)
    np.testing.assert_allclose(np.trace(R, axis1=1, axis2=2).real, 144.0)


def test_empty_slots_hold_nothing(geometry: ArrayGeometry) -> None:
    truth = Truth.of(SCENES, geometry)
    assert torch.equal(truth.mask.sum(-1), truth.num_sources)
    empty = ~truth.mask
    assert bool(empty.any())
    assert not bool(truth.A.mT[empty].abs().any())
    assert not bool(truth.power[empty].any())
    assert torch.equal(truth.position[empty], torch.tensor([0.0, 0.0, 1.0]).expand(int(empty.sum()), 3))
    norms = truth.A.abs().square().sum(1)
    torch.testing.assert_close(norms, truth.mask.float(), rtol=0, atol=1e-5)
    assert truth.num_sources.dtype == torch.int64


def test_precision_is_that_of_the_geometry(geometry: ArrayGeometry, geometry64: ArrayGeometry) -> None:
    assert Truth.of(SCENES, geometry).A.dtype == torch.complex64
    assert Truth.of(SCENES, geometry64).A.dtype == torch.complex128


def points_of(truth: Truth) -> torch.Tensor:
    return to_polar(*truth.position[truth.mask].unbind(-1))


@pytest.mark.parametrize("phase", [0.01, 0.02])
def test_stencil_turns_the_phases_by_what_it_says(geometry64: ArrayGeometry, phase: float) -> None:
    points = points_of(Truth.of(SCENES, geometry64))
    steps = stencil_steps(points, geometry64, phase)
    assert torch.equal(steps[:, :3], -steps[:, 3:])
    assert torch.equal(steps != 0, torch.eye(3, dtype=torch.bool).repeat(2, 1).expand(len(points), 6, 3))
    here = polar_steering(points, geometry64).unsqueeze(-2)
    turned = (polar_steering(points.unsqueeze(-2) + steps, geometry64) * here.conj()).angle()
    spread = turned.std(-1, correction=0)
    torch.testing.assert_close(spread, torch.full_like(spread, phase), rtol=0.02, atol=0)


def test_direction_steps_in_beamwidths(geometry64: ArrayGeometry) -> None:
    """sqrt(3) phase / pi of the beamwidth (null to peak) of a filled aperture, for a far source."""
    steps = stencil_steps(torch.tensor([[0.3, 0.1, 1e-6]], dtype=torch.float64), geometry64, 1.0)
    beamwidth = 2.0 / 12
    assert float(steps[0, 0, 0]) / beamwidth == pytest.approx(math.sqrt(3) / math.pi, rel=0.01)


def test_neighbours_stand_off_alike_in_all_coordinates(geometry64: ArrayGeometry) -> None:
    """Energy of a neighbour outside the source's own direction: about 1 - exp(-1), near or far, up or down.

    Least alike are the two sides of a curvature, in which the phase is not linear.
    """
    truth = Truth.of(SCENES, geometry64)
    around = stencil_steering(truth, geometry64, LOSS).unflatten(1, (5, 6))
    outside = 1 - (around.conj() @ truth.A.mT.unsqueeze(-1)).squeeze(-1).abs().square()
    outside = outside[truth.mask]
    assert float(outside.min()) > 0.35
    assert float(outside.max()) < 0.95


@pytest.mark.parametrize(
    ("physics", "neighbours"),
    [
        (PhysicsConfig(wavefront="planar"), 4),
        (PhysicsConfig(ris_rows=1), 4),
        (PhysicsConfig(wavefront="fresnel"), 6),
    ],
)
def test_coordinates_without_effect_have_no_neighbours(physics: PhysicsConfig, neighbours: int) -> None:
    geometry = ArrayGeometry.from_config(physics)
    steps = stencil_steps(points_of(Truth.of(SCENES, geometry)), geometry, 1.0)
    assert steps.shape[-2:] == (neighbours, 3)
    assert bool(torch.isfinite(steps).all())
    assert bool((steps != 0).any(-1).all())

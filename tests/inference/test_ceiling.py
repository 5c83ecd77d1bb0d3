"""The ceiling: exact on the exact covariance, blind to the measurements."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from risctl.config import CovarianceConfig, InferenceConfig
from risctl.inference import Ceiling, Estimates
from risctl.inference.ceiling import fitted_powers
from risctl.inference.nullspace import DeflatedSubspace
from risctl.physics import ArrayGeometry, Scenes
from risctl.physics.polar import polar_steering
from tests.inference.conftest import make_scenes

NUM = 90


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return make_scenes(NUM, seed=3)[1]


@pytest.fixture(scope="module")
def ceiling() -> Ceiling:
    physics, _ = make_scenes(1)
    return Ceiling.from_config(physics, CovarianceConfig(), InferenceConfig(range_grid=121), "cpu")


@pytest.fixture(scope="module")
def found(scenes: Scenes, ceiling: Ceiling) -> Estimates:
    return ceiling(scenes)


def worst_errors(scenes: Scenes, found: Estimates) -> torch.Tensor:
    """Largest error of azimuth, elevation (deg), range (m) of the nearest estimate to each source [S, 3]."""
    truth = torch.stack([scenes.azimuth, scenes.elevation, scenes.range], -1).double()
    answer = torch.stack([found.azimuth, found.elevation, found.range], -1)
    gap = (truth.unsqueeze(2) - answer.unsqueeze(1)).abs()
    gap = torch.cat([gap[..., :2].rad2deg(), gap[..., 2:]], -1).nan_to_num(nan=torch.inf)
    nearest = gap.sum(-1).argmin(dim=2)
    errors = gap.gather(2, nearest[..., None, None].expand(-1, -1, 1, 3)).squeeze(2)
    return errors[scenes.source_mask]


def test_it_is_exact_and_nothing_is_pegged(scenes: Scenes, found: Estimates) -> None:
    """Below coherence 0.5 the search finds every source to rounding; one in a thousand may go astray."""
    errors = worst_errors(scenes, found)
    assert len(errors) > 250
    assert float(errors[:, :2].median()) < 1e-3
    assert float(errors[:, 2].median()) < 1e-3
    assert float((errors.amax(1) < 0.2).double().mean()) > 0.99
    assert not bool((found.range >= 10.0 * (1 - 1e-6)).any())


def test_count_and_powers_are_the_truth_s(scenes: Scenes, found: Estimates) -> None:
    assert torch.equal(found.num_sources, scenes.num_sources.long())
    used = scenes.source_mask
    assert torch.equal(~found.azimuth.isnan(), used)
    ranked = scenes.power.double().sort(dim=1, descending=True).values
    share, expected = (x / x.sum(1, keepdim=True) for x in (found.power, ranked))
    np.testing.assert_allclose(share[used].median(), expected[used].median(), rtol=1e-2)
    assert bool(((share - expected).abs() < 1e-2).double().mean() > 0.98)
    for unknown in (found.std_azimuth, found.std_elevation, found.std_range, found.noise_var):
        assert bool(unknown.isnan().all())


def test_it_sees_no_measurement_and_names_its_side_information(scenes: Scenes, ceiling: Ceiling) -> None:
    few = scenes[:3]
    other = replace(few, y=few.y.flip(0), H=torch.zeros_like(few.H), snr_db=few.snr_db - 90.0)
    torch.testing.assert_close(ceiling(other).range, ceiling(few).range, rtol=0.0, atol=0.0, equal_nan=True)
    assert "R_true" in ceiling.side_information


def test_batches_change_nothing_that_matters(scenes: Scenes, ceiling: Ceiling, found: Estimates) -> None:
    few = replace(ceiling, batch=3)(scenes[:20])
    torch.testing.assert_close(few.azimuth, found.azimuth[:20], rtol=0.0, atol=1e-6, equal_nan=True)


def test_fitted_powers_are_exact_at_the_truth(geometry: ArrayGeometry) -> None:
    points = torch.tensor([[[0.1, 0.0, 0.2], [-0.4, 0.2, 0.5], [0.6, -0.2, 1.0]]])
    power = torch.tensor([[1.0, 3.0, 0.5]])
    F = polar_steering(points, geometry).mT * power.sqrt().unsqueeze(1)
    torch.testing.assert_close(fitted_powers(points, F, geometry), power, rtol=1e-4, atol=0.0)


def test_a_close_source_stands_out_once_the_other_is_projected_out(geometry64: ArrayGeometry) -> None:
    """At coherence 0.9 most of a steering vector is its neighbour's; the rest lies in the subspace."""
    points = torch.tensor([[[0.1, 0.0, 0.2], [0.128, 0.02, 0.2]]], dtype=torch.float64)
    A = polar_steering(points, geometry64)
    assert 0.85 < float((A[0, 0].conj() @ A[0, 1]).abs()) < 0.95
    U = torch.linalg.qr(A.mT)[0]
    space = DeflatedSubspace.compute(U, points[:, :1].unsqueeze(1), geometry64)
    assert float(space.along(A[:, 1:].unsqueeze(1))) == pytest.approx(1.0, abs=1e-6)

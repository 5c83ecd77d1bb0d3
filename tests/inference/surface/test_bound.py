"""The hybrid bound against theory: the Schur complement of one joint problem, and its limits."""

from dataclasses import replace

import torch

from risctl.inference.surface.bound import hybrid_bound
from risctl.inference.surface.likelihood import fisher_model
from risctl.inference.surface.response import GAINS
from risctl.physics.geometry import FieldOfView
from tests.inference.surface.test_likelihood import small_problem

VIEW = FieldOfView(1.0, 0.5, 1.0, 10.0)


def test_a_known_response_adds_nothing_and_an_unknown_one_does() -> None:
    group, response, geometry = small_problem("spherical")
    P = 2 * len(response.gains)
    model = fisher_model(group, response, geometry, (GAINS,))
    certain = hybrid_bound(model, torch.zeros(P, P, dtype=torch.float64), VIEW)
    torch.testing.assert_close(certain.known, certain.estimated)
    unsure = hybrid_bound(model, 1e-4 * torch.eye(P, dtype=torch.float64), VIEW)
    assert bool((unsure.estimated > unsure.known).all())


def test_it_is_what_a_small_error_of_the_response_moves_the_likelihood_s_maximum_by() -> None:
    """To first order the maximum through a response that is off by d lies at ``theta - J^-1 F^T d``."""
    group, response, geometry = small_problem("spherical")
    model = fisher_model(group, response, geometry, (GAINS,))
    torch.manual_seed(2)
    d = torch.randn(len(model.gradient), dtype=torch.float64)
    rank_one = hybrid_bound(model, torch.outer(d, d), VIEW)
    shift = torch.linalg.solve(model.local.information, model.cross.mT @ d)
    K = group.params.points.shape[1]
    expected = shift[:, : 3 * K].square().view(-1, K, 3)
    torch.testing.assert_close(rank_one.estimated - rank_one.known, expected, rtol=1e-6, atol=1e-9)


def test_the_common_factor_does_not_move_a_source() -> None:
    group, response, geometry = small_problem("spherical")
    null = response.null_vectors((GAINS,))
    bound = hybrid_bound(fisher_model(group, response, geometry, (GAINS,)), null.mT @ null, VIEW)
    torch.testing.assert_close(bound.estimated, bound.known, rtol=1e-6, atol=1e-9)


def test_what_cannot_be_seen_has_an_infinite_bound() -> None:
    group, response, geometry = small_problem("planar")  # plane waves say nothing of the range
    model, P = fisher_model(group, response, geometry, (GAINS,)), 2 * len(response.gains)
    bound = hybrid_bound(model, 1e-4 * torch.eye(P, dtype=torch.float64), VIEW)
    for found in (bound.known, bound.estimated):
        assert bool(found[..., 2].isinf().all())
        assert bool(found[..., :2].isfinite().all())


def test_a_known_coordinate_has_no_error_and_adds_none() -> None:
    group, response, geometry = small_problem("spherical")
    model, P = fisher_model(group, response, geometry, (GAINS,)), 2 * len(response.gains)
    covariance = 1e-4 * torch.eye(P, dtype=torch.float64)
    free, held = (
        hybrid_bound(model, covariance, view) for view in (VIEW, replace(VIEW, known_elevation=0.0))
    )
    assert float(held.estimated[..., 1].max()) < 1e-9
    assert bool((held.known[..., 0] <= free.known[..., 0]).all())

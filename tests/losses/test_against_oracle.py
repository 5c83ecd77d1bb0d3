"""All twelve terms against N x N matrices and dense eigendecompositions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from risctl.config import LossConfig
from risctl.losses import TERMS
from tests.losses.cases import Case, build, simulated, single
from tests.oracle import Array, steering_matrix, true_covariance
from tests.oracle import losses as oracle

SCENES = simulated(count=10, seed=1)
LOSS = LossConfig(
    lam_diag=0.4, lam_off=1.3, aux_beta=0.2, elevation_factor=1.7, gap_margin=0.3, margin_target=0.25
)


def expected(case: Case, scene: int) -> dict[str, float]:
    """The twelve terms of one scene, from the definitions."""
    array = Array()
    K = int(case.truth.num_sources[scene])
    sources = case.truth.position[scene, :K].numpy()
    powers = case.truth.power[scene, :K].numpy()
    A = steering_matrix(array, sources)
    R_true = true_covariance(A, powers)
    made = case.forward().covariances
    R, R_pred = made.blend.dense()[scene].numpy(), made.pred.dense()[scene].numpy()
    angle, range_, logits, slots, power = (x[scene].numpy() for x in case.leaves())
    gap = oracle.eigenvalue_gap(R, K)
    return {
        "cov": oracle.covariance_nmse(R, R_true, 0.4, 1.3),
        "cov_pred": oracle.covariance_nmse(R_pred, R_true, 0.4, 1.3),
        "ortho": oracle.coherence(angle, angle),
        "cross": oracle.coherence(angle, range_),
        "gap": max(0.0, 0.3 - gap),
        "margin": 0.25 - min(gap, 0.25),
        "K": oracle.cross_entropy(logits, K),
        "aux": oracle.matched_distance(slots, sources, 1.7, 0.2),
        "peak": oracle.direction_chamfer(slots, power, (sources, powers)),
        "align": oracle.energy_outside(R, steering_matrix(array, slots), power, K),
        "subspace_align": oracle.covariance_outside(R, A),
        "peak_contrast": oracle.peak_contrast(R, array, sources),
    }


@pytest.mark.parametrize("precise", [True, False], ids=["double", "single"])
@pytest.mark.parametrize("error", [0.05, 0.3, 1.0])
def test_equals_the_definition(error: float, precise: bool) -> None:
    case = build(error, SCENES).slots([1, 0, 2, 4, 3])
    uneven = torch.rand(case.power.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    uneven = case.power * uneven**4  # some slots all but empty
    case = replace(case, power=uneven / uneven.sum(-1, keepdim=True))
    found = (case if precise else single(case)).terms(LOSS)
    for scene in range(10):
        wanted = expected(case, scene)
        assert tuple(wanted) == TERMS
        for name in TERMS:
            tolerance = 1e-9 if precise else 1e-5
            close = pytest.approx(wanted[name], rel=tolerance, abs=tolerance)
            assert float(found[name][scene]) == close, name


def test_the_oracle_sees_every_term_at_work() -> None:
    """Guards the comparison: none of the values compared is at a clamp or at zero."""
    values = [expected(build(0.3, SCENES), scene) for scene in range(10)]
    for name in TERMS:
        assert np.mean([value[name] for value in values]) > 5e-4, name
    assert torch.equal(SCENES.num_sources.unique().long(), torch.arange(1, 6))

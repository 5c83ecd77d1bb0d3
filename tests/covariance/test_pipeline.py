"""R_samp, R_pred, R_blend against dense textbook matrices; what passes through them and what does not."""

import numpy as np
import pytest
import torch
from torch import Tensor

from risctl.config import CovarianceConfig
from risctl.covariance import Covariances, LowRank, blended_covariance, covariances, snapshot_factor
from risctl.errors import DivergedError, MeasurementError
from risctl.physics import Scenes
from tests import oracle

CONFIG = CovarianceConfig()
VARIANTS = [
    CONFIG,
    CovarianceConfig(beta=0.0),
    CovarianceConfig(beta=1.0),
    CovarianceConfig(beta=0.77, tikhonov_alpha=0.3, eps_cov=0.2, range_weight=2.0, center=False),
]


def factors(num_scenes: int, dtype: torch.dtype = torch.complex64) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(4)
    A_angle, A_range = torch.randn(2, num_scenes, 144, 5, dtype=torch.complex128, generator=rng)
    return A_angle.to(dtype), A_range.to(dtype)


def run(
    scenes: Scenes, config: CovarianceConfig = CONFIG, dtype: torch.dtype = torch.complex64
) -> Covariances:
    measured = (x.to(dtype) for x in (scenes.y, scenes.H, scenes.codes))
    return covariances(*measured, *factors(len(scenes), dtype), config)


def relative(got: Tensor, expected: np.ndarray) -> float:
    return float(np.linalg.norm(got.numpy() - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("config", VARIANTS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex64, 1e-4), (torch.complex128, 1e-10)])
def test_equals_the_dense_textbook(
    scenes: Scenes, config: CovarianceConfig, dtype: torch.dtype, tolerance: float
) -> None:
    part = scenes[:4]
    made = run(part, config, dtype)
    A_angle, A_range = (x.to(torch.complex128).numpy() for x in factors(4, dtype))
    for i in range(4):
        y, H, codes = (x[i].to(torch.complex128).numpy() for x in (part.y, part.H, part.codes))
        a = oracle.back_projection(oracle.sensing_matrices(H, codes), y, config.tikhonov_alpha)
        R_samp = oracle.sample_covariance(a, config.center)
        R_pred = oracle.predicted_covariance(A_angle[i], A_range[i], config.range_weight)
        R_blend = oracle.blended_covariance(R_pred, R_samp, config.beta, config.eps_cov)
        assert relative(made.samp.dense()[i], R_samp) <= tolerance
        assert relative(made.pred.dense()[i], R_pred) <= tolerance
        assert relative(made.blend.dense()[i], R_blend) <= tolerance
        assert relative(made.back_projection[i], a) <= 10 * tolerance


def test_the_sample_covariance_is_the_one_that_the_classical_estimators_use(scenes: Scenes) -> None:
    assert torch.equal(run(scenes).samp.F, snapshot_factor(scenes.y, scenes.H, scenes.codes, CONFIG))


def test_traces_ranks_and_smallest_eigenvalue(scenes: Scenes) -> None:
    made = run(scenes, dtype=torch.complex128)
    for R, rank, load in ((made.samp, 15, 0.0), (made.pred, 10, 0.0), (made.blend, 25, CONFIG.eps_cov)):
        values = torch.linalg.eigvalsh(R.dense())
        torch.testing.assert_close(values.sum(-1), torch.full((24,), 144 * (1 + load), dtype=values.dtype))
        torch.testing.assert_close(values[:, : 144 - rank], torch.full_like(values[:, rank:], load))
        assert bool((values[:, 144 - rank] > load + 1e-3).all())


def test_beta_offset_moves_beta_scene_by_scene_and_is_clamped(scenes: Scenes) -> None:
    part = scenes[:4]
    offset = torch.tensor([0.05, -0.05, -1.0, 5.0])
    measured = (part.y, part.H, part.codes, *factors(4))
    made = covariances(*measured, CONFIG, offset)
    torch.testing.assert_close(made.beta, torch.tensor([0.35, 0.25, 0.0, 1.0]))
    for i, beta in enumerate(made.beta.tolist()):
        alone = covariances(*measured, CONFIG.model_copy(update={"beta": beta}))
        torch.testing.assert_close(made.blend.dense()[i], alone.blend.dense()[i])


def test_gradient_reaches_both_factors_and_nothing_measured(scenes: Scenes) -> None:
    part = scenes[:3]
    measured = [x.clone().requires_grad_() for x in (part.y, part.H, part.codes)]
    A_angle, A_range = (x.requires_grad_() for x in factors(3))
    made = covariances(*measured, A_angle, A_range, CONFIG)
    made.blend.dense().abs().square().sum().backward()
    for x in (A_angle, A_range):
        assert x.grad is not None
        size = x.grad.abs().sum((1, 2))
        assert bool((torch.isfinite(size) & (size > 0)).all())
    assert all(x.grad is None for x in measured)


def test_gradient_of_the_blend_is_right() -> None:
    samp = LowRank(torch.randn(2, 4, 3, dtype=torch.complex128, generator=torch.Generator().manual_seed(1)))
    F = torch.randn(2, 4, 2, dtype=torch.complex128, generator=torch.Generator().manual_seed(2))
    beta = torch.tensor([0.3, 0.6], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda F: blended_covariance(LowRank(F), samp, beta, 1e-3).dense(), (F.requires_grad_(),)
    )


def test_autocast_outside_changes_nothing(scenes: Scenes) -> None:
    plain = run(scenes)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = run(scenes)
    for name in ("samp", "pred", "blend"):
        assert torch.equal(getattr(plain, name).F, getattr(inside, name).F)


def test_batch_equals_one_by_one(scenes: Scenes) -> None:
    made = run(scenes[:6]).blend.dense()
    A_angle, A_range = factors(6)
    for i in range(6):
        one = scenes[i : i + 1]
        alone = covariances(one.y, one.H, one.codes, A_angle[i : i + 1], A_range[i : i + 1], CONFIG)
        torch.testing.assert_close(alone.blend.dense()[0], made[i], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("which", [0, 1])
def test_a_prediction_that_is_not_finite_names_the_scene(scenes: Scenes, bad: float, which: int) -> None:
    predicted = factors(24)
    predicted[which][7, 3, 1] = bad
    with pytest.raises(DivergedError, match="scene 7 "):
        covariances(scenes.y, scenes.H, scenes.codes, *predicted, CONFIG)


@pytest.mark.parametrize("size", [0.0, 1e30])
def test_a_prediction_without_finite_energy_names_the_scene(scenes: Scenes, size: float) -> None:
    A_angle, A_range = factors(24)
    A_angle[5] *= size
    A_range[5] *= size
    with pytest.raises(DivergedError, match="scene 5"):
        covariances(scenes.y, scenes.H, scenes.codes, A_angle, A_range, CONFIG)


def test_measurements_are_checked_before_the_prediction(scenes: Scenes) -> None:
    y = scenes.y.clone()
    y[2, 0, 0] = float("nan")
    with pytest.raises(MeasurementError, match="y of scene 2 "):
        covariances(y, scenes.H, scenes.codes, *factors(24), CONFIG)


@pytest.mark.parametrize(("scenes_", "elements"), [(3, 8), (2, 9)])
def test_operands_of_different_shapes_are_never_blended(scenes_: int, elements: int) -> None:
    pred = LowRank(torch.ones(2, 8, 4, dtype=torch.complex64))
    samp = LowRank(torch.ones(scenes_, elements, 4, dtype=torch.complex64))
    with pytest.raises(AssertionError, match="R_samp is"):
        blended_covariance(pred, samp, torch.tensor([0.3, 0.3]), 1e-3)

"""Sample covariance: the oracle's sum, its size and rank on real data, and what must be refused."""

import numpy as np
import pytest
import torch
from torch import Tensor

from risctl.config import CovarianceConfig
from risctl.covariance import LowRank, sample_factor, snapshot_factor
from risctl.physics import Scenes
from tests import oracle

CONFIG = CovarianceConfig()


def draw(B: int = 3, L: int = 7, N: int = 12, dtype: torch.dtype = torch.complex128) -> Tensor:
    return torch.randn(B, L, N, dtype=dtype, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex64, 1e-4), (torch.complex128, 1e-10)])
def test_equals_the_sum_of_outer_products(center: bool, dtype: torch.dtype, tolerance: float) -> None:
    a = draw(dtype=dtype)
    R = LowRank(sample_factor(a, center)).dense()
    assert R.dtype == dtype
    for scene, one in enumerate(a):
        expected = oracle.sample_covariance(one.numpy().astype(np.complex128), center)
        assert np.linalg.norm(R[scene].numpy() - expected) <= tolerance * np.linalg.norm(expected)


def test_size_and_rank_on_default_data(scenes: Scenes) -> None:
    F = snapshot_factor(scenes.y, scenes.H, scenes.codes, CONFIG)
    R = LowRank(F).dense()
    norm = torch.linalg.matrix_norm(R)
    assert bool(((norm > 30) & (norm < 60)).all()), norm
    torch.testing.assert_close(R.diagonal(dim1=1, dim2=2).real.sum(1), torch.full((len(R),), 144.0))
    rank = torch.linalg.matrix_rank(R, hermitian=True, rtol=1e-5)
    assert bool((rank == scenes.y.shape[1] - 1).all())
    assert torch.equal(R, R.mH)


def test_centring_removes_a_constant_and_only_then() -> None:
    a = draw()
    shifted = a + 3.0 * draw(L=1)
    torch.testing.assert_close(sample_factor(a, True), sample_factor(shifted, True))
    gap = LowRank(sample_factor(a, False)).dense() - LowRank(sample_factor(shifted, False)).dense()
    assert float(gap.abs().max()) > 0.1


def test_the_order_of_snapshots_and_their_common_scale_do_not_matter() -> None:
    a = draw(dtype=torch.complex64)
    R = LowRank(sample_factor(a, True)).dense()
    for other in (a.flip(1), a * 1e-25, a * 1e25, a * 1j):
        torch.testing.assert_close(LowRank(sample_factor(other, True)).dense(), R, rtol=1e-4, atol=1e-5)


def test_empirical_covariance_approaches_the_true_one() -> None:
    """Relative error falls as 1 / sqrt(L)."""
    rng = torch.Generator().manual_seed(1)
    C = torch.randn(6, 6, dtype=torch.complex128, generator=rng)
    R = C @ C.mH
    R = R * (6 / R.diagonal().real.sum())
    errors = []
    for L in (400, 6400):
        s = torch.randn(20, L, 6, dtype=torch.complex128, generator=rng)
        errors.append(float((LowRank(sample_factor(s @ C.mT, True)).dense() - R).norm(dim=(1, 2)).mean()))
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.25)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["y", "H", "codes"])
def test_values_that_are_not_finite_name_the_scene(scenes: Scenes, bad: float, name: str) -> None:
    measured = {key: getattr(scenes, key).clone() for key in ("y", "H", "codes")}
    measured[name][4, 1, 2] = bad
    with pytest.raises(ValueError, match=f"{name} of scene 4 "):
        snapshot_factor(*measured.values(), CONFIG)


def test_no_energy_names_the_scene() -> None:
    a = draw()
    a[1] = 0.0
    with pytest.raises(ValueError, match="scene 1 has no energy"):
        sample_factor(a, False)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
@pytest.mark.parametrize("snapshots", [1, 3, 16])
def test_the_same_in_every_snapshot_has_no_energy_once_centred(dtype: torch.dtype, snapshots: int) -> None:
    constant = draw(L=1, dtype=dtype).expand(-1, snapshots, -1)
    with pytest.raises(ValueError, match="scene 0 has no energy"):
        sample_factor(constant, True)
    assert torch.isfinite(sample_factor(constant, False).abs()).all()

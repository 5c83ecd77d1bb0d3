"""Everything read off the factors, leading eigenpairs too, against the dense matrix in double precision."""

import pytest
import torch
from torch import Tensor

from risctl.covariance import LowRank, leading_subspace

LOADS = [0.0, 1e-3, 2.5]
PRECISIONS = [(torch.complex64, 1e-4), (torch.complex128, 1e-10)]


def draw(N: int = 20, r: int = 6, dtype: torch.dtype = torch.complex128, seed: int = 2) -> Tensor:
    return torch.randn(4, N, r, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def dense(R: LowRank) -> Tensor:
    """The definition, in double precision."""
    F = R.F.to(torch.complex128)
    return F @ F.mH + R.load * torch.eye(F.shape[1], dtype=F.dtype)


def assert_near(got: Tensor, expected: Tensor, tolerance: float) -> None:
    scale = float(expected.abs().max())
    torch.testing.assert_close(got.to(expected.dtype), expected, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
class TestAgainstTheDenseMatrix:
    def test_matrix_trace_norm(self, load: float, dtype: torch.dtype, tolerance: float) -> None:
        R = LowRank(draw(dtype=dtype), load)
        expected = dense(R)
        assert R.shape == tuple(expected.shape)
        assert_near(R.dense(), expected, tolerance)
        assert_near(R.trace(), expected.diagonal(dim1=1, dim2=2).real.sum(1), tolerance)
        assert_near(R.norm(), torch.linalg.matrix_norm(expected), tolerance)

    def test_inner_product(self, load: float, dtype: torch.dtype, tolerance: float) -> None:
        R, S = LowRank(draw(dtype=dtype), load), LowRank(draw(r=3, dtype=dtype, seed=5), 0.7)
        expected = (dense(R) @ dense(S)).diagonal(dim1=1, dim2=2).real.sum(1)
        assert_near(R.inner(S), expected, tolerance)

    @pytest.mark.parametrize("count", [1, 6, 9])
    def test_eigenvalues(self, load: float, dtype: torch.dtype, tolerance: float, count: int) -> None:
        R = LowRank(draw(dtype=dtype), load)
        assert_near(R.eigenvalues(count), torch.linalg.eigvalsh(dense(R)).flip(-1)[:, :count], tolerance)

    @pytest.mark.parametrize("K", [1, 5])
    def test_music_denominator(self, load: float, dtype: torch.dtype, tolerance: float, K: int) -> None:
        R = LowRank(draw(dtype=dtype), load)
        A = torch.randn(7, 20, dtype=dtype, generator=torch.Generator().manual_seed(8))
        noise = torch.linalg.eigh(dense(R))[1][..., : 20 - K]
        expected = (noise.mH @ A.mT.to(torch.complex128)).abs().square().sum(1)
        assert_near(R.music_denominator(A, K), expected, tolerance)


def test_the_dense_matrix_is_hermitian_to_the_last_bit() -> None:
    R = LowRank(draw(N=144, r=26, dtype=torch.complex64), 1e-3).dense()
    assert torch.equal(R, R.mH)


def test_more_columns_than_rows() -> None:
    R = LowRank(draw(N=3, r=8), 0.5)
    assert_near(R.eigenvalues(5)[:, :3], torch.linalg.eigvalsh(dense(R)).flip(-1), 1e-10)
    assert_near(R.eigenvalues(5)[:, 3:], torch.full((4, 2), 0.5, dtype=torch.float64), 1e-10)


def test_gradients() -> None:
    F = draw(N=5, r=3).requires_grad_()
    other = draw(N=5, r=2, seed=4)

    def values(F: Tensor) -> tuple[Tensor, ...]:
        R = LowRank(F, 0.1)
        return R.norm(), R.trace(), R.inner(LowRank(other)), R.eigenvalues(4)

    assert torch.autograd.gradcheck(values, (F,))


def test_the_norm_of_equal_eigenvalues_has_a_gradient() -> None:
    F = torch.eye(6, dtype=torch.complex64)[None, :, :3].clone().requires_grad_()
    LowRank(F).eigenvalues(3).square().sum().backward()
    assert F.grad is not None
    assert torch.isfinite(torch.view_as_real(F.grad)).all()


@pytest.mark.parametrize("K", [1, 3, 6])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_the_leading_subspace_is_that_of_the_dense_decomposition(
    K: int, dtype: torch.dtype, tolerance: float
) -> None:
    F = draw(dtype=dtype)
    U, values = leading_subspace(F, K)
    assert U.shape == (4, 20, K)
    dense, V = torch.linalg.eigh(F.to(torch.complex128) @ F.to(torch.complex128).mH)
    torch.testing.assert_close(values.double(), dense.flip(-1)[:, :K], rtol=tolerance, atol=0.0)
    V = V.flip(-1)[..., :K]
    torch.testing.assert_close((U @ U.mH).to(V), V @ V.mH, rtol=0.0, atol=tolerance)


@pytest.mark.parametrize("rank", [1, 2])
def test_past_the_rank_columns_of_the_subspace_are_zero(rank: int) -> None:
    mixing = torch.randn(4, rank, 5, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    U, values = leading_subspace(draw(r=rank) @ mixing, 7)
    assert U.shape == (4, 20, 7)
    assert values.shape == (4, 7)
    assert bool((values[:, :rank] > 0).all())
    assert not bool(U[..., rank:].abs().any())
    assert not bool(values[:, rank:].any())


def test_a_rotation_of_the_factor_does_not_change_the_subspace() -> None:
    F = draw()
    Q, _ = torch.linalg.qr(torch.randn(4, 6, 6, dtype=F.dtype, generator=torch.Generator().manual_seed(9)))
    (U, _), (V, _) = leading_subspace(F, 3), leading_subspace(F @ Q, 3)
    torch.testing.assert_close(U @ U.mH, V @ V.mH)

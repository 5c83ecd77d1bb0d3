"""Leading eigenpairs from the small Gram matrix against a dense eigendecomposition."""

import pytest
import torch

from risctl.covariance import leading_subspace


def factor(N: int = 20, L: int = 6, dtype: torch.dtype = torch.complex128) -> torch.Tensor:
    return torch.randn(4, N, L, dtype=dtype, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("K", [1, 3, 6])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex64, 1e-4), (torch.complex128, 1e-10)])
def test_equals_the_dense_decomposition(K: int, dtype: torch.dtype, tolerance: float) -> None:
    F = factor(dtype=dtype)
    U, values = leading_subspace(F, K)
    assert U.shape == (4, 20, K)
    dense, V = torch.linalg.eigh(F.to(torch.complex128) @ F.to(torch.complex128).mH)
    torch.testing.assert_close(values.double(), dense.flip(-1)[:, :K], rtol=tolerance, atol=0.0)
    V = V.flip(-1)[..., :K]
    torch.testing.assert_close((U @ U.mH).to(V), V @ V.mH, rtol=0.0, atol=tolerance)


@pytest.mark.parametrize("rank", [1, 2])
def test_past_the_rank_columns_are_zero(rank: int) -> None:
    mixing = torch.randn(4, rank, 5, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))
    U, values = leading_subspace(factor(L=rank) @ mixing, 7)
    assert U.shape == (4, 20, 7)
    assert values.shape == (4, 7)
    assert bool((values[:, :rank] > 0).all())
    assert not bool(U[..., rank:].abs().any())
    assert not bool(values[:, rank:].any())


def test_a_rotation_of_the_factor_changes_nothing() -> None:
    F = factor()
    Q, _ = torch.linalg.qr(torch.randn(4, 6, 6, dtype=F.dtype, generator=torch.Generator().manual_seed(9)))
    (U, _), (V, _) = leading_subspace(F, 3), leading_subspace(F @ Q, 3)
    torch.testing.assert_close(U @ U.mH, V @ V.mH)

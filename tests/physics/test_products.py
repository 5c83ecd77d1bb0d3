"""Products of real matrices: the same whichever library makes them."""

import pytest
import torch

from risctl.physics.products import FEW_ROWS, real_product


@pytest.mark.parametrize("rows", [1, FEW_ROWS, 3 * FEW_ROWS])
def test_equals_the_product_in_double_precision(rows: int) -> None:
    x = torch.randn(2, rows, 72, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a = torch.randn(72, 40, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    exact = x @ a
    assert torch.equal(real_product(x, a), exact)
    bound = 72 * torch.finfo(torch.float32).eps * (x.abs() @ a.abs())
    for operand in (a.float(), a.float().mT.contiguous().mT):  # of either layout
        assert ((real_product(x.float(), operand) - exact).abs() <= bound).all()


def test_slices_and_empty_matrices() -> None:
    x, a = torch.ones(32, 72), torch.ones(72, 40)
    assert torch.equal(real_product(x[:, ::2], a[::2, 3:9]), torch.full((32, 6), 36.0))
    assert torch.equal(real_product(x[:, :0], a[:0]), torch.zeros(32, 40))

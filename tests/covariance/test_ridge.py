"""The M x M identity against the N x N solve of the textbook."""

import numpy as np
import pytest
import torch
from torch import Tensor

from risctl.covariance import ridge_back_projection
from risctl.physics import Scenes
from tests.oracle import back_projection, sensing_matrices

Measured = tuple[Tensor, Tensor, Tensor]


def relative_error(a: Tensor, expected: np.ndarray) -> float:
    return float(np.linalg.norm(a.numpy() - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("strength", [1e-3, 0.09, 9.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex64, 1e-4), (torch.complex128, 1e-10)])
def test_equals_the_full_solve(
    jittered: Measured, strength: float, dtype: torch.dtype, tolerance: float
) -> None:
    a = ridge_back_projection(*(x.to(dtype) for x in jittered), strength)
    assert a.dtype == dtype
    for scene in range(3):
        y, H, codes = (x[scene].numpy() for x in jittered)
        assert relative_error(a[scene], back_projection(sensing_matrices(H, codes), y, strength)) < tolerance


def test_limits_of_the_ridge_strength(jittered: Measured) -> None:
    """Weak: the least-norm wave that explains the data. Strong: the matched filter, ever smaller."""
    y, H, codes = jittered
    weak = ridge_back_projection(y, H, codes, 1e-10)
    torch.testing.assert_close((weak * codes) @ H.mT, y, rtol=1e-6, atol=1e-6)
    strong = ridge_back_projection(y, H, codes, 1e9)
    matched = (y @ H.conj()) * codes.conj()
    cosine = (strong * matched.conj()).sum(-1).abs() / (strong.norm(dim=-1) * matched.norm(dim=-1))
    torch.testing.assert_close(cosine, torch.ones_like(cosine), rtol=0.0, atol=1e-6)


def test_scaling_channel_and_data_together_changes_nothing(jittered: Measured) -> None:
    y, H, codes = jittered
    a = ridge_back_projection(y, H, codes, 1e-3)
    scaled = ridge_back_projection(y * 40.0, H * 40.0, codes, 1e-3)
    torch.testing.assert_close(scaled, a, rtol=1e-6, atol=1e-9)


def test_autocast_does_not_reach_it(scenes: Scenes) -> None:
    plain = ridge_back_projection(scenes.y, scenes.H, scenes.codes, 1e-3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = ridge_back_projection(scenes.y, scenes.H, scenes.codes, 1e-3)
    assert torch.equal(plain, inside)


def test_a_channel_that_overflows_names_the_scene(scenes: Scenes) -> None:
    H = scenes.H.to(torch.complex128)
    H[5] *= 1e170
    with pytest.raises(ValueError, match="scene 5 "):
        ridge_back_projection(scenes.y, H, scenes.codes, 1e-3)


def test_a_channel_whose_square_single_precision_cannot_hold_is_solved(scenes: Scenes) -> None:
    plain = ridge_back_projection(scenes.y, scenes.H, scenes.codes, 1e-3)
    found = ridge_back_projection(scenes.y, scenes.H * 1e25, scenes.codes, 1e-3)
    torch.testing.assert_close(found * 1e25, plain, rtol=1e-4, atol=1e-6)


def test_single_precision_is_as_exact_as_its_input(scenes: Scenes) -> None:
    """The eigenvalues of ``Phi Phi^H`` differ by orders of magnitude."""
    exact = ridge_back_projection(*(x.to(torch.complex128) for x in (scenes.y, scenes.H, scenes.codes)), 1e-3)
    found = ridge_back_projection(scenes.y, scenes.H, scenes.codes, 1e-3)
    error = (found - exact).abs().square().sum((1, 2)) / exact.abs().square().sum((1, 2))
    assert float(error.max().sqrt()) < 4e-7

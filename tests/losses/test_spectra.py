"""Corners of the spectral terms that the default sizes and loads do not reach."""

import pytest
import torch
from torch import Tensor

from risctl.config import LossConfig
from risctl.covariance import LowRank
from risctl.losses import Truth
from risctl.losses.moments import Moments, Reference
from risctl.losses.music import peak_contrast
from risctl.losses.products import inner_products
from risctl.losses.spectrum import Spectrum, eigenvalue_gap
from risctl.losses.subspace import covariance_outside
from risctl.physics import ArrayGeometry
from tests.losses.cases import LOSS, build, simulated
from tests.oracle import losses as oracle

SCENES = simulated()


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def moments(F: Tensor, truth: Truth, load: float) -> Moments:
    return Moments(LowRank(F, load), *inner_products(F, truth.A.mT))


@pytest.mark.parametrize(("delta", "load"), [(1e-4, 0.0), (0.3, 0.0), (0.3, 0.5), (2.0, 4.0)])
def test_outside_under_any_load(geometry64: ArrayGeometry, delta: float, load: float) -> None:
    """The projector's load and the covariance's, both far above their defaults."""
    truth = Truth.of(SCENES, geometry64)
    parts = moments(draw(8, 144, 6), truth, load)
    found = covariance_outside(parts, Reference.of(truth), LossConfig(subspace_load=delta))
    for i, K in enumerate(truth.num_sources.tolist()):
        wanted = oracle.covariance_outside(parts.R.dense()[i].numpy(), truth.A[i, :, :K].numpy(), delta)
        assert float(found[i]) == pytest.approx(wanted, rel=1e-10)


def test_outside_is_exact_for_a_covariance_beside_the_sources(geometry64: ArrayGeometry) -> None:
    """R in the orthogonal complement of the sources: all of it is outside."""
    truth = Truth.of(SCENES, geometry64)
    columns = torch.cat([truth.A + 1e-9 * draw(8, 144, 5), draw(8, 144, 4, seed=2)], dim=-1)
    beside = torch.linalg.qr(columns)[0][..., 5:]
    outside = covariance_outside(moments(beside, truth, 0.0), Reference.of(truth), LOSS)
    torch.testing.assert_close(outside, torch.ones_like(outside), rtol=0, atol=1e-6)


@pytest.mark.parametrize("load", [0.0, 1e-3])
def test_past_the_rank_of_the_factor_eigenvalues_are_the_load(geometry64: ArrayGeometry, load: float) -> None:
    truth = Truth.of(SCENES, geometry64)
    parts = moments(draw(8, 144, 3), truth, load)
    counts = torch.tensor([1, 2, 3, 4, 5, 3, 2, 1])
    found = eigenvalue_gap(parts, Spectrum.of(parts.gram), counts)
    dense = torch.linalg.eigvalsh(parts.R.dense()).flip(-1)
    wanted = (dense.gather(1, counts[:, None] - 1) - dense.gather(1, counts[:, None])).squeeze(1) / 144
    torch.testing.assert_close(found, wanted)


def test_eigenvalue_gap_has_the_gradient_of_eigenvalues() -> None:
    truth = build(0.0, SCENES).truth
    F, counts = draw(8, 144, 6).requires_grad_(), truth.num_sources
    parts = moments(F, truth, 1e-3)
    (found,) = torch.autograd.grad(eigenvalue_gap(parts, Spectrum.of(parts.gram), counts).sum(), F)
    values = torch.linalg.eigvalsh(F.mH @ F).flip(-1)
    gap = values.gather(1, counts[:, None] - 1) - values.gather(1, counts[:, None])
    (wanted,) = torch.autograd.grad(gap.sum() / 144, F)
    torch.testing.assert_close(found, wanted)


def test_contrast_at_its_ends() -> None:
    """Rounding past one, a perfect peak, flat ground and a hole."""
    truth = build(0.0, SCENES).truth
    everywhere = torch.ones_like(truth.power)

    def contrast(peak: float, around: float) -> Tensor:
        return peak_contrast(peak * everywhere, around * everywhere.repeat(1, 6), truth)

    assert float(contrast(1.0 + 1e-6, 0.3).abs().max()) == 0.0
    assert float(contrast(1.0, 1.0).abs().max()) == 0.0
    torch.testing.assert_close(contrast(0.4, 0.4), torch.full_like(truth.snr_db, 0.6 / 1.201))
    assert float(contrast(0.0, 1.0).min()) > 0.99

"""Projector energies against the dense projector, with a gradient that needs no gap inside either subspace.

And corners of the spectral terms that the default sizes and loads do not reach.
"""

import pytest
import torch
from torch import Tensor

from risctl.config import LossConfig
from risctl.covariance import LowRank
from risctl.losses import Truth
from risctl.losses.covariance import covariance_outside
from risctl.losses.moments import Moments, Reference, inner_products
from risctl.losses.music import peak_contrast
from risctl.losses.projector import GAP_FLOOR, energy_inside
from risctl.losses.spectrum import Spectrum, eigenvalue_gap
from risctl.physics import ArrayGeometry
from tests.losses.cases import LOSS, build, simulated
from tests.oracle import losses as oracle

SCENES = simulated()
COUNTS = torch.tensor([1, 2, 3])


def draw(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def inside(F: Tensor, a: Tensor, counts: Tensor = COUNTS, most: int = 3) -> Tensor:
    gram, b = inner_products(F, a)
    return energy_inside(gram, b, Spectrum.of(gram), counts, most)


def with_values(values: list[float], N: int = 7) -> Tensor:
    """Factor of three scenes with these eigenvalues and random eigenvectors on both sides."""
    r = len(values)
    U, _ = torch.linalg.qr(draw(3, N, r))
    V, _ = torch.linalg.qr(draw(3, r, r, seed=4))
    return U * torch.tensor(values, dtype=torch.float64).sqrt() @ V.mH


def dense(F: Tensor, a: Tensor, counts: Tensor = COUNTS) -> Tensor:
    rows = []
    for R, x, K in zip(F @ F.mH, a, counts.tolist(), strict=True):
        U = torch.linalg.eigh(R)[1][:, -K:]
        rows.append((U.mH @ x.mT).abs().square().sum(0))
    return torch.stack(rows)


@pytest.mark.parametrize("load", [0.0, 0.3])
def test_equals_the_dense_projector(load: float) -> None:
    F, a = with_values([4.0, 2.5, 1.2, 0.5]), draw(3, 5, 7, seed=8)
    torch.testing.assert_close(inside(F, a), dense(F, a))
    rotated = torch.linalg.qr(draw(3, 4, 4, seed=11))[0]
    torch.testing.assert_close(inside(F @ rotated * (1.0 + load), a), dense(F, a))


@pytest.mark.parametrize(
    "values",
    [
        [4.0, 2.5, 1.2, 0.5],
        [3.0, 1.6, 0.9, 0.4, 0.4],  # noise eigenvalues equal
        [3.0, 1.0, 0.4, 0.0],  # a factor short of rank
        [3.0, 1.0, 0.4],  # nothing left but the complement
    ],
)
def test_gradient_in_factor_and_vectors(values: list[float]) -> None:
    F, a = with_values(values).requires_grad_(), draw(3, 4, 7, seed=8).requires_grad_()
    assert torch.autograd.gradcheck(inside, (F, a))


@pytest.mark.parametrize("values", [[2.0, 2.0, 2.0, 0.5], [2.0, 2.0, 2.0, 0.0]])
def test_equal_signal_eigenvalues_do_no_harm(values: list[float]) -> None:
    """K = 3 throughout: the subspace is well defined, its eigenvectors are not."""
    F, a = with_values(values).requires_grad_(), draw(3, 4, 7, seed=8).requires_grad_()
    counts = torch.tensor([3, 3, 3])
    assert torch.autograd.gradcheck(lambda F, a: inside(F, a, counts), (F, a))


def test_unrestricted_vectors_of_several_groups_share_one_factor() -> None:
    F, groups = with_values([4.0, 2.5, 1.2]).requires_grad_(), [draw(3, 2, 7).requires_grad_(), draw(3, 4, 7)]

    def products(F: Tensor, a: Tensor) -> tuple[Tensor, ...]:
        return inner_products(F, a, groups[1])

    gram, b, c = products(F, groups[0])
    torch.testing.assert_close(gram, F.mH @ F)
    torch.testing.assert_close(b, F.mH @ groups[0].mT)
    torch.testing.assert_close(c, F.mH @ groups[1].mT)
    assert torch.autograd.gradcheck(products, (F, groups[0]))


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_a_closed_gap_keeps_the_gradient_bounded(dtype: torch.dtype) -> None:
    """At lambda_K = lambda_{K+1} no gap counts as less than the floor, a share of lambda_1."""
    F, a = with_values([2.0, 2.0, 2.0, 2.0]).to(dtype).requires_grad_(), draw(3, 4, 7, seed=8).to(dtype)
    (gradient,) = torch.autograd.grad(inside(F, a).sum(), F)
    size = float(gradient.abs().max())
    assert 0 < size < 4 * float(a.abs().square().sum()) * float(F.detach().norm()) / (GAP_FLOOR * 2.0)


def test_the_gradient_grows_as_the_gap_closes() -> None:
    a, sizes = draw(3, 4, 7, seed=8), []
    for gap in (1.0, 0.1, 0.01):
        F = with_values([3.0, 1.0 + gap, 1.0, 0.2]).requires_grad_()
        (gradient,) = torch.autograd.grad(inside(F, a, torch.tensor([2, 2, 2])).sum(), F)
        sizes.append(float(gradient.norm()))
    assert 5 < sizes[1] / sizes[0] < 20
    assert 5 < sizes[2] / sizes[1] < 20


def test_more_sources_than_rank_take_the_whole_range() -> None:
    F, a = with_values([3.0, 1.0]), draw(3, 4, 7, seed=8)
    most = torch.tensor([5, 5, 5])
    torch.testing.assert_close(inside(F, a, most, most=5), dense(F, a, torch.tensor([2, 2, 2])))
    short = with_values([3.0, 1.0, 0.0, 0.0])
    torch.testing.assert_close(inside(short, a, most, most=5), dense(short, a, torch.tensor([2, 2, 2])))


def moments(F: Tensor, truth: Truth, load: float) -> Moments:
    return Moments(LowRank(F, load), *inner_products(F, truth.A.mT))


@pytest.mark.parametrize(("delta", "load"), [(1e-4, 0.0), (0.3, 0.0), (0.3, 0.5), (2.0, 4.0)])
def test_outside_under_any_load(geometry64: ArrayGeometry, delta: float, load: float) -> None:
    """The projector's load and the covariance's, both far above their defaults."""
    truth = Truth.of(SCENES, geometry64)
    parts = moments(draw(8, 144, 6, seed=1), truth, load)
    found = covariance_outside(parts, Reference.of(truth), LossConfig(subspace_load=delta))
    for i, K in enumerate(truth.num_sources.tolist()):
        wanted = oracle.covariance_outside(parts.R.dense()[i].numpy(), truth.A[i, :, :K].numpy(), delta)
        assert float(found[i]) == pytest.approx(wanted, rel=1e-10)


def test_outside_is_exact_for_a_covariance_beside_the_sources(geometry64: ArrayGeometry) -> None:
    """R in the orthogonal complement of the sources: all of it is outside."""
    truth = Truth.of(SCENES, geometry64)
    columns = torch.cat([truth.A + 1e-9 * draw(8, 144, 5, seed=1), draw(8, 144, 4, seed=2)], dim=-1)
    beside = torch.linalg.qr(columns)[0][..., 5:]
    outside = covariance_outside(moments(beside, truth, 0.0), Reference.of(truth), LOSS)
    torch.testing.assert_close(outside, torch.ones_like(outside), rtol=0, atol=1e-6)


@pytest.mark.parametrize("load", [0.0, 1e-3])
def test_past_the_rank_of_the_factor_eigenvalues_are_the_load(geometry64: ArrayGeometry, load: float) -> None:
    truth = Truth.of(SCENES, geometry64)
    parts = moments(draw(8, 144, 3, seed=1), truth, load)
    counts = torch.tensor([1, 2, 3, 4, 5, 3, 2, 1])
    found = eigenvalue_gap(parts, Spectrum.of(parts.gram), counts)
    dense = torch.linalg.eigvalsh(parts.R.dense()).flip(-1)
    wanted = (dense.gather(1, counts[:, None] - 1) - dense.gather(1, counts[:, None])).squeeze(1) / 144
    torch.testing.assert_close(found, wanted)


def test_eigenvalue_gap_has_the_gradient_of_eigenvalues() -> None:
    truth = build(0.0, SCENES).truth
    F, counts = draw(8, 144, 6, seed=1).requires_grad_(), truth.num_sources
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

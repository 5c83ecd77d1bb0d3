"""What every loss term promises, asked of all twelve in the same words."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from risctl.config import LossConfig
from risctl.covariance import LowRank
from risctl.losses import TERMS, per_scene_terms
from risctl.physics import Scenes
from tests.losses.cases import LOSS, SMALL, Case, build, simulated, single

SCENES = simulated()
terms = pytest.mark.parametrize("term", TERMS)


def crowded(K: int) -> Scenes:
    """Scenes of exactly K sources."""
    scenes = simulated(count=8)
    sources = {
        "azimuth": torch.linspace(-0.9, 0.9, 5),
        "elevation": torch.tensor([0.2, -0.3, 0.4, 0.0, -0.1]),
        "range": torch.tensor([1.0, 2.0, 4.0, 8.0, 3.0]),
        "power": torch.tensor([1.0, 0.6, 1.5, 0.8, 1.9]),
    }
    present = (torch.arange(5) < K).float().expand(8, 5)
    num_sources = torch.full_like(scenes.num_sources, K)
    return replace(scenes, num_sources=num_sources, **{name: x * present for name, x in sources.items()})


def in_one_cell() -> Case:
    """Two sources at the same point, and two slots there."""
    scenes = crowded(2)
    mask = scenes.source_mask
    azimuth, elevation = (x[:, :1] * mask for x in (scenes.azimuth, scenes.elevation))
    twins = replace(scenes, azimuth=azimuth, elevation=elevation, range=mask.float() * 2.0)
    return build(0.0, twins, beta=0.0)


def empty_slot() -> Case:
    """The first source's slot holds nothing at all, in exact zeros."""
    case = build(0.2, SCENES)
    keep = (torch.arange(5) != 0).double()
    angle, range_ = case.A_angle.clone() * keep, case.A_range.clone() * keep
    return replace(case, A_angle=angle, A_range=range_, power=case.power * keep + 1e-3 * keep)


def equal_eigenvalues() -> Case:
    """R_pred = N/r times a projector and nothing else in the blend: lambda_1 = ... = lambda_r."""
    case = build(0.0, crowded(3))
    draw = torch.Generator().manual_seed(4)
    Q, _ = torch.linalg.qr(torch.randn(8, 144, 5, dtype=torch.complex128, generator=draw))
    return replace(case, A_angle=Q, A_range=torch.zeros_like(Q), beta=0.0)


HARD: dict[str, Callable[[], Case]] = {
    "at the truth": lambda: build(0.0, SCENES, beta=0.0),
    "nothing but samples": lambda: build(0.2, SCENES, beta=1.0),
    "K = 1": lambda: build(0.1, crowded(1)),
    "K = K_max": lambda: build(0.1, crowded(5)),
    "two sources in one cell": in_one_cell,
    "identical slots": lambda: build(0.2, SCENES).slots([0] * 5),
    "an empty slot": empty_slot,
    "no power": lambda: replace(build(0.2, SCENES), power=torch.zeros(8, 5, dtype=torch.float64)),
    "equal eigenvalues": equal_eigenvalues,
    "far off": lambda: build(30.0, SCENES),
}


@pytest.mark.parametrize("precise", [True, False], ids=["double", "single"])
@pytest.mark.parametrize("name", HARD)
@terms
def test_value_and_gradient_are_finite(term: str, name: str, precise: bool) -> None:
    case = HARD[name]()
    case = (case if precise else single(case)).requires_grad()
    value = case.terms()[term]
    assert value.shape == (8,)
    assert bool(torch.isfinite(value).all())
    for gradient in torch.autograd.grad(value.sum(), case.leaves(), allow_unused=True):
        assert gradient is None or bool(torch.isfinite(torch.view_as_real(gradient + 0j)).all())


# Largest value over default scenes at ``R = R_true + eps_cov I``, the slots at the sources, in double and
# single precision. `ortho` is left with the sources' own coherence, `gap` with what a weak source lacks, `K`
# with the softmax of logits 12 apart, `cov` and `subspace_align` with the load; the rest is rounding.
FLOORS = {
    "cov": (5.1e-7, 3e-6),
    "cov_pred": (1e-13, 2e-6),
    "ortho": (0.4, 0.4),
    "cross": (0.0, 0.0),
    "gap": (0.02, 0.02),
    "margin": (0.0, 0.0),
    "K": (3e-5, 3e-5),
    "aux": (0.0, 0.0),
    "peak": (0.0, 0.0),
    "align": (1e-13, 2e-6),
    "subspace_align": (4e-8, 5e-8),
    "peak_contrast": (1e-12, 5e-6),
}


@pytest.mark.parametrize("precise", [True, False], ids=["double", "single"])
@terms
def test_zero_at_the_truth(term: str, precise: bool) -> None:
    case = build(0.0, simulated(count=64), beta=0.0)
    value = (case if precise else single(case)).terms()[term]
    floor = FLOORS[term][0 if precise else 1]
    assert float(value.max()) <= floor
    assert float(value.min()) >= -floor


def spread_columns(merged: float) -> tuple[Tensor, Tensor]:
    """Factors of orthonormal columns, all turned by `merged` towards one vector that belongs to none."""
    draw = torch.Generator().manual_seed(4)
    Q, _ = torch.linalg.qr(torch.randn(8, 144, 11, dtype=torch.complex128, generator=draw))
    columns = (1.0 - merged) * Q[..., :10] + merged * Q[..., 10:]
    return columns[..., :5], columns[..., 5:]


def with_gap(gap: float) -> dict[str, Tensor]:
    """Terms at K = 2 where the blend's second eigenvalue is `gap` N above the third."""
    case = build(0.0, crowded(2))
    draw = torch.Generator().manual_seed(4)
    Q, _ = torch.linalg.qr(torch.randn(8, 144, 4, dtype=torch.complex128, generator=draw))
    share = torch.tensor([0.8 - 1.5 * gap, 0.1 + gap, 0.1, 0.0], dtype=torch.float64)
    blend = LowRank(Q * (144.0 * share).sqrt(), load=1e-3)
    forward = case.forward()
    swapped = replace(forward, covariances=replace(forward.covariances, blend=blend))
    return per_scene_terms(swapped, case.truth, LOSS, case.geometry)


def along(term: str, error: float) -> Tensor:
    """The term on its path away from the truth, 0 <= error <= 1."""
    if term in ("gap", "margin"):
        return with_gap({"gap": 0.10, "margin": 0.02}[term] * (1.0 - error))[term]
    case = build(error, SCENES)
    if term in ("ortho", "cross"):
        angle, range_ = spread_columns(error)
        case = replace(case, A_angle=angle, A_range=range_)
    return case.terms()[term]


@terms
def test_grows_with_the_error(term: str) -> None:
    values = torch.stack([along(term, error).mean() for error in (0.0, 0.1, 0.25, 0.5, 1.0)])
    assert bool((values.diff() > 1e-5).all()), values


def test_paths_of_the_factor_and_gap_terms_begin_at_zero() -> None:
    for term in ("ortho", "cross", "gap", "margin"):
        assert float(along(term, 0.0).abs().max()) < 1e-9


@terms
def test_a_step_against_the_gradient_lowers_it(term: str) -> None:
    loss = LossConfig(gap_margin=1.0, margin_target=1.0)
    case = build(0.5, SCENES).requires_grad()
    value = case.terms(loss)[term].mean()
    gradients = torch.autograd.grad(value, case.leaves(), allow_unused=True)
    steps = [torch.zeros_like(x) if g is None else g for x, g in zip(case.leaves(), gradients, strict=True)]
    squared = sum(float(g.abs().square().sum()) for g in steps)
    assert squared > 0
    scale = 1e-6 / squared**0.5
    moved = tuple(x.detach() - scale * g for x, g in zip(case.leaves(), steps, strict=True))
    drop = float(value.detach()) - float(case.with_leaves(moved).terms(loss)[term].mean())
    assert drop == pytest.approx(scale * squared, rel=1e-2)


def test_gradients_of_all_terms_by_finite_differences() -> None:
    loss = LossConfig(gap_margin=1.5, margin_target=1.5, aux_beta=0.05)
    scenes = replace(
        simulated(SMALL, count=3, seed=2), num_sources=torch.tensor([1, 2, 3], dtype=torch.uint8)
    )
    used = scenes.source_mask.float()
    u, v, w = (torch.rand(3, *used.shape, generator=torch.Generator().manual_seed(8)) - 0.5) * used
    placed = {"azimuth": 1.6 * u, "elevation": 0.8 * v, "range": 3.0 * used + 4.0 * w, "power": used + u}
    case = build(0.3, replace(scenes, **placed), SMALL).requires_grad()

    def values(*leaves: Tensor) -> tuple[Tensor, ...]:
        return tuple(case.with_leaves(leaves).terms(loss).values())

    assert torch.autograd.gradcheck(values, case.leaves(), fast_mode=True)


@terms
def test_slot_order_does_not_matter(term: str) -> None:
    case = build(0.3, SCENES)
    torch.testing.assert_close(case.slots([3, 0, 4, 1, 2]).terms()[term], case.terms()[term])


@terms
def test_source_order_does_not_matter(term: str) -> None:
    case = build(0.3, crowded(5))
    order = [2, 4, 0, 3, 1]
    columns = {name: getattr(case.truth, name)[:, order] for name in ("power", "mask", "position")}
    other = replace(case.truth, A=case.truth.A[..., order], **columns)
    torch.testing.assert_close(replace(case, truth=other).terms()[term], case.terms()[term])


@terms
def test_single_precision_stays_single_under_autocast(term: str) -> None:
    case = single(build(0.3, SCENES))
    plain = case.terms()[term]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = case.terms()[term]
    assert inside.dtype == torch.float32
    assert torch.equal(inside, plain)


@terms
def test_half_precision_outputs_are_widened(term: str) -> None:
    case = single(build(0.3, SCENES))
    outputs = ("count_logits", "position", "power")
    half = replace(case, **{name: getattr(case, name).bfloat16() for name in outputs})
    widened = replace(half, **{name: getattr(half, name).float() for name in outputs})
    value = half.terms()[term]
    assert value.dtype == torch.float32
    assert torch.equal(value, widened.terms()[term])


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@terms
def test_device(term: str, device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    case = build(0.3, SCENES)
    moved = case.to(device).requires_grad()
    value = moved.terms()[term]
    assert value.device.type == device
    torch.testing.assert_close(value.detach().cpu(), case.terms()[term], rtol=1e-6, atol=1e-9)
    torch.autograd.grad(value.sum(), moved.leaves(), allow_unused=True)

"""Gradient and Fisher information of the joint likelihood against differences of dense covariances."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from risctl.inference.gaussian import GaussianParameters, pack, unpack
from risctl.inference.observation import Observation
from risctl.inference.stacked import VARYING, SymbolModel
from risctl.inference.surface.likelihood import SceneGroup, average_model, fisher_model
from risctl.inference.surface.response import GAINS, KINDS, POSITIONS, STATES, SurfaceResponse
from risctl.physics.geometry import ArrayGeometry, planar_array_positions
from risctl.physics.polar import polar_steering

SCENES, SNAPSHOTS, ANTENNAS, SOURCES, VALUES = 2, 3, 4, 2, 2
STEP = 1e-5
CONSTANT, STATIC = SymbolModel(True), SymbolModel(True, True)
WEIGHT = torch.tensor([1.0, 2.5], dtype=torch.float64)  # snapshots that one stands for, of each scene


def complex_normal(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex128)


def small_problem(
    wavefront: str, symbols: SymbolModel = VARYING
) -> tuple[SceneGroup, SurfaceResponse, ArrayGeometry]:
    """Two scenes of two sources on a 3 x 2 surface, with a response far from nominal."""
    torch.manual_seed(5)
    positions = planar_array_positions(3, 2, 0.15)
    geometry = ArrayGeometry(positions, 0.3, wavefront, False)
    N = len(positions)
    H, state = complex_normal(SCENES, ANTENNAS, N), torch.randint(VALUES, (SCENES, SNAPSHOTS, 1, N))
    codes = torch.exp(1j * torch.pi * state.double()).squeeze(2)
    y = complex_normal(SCENES, SNAPSHOTS, ANTENNAS)
    obs = replace(Observation.build(y, H, codes), weight=WEIGHT)
    points = torch.rand(SCENES, SOURCES, 3, dtype=torch.float64) * 0.6 - 0.3
    points[..., 2] = points[..., 2].abs() + 0.5
    log_power = torch.randn(SCENES, SOURCES, dtype=torch.float64)
    params = GaussianParameters(points, log_power, torch.randn(SCENES, dtype=torch.float64) - 1.0)
    response = SurfaceResponse(
        gains=1.0 + 0.4 * complex_normal(N),
        states=1.0 + 0.3 * complex_normal(VALUES),
        displacement=0.01 * torch.randn(N, 3, dtype=torch.float64),
    )
    rows = torch.arange(SCENES)
    blind = torch.zeros(SCENES, dtype=torch.bool)
    return SceneGroup(obs, state, params, blind, rows, symbols), response, geometry


def covariances(group: SceneGroup, response: SurfaceResponse, x: Tensor, geometry: ArrayGeometry) -> Tensor:
    """``R_l`` [B, L, M, M] by its definition, at packed parameters x [B, 4K + 1] of the sources; of stacked
    snapshots [B, 1, n, n]."""
    params = unpack(x)
    A = polar_steering(params.points, response.geometry(geometry)) * response.gains
    B = stacked((group.obs.Phi * response.factors(group.state)) @ A.mT.unsqueeze(1), group.symbols)
    eye = torch.eye(B.shape[-2], dtype=B.dtype)
    noise = params.log_noise.exp()[:, None, None, None]
    return (B * params.log_power.exp()[:, None, None, :]) @ B.mH + noise * eye


def stacked(x: Tensor, symbols: SymbolModel) -> Tensor:
    """Vectors x [B, L, M, K] of constant symbols one under the other, the span of a static path left out."""
    if not symbols.constant:
        return x
    if symbols.static_path:
        basis = torch.linalg.svd(torch.ones(1, x.shape[1], dtype=x.dtype))[2][1:]
        x = torch.einsum("kl,blmj->bkmj", basis.conj(), x)
    return x.reshape(len(x), 1, -1, x.shape[-1])


def log_likelihood(R: Tensor, y: Tensor) -> Tensor:
    fit = (y.unsqueeze(-2).conj() @ torch.linalg.solve(R, y.unsqueeze(-1))).real.squeeze((-1, -2))
    return -(torch.linalg.slogdet(R)[1] + fit).sum(-1) * WEIGHT


def differences(
    group: SceneGroup, response: SurfaceResponse, geometry: ArrayGeometry, kinds: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    """Central differences of log L [P] (all scenes) and of R [P, B, L, M, M], the surface's parameters first.

    The sources' parameters are moved in all scenes at once: their rows of log L are summed over the scenes.
    """
    x = pack(group.params)
    sizes = [len(response.parameters()[kind]) for kind in kinds]
    slopes, changes = [], []
    for index in range(sum(sizes) + x.shape[1]):
        ends = []
        for sign in (1.0, -1.0):
            moved, here = response, x.clone()
            if index < sum(sizes):
                step = torch.zeros(sum(sizes), dtype=torch.float64)
                step[index] = sign * STEP
                moved = response.moved(dict(zip(kinds, step.split(sizes), strict=True)))
            else:
                here[:, index - sum(sizes)] += sign * STEP
            ends.append(covariances(group, moved, here, geometry))
        y = stacked(group.obs.y.unsqueeze(-1), group.symbols).squeeze(-1)
        plus, minus = (log_likelihood(R, y).sum() for R in ends)
        slopes.append((plus - minus) / (2 * STEP))
        changes.append((ends[0] - ends[1]) / (2 * STEP))
    return torch.stack(slopes), torch.stack(changes)


@pytest.mark.parametrize("wavefront", ["spherical", "fresnel", "planar"])
@pytest.mark.parametrize("kinds", [*((kind,) for kind in KINDS), (GAINS, STATES), (GAINS, POSITIONS, STATES)])
def test_gradient_and_information_are_those_of_the_dense_covariance(
    kinds: tuple[str, ...], wavefront: str
) -> None:
    assert_model_is_that_of_the_dense_covariance(kinds, *small_problem(wavefront))


@pytest.mark.parametrize("symbols", [CONSTANT, STATIC], ids=["constant", "static path"])
@pytest.mark.parametrize("kinds", [(GAINS, STATES), (POSITIONS,)])
def test_and_with_constant_symbols(kinds: tuple[str, ...], symbols: SymbolModel) -> None:
    assert_model_is_that_of_the_dense_covariance(kinds, *small_problem("spherical", symbols))


def assert_model_is_that_of_the_dense_covariance(
    kinds: tuple[str, ...], group: SceneGroup, response: SurfaceResponse, geometry: ArrayGeometry
) -> None:
    model = fisher_model(group, response, geometry, kinds)
    slopes, changes = differences(group, response, geometry, kinds)
    P = len(model.gradient)
    torch.testing.assert_close(model.gradient, slopes[:P], rtol=1e-6, atol=1e-6)
    W = torch.linalg.inv(covariances(group, response, pack(group.params), geometry))
    F = torch.einsum("pblmn,qblnm,b->bpq", W @ changes, W @ changes, WEIGHT.to(W)).real
    torch.testing.assert_close(model.information, F[:, :P, :P].sum(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(model.cross, F[:, :P, P:], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(model.local.information, F[:, P:, P:], rtol=1e-6, atol=1e-6)
    average = average_model(group, response, geometry, kinds, torch.complex128)
    y = stacked(group.obs.y.unsqueeze(-1), group.symbols)
    v = changes @ (W @ y)
    A = torch.einsum("pblm,qblm,b->bpq", v.squeeze(-1).conj(), (W @ v).squeeze(-1), WEIGHT.to(W)).real
    torch.testing.assert_close(average.gradient, model.gradient)
    torch.testing.assert_close(average.information, A[:, :P, :P].sum(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(average.cross, A[:, :P, P:], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(average.local.information, A[:, P:, P:], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kinds", [(GAINS,), (STATES,), (GAINS, STATES)])
def test_a_common_factor_of_the_response_is_a_null_direction(kinds: tuple[str, ...]) -> None:
    """Phase and gain of all elements: once the sources' powers are eliminated nothing is known of them."""
    group, response, geometry = small_problem("spherical")
    model = fisher_model(group, response, geometry, kinds)
    left = torch.linalg.solve(model.local.information, model.cross.mT)
    S = model.information - (model.cross @ left).sum(0)
    null = response.null_vectors(kinds)
    assert null.shape[0] == 2 * len(kinds)
    assert float((S @ null.mT).abs().max()) < 1e-8 * float(S.diagonal().max())


def test_normalising_leaves_the_likelihood_as_it_is() -> None:
    group, response, geometry = small_problem("spherical")
    unit, factor = response.normalised((GAINS, STATES))
    params = group.params
    louder = GaussianParameters(params.points, params.log_power + math.log(factor), params.log_noise)
    before = group.local_model(response, geometry).log_likelihood
    after = group.with_params(louder).local_model(unit, geometry).log_likelihood
    torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10)
    for z in (unit.gains, unit.states):
        assert float(z.abs().square().mean()) == pytest.approx(1.0)
        assert float(z.sum().imag) == pytest.approx(0.0, abs=1e-12)

"""Noise that errors of the gains make: against draws of the errors, and what one more source makes of it."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import risctl
from risctl.config import PhysicsConfig
from risctl.data.stream import shared_surface
from risctl.inference.estimates import Estimates
from risctl.inference.surface.excess import excess_noise, whitener
from risctl.physics import ArrayGeometry, Scenes
from risctl.physics.polar import from_polar, polar_steering, to_polar
from risctl.runs.calibrated import CalibratedSurface, SurfaceDocument, surface_fingerprint


def normal(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.complex128, generator=rng)


def test_it_is_the_covariance_of_what_the_errors_add() -> None:
    rng, draws = torch.Generator().manual_seed(4), 40_000
    geometry = ArrayGeometry.from_config(PhysicsConfig(ris_rows=4, ris_columns=4), dtype=torch.float64)
    found = Estimates.empty(1, 3)
    for name, values in (("azimuth", (0.3, -0.5)), ("elevation", (0.1, 0.2)), ("range", (2.0, 5.0))):
        getattr(found, name)[0, :2] = torch.tensor(values, dtype=torch.float64)
    found.power[0, :2] = torch.tensor([1.0, 4.0], dtype=torch.float64)
    Phi, variance = normal(rng, 1, 1, 3, 16), torch.rand(16, generator=rng, dtype=torch.float64) * 0.1
    points = to_polar(found.azimuth, found.elevation, found.range)[0, :2]
    a = polar_steering(points, geometry)
    symbols = normal(rng, draws, 2) * found.power[0, :2].sqrt()
    added = ((normal(rng, draws, 16) * variance.sqrt()) * (symbols @ a)) @ Phi[0, 0].mT
    E = excess_noise(Phi, variance, found, geometry)[0, 0]
    drawn = added.mT @ added.conj() / draws
    assert float((drawn - E).norm() / E.norm()) < 4.0 / math.sqrt(draws)


def test_whitened_it_is_white() -> None:
    rng = torch.Generator().manual_seed(5)
    front = normal(rng, 2, 1, 4, 9)
    E, white = front @ front.mH, torch.tensor([2.0, 30.0], dtype=torch.float64)
    W = whitener(E, white + E.diagonal(dim1=-2, dim2=-1).real.mean((1, 2)))
    noise = E + white[:, None, None, None] * torch.eye(4)
    expected = white[:, None, None, None] * torch.eye(4, dtype=E.dtype)
    torch.testing.assert_close(W @ noise @ W.mH, expected.expand_as(noise))


@pytest.fixture(scope="module")
def worn() -> tuple[risctl.Config, Scenes, CalibratedSurface]:
    """Single sources at 20 dB on a worn surface whose gains are known to 10 %."""
    words = ["shared=true", "phase_error_deg=17"]
    words = [f"physics.impairments.{word}" for word in words]
    words += ["physics.snr_values_db=[20]", "inference.decision=count"]
    config = risctl.load_config("quick", overrides=words)
    true, N = shared_surface(config.physics, 6).gain, config.physics.num_elements
    assert true is not None
    error = normal(torch.Generator().manual_seed(7), N) * 0.1
    gains, zero = true.flatten() + error, (0.0,) * N
    document = SurfaceDocument(
        kinds=("gains",),
        fingerprint=surface_fingerprint(config.physics),
        phase_bits=config.physics.phase_bits,
        gain_real=tuple(gains.real.tolist()),
        gain_imag=tuple(gains.imag.tolist()),
        gain_std=(0.1 / math.sqrt(2.0),) * N,
        dead_probability=zero,
        ramp_covariance=(0.0,) * 9,
        noise_before_db=0.0,
        noise_after_db=0.0,
        scenes=50,
        anchors=0,
        held_out_scenes=0,
        held_out_gain=None,
        spread_over_error=10.0,
    )
    scenes = risctl.simulate(config, 80, seed=6)
    return config, scenes[scenes.num_sources == 1][:16], CalibratedSurface(document)


def test_a_common_shift_widens_the_stated_deviations_by_what_it_moves_sources(
    worn: tuple[risctl.Config, Scenes, CalibratedSurface],
) -> None:
    """Against draws of the shift in (u_y, u_z, 1/r), on top of deviations of their own."""
    root = 1e-3 * torch.tensor([[3.0, 0.0, 0.0], [1.0, 2.0, 0.0], [4.0, -2.0, 5.0]], dtype=torch.float64)
    ramps = {"ramp_covariance": tuple((root @ root.mT).flatten().tolist())}
    surface = replace(worn[2], document=worn[2].document.model_copy(update=ramps))
    found, own = Estimates.empty(1, 1), {"azimuth": 0.002, "elevation": 0.001, "range": 0.05}
    for name, value in {"azimuth": 0.6, "elevation": -0.3, "range": 3.0}.items():
        getattr(found, name)[0, 0] = value
        getattr(found, f"std_{name}")[0, 0] = own[name]
    draws = torch.randn(40_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) @ root.mT
    moved = from_polar(to_polar(found.azimuth, found.elevation, found.range)[0] + draws)
    wide = surface.widened(found)
    for name, values in zip(own, moved, strict=True):
        expected = math.sqrt(own[name] ** 2 + float(values.var()))
        assert float(getattr(wide, f"std_{name}")) == pytest.approx(expected, rel=0.02)


def test_errors_of_the_gains_are_not_taken_for_sources(
    worn: tuple[risctl.Config, Scenes, CalibratedSurface],
) -> None:
    config, scenes, surface = worn  # a hundredth of the signal's energy, which looks like sources 20 dB down
    exact = replace(surface, document=surface.document.model_copy(update={"gain_std": (0.0,) * 144}))
    arrays = scenes.y, scenes.H, scenes.codes
    counts = [risctl.locate(*arrays, surface=s, config=config).num_sources for s in (surface, exact)]
    assert (counts[0] == 1).mean() >= 0.95
    assert (counts[1] == 1).mean() < 0.8

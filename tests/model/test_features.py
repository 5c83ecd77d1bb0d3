"""Detection maps: what they are, what they are blind to, and that they find weak sources."""

import math

import pytest
import torch
from torch import Tensor

from risctl.config import PhysicsConfig
from risctl.errors import InputError, MeasurementError
from risctl.model.features import EVENNESS, FLOOR, MapFeatures
from risctl.model.ridge import ridge_solutions
from risctl.physics import ArrayGeometry, FieldOfView, Scenes
from risctl.physics.polar import polar_steering, to_polar
from tests.model.networks import make_scenes

ALPHAS = (0.1, 1.0, 50.0)


def _maps(physics: PhysicsConfig, columns: int = 8, rows: int = 4, rings: int = 2) -> MapFeatures:
    geometry, view = ArrayGeometry.from_config(physics), FieldOfView.from_config(physics)
    return MapFeatures(geometry, view, columns, rows, rings, ALPHAS)


def _measured(scenes: Scenes) -> tuple[Tensor, Tensor, Tensor]:
    return scenes.y, scenes.H, scenes.codes


def _cell_steering(physics: PhysicsConfig, columns: int, rows: int, rings: int) -> Tensor:
    """Steering vectors [rings, rows, columns, N] at the cell centres, from the definition of the lattice."""
    view, geometry = FieldOfView.from_config(physics), ArrayGeometry.from_config(physics)
    u_y, u_z = torch.tensor(view.azimuth).sin(), torch.tensor(view.elevation).sin()
    y = ((torch.arange(columns) + 0.5) * 2 / columns - 1) * u_y
    z = ((torch.arange(rows) + 0.5) * 2 / rows - 1) * u_z
    far, near = 1 / view.range_max, 1 / view.range_min
    q = far + (torch.arange(rings) + 0.5) / rings * (near - far)
    mesh = torch.meshgrid(q, z, y, indexing="ij")
    return polar_steering(torch.stack([mesh[2], mesh[1], mesh[0]], dim=-1), geometry)


@pytest.mark.parametrize("panel", [(12, 12), (5, 4)])
def test_a_map_is_what_its_definition_says(panel: tuple[int, int]) -> None:
    physics, scenes = make_scenes(2, ris_columns=panel[0], ris_rows=panel[1], max_sources=3)
    maps, _ = _maps(physics)(*_measured(scenes))
    A = _cell_steering(physics, 8, 4, 2).reshape(-1, physics.num_elements).to(torch.complex128)
    for scene in range(2):
        y, H, codes = (x[scene].to(torch.complex128) for x in _measured(scenes))
        for i, alpha in enumerate(ALPHAS):
            energy = _statistic(y, H, codes, A, alpha, weighted=alpha > 5.0)
            expected = (energy / energy.mean() + FLOOR).log().float().view(2, 4, 8)
            torch.testing.assert_close(maps[scene, 2 * i : 2 * i + 2], expected, rtol=1e-3, atol=1e-3)


def _statistic(y: Tensor, H: Tensor, codes: Tensor, A: Tensor, alpha: float, weighted: bool) -> Tensor:
    """The map's statistic [G] of one scene, snapshot by snapshot with dense matrices."""
    M, N = H.shape
    gram = H @ H.mH
    eigenvalues, U = torch.linalg.eigh(gram)
    load = alpha * eigenvalues.sum() / N
    W = torch.linalg.inv(gram + load * torch.eye(M, dtype=gram.dtype))
    rest = (eigenvalues / (eigenvalues + load))[:-1].sum() / N
    energies, lit = [], []
    for y_l, c in zip(y, codes, strict=True):
        b = (H * c) @ A.mT
        energies.append((b.mH @ W @ y_l).abs().square())
        lit.append((U[:, -1].conj() @ b).abs().square() / (eigenvalues[-1] + load))
    energy, d = torch.stack(energies), torch.stack(lit) + rest
    if not weighted:
        return energy.mean(0)
    weight = 1.0 / (d + EVENNESS * d.mean(0))
    return (energy * weight).sum(0) / (d * weight).sum(0)


def test_a_panel_may_be_given_by_its_elements() -> None:
    """Positions that are a panel's make the maps of that panel; with plane waves there are none."""
    panel, scenes = make_scenes(3, ris_columns=4, ris_rows=6)
    at = ArrayGeometry.from_config(panel, dtype=torch.float64).positions.tolist()
    listed = PhysicsConfig.model_validate({**panel.model_dump(), "elements": {"positions": at}})
    for one, other in zip(_maps(panel)(*_measured(scenes)), _maps(listed)(*_measured(scenes)), strict=True):
        torch.testing.assert_close(other, one)
    with pytest.raises(InputError, match="known_range_m: expected a finite range"):
        _maps(panel.model_copy(update={"known_range_m": math.inf}))


def test_codes_of_other_moduli_take_the_snapshot_by_snapshot_path() -> None:
    physics, scenes = make_scenes(2)
    features = _maps(physics)
    y, H, codes = _measured(scenes)
    generator = torch.Generator().manual_seed(1)
    uneven = codes * (0.2 + torch.rand(codes.shape, generator=generator))
    ridges = ridge_solutions(y, H, uneven, features.alphas)
    for i, alpha in enumerate(ALPHAS):
        Phi = H.unsqueeze(1) * uneven.unsqueeze(2)
        gram = (Phi @ Phi.mH).to(torch.complex128)
        load = alpha * gram.diagonal(dim1=-2, dim2=-1).real.sum(-1) / physics.num_elements
        loaded = gram + load[..., None, None] * torch.eye(gram.shape[-1])
        solved = torch.linalg.solve(loaded, y.unsqueeze(-1).to(gram.dtype))
        a, found = (Phi.mH.to(gram.dtype) @ solved).squeeze(-1), ridges.a[:, i].to(gram.dtype)
        scale = (found / a).mean(dim=(1, 2), keepdim=True)
        torch.testing.assert_close(found, a * scale, rtol=1e-3, atol=1e-3 * a.abs().max())
    # Nearly even moduli: both paths must agree.
    nudged = codes.clone()
    nudged[:, 0] *= 1.0001
    for even, other in zip(features(y, H, codes), features(y, H, nudged), strict=True):
        torch.testing.assert_close(even, other, rtol=0.0, atol=5e-3)


def test_other_scales_orders_and_phases_make_the_same_maps() -> None:
    physics, scenes = make_scenes(3)
    features = _maps(physics)
    y, H, codes = _measured(scenes)
    order = torch.randperm(y.shape[1], generator=torch.Generator().manual_seed(0))
    phase = torch.polar(torch.ones(3, y.shape[1]), torch.linspace(0.0, 6.0, 3 * y.shape[1]).view(3, -1))
    variants = (
        (1e6 * y, H, codes),
        (y, 1e-6 * H, codes),
        (y, H, 3.0 * codes),
        (y[:, order], H, codes[:, order]),
        (y * phase.unsqueeze(-1), H, codes),
        (y, H, codes * phase.unsqueeze(-1)),
    )
    for variant in variants:
        for expected, found in zip(features(y, H, codes), features(*variant), strict=True):
            torch.testing.assert_close(found, expected, rtol=0.0, atol=2e-3)


def test_extreme_scales_overflow_nothing() -> None:
    physics, scenes = make_scenes(2)
    features = _maps(physics)
    y, H, codes = _measured(scenes)
    for maps in features(1e30 * y, 1e-30 * H, codes) + features(1e-30 * y, 1e30 * H, codes):
        assert bool(torch.isfinite(maps).all())


def test_the_scalars_tell_the_noise() -> None:
    physics, quiet = make_scenes(200, snr_values_db=(20.0,))
    _, loud = make_scenes(200, snr_values_db=(-5.0,))
    features = _maps(physics)
    # The share of the energy that the strongest ridge leaves unexplained, less what noise would leave.
    above = [s[:, 2] - s[:, 5] for s in (features(*_measured(x))[1] for x in (quiet, loud))]
    assert float(above[0].quantile(0.85)) < float(above[1].quantile(0.15))


def test_the_weighted_map_finds_single_sources_at_low_snr() -> None:
    physics, scenes = make_scenes(200, max_sources=1, snr_values_db=(-5.0,))
    maps, _ = _maps(physics, 32, 16, 4)(*_measured(scenes))
    truth = to_polar(scenes.azimuth, scenes.elevation, scenes.range)[:, 0, :2]
    found = []
    for i in range(len(ALPHAS)):
        best = maps[:, 4 * i : 4 * i + 4].amax(1).flatten(1).argmax(1)
        u = maps[:, -2:].flatten(2).gather(2, best.view(-1, 1, 1).expand(-1, 2, 1)).squeeze(2)
        u = u * torch.tensor([0.8660, 0.5])
        found.append(float(((u - truth).abs() < 0.08).all(1).float().mean()))
    assert found[2] > 0.6
    assert found[2] > found[0] + 0.2


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_value_that_is_not_finite_is_refused_by_scene(which: int) -> None:
    physics, scenes = make_scenes(3)
    given = [x.clone() for x in _measured(scenes)]
    given[which][1, 0, 0] = torch.nan
    with pytest.raises(MeasurementError, match=rf"{('y', 'H', 'codes')[which]} of scene 1 "):
        _maps(physics)(*given)


def test_no_gradient_is_kept() -> None:
    physics, scenes = make_scenes(1)
    y = scenes.y.clone().requires_grad_()
    assert not any(x.requires_grad for x in _maps(physics)(y, scenes.H, scenes.codes))


@pytest.mark.parametrize("scenes_at_once", [1, 2, 64])
def test_the_size_of_the_chunks_changes_nothing(scenes_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    physics, scenes = make_scenes(5)
    expected, _ = _maps(physics)(*_measured(scenes))
    monkeypatch.setattr("risctl.model.features.CPU_SCENES", scenes_at_once)
    found, _ = _maps(physics)(*_measured(scenes))
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-5)

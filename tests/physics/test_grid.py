"""The mirrored polar grid against dense steering vectors."""

import pytest
import torch

from risctl.config import PhysicsConfig
from risctl.physics import ArrayGeometry, FieldOfView
from risctl.physics.grid import PolarGrid
from risctl.physics.mirror import PARITIES, parity_parts
from risctl.physics.polar import from_polar, polar_steering, to_polar

SURFACES = [
    {},
    {"wavefront": "fresnel"},
    {"wavefront": "planar"},
    {"amplitude_taper": True},
    {"ris_columns": 7, "ris_rows": 4},
    {"ris_columns": 5, "ris_rows": 9},
    {"ris_columns": 1, "ris_rows": 6},
]


def build(changes: dict[str, object], dtype: torch.dtype = torch.float64) -> tuple[PolarGrid, ArrayGeometry]:
    physics = PhysicsConfig(max_coherence=1.0, **changes)
    geometry = ArrayGeometry.from_config(physics, dtype=dtype)
    return PolarGrid.build(geometry, FieldOfView.from_config(physics), 2.0, 3), geometry


def random_vectors(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(*shape, dtype=torch.complex128, generator=generator)


@pytest.mark.parametrize("changes", SURFACES, ids=str)
def test_products_equal_dense_ones(changes: dict[str, object]) -> None:
    grid, geometry = build(changes)
    dense = polar_steering(grid.points, geometry)
    X = random_vectors(2, 3, geometry.num_elements)
    expected = X.conj() @ dense.mT
    assert torch.allclose(grid.correlate(X), expected, atol=1e-12)
    assert torch.allclose(grid.energy(X), expected.abs().square().sum(-2), atol=1e-12)
    assert torch.allclose(grid.steering(), dense.mT, atol=1e-12)


def test_blocks_do_not_change_the_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, geometry = build({})
    X = random_vectors(3, 2, geometry.num_elements)
    whole = grid.energy(X)
    monkeypatch.setattr("risctl.physics.grid.CACHE_FLOATS", 1)
    assert torch.allclose(grid.energy(X), whole, rtol=1e-13)


def test_single_precision_is_good_to_rounding() -> None:
    fine, _ = build({})
    coarse, _ = build({}, torch.float32)
    X = random_vectors(4, 5, 144)
    error = (coarse.energy(X.to(torch.complex64)) - fine.energy(X)).abs().max()
    assert error < 1e-5 * fine.energy(X).max()


@pytest.mark.parametrize(("columns", "rows"), [(12, 12), (5, 4), (1, 3)])
def test_parity_transform_is_orthonormal(columns: int, rows: int) -> None:
    T = torch.cat(parity_parts(torch.eye(columns * rows, dtype=torch.float64), columns, rows), dim=-1)
    assert torch.allclose(T @ T.mT, torch.eye(columns * rows, dtype=torch.float64), atol=1e-14)


def test_grid_covers_the_field_of_view_and_nothing_else(view: FieldOfView) -> None:
    grid, _ = build({})
    azimuth, elevation, range_ = from_polar(grid.points[grid.inside])
    assert azimuth.abs().max() <= view.azimuth * (1 + 1e-6)
    assert azimuth.abs().max() > 0.9 * view.azimuth
    assert elevation.abs().max() <= view.elevation
    assert range_.min() >= view.range_min
    assert range_.max() <= view.range_max
    outside = from_polar(grid.points[~grid.inside])[0]
    assert outside.abs().min() > view.azimuth


def test_images_are_mirrored(view: FieldOfView) -> None:
    grid, _ = build({})
    images = grid.points.view(4, -1, 3)
    for (sign_y, sign_z), image in zip(PARITIES, images, strict=True):
        assert torch.equal(image[:, 0], images[0, :, 0] * sign_y)
        assert torch.equal(image[:, 1], images[0, :, 1] * sign_z)
        assert torch.equal(image[:, 2], images[0, :, 2])
    assert grid.order.numel() == grid.num_points


def test_no_source_is_far_from_the_grid(view: FieldOfView) -> None:
    """The detector's worst loss: even the farthest source keeps most of its energy on some grid point."""
    geometry = ArrayGeometry.from_config(PhysicsConfig())
    grid = PolarGrid.build(geometry, view, 2.0, 8)
    generator = torch.Generator().manual_seed(1)
    u = 2 * torch.rand(3, 2000, generator=generator) - 1
    range_ = view.range_min + (view.range_max - view.range_min) * (u[2] + 1) / 2
    points = to_polar(u[0] * view.azimuth, u[1] * view.elevation, range_)
    kept = grid.correlate(polar_steering(points, geometry)).abs().amax(-1)
    assert kept.median() > 0.85
    assert kept.quantile(0.01) > 0.6

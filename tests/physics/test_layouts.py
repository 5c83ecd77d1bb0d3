"""Arrays of any layout against the float64 oracle: steering, grid, bounds, frames, files, what is known."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from risctl.config import ElementsConfig, PhysicsConfig, load_config
from risctl.errors import InputError
from risctl.physics import ArrayGeometry, FieldOfView, simulate_scenes, steering_vector
from risctl.physics.bounds import scene_bounds
from risctl.physics.grid import PolarGrid
from risctl.physics.mirror import Mirror
from risctl.physics.polar import clamp_to_view, from_polar, polar_steering, to_polar
from tests.oracle import Array, conditional_fisher, element_positions, steering, unconditional_fisher
from tests.physics.layouts import LAYOUTS, layout_physics

NAMES = sorted(LAYOUTS)


def _simulate(physics: PhysicsConfig, count: int, seed: int = 0):
    return simulate_scenes(physics, np.random.Generator(np.random.SFC64(seed)), count)


@pytest.mark.parametrize("taper", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_steering_is_the_oracles(name: str, taper: bool) -> None:
    geometry = ArrayGeometry.from_config(layout_physics(name, amplitude_taper=taper))
    oracle = Array(layout=LAYOUTS[name], taper=taper)
    rng = np.random.default_rng(1)
    for _ in range(10):
        at = rng.uniform([-1.0, -0.5, 1.0], [1.0, 0.5, 10.0])
        found = steering_vector(*torch.tensor(at, dtype=torch.float32), geometry)
        np.testing.assert_allclose(found.numpy(), steering(oracle, *at), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "y", "z"), [("ring", True, True), ("line", True, True), ("random", False, False)]
)
def test_symmetries_are_found_and_products_equal_dense_ones(name: str, y: bool, z: bool) -> None:
    physics = PhysicsConfig(elements=ElementsConfig(positions=LAYOUTS[name]))
    _check_grid(physics, y, z)


def test_a_panel_numbered_at_random_is_still_symmetric() -> None:
    panel = element_positions(Array())[np.random.default_rng(0).permutation(144)]
    _check_grid(PhysicsConfig(elements=ElementsConfig(positions=panel.tolist())), True, True)


def test_half_a_symmetry_is_used() -> None:
    upper = [p for p in element_positions(Array()).tolist() if p[2] > -0.5]
    grid = _check_grid(PhysicsConfig(elements=ElementsConfig(positions=upper)), True, False)
    assert len(grid.parts) == 2
    left = [p for p in element_positions(Array()).tolist() if p[1] > -0.5]
    assert len(_check_grid(PhysicsConfig(elements=ElementsConfig(positions=left)), False, True).parts) == 2


def test_an_element_out_of_place_ends_the_symmetry() -> None:
    panel = torch.tensor(element_positions(Array()))
    assert Mirror.detect(panel, 0.3).panel == (12, 12)
    panel[5, 1] += 1e-4
    found = Mirror.detect(panel, 0.3)
    assert (found.in_y, found.in_z) == (False, False)


def _check_grid(physics: PhysicsConfig, in_y: bool, in_z: bool) -> PolarGrid:
    geometry = ArrayGeometry.from_config(physics, dtype=torch.float64)
    grid = PolarGrid.build(geometry, FieldOfView.from_config(physics))
    assert (grid.mirror.in_y, grid.mirror.in_z) == (in_y, in_z)
    X = torch.randn(2, 3, geometry.num_elements, dtype=torch.complex128)
    expected = X.conj() @ polar_steering(grid.points, geometry).mT
    tolerance = 1e-4 if in_y or in_z else 1e-12  # positions match to 1e-6 wavelengths
    torch.testing.assert_close(grid.correlate(X), expected, atol=tolerance, rtol=0.0)
    torch.testing.assert_close(grid.energy(X), expected.abs().square().sum(-2), atol=tolerance, rtol=1e-4)
    box = grid.points[grid.order]
    assert bool((box.diff(dim=0)[..., 0] > 0).all())
    assert bool((box.diff(dim=1)[..., 1] > 0).all())
    assert bool((box.diff(dim=2)[..., 2] > 0).all())
    return grid


def test_the_lattice_follows_the_aperture() -> None:
    """Twice the extent needs twice the points a side, and four times the bend of the wavefront more rings."""
    view = FieldOfView.from_config(PhysicsConfig())
    small = PolarGrid.build(ArrayGeometry.from_config(layout_physics("spiral")), view)
    wide = [[0.0, 2 * y, 2 * z] for _, y, z in LAYOUTS["spiral"]]
    geometry = ArrayGeometry.from_config(PhysicsConfig(elements=ElementsConfig(positions=wide)))
    large = PolarGrid.build(geometry, view)
    torch.testing.assert_close(large.steps[:2], small.steps[:2] / 2, rtol=0.1, atol=0.0)
    assert large.order.shape[2] > 2 * small.order.shape[2]


@pytest.mark.parametrize("kind", ["conditional", "unconditional"])
@pytest.mark.parametrize("name", NAMES)
def test_bounds_are_the_oracles(name: str, kind: str) -> None:
    """A coordinate that is known is a row and a column less of the oracle's information."""
    physics = layout_physics(name, max_sources=2, min_sources=2, num_snapshots=4, num_antennas=6)
    scenes, view = _simulate(physics, 2), FieldOfView.from_config(physics)
    found = scene_bounds(scenes, ArrayGeometry.from_config(physics), kind, view)
    for i in range(2):
        Phi = (scenes.H[i] * scenes.codes[i].unsqueeze(1)).to(torch.complex128).numpy()
        at = torch.stack([scenes.azimuth[i], scenes.elevation[i], scenes.range[i]], -1).double().numpy()
        power, noise = scenes.power[i].double().numpy(), float(scenes.noise_var[i])
        oracle = Array(layout=LAYOUTS[name])
        if kind == "conditional":
            x = (scenes.symbols[i] * scenes.power[i].sqrt().unsqueeze(-1)).to(torch.complex128).numpy()
            fisher = conditional_fisher(oracle, Phi, at, x, noise)
        else:
            fisher = unconditional_fisher(oracle, Phi, at, power, noise)
        free = [j for j in range(len(fisher)) if not (name == "line" and j in (1, 4))]
        fisher = fisher[np.ix_(free, free)]
        scale = 1 / np.sqrt(np.diag(fisher))
        deviations = np.sqrt(np.diag(np.linalg.inv(fisher * np.outer(scale, scale)))) * scale
        expected = np.zeros(6)
        expected[[j for j in free if j < 6]] = deviations[: sum(j < 6 for j in free)]
        ours = torch.stack([found.azimuth[i], found.elevation[i], found.range[i]], -1).flatten().numpy()
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-14)


def test_without_its_elevation_a_line_bounds_no_direction() -> None:
    physics = layout_physics("line", max_sources=1, known_elevation_deg="unknown")
    bounds = scene_bounds(_simulate(physics, 3), ArrayGeometry.from_config(physics))
    assert bool(torch.isinf(bounds.azimuth).all())
    assert bool(torch.isfinite(bounds.range).all()) or bool(torch.isinf(bounds.range).all())


def test_a_far_field_has_an_angle_and_no_position() -> None:
    physics = PhysicsConfig(known_range_m=math.inf, power_control="path_loss")
    scenes, view = _simulate(physics, 5), FieldOfView.from_config(physics)
    assert bool(torch.isinf(scenes.range[scenes.source_mask]).all())
    assert bool(torch.isfinite(scenes.y.abs()).all())
    bounds = scene_bounds(scenes, ArrayGeometry.from_config(physics), view=view)
    seen = scenes.source_mask
    assert bool((bounds.range[seen] == 0).all()) or float(bounds.range[seen].max()) < 1e-12
    assert bool(torch.isfinite(bounds.azimuth[seen]).all())
    assert bool(torch.isinf(bounds.position[seen]).all())


def test_what_is_known_is_one_point_of_the_grid_and_one_place_to_clamp_to() -> None:
    physics = PhysicsConfig(known_elevation_deg=12.0, known_range_m=3.0)
    view, geometry = FieldOfView.from_config(physics), ArrayGeometry.from_config(physics)
    grid = PolarGrid.build(geometry, view)
    assert grid.order.shape[1:] == (1, 1)
    random = torch.rand(50, 3, dtype=torch.float64) * 2 - 1
    azimuth, elevation, range_ = from_polar(clamp_to_view(random, view))
    torch.testing.assert_close(elevation, torch.full_like(elevation, math.radians(12.0)))
    torch.testing.assert_close(range_, torch.full_like(range_, 3.0))
    assert float(azimuth.abs().max()) <= math.radians(60.0) + 1e-9
    far = to_polar(*torch.tensor([[0.3, 0.1, math.inf]]).mT)
    assert float(from_polar(far)[2]) == math.inf


def test_any_frame_with_a_stated_normal() -> None:
    """A tilted, shifted copy of the array has the same steering vectors."""
    plain = np.array(LAYOUTS["random"])
    angle = 0.7
    turn = np.array(
        [[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0], [0, 0, 1]]
    )
    shift = np.array([3.0, -2.0, 1.5])
    elements = ElementsConfig(
        positions=(plain @ turn.T + shift).tolist(),
        normal=[2 * math.cos(angle), 2 * math.sin(angle), 0.0],
        origin=shift.tolist(),
    )
    np.testing.assert_allclose(elements.in_surface_frame(), plain, atol=1e-12)
    with pytest.raises(ValidationError, match="a direction other than the normal"):
        ElementsConfig(normal=[0.0, 0.0, 3.0])
    with pytest.raises(ValidationError, match="a point within"):
        ElementsConfig(positions=(plain + shift).tolist())


@pytest.mark.parametrize("dtype", ["<f8", "<f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_positions_are_read_from_npz(tmp_path: Path, dtype: str, order: str) -> None:
    plain = np.array(LAYOUTS["spiral"])
    np.savez(tmp_path / "e.npz", elements=np.asarray(plain, dtype=dtype, order=order))
    found = ElementsConfig(file=str(tmp_path / "e.npz"))
    assert found.file == ""
    np.testing.assert_allclose(found.positions, plain, atol=1e-7)


@pytest.mark.parametrize(
    "text", ["0,1,2\n0,-1,-2\n", "x;y;z\n0; 1; 2\n0; -1; -2\n", "# metres\n0 1 2\n0\t-1 -2\n"]
)
def test_positions_are_read_from_csv(tmp_path: Path, text: str) -> None:
    (tmp_path / "e.csv").write_text(text)
    words = ["physics.max_sources=1", f"physics.elements.file='{tmp_path / 'e.csv'}'"]
    physics = load_config("quick", overrides=words).physics
    assert physics.elements.positions == ((0.0, 1.0, 2.0), (0.0, -1.0, -2.0))
    assert physics.num_elements == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("e.csv", b"1,2\n3,4\n"),
        ("e.csv", b"1,2,3\n4,5,six\n"),
        ("e.csv", b"1,2,nan\n4,5,6\n"),
        ("e.csv", b"1,2,3\n"),
        ("e.csv", b"0,1,1\n" * 5000),
        ("e.npz", b"PK not a zip"),
        ("e.npz", b""),
        ("none.csv", None),
    ],
)
def test_a_bad_file_of_positions_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"physics\.elements\.(file|positions)") as caught:
        load_config(
            "quick", overrides=["physics.max_sources=1", f"physics.elements.file='{tmp_path / name}'"]
        )
    assert "\n" not in str(caught.value)

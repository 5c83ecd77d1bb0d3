import math

import numpy as np
import pytest
import torch

from risctl.config import PhysicsConfig
from risctl.physics import FieldOfView, to_cartesian
from risctl.physics.geometry import cartesian_jacobian, direction, planar_array_positions
from tests import oracle
from tests.physics.reference import double_geometry, oracle_array

POLAR = torch.tensor([[0.4, -0.3, 2.0], [-1.0, 0.5, 0.5], [0.0, 0.0, 10.0]], dtype=torch.float64)


@pytest.mark.parametrize(("columns", "rows", "spacing"), [(12, 12, 0.5), (5, 3, 0.4), (1, 4, 1.0)])
def test_elements_sit_where_the_oracle_puts_them(columns: int, rows: int, spacing: float) -> None:
    size = {"ris_columns": columns, "ris_rows": rows, "max_sources": 2}
    physics = PhysicsConfig(element_spacing=spacing, wavelength=0.2, **size)
    geometry = double_geometry(physics)
    expected = oracle.element_positions(oracle_array(physics))
    np.testing.assert_allclose(geometry.positions.numpy(), expected, atol=1e-15)
    assert geometry.num_elements == columns * rows == physics.num_elements


def test_the_panel_is_centred() -> None:
    assert planar_array_positions(7, 4, 0.3).mean(0).abs().max() < 1e-15


def test_cartesian_positions_match_the_oracle() -> None:
    position = to_cartesian(*POLAR.unbind(-1)).numpy()
    np.testing.assert_allclose(position, [oracle.source_position(*p) for p in POLAR.numpy()], rtol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(position, axis=1), POLAR[:, 2].numpy(), rtol=1e-14)


def test_broadside_is_the_x_axis() -> None:
    zero = torch.zeros((), dtype=torch.float64)
    assert direction(zero, zero).tolist() == [1.0, 0.0, 0.0]


def test_cartesian_jacobian_by_differences_and_autograd() -> None:
    jacobian = cartesian_jacobian(*POLAR.unbind(-1)).numpy()
    for point, value in zip(POLAR, jacobian, strict=True):
        automatic = torch.autograd.functional.jacobian(lambda p: to_cartesian(*p.unbind(-1)), point)
        np.testing.assert_allclose(value, automatic.numpy(), atol=1e-14)
        np.testing.assert_allclose(value, oracle.cartesian_jacobian(point.numpy()), atol=1e-9)


def test_field_of_view_is_in_radians() -> None:
    view = FieldOfView.from_config(PhysicsConfig(azimuth_limit_deg=45, range_max=7.0))
    assert view == FieldOfView(math.pi / 4, math.pi / 6, 0.5, 7.0)


def test_geometry_moves_to_another_precision() -> None:
    double = double_geometry(PhysicsConfig())
    single = double.to("cpu", torch.float32)
    assert single.positions.dtype == torch.float32
    assert single.wavenumber == double.wavenumber == pytest.approx(2 * math.pi / 0.3)
    np.testing.assert_allclose(single.positions.numpy(), double.positions.numpy(), rtol=1e-7)

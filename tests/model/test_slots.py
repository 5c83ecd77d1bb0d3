"""Decoding: planted maxima are found to a fraction of a cell, and nothing leaves the field of view."""

import math

import torch
from torch import Tensor

from risctl.model.slots import (
    LOG_POWER_LIMIT,
    NUM_CHANNELS,
    OFFSET_LIMIT,
    OFFSET_Y,
    OFFSET_Z,
    POWER,
    PRESENCE,
    RANGE,
    RANGE_STD,
    cell_centres,
    cell_size,
    curvature,
    decode,
)
from risctl.physics import FieldOfView
from risctl.physics.polar import clamp_to_view, polar_limits

ROWS, COLUMNS = 16, 32


def _empty(batch: int = 1, rows: int = ROWS, columns: int = COLUMNS) -> Tensor:
    maps = torch.zeros(batch, NUM_CHANNELS, rows, columns)
    maps[:, PRESENCE] = -6.0
    return maps


def _raw_offset(cells: float) -> float:
    return OFFSET_LIMIT * math.atanh(cells / OFFSET_LIMIT)


def _raw_range(metres: float, view: FieldOfView) -> float:
    share = math.log(view.range_max / metres) / math.log(view.range_max / view.range_min)
    return math.log(share / (1.0 - share))


def test_planted_maxima_are_found_where_they_were_planted(view: FieldOfView) -> None:
    planted = [(3, 5, 0.3, -0.4, 2.0, 3.0), (12, 25, -1.2, 0.1, 7.5, 2.0), (8, 14, 0.0, 0.49, 1.0, 1.0)]
    maps = _empty()
    for row, column, dy, dz, r, logit in planted:
        maps[0, PRESENCE, row - 1 : row + 2, column - 1 : column + 2] = logit - 0.5
        maps[0, PRESENCE, row, column] = logit
        maps[0, OFFSET_Y, row, column], maps[0, OFFSET_Z, row, column] = _raw_offset(dy), _raw_offset(dz)
        maps[0, RANGE, row, column] = _raw_range(r, view)
    slots = decode(maps, 3, view)
    size_y, size_z = cell_size((ROWS, COLUMNS), view)
    for k, (row, column, dy, dz, r, logit) in enumerate(planted):
        u_y = (column + 0.5 + dy) * size_y - math.sin(view.azimuth)
        u_z = (row + 0.5 + dz) * size_z - math.sin(view.elevation)
        expected = torch.tensor([u_y, u_z, 1.0 / r])
        torch.testing.assert_close(slots.points[0, k], expected, rtol=1e-5, atol=1e-5)
        assert slots.presence[0, k] == logit


def test_a_maximum_beats_a_higher_slope_beside_another(view: FieldOfView) -> None:
    maps = _empty()
    maps[0, PRESENCE, 4, 4:8] = torch.tensor([5.0, 4.5, 4.0, 3.5])
    maps[0, PRESENCE, 10, 20] = -1.0
    assert decode(maps, 2, view).presence[0].tolist() == [5.0, -1.0]


def test_fewer_maxima_than_slots_are_filled_up(view: FieldOfView) -> None:
    maps = _empty(rows=2, columns=4)
    maps[0, PRESENCE] = torch.arange(8.0).view(2, 4)
    slots = decode(maps, 8, view)
    assert sorted(slots.presence[0].tolist()) == list(range(8))
    assert slots.presence[0, 0] == 7.0


def test_slots_stay_in_the_field_of_view(view: FieldOfView) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = 30.0 * torch.randn(200, NUM_CHANNELS, ROWS, COLUMNS, generator=generator)
    slots = decode(maps, 5, view)
    low, high = polar_limits(slots.points, view)
    assert bool(((slots.points >= low) & (slots.points <= high)).all())
    torch.testing.assert_close(clamp_to_view(slots.points, view), slots.points, rtol=0.0, atol=0.0)
    assert float(slots.log_power.abs().max()) <= LOG_POWER_LIMIT
    assert float(slots.curvature_std.min()) > 0.0


def test_the_range_is_covered_end_to_end(view: FieldOfView) -> None:
    q = curvature(torch.tensor([-30.0, 0.0, 30.0]), view)
    middle = 1.0 / math.sqrt(view.range_min * view.range_max)
    torch.testing.assert_close(q, torch.tensor([1.0 / view.range_max, middle, 1.0 / view.range_min]))


def test_centres_cover_the_field_of_view_evenly(view: FieldOfView) -> None:
    centres = cell_centres(torch.empty(6, 10), view)
    size_y, size_z = cell_size((6, 10), view)
    torch.testing.assert_close(centres[0, :, -1] + size_y / 2, torch.full((6,), math.sin(view.azimuth)))
    torch.testing.assert_close(centres[1, 0] - size_z / 2, torch.full((10,), -math.sin(view.elevation)))
    torch.testing.assert_close(centres[0].flip(1), -centres[0])


def test_everything_but_the_choice_of_cells_is_differentiable(view: FieldOfView) -> None:
    maps = (0.1 * torch.randn(2, NUM_CHANNELS, 4, 8, generator=torch.Generator().manual_seed(0))).double()
    maps[:, PRESENCE, 1, 2], maps[:, PRESENCE, 2, 6] = 3.0, 2.0

    def read(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        slots = decode(x, 2, view)
        return slots.points, slots.log_power, slots.curvature_std

    assert torch.autograd.gradcheck(read, (maps.requires_grad_(),), fast_mode=True)
    points, power, std = read(maps)
    (points.sum() + power.sum() + std.sum()).backward()
    grad = maps.grad
    for channel in (OFFSET_Y, OFFSET_Z, RANGE, POWER, RANGE_STD):
        assert bool((grad[:, channel, 1, 2] != 0).all())
        assert int((grad[:, channel] != 0).sum()) == 4
    assert not grad[:, PRESENCE].any()

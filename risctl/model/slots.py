"""Decoding cell maps into K_max slots: the strongest local maxima of the presence, with sub-cell positions.

Cells are those of the lattice: rows ascend in ``u_z``, columns in ``u_y``, both over the whole field of view.
The choice of the cells is not differentiable; their offsets, range, power and range uncertainty are.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from risctl.physics.geometry import FieldOfView
from risctl.physics.polar import clamp_to_view

# Channels of the cell maps.
PRESENCE, OFFSET_Y, OFFSET_Z, RANGE, POWER, RANGE_STD = range(6)
NUM_CHANNELS = 6
OFFSET_LIMIT = 1.5  # cells; the neighbours of a source's cell predict its offset too
LOG_POWER_LIMIT = 3.0  # nepers about the scene's mean
LOG_STD_LIMITS = (-5.0, 1.0)
NOT_A_PEAK = 100.0  # subtracted from the logit of a cell that has a higher neighbour


@dataclass(frozen=True)
class Slots:
    """K slots of B scenes, the most likely first.

    Attributes:
        points: ``(u_y, u_z, 1/r)`` in the field of view [B, K, 3].
        presence: logit of the presence of a source [B, K].
        log_power: log-power up to a constant per scene [B, K].
        curvature_std: standard deviation of ``1/r`` [B, K], 1/metres.
    """

    points: Tensor
    presence: Tensor
    log_power: Tensor
    curvature_std: Tensor


def cell_size(shape: tuple[int, int], view: FieldOfView) -> tuple[float, float]:
    """Extent of a cell in ``u_y`` and ``u_z`` for maps of (rows, columns)."""
    return 2.0 * math.sin(view.azimuth) / shape[1], 2.0 * math.sin(view.elevation) / shape[0]


def cell_centres(like: Tensor, view: FieldOfView) -> Tensor:
    """``(u_y, u_z)`` [2, rows, columns] of the cells of maps [..., rows, columns]."""
    rows, columns = like.shape[-2:]
    size_y, size_z = cell_size((rows, columns), view)
    y = (torch.arange(columns, device=like.device) + (0.5 - columns / 2)) * size_y
    z = (torch.arange(rows, device=like.device) + (0.5 - rows / 2)) * size_z
    return torch.stack([y.expand(rows, -1), z.unsqueeze(1).expand(-1, columns)])


def peak_logits(presence: Tensor) -> Tensor:
    """Presence logits [B, rows, columns], lowered outside the local maxima, flat [B, cells]."""
    panel = presence.unsqueeze(1)
    peak = max_pool2d(panel, 3, stride=1, padding=1) == panel
    return torch.where(peak, panel, panel - NOT_A_PEAK).flatten(1)


def decode(maps: Tensor, count: int, view: FieldOfView) -> Slots:
    """The `count` strongest local maxima of the presence; filled up with other cells where there are fewer.

    Args:
        maps: raw cell maps [B, 6, rows, columns], in float32.
        count: K, at most rows * columns.
        view: field of view the lattice covers and the slots stay in.
    """
    with torch.no_grad():
        index = peak_logits(maps[:, PRESENCE]).topk(count, dim=1).indices
    at = maps.flatten(2).gather(2, index.unsqueeze(1).expand(-1, maps.shape[1], -1))
    centre = cell_centres(maps, view).flatten(1)[:, index].movedim(0, -1)
    size = centre.new_tensor(cell_size((maps.shape[-2], maps.shape[-1]), view))
    direction = centre + offsets(at).movedim(1, -1) * size
    points = torch.cat([direction, curvature(at[:, RANGE], view).unsqueeze(-1)], dim=-1)
    return Slots(
        points=clamp_to_view(points, view),
        presence=at[:, PRESENCE],
        log_power=log_power(at[:, POWER]),
        curvature_std=log_curvature_std(at[:, RANGE_STD]).exp(),
    )


def offsets(maps: Tensor) -> Tensor:
    """Offsets from the cell's centre in ``u_y`` and ``u_z``, in cells [B, 2, ...]."""
    return OFFSET_LIMIT * torch.tanh(maps[:, OFFSET_Y : OFFSET_Z + 1] / OFFSET_LIMIT)


def curvature(x: Tensor, view: FieldOfView) -> Tensor:
    """``1/r`` between the range limits from an unbounded number, uniform in ``log r``."""
    return torch.exp(torch.sigmoid(x) * math.log(view.range_max / view.range_min)) / view.range_max


def log_power(x: Tensor) -> Tensor:
    """Log-power from an unbounded number."""
    return LOG_POWER_LIMIT * torch.tanh(x / LOG_POWER_LIMIT)


def log_curvature_std(x: Tensor) -> Tensor:
    """Logarithm of the standard deviation of ``1/r`` from an unbounded number."""
    low, high = LOG_STD_LIMITS
    return low + (high - low) * torch.sigmoid(x)

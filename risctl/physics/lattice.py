"""Local maxima of a function on the polar lattice.

The grid keeps its points image by image (:data:`risctl.physics.grid.PARITIES`), so that points side by side
in space may be far apart in the index. A permutation made once lays them out as the box (u_y, u_z, q), each
axis ascending, where neighbours are neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool3d

from risctl.physics.grid import PARITIES, PolarGrid


@dataclass(frozen=True)
class Lattice:
    """The points of a polar grid as a box.

    Attributes:
        order: grid index of every point of the box, int64 [2Y, 2Z, Q].
        points: ``(u_y, u_z, q)`` [G, 3] in the order of the flattened box.
        inside: which of them lie in the field of view, bool [G].
    """

    order: Tensor
    points: Tensor
    inside: Tensor

    @classmethod
    def build(cls, grid: PolarGrid) -> Lattice:
        """The box of `grid`."""
        order = box_order(grid.shape).to(grid.points.device)
        return cls(order, grid.points[order.flatten()], grid.inside[order.flatten()])

    def strongest_maxima(self, values: Tensor, count: int) -> Tensor:
        """The points [B, count, 3] of the largest local maxima, largest first.

        A local maximum is not below any of its 26 neighbours in the field of view. Where there are fewer than
        `count`, the highest other points in the field of view follow.

        Args:
            values: of the grid's points in the grid's order, in 0..1, [B, G].
            count: how many; at most G.
        """
        box = values[:, self.order.flatten()].masked_fill(~self.inside, -torch.inf)
        panel = box.view(-1, 1, *self.order.shape)
        peak = (max_pool3d(panel, kernel_size=3, stride=1, padding=1) == panel).flatten(1)
        rank = torch.where(peak, box, box - 2.0)
        return self.points[rank.topk(count, dim=1).indices]


def box_order(shape: tuple[int, int, int]) -> Tensor:
    """Grid index of every point of the box, int64 [2Y, 2Z, Q], for a quadrant of `shape` (Y, Z, Q)."""
    Y, Z, Q = shape
    image = torch.arange(4 * Y * Z * Q).view(4, Y, Z, Q)
    order = torch.empty(2 * Y, 2 * Z, Q, dtype=torch.int64)
    for part, (sign_y, sign_z) in zip(image, PARITIES, strict=True):
        rows, columns = _half(Y, sign_y), _half(Z, sign_z)
        order[rows, columns] = part.flip([axis for axis, s in enumerate((sign_y, sign_z)) if s < 0])
    return order


def _half(count: int, sign: int) -> slice:
    """The upper half of an axis of 2 `count` points, or the lower."""
    return slice(count, None) if sign > 0 else slice(0, count)

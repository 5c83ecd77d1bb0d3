"""A polar-domain grid of steering vectors that uses the mirror symmetry of the panel.

Points lie on a lattice in ``(u_y, u_z, q)``: the direction cosines along the panel's sides and the curvature
``q = 1/r``. There the beam of a uniform array has the same width everywhere, so few points cover the field of
view (the polar-domain sampling of Cui and Dai, IEEE Trans. Commun. 70(4), 2022, for a planar array).

The panel is symmetric in y and in z and so is the lattice. In an orthonormal basis of vectors even or odd in
each coordinate (four parities of about N/4 entries) the steering vector of a mirrored point differs from the
original only by the sign of the odd parts. Products ``X^H a`` with all four mirror images therefore cost one
product with a quarter of the entries per image and four additions: a quarter of the arithmetic, exactly,
whatever the wavefront model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import max_pool3d

from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.polar import polar_steering

CACHE_FLOATS = 32768  # floats of one intermediate product; a handful of them share a second-level cache
PARITIES = ((1, 1), (-1, 1), (1, -1), (-1, -1))  # sign of the even/odd part in (y, z)


@dataclass(frozen=True)
class PolarGrid:
    """Steering vectors of G = 4 G' lattice points, stored as the four parities of one quadrant.

    The grid index runs over image (y, z signs in the order of `PARITIES`), then the points of the quadrant.

    Attributes:
        points: ``(u_y, u_z, q)`` [G, 3].
        inside: which points lie in the field of view, bool [G].
        parts: parity parts of the quadrant's steering vectors, four complex [N_p, G']; N_p sums to N.
        real_parts: the same as real parts above imaginary parts, four real [2 N_p, G'].
        columns, rows: panel size, for the parity transform of other vectors.
        order: grid index of every point of the box (u_y, u_z, q), each axis ascending, int64 [2Y, 2Z, Q].
    """

    points: Tensor
    inside: Tensor
    parts: tuple[Tensor, ...]
    real_parts: tuple[Tensor, ...]
    columns: int
    rows: int
    order: Tensor

    @classmethod
    def build(
        cls, geometry: ArrayGeometry, view: FieldOfView, oversampling: float = 2.0, num_ranges: int = 8
    ) -> PolarGrid:
        """Lattice over a field of view with a spacing given in beam widths.

        Args:
            geometry: nominal geometry (symmetric panel [N, 3]).
            view: field of view to cover.
            oversampling: lattice points per beam width ``wavelength / side`` in each direction cosine.
            num_ranges: rings in ``1/r`` between the range limits.
        """
        counts = []
        for axis, limit in ((1, view.azimuth), (2, view.elevation)):
            values = torch.unique(geometry.positions[:, axis])
            extent = float(values[-1] - values[0])
            side = extent * len(values) / max(len(values) - 1, 1)  # a whole element at either end
            counts.append(max(1, math.ceil(math.sin(limit) * side / geometry.wavelength * oversampling)))
        return cls.build_sized(geometry, view, 2 * counts[0], 2 * counts[1], num_ranges)

    @classmethod
    def build_sized(
        cls, geometry: ArrayGeometry, view: FieldOfView, columns: int, rows: int, num_ranges: int
    ) -> PolarGrid:
        """Lattice of ``columns x rows x num_ranges`` points in (u_y, u_z, q).

        Raises:
            ValueError: if `columns` or `rows` is odd; the lattice has no points on the panel's axes.
        """
        if columns % 2 or rows % 2:
            raise ValueError(f"expected even numbers of columns and rows, got {columns} and {rows}")
        shape = Y, Z, Q = columns // 2, rows // 2, num_ranges
        unit = [(torch.arange(count).to(geometry.positions) + 0.5) / count for count in shape]
        far, near = 1.0 / view.range_max, 1.0 / view.range_min
        u_y, u_z = unit[0] * math.sin(view.azimuth), unit[1] * math.sin(view.elevation)
        mesh = torch.meshgrid(u_y, u_z, far + unit[2] * (near - far), indexing="ij")
        quadrant = torch.stack([m.flatten() for m in mesh], dim=-1)  # cell centres, u_y and u_z > 0
        parts = parity_parts(polar_steering(quadrant, geometry), geometry.columns, geometry.rows)
        points = torch.cat([quadrant * quadrant.new_tensor([sy, sz, 1.0]) for sy, sz in PARITIES])
        limit = (1.0 - points[:, 1].square()).sqrt() * math.sin(view.azimuth)
        inside = points[:, 0].abs() <= limit * (1.0 + 1e-6)
        pp, mp, pm, mm = torch.arange(len(points), device=points.device).view(4, Y, Z, Q)
        lower, upper = torch.cat([mm.flip(0, 1), mp.flip(0)], dim=1), torch.cat([pm.flip(1), pp], dim=1)
        return cls(
            points=points,
            inside=inside,
            parts=tuple(p.mT.contiguous() for p in parts),
            real_parts=tuple(torch.cat([p.real, p.imag], dim=-1).mT.contiguous() for p in parts),
            columns=geometry.columns,
            rows=geometry.rows,
            order=torch.cat([lower, upper]),
        )

    @property
    def num_points(self) -> int:
        """Number of points G."""
        return int(self.points.shape[0])

    def steering(self) -> Tensor:
        """All steering vectors, dense, complex [N, G]; for small jobs and tests."""
        eye = torch.eye(self.columns * self.rows, dtype=self.parts[0].dtype, device=self.points.device)
        return self.correlate(eye)

    def correlate(self, X: Tensor) -> Tensor:
        """``X^H a_g`` for every grid point: X complex [..., J, N] (rows are vectors) -> [..., J, G]."""
        products = [
            x.conj() @ a for x, a in zip(parity_parts(X, self.columns, self.rows), self.parts, strict=True)
        ]
        return torch.cat(list(mirror_images(*products)), dim=-1)

    def energy(self, X: Tensor) -> Tensor:
        """``sum_j |x_j^H a_g|^2``: X complex [..., J, N] -> real [..., G]."""
        lead, J = X.shape[:-2], X.shape[-2]
        parts = parity_parts(X.reshape(-1, J, X.shape[-1]), self.columns, self.rows)
        rows = [real_rows(x) for x in parts]
        quadrant = self.parts[0].shape[-1]
        out = torch.empty(rows[0].shape[0], 4, quadrant, dtype=rows[0].dtype, device=X.device)
        block = max(64, CACHE_FLOATS // rows[0].shape[:2].numel())
        for start in range(0, quadrant, block):
            columns = slice(start, start + block)
            products = [x @ a[:, columns] for x, a in zip(rows, self.real_parts, strict=True)]
            for image, z in enumerate(mirror_images(*products)):
                torch.sum(z.mul_(z), dim=-2, out=out[:, image, columns])
        return out.reshape(*lead, 4 * quadrant)

    def strongest_maxima(self, values: Tensor, count: int) -> Tensor:
        """The points [B, count, 3] of the largest local maxima, largest first.

        A local maximum is not below any of its 26 neighbours in the field of view. Where there are fewer than
        `count`, the highest other points in the field of view follow.

        Args:
            values: of the grid's points, in 0..1, [B, G].
            count: how many; at most G.
        """
        order = self.order.flatten()
        box = values[:, order].masked_fill(~self.inside[order], -torch.inf)
        panel = box.view(-1, 1, *self.order.shape)
        peak = (max_pool3d(panel, kernel_size=3, stride=1, padding=1) == panel).flatten(1)
        rank = torch.where(peak, box, box - 2.0)
        return self.points[order[rank.topk(count, dim=1).indices]]


def real_rows(x: Tensor) -> Tensor:
    """Rows [..., 2J, 2n] whose products with ``[Re a; Im a]`` are Re and Im of ``x^H a``; x [..., J, n]."""
    return torch.cat([torch.cat([x.real, x.imag], dim=-1), torch.cat([-x.imag, x.real], dim=-1)], dim=-2)


def mirror_images(ee: Tensor, oe: Tensor, eo: Tensor, oo: Tensor) -> Iterator[Tensor]:
    """Sums of the parity products for the four mirror images, in the order of `PARITIES`."""
    even, odd = ee + eo, oe + oo
    yield even + odd
    yield even - odd
    even, odd = ee - eo, oe - oo
    yield even + odd
    yield even - odd


def parity_parts(X: Tensor, columns: int, rows: int) -> tuple[Tensor, ...]:
    """Orthonormal parts of vectors [..., N], even or odd in (y, z), in the order of `PARITIES`."""
    panel = X.reshape(*X.shape[:-1], rows, columns)
    even_y, odd_y = _fold(panel)
    (ee, eo), (oe, oo) = _fold(even_y.mT), _fold(odd_y.mT)
    return ee.flatten(-2), oe.flatten(-2), eo.flatten(-2), oo.flatten(-2)


def _fold(x: Tensor) -> tuple[Tensor, Tensor]:
    """Even and odd parts along the last axis; the middle entry of an odd length belongs to the even part."""
    n = x.shape[-1]
    half = n // 2
    low, high = x[..., :half], x[..., n - half :].flip(-1)
    even, odd = (low + high) * math.sqrt(0.5), (high - low) * math.sqrt(0.5)
    return (torch.cat([even, x[..., half : half + 1]], dim=-1) if n % 2 else even), odd

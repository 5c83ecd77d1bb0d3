"""A polar-domain grid of steering vectors that uses the mirror symmetry of the array where it has one.

Points lie on a lattice in ``(u_y, u_z, q)``: the direction cosines along y and z and the curvature
``q = 1/r``. There the beam of a uniform array has the same width everywhere, so few points cover the field of
view (the polar-domain sampling of Cui and Dai, IEEE Trans. Commun. 70(4), 2022, for a planar array).

A panel is symmetric in y and in z and so is the lattice. In an orthonormal basis of vectors even or odd in
each coordinate (four parities of about N/4 entries) the steering vector of a mirrored point differs from the
original only by the sign of the odd parts. Products ``X^H a`` with all four mirror images therefore cost one
product with a quarter of the entries per image and four additions: a quarter of the arithmetic, exactly,
whatever the wavefront model. With one symmetry it is a half, with none the plain product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.mirror import TOLERANCE, Mirror, panel_size
from risctl.physics.polar import polar_steering
from risctl.physics.products import real_product

CACHE_FLOATS = 32768  # floats of one intermediate product; a handful of them share a second-level cache
MAX_RINGS = 32  # of those added for a large aperture: memory grows with them
SIDE_LOBES = 1.5  # finer lattice of lines and irregular arrays, whose side lobes rival a peak between points
RING_PHASE = 5.0  # radians that the curvature's phase may change from ring to ring at the outermost element


@dataclass(frozen=True)
class PolarGrid:
    """Steering vectors of G = I G' lattice points, stored as the parts of the one of I mirror images.

    The grid index runs over the image (in the order of `mirror.signs`), then over the points of the first.

    Attributes:
        points: ``(u_y, u_z, q)`` [G, 3].
        inside: which points lie in the field of view, bool [G].
        parts: parts of the first image's steering vectors, I complex [N_p, G']; N_p sums to N.
        real_parts: the same as real parts above imaginary parts, I real [2 N_p, G'].
        mirror: symmetries of array and lattice.
        order: grid index of every point of the box (u_y, u_z, q), each axis ascending, int64 [Y, Z, Q].
        steps: spacing of the lattice in (u_y, u_z, q) [3]; infinite in what is known.
    """

    points: Tensor
    inside: Tensor
    parts: tuple[Tensor, ...]
    real_parts: tuple[Tensor, ...]
    mirror: Mirror
    order: Tensor
    steps: Tensor

    @classmethod
    def build(
        cls, geometry: ArrayGeometry, view: FieldOfView, oversampling: float = 2.0, num_ranges: int = 8
    ) -> PolarGrid:
        """Lattice over a field of view with a spacing given in beam widths.

        Args:
            geometry: nominal geometry, one set of positions [N, 3].
            view: field of view to cover; a coordinate that is known has one point.
            oversampling: lattice points per beam width ``wavelength / side`` in each direction cosine.
            num_ranges: least number of rings in ``1/r`` between the range limits; an aperture that resolves
                more gets more.
        """
        counts = []
        size = panel_size(geometry.positions.double(), TOLERANCE * geometry.wavelength)
        regular = size is not None and min(size) > 1
        oversampling *= 1.0 if regular else SIDE_LOBES
        for axis, limit in ((1, view.azimuth), (2, view.elevation)):
            values = torch.unique(geometry.positions[:, axis])
            extent = float(values[-1] - values[0])
            side = extent * len(values) / max(len(values) - 1, 1)  # a whole element at either end
            if not regular:  # a ring, whose elements are all far out, has a narrower beam than a panel
                side = max(side, math.sqrt(12.0) * float(geometry.positions[:, axis].std(correction=0)))
            counts.append(max(1, math.ceil(math.sin(limit) * side / geometry.wavelength * oversampling)))
        bend = geometry.wavenumber * float(geometry.squared_radius.amax()) / 2.0
        rings = math.ceil(bend * (1.0 / view.range_min - 1.0 / view.range_max) / RING_PHASE)
        rings = num_ranges if geometry.wavefront == "planar" else max(num_ranges, min(rings, MAX_RINGS))
        return cls.build_sized(geometry, view, 2 * counts[0], 2 * counts[1], rings)

    @classmethod
    def build_sized(
        cls, geometry: ArrayGeometry, view: FieldOfView, columns: int, rows: int, num_ranges: int
    ) -> PolarGrid:
        """Lattice of ``columns x rows x num_ranges`` points in (u_y, u_z, q); one point in what is known.

        Raises:
            ValueError: if `columns` or `rows` is odd; the lattice has no points on the axes.
        """
        if columns % 2 or rows % 2:
            raise ValueError(f"expected even numbers of columns and rows, got {columns} and {rows}")
        like, known_z = geometry.positions, view.known_elevation is not None
        mirror = Mirror.detect(like, geometry.wavelength, in_z=not known_z)
        u_y, step_y = _cosines(like, columns, math.sin(view.azimuth), mirror.in_y)
        u_z, step_z = _cosines(like, rows, math.sin(view.elevation), mirror.in_z)
        if view.known_elevation is not None:
            u_z, step_z = like.new_tensor([math.sin(view.known_elevation)]), math.inf
        q, step_q = _curvatures(like, num_ranges, view)
        mesh = torch.meshgrid(u_y, u_z, q, indexing="ij")
        first = torch.stack([m.flatten() for m in mesh], dim=-1)  # cell centres; u > 0 where it is mirrored
        parts = mirror.parts(polar_steering(first, geometry))
        points = torch.cat([first * first.new_tensor([sy, sz, 1.0]) for sy, sz in mirror.signs])
        limit = (1.0 - points[:, 1].square()).sqrt() * math.sin(view.azimuth)
        return cls(
            points=points,
            inside=points[:, 0].abs() <= limit * (1.0 + 1e-6),
            parts=tuple(p.mT.contiguous() for p in parts),
            real_parts=tuple(torch.cat([p.real, p.imag], dim=-1).mT.contiguous() for p in parts),
            mirror=mirror,
            order=_box_order(mirror, mesh[0].shape, like.device),
            steps=like.new_tensor([step_y, step_z, step_q]),
        )

    @property
    def num_points(self) -> int:
        """Number of points G."""
        return int(self.points.shape[0])

    def steering(self) -> Tensor:
        """All steering vectors, dense, complex [N, G]; for small jobs and tests."""
        N = sum(len(part) for part in self.parts)
        eye = torch.eye(N, dtype=self.parts[0].dtype, device=self.points.device)
        return self.correlate(eye)

    def correlate(self, X: Tensor) -> Tensor:
        """``X^H a_g`` for every grid point: X complex [..., J, N] (rows are vectors) -> [..., J, G]."""
        parities = self.mirror.parts(X)
        products = [x.conj() @ a for x, a in zip(parities, self.parts, strict=True)]
        return torch.cat(list(self.mirror.images(products)), dim=-1)

    def energy(self, X: Tensor) -> Tensor:
        """``sum_j |x_j^H a_g|^2``: X complex [..., J, N] -> real [..., G]."""
        lead, J = X.shape[:-2], X.shape[-2]
        parities = self.mirror.parts(X.reshape(-1, J, X.shape[-1]))
        rows = [real_rows(x) for x in parities]
        images, cells = len(self.parts), self.parts[0].shape[-1]
        out = torch.empty(rows[0].shape[0], images, cells, dtype=rows[0].dtype, device=X.device)
        block = max(64, CACHE_FLOATS // rows[0].shape[:2].numel())
        for start in range(0, cells, block):
            columns = slice(start, start + block)
            products = [real_product(x, a[:, columns]) for x, a in zip(rows, self.real_parts, strict=True)]
            for image, z in enumerate(self.mirror.images(products)):
                torch.sum(z.mul_(z), dim=-2, out=out[:, image, columns])
        return out.reshape(*lead, images * cells)

    def strongest_maxima(self, values: Tensor, count: int) -> Tensor:
        """The points [B, count, 3] of the largest local maxima, largest first.

        A local maximum is not below any of its 26 neighbours in the field of view. Where there are fewer than
        `count`, the highest other points in the field of view follow.

        Args:
            values: of the grid's points, in 0..1, [B, G].
            count: how many; at most G.
        """
        return self.points[self.order.flatten()[self._maxima(values, count)]]

    def interpolated_maxima(self, values: Tensor, count: int) -> Tensor:
        """The same, each moved by up to half a step to where its neighbours on either side place the maximum.

        Along each axis a parabola goes through the square roots of three values, the beam's amplitudes: a
        source between the points of a coarse lattice is seen at down to half of its energy.

        Args:
            values: of the grid's points, not negative, in any unit [B, G].
            count: how many; at most G.
        """
        values = values / values.amax(1, keepdim=True).clamp_min(torch.finfo(values.dtype).tiny)
        index, order, sizes = self._maxima(values, count), self.order.flatten(), self.order.shape
        strides = sizes[1] * sizes[2], sizes[2], 1

        def amplitude(place: Tensor) -> Tensor:
            return values.gather(1, order[place.clamp(0, len(order) - 1)]).clamp_min(0.0).sqrt()

        middle, offsets = amplitude(index), []
        for size, stride in zip(sizes, strides, strict=True):
            place, low, high = index // stride % size, amplitude(index - stride), amplitude(index + stride)
            bend = (2.0 * middle - low - high).clamp_min(torch.finfo(middle.dtype).tiny)
            offset = (0.5 * (high - low) / bend).clamp(-0.5, 0.5)
            offsets.append(torch.where((place > 0) & (place < size - 1), offset, torch.zeros_like(offset)))
        steps = self.steps.nan_to_num(posinf=0.0)
        return self.points[order[index]] + torch.stack(offsets, dim=-1) * steps

    def _maxima(self, values: Tensor, count: int) -> Tensor:
        """Places in the box [B, count] of the largest local maxima."""
        order = self.order.flatten()
        box = values[:, order].masked_fill(~self.inside[order], -torch.inf)
        panel = box.view(-1, *self.order.shape)
        peak = (largest_around(panel) == panel).flatten(1)
        rank = torch.where(peak, box, box - 2.0)
        return rank.topk(count, dim=1).indices


def largest_around(x: Tensor) -> Tensor:
    """The largest of every value and its 26 neighbours in the last three axes of x [..., Y, Z, Q].

    One axis after the other, 20 times as fast as torch's pooling on a processor.
    """
    for axis in (-3, -2, -1):
        n = x.shape[axis]
        if n > 1:
            pairs = torch.maximum(x.narrow(axis, 0, n - 1), x.narrow(axis, 1, n - 1))
            inner = torch.maximum(pairs.narrow(axis, 0, n - 2), pairs.narrow(axis, 1, n - 2))
            x = torch.cat([pairs.narrow(axis, 0, 1), inner, pairs.narrow(axis, n - 2, 1)], dim=axis)
    return x


def real_rows(x: Tensor) -> Tensor:
    """Rows [..., 2J, 2n] whose products with ``[Re a; Im a]`` are Re and Im of ``x^H a``; x [..., J, n]."""
    return torch.cat([torch.cat([x.real, x.imag], dim=-1), torch.cat([-x.imag, x.real], dim=-1)], dim=-2)


def _cosines(like: Tensor, count: int, limit: float, mirrored: bool) -> tuple[Tensor, float]:
    """Cell centres of a direction cosine within +-limit (positive ones if `mirrored`), and their step."""
    half = count // 2
    unit = (torch.arange(half).to(like) + 0.5) / half * limit
    return unit if mirrored else torch.cat([-unit.flip(0), unit]), limit / half


def _curvatures(like: Tensor, count: int, view: FieldOfView) -> tuple[Tensor, float]:
    """Cell centres of the curvature between the range limits, or the known one; and their step."""
    if view.known_range is not None:
        return like.new_tensor([1.0 / view.known_range]), math.inf
    far, near = 1.0 / view.range_max, 1.0 / view.range_min
    return far + (torch.arange(count).to(like) + 0.5) / count * (near - far), (near - far) / count


def _box_order(mirror: Mirror, shape: torch.Size, device: torch.device) -> Tensor:
    """Grid index of every point of the whole box, each axis ascending: images mirrored to their sides."""
    images = torch.arange(len(mirror.signs) * shape.numel(), device=device).view(-1, *shape)
    by_sign = dict(zip(mirror.signs, images, strict=True))
    rows = []
    for sz in (-1, 1) if mirror.in_z else (1,):
        sides = [by_sign[sy, sz] for sy in ((-1, 1) if mirror.in_y else (1,))]
        row = torch.cat([sides[0].flip(0), sides[1]]) if mirror.in_y else sides[0]
        rows.append(row.flip(1) if sz < 0 else row)
    return torch.cat(rows, dim=1)

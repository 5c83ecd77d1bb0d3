"""Mirror symmetries of an array, and vectors over its elements as even and odd parts.

An array that is its own mirror image in y has steering vectors that differ between mirrored directions only
by the sign of their odd parts, whatever the wavefront model; likewise in z. The symmetry is found from the
positions, in whatever order the elements are numbered. A panel numbered column by column, row by row, is
folded without an index.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PARITIES = ((1, 1), (-1, 1), (1, -1), (-1, -1))  # sign of the even/odd part in (y, z)
TOLERANCE = 1e-6  # wavelengths by which an element may miss the image of another


@dataclass(frozen=True)
class Fold:
    """Pairs of entries that a mirror exchanges, `low` with `high` [P], and those that it keeps, `middle`."""

    low: Tensor
    high: Tensor
    middle: Tensor

    @classmethod
    def of(cls, image: Tensor, side: Tensor) -> Fold:
        """The fold of a mirror that takes entry n to ``image[n]`` and turns the sign of `side` [n]."""
        index = torch.arange(len(image), device=image.device)
        high = index[(image != index) & (side > side[image])]
        return cls(image[high], high, index[image == index])

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Orthonormal even and odd parts of vectors along the last axis."""
        low, high = x[..., self.low], x[..., self.high]
        even = torch.cat([(low + high) * math.sqrt(0.5), x[..., self.middle]], dim=-1)
        return even, (high - low) * math.sqrt(0.5)

    @property
    def even(self) -> Tensor:
        """The entry that stands for each entry of the even part: one of every pair, then the middle ones."""
        return torch.cat([self.high, self.middle])


@dataclass(frozen=True)
class Mirror:
    """The mirror symmetries of an array.

    Attributes:
        in_y, in_z: whether it is its own mirror image.
        panel: columns and rows of a panel numbered row by row; None: `folds` are used.
        folds: of the elements in the first symmetric coordinate; with both symmetries also of its even and of
            its odd part in z.
    """

    in_y: bool
    in_z: bool
    panel: tuple[int, int] | None = None
    folds: tuple[Fold, ...] = ()

    @classmethod
    def detect(cls, positions: Tensor, wavelength: float, in_z: bool = True) -> Mirror:
        """The symmetries of elements at `positions` [N, 3]; that in z if it is asked for."""
        P, tolerance = positions.double(), TOLERANCE * wavelength
        size = panel_size(P, tolerance)
        if size is not None and in_z:
            return cls(True, True, size)
        y = mirror_image(P, 1, tolerance)
        z = mirror_image(P, 2, tolerance) if in_z else None
        if y is None:
            return cls(False, z is not None, None, () if z is None else (Fold.of(z, P[:, 2]),))
        first = Fold.of(y, P[:, 1])
        if z is None:
            return cls(True, False, None, (first,))
        return cls(True, True, None, (first, *(_refold(z, kept, P) for kept in (first.even, first.high))))

    @property
    def signs(self) -> tuple[tuple[int, int], ...]:
        """Signs of (u_y, u_z) of the mirror images of a direction, itself first."""
        return tuple(s for s in PARITIES if (self.in_y or s[0] > 0) and (self.in_z or s[1] > 0))

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """Orthonormal parts of vectors [..., N], even or odd in y and z, in the order of `signs`."""
        if self.panel is not None:
            return parity_parts(x, *self.panel)
        if not self.folds:
            return (x,)
        if len(self.folds) == 1:
            return self.folds[0].split(x)
        even, odd = self.folds[0].split(x)
        (ee, eo), (oe, oo) = self.folds[1].split(even), self.folds[2].split(odd)
        return ee, oe, eo, oo

    def images(self, products: Sequence[Tensor]) -> Iterator[Tensor]:
        """Sums of the parts' products for every mirror image, in the order of `signs`."""
        if len(products) == 4:
            yield from mirror_images(*products)
        elif len(products) == 2:
            even, odd = products
            yield even + odd
            yield even - odd
        else:
            yield from products


def _refold(image: Tensor, kept: Tensor, positions: Tensor) -> Fold:
    """The fold in z of a part whose entries stand for the elements `kept`; the mirror in z keeps y."""
    entry = torch.full_like(image, -1)
    entry[kept] = torch.arange(len(kept), device=image.device)
    return Fold.of(entry[image[kept]], positions[kept, 2])


def panel_size(positions: Tensor, tolerance: float) -> tuple[int, int] | None:
    """Columns and rows of a mirror-symmetric panel numbered row by row; None for any other array."""
    N = len(positions)
    changed = ((positions[:, 2] - positions[0, 2]).abs() > tolerance).nonzero()
    columns = int(changed[0]) if len(changed) else N
    if N % columns:
        return None
    panel = positions.view(N // columns, columns, 3)
    in_y, in_z = panel.new_tensor([1.0, -1.0, 1.0]), panel.new_tensor([1.0, 1.0, -1.0])
    miss = torch.stack([panel.flip(1) * in_y - panel, panel.flip(0) * in_z - panel])
    return (columns, N // columns) if bool((miss.abs() < tolerance).all()) else None


def mirror_image(positions: Tensor, axis: int, tolerance: float) -> Tensor | None:
    """Index [N] of the element at the mirror image of each in `axis`; None where one has no other there."""
    mirrored = positions.clone()
    mirrored[:, axis].neg_()
    distance, image = torch.cdist(mirrored, positions, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
    index = torch.arange(len(image), device=image.device)
    return image if bool((distance < tolerance).all()) and torch.equal(image[image], index) else None


def mirror_images(ee: Tensor, oe: Tensor, eo: Tensor, oo: Tensor) -> Iterator[Tensor]:
    """Sums of the parity products for the four mirror images, in the order of `PARITIES`."""
    even, odd = ee + eo, oe + oo
    yield even + odd
    yield even - odd
    even, odd = ee - eo, oe - oo
    yield even + odd
    yield even - odd


def parity_parts(X: Tensor, columns: int, rows: int) -> tuple[Tensor, ...]:
    """Parts of vectors [..., N] over a panel, even or odd in (y, z), in the order of `PARITIES`."""
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

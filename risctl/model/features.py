"""Input features of the network: energy maps of ridge back-projections on a polar lattice.

With the ridge's whitening ``W = (Phi_l Phi_l^H + alpha I)^-1`` and ``b_l = Phi_l a_g`` the likelihood ratio
of a source of random symbols at g against none is, to first order, a weighted mean over the snapshots of
``|b_l^H W y_l|^2 / (b_l^H W b_l)``. The numerator is the energy ``|a_g^H a_l|^2`` of the back-projection; the
weight is ``d_l / (d_l + c mean_l d_l)`` with ``d_l = b_l^H W b_l``: snapshots whose code illuminates g weigh
more, and the less so the stronger the source. Of d_l only the part along the channel's strongest receive
direction differs much from snapshot to snapshot; the others are replaced by their mean, so that one more set
of correlations serves all ridges. At -5 dB a single source is the maximum of such a map in 70 % of scenes
(alpha = 50 to 100), of the plain energy map in 57 % at best (alpha = 10).

Sums over snapshots make the maps blind to their order and to a phase of each; means in place of sums, and
logarithms relative to the map's mean, make them blind to scales and comparable for any number of snapshots
and antennas.
"""

import math

import torch
from torch import Tensor, nn

from risctl.covariance.precision import full_precision, require_finite
from risctl.errors import InputError
from risctl.model.ridge import RidgeSolutions, ridge_solutions
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.grid import PolarGrid, real_rows
from risctl.physics.mirror import parity_parts
from risctl.physics.products import real_product

FLOOR = 1e-4  # relative to a map's mean: smaller energies are not distinguished
WEIGHTED_FROM = 5.0  # alpha; with weaker ridges d_l is nearly constant
EVENNESS = 0.5  # the c of the weights, for a source of low to medium SNR
CPU_SCENES, OTHER_SCENES = 4, 64  # per product: more would not fit into a processor's cache


class MapFeatures(nn.Module):
    """Maps [B, channels, rows, columns] and scalars [B, 3 A] of measured scenes; nothing is trained here.

    Rows ascend in ``u_z``, columns in ``u_y``; the range rings (ascending in ``1/r``) of A ridge strengths
    are channels, followed by the lattice coordinates in -1..1. The scalars say how the energy of y is spread
    over strong and weak receive directions, from which the noise can be estimated.

    Args:
        geometry: the panel.
        view: field of view that the lattice covers.
        columns: lattice points along ``u_y``, even.
        rows: lattice points along ``u_z``, even.
        rings: lattice points along ``1/r``.
        alphas: ridge strengths in the units of the covariance pipeline.
    """

    alphas: Tensor
    order: Tensor
    coordinates: Tensor

    def __init__(
        self,
        geometry: ArrayGeometry,
        view: FieldOfView,
        columns: int,
        rows: int,
        rings: int,
        alphas: tuple[float, ...],
    ) -> None:
        super().__init__()
        grid = PolarGrid.build_sized(geometry, view, columns, rows, rings)
        if grid.mirror.panel is None:
            expected = "a rectangular panel, elevation unknown, for a network (NOMP takes any array)"
            raise InputError("configuration", "physics.elements", expected, "another array")
        if view.known_range == math.inf:
            expected = "a finite range for a network (NOMP takes plane waves)"
            raise InputError("configuration", "physics.known_range_m", expected, "inf")
        self.panel, self.size = grid.mirror.panel, (rings, rows, columns)
        self.channels = len(alphas) * rings + 2
        self.num_scalars = 3 * len(alphas)
        alphas = tuple(sorted(alphas))
        self.num_plain = sum(alpha < WEIGHTED_FROM for alpha in alphas)
        order = grid.order.permute(2, 1, 0).flatten()
        self.register_buffer("alphas", torch.tensor(alphas), persistent=False)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("coordinates", _coordinates(rows, columns), persistent=False)
        for i, part in enumerate(grid.real_parts):
            self.register_buffer(f"steering_{i}", part, persistent=False)

    @torch.no_grad()
    def forward(self, y: Tensor, H: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Maps and scalars of y [B, L, M], H [B, M, N] and codes [B, L, N].

        Raises:
            MeasurementError: naming the first scene with a value that is not finite.
        """
        for name, x in (("y", y), ("H", H), ("codes", codes)):
            require_finite(x, name)
        with full_precision(y):
            y, H, codes = (x.to(torch.complex64) for x in (y, H, codes))
            ridges = ridge_solutions(y, H, codes, self.alphas)
            energies = self.energies(ridges)[..., self.order]
            energies = energies.view(*energies.shape[:2], *self.size)
            mean = energies.mean(dim=(-3, -2, -1), keepdim=True)
            maps = (energies / mean + FLOOR).log().flatten(1, 2)
            coordinates = self.coordinates.expand(len(maps), -1, -1, -1)
            return torch.cat([maps, coordinates], dim=1), torch.logit(ridges.shares, eps=1e-4)

    def energies(self, ridges: RidgeSolutions) -> Tensor:
        """Means of ``|a_g^H a_l|^2`` over the snapshots, up to a factor, real [B, A, G] in grid order."""
        B, A, L, _ = ridges.a.shape
        rows = torch.cat([ridges.strongest.unsqueeze(1), ridges.a], dim=1).flatten(1, 2)
        real = [real_rows(x) for x in parity_parts(rows, *self.panel)]
        parts = [self.get_buffer(f"steering_{i}") for i in range(4)]
        out = real[0].new_empty(4, B, A, parts[0].shape[1])
        plain, level = self.num_plain, ridges.level[:, self.num_plain :, None, None]
        chunk = min(B, CPU_SCENES if out.device.type == "cpu" else OTHER_SCENES)
        work = MirrorEnergies(parts, chunk, real[0].shape[1])
        for start in range(0, B, chunk):
            scenes = slice(start, min(start + chunk, B))
            energy = work([x[scenes] for x in real]).view(4, -1, A + 1, L, out.shape[-1])
            lit, energy = energy[:, :, :1], energy[:, :, 1:]  # that of the strongest direction is first
            torch.mean(energy[:, :, :plain], dim=3, out=out[:, scenes, :plain])
            out[:, scenes, plain:] = _weighted_mean(energy[:, :, plain:], lit, level[scenes])
        return out.movedim(0, 2).flatten(2)


class MirrorEnergies:
    """``|x_j^H a_g|^2`` at the four mirror images of a quadrant's points, computed in a workspace of its own.

    Args:
        parts: real steering parts of the quadrant, four [2 N_p, G'].
        scenes: largest number of scenes in a call.
        rows: real rows 2 J of each.
    """

    def __init__(self, parts: list[Tensor], scenes: int, rows: int) -> None:
        self.parts = parts
        self.first = parts[0].new_empty(4, scenes, rows, parts[0].shape[1])
        self.second = torch.empty_like(self.first)

    def __call__(self, rows: list[Tensor]) -> Tensor:
        """Real rows of the parities [B, 2 J, 2 N_p] to energies [4, B, J, G'], valid until the next call."""
        B = rows[0].shape[0]
        first, second = self.first[:, :B], self.second[:, :B]
        ee, oe, eo, oo = (
            real_product(x.flatten(0, 1), a).view(B, -1, a.shape[1])
            for x, a in zip(rows, self.parts, strict=True)
        )
        torch.add(ee, eo, out=second[0])
        torch.add(oe, oo, out=second[1])
        torch.sub(ee, eo, out=second[2])
        torch.sub(oe, oo, out=second[3])
        torch.add(second[::2], second[1::2], out=first[::2])
        torch.sub(second[::2], second[1::2], out=first[1::2])
        real, imaginary = first.mul_(first).chunk(2, dim=2)
        return real.add_(imaginary)


def _weighted_mean(energy: Tensor, lit: Tensor, level: Tensor) -> Tensor:
    """``sum_l |x_l|^2 / (d_l + e)`` over ``sum_l d_l / (d_l + e)``.

    ``d = level + lit``, and e is `EVENNESS` times its mean over the snapshots.

    Args:
        energy: ``|x_l|^2`` [4, B, A, L, G'], overwritten.
        lit: part of d along the strongest receive direction [4, B, 1, L, G'].
        level: mean of the other parts of d [B, A, 1, 1].
    """
    even = EVENNESS * (level + lit.mean(3, keepdim=True))
    weight = (lit + (level + even)).reciprocal_()
    total = energy.shape[3] - even.squeeze(3) * weight.sum(3)
    return energy.mul_(weight).sum(3).div_(total)


def _coordinates(rows: int, columns: int) -> Tensor:
    """``u_y`` and ``u_z`` of every cell over their limits [1, 2, rows, columns]."""
    y, z = ((torch.arange(n) + 0.5) * (2.0 / n) - 1.0 for n in (columns, rows))
    return torch.stack([y.expand(rows, -1), z.unsqueeze(1).expand(-1, columns)]).unsqueeze(0)

"""The noise that errors of the gains make, and measurements in which it is white.

Gains that are off by independent errors of variance v_n add ``Phi_l diag(a_k o dg) x_kl`` for every source to
a snapshot; with varying symbols that is noise, uncorrelated from snapshot to snapshot, of covariance

    ``E_l = Phi_l diag(v_n sum_k p_k |a_kn|^2) Phi_l^H``.

It is not white: a channel of one strong path puts it where the sources are. Taken for white it leaves a
residue there in all snapshots, which one more source explains at any position.
"""

from __future__ import annotations

import torch
from torch import Tensor

from risctl.inference.estimates import Estimates
from risctl.physics.geometry import ArrayGeometry
from risctl.physics.polar import polar_steering, to_polar

LEAST_SHARE = 0.1  # of the fitted noise that is white, however large the errors are


def excess_noise(front: Tensor, variance: Tensor, found: Estimates, geometry: ArrayGeometry) -> Tensor:
    """``E_l`` of B scenes, complex128 [B, 1 or L, M, M].

    Args:
        front: ``Phi`` [B, 1 or L, M, N], or H [B, 1, M, N] before codes of unit modulus.
        variance: of the complex gains [N].
        found: the sources.
    """
    points = to_polar(found.azimuth, found.elevation, found.range).nan_to_num(0.0)
    level = polar_steering(points, geometry).abs().square() * found.power.unsqueeze(-1)
    wide = front.to(torch.complex128)
    return (wide * (variance * level.sum(1))[:, None, None, :]) @ wide.mH


def whitener(excess: Tensor, noise: Tensor) -> Tensor:
    """``(I + E / sigma^2)^-1/2`` [B, 1 or L, M, M] of the `excess` E and the fitted `noise` [B].

    A fit that takes all noise for white finds ``sigma^2 + tr E / M``, of which sigma^2 is what E leaves.
    """
    size = excess.diagonal(dim1=-2, dim2=-1).real.mean((1, 2))
    white = torch.maximum(noise - size, LEAST_SHARE * noise)[:, None, None, None]
    values, vectors = torch.linalg.eigh(excess / white)
    return (vectors * (1.0 + values.clamp_min(0.0)).rsqrt().unsqueeze(-2)) @ vectors.mH

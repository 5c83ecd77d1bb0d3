"""Near-field steering vectors and their exact derivatives.

``a_n = g_n exp(-j k0 (d_n - r)) / |g|`` with ``d_n`` the distance from source to element n and ``g_n = 1``
or ``r / d_n`` with the amplitude taper. With ``u`` the unit direction, ``q = 1/r``, ``w_n = u . p_n`` and
``s_n = d_n / r = sqrt(1 - 2 q w_n + q^2 |p_n|^2)`` the path difference is written without cancellation as

    ``d_n - r = (q |p_n|^2 - 2 w_n) / (1 + s_n)``,

finite down to q = 0 (the plane wave) and accurate in float32. The Fresnel model is its second-order expansion
in the element coordinates, cross term included: ``-w_n + q (|p_n|^2 - w_n^2) / 2``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.physics.geometry import ArrayGeometry, direction, direction_slopes


@dataclass(frozen=True)
class PathDifference:
    """``delta = d - r`` and ``s = d / r`` (exact distance), [..., N], at ``w = u . p`` and ``q = 1/r``."""

    delta: Tensor
    ratio: Tensor
    projection: Tensor
    curvature: Tensor

    def slopes(self, geometry: ArrayGeometry) -> tuple[Tensor, Tensor]:
        """Partial derivatives of delta in w and in q, both [..., N]."""
        w, q, s, P = self.projection, self.curvature, self.ratio, geometry.squared_radius
        if geometry.wavefront == "spherical":
            return -1.0 / s, (P + w * self.delta) / (s * (1.0 + s))
        if geometry.wavefront == "fresnel":
            return -1.0 - q * w, ((P - w.square()) / 2.0).expand_as(w)
        return -torch.ones_like(w), torch.zeros_like(w)


def path_difference(projection: Tensor, curvature: Tensor, geometry: ArrayGeometry) -> PathDifference:
    """Path difference to every element.

    Args:
        projection: ``w_n = u . p_n`` [..., N] in metres.
        curvature: ``q = 1/r`` [...] in 1/metres.
        geometry: wavefront model and element positions.
    """
    w, q = projection, curvature.unsqueeze(-1)
    P = geometry.squared_radius
    bend = q * P - 2.0 * w
    s = torch.addcmul(torch.ones((), dtype=w.dtype, device=w.device), q, bend).clamp_min_(1e-12).sqrt_()
    if geometry.wavefront == "spherical":
        return PathDifference(bend / (1.0 + s), s, w, q)
    if geometry.wavefront == "fresnel":
        return PathDifference(q * (P - w.square()) / 2.0 - w, s, w, q)
    if geometry.wavefront == "planar":
        return PathDifference(-w, s, w, q)
    raise ValueError(f"unknown wavefront {geometry.wavefront!r}")


def steering_vector(azimuth: Tensor, elevation: Tensor, range_: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Unit-norm steering vectors.

    Args:
        azimuth, elevation: radians, [...].
        range_: metres, [...], positive.
        geometry: positions [N, 3], or [B, N, 3] to pair with sources [B, K].

    Returns:
        Complex [..., N] of the precision of `azimuth`.
    """
    return steering_towards(direction(azimuth, elevation), 1.0 / range_, geometry)


def steering_towards(u: Tensor, curvature: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Unit-norm steering vectors [..., N] for directions `u` [..., 3] and curvatures ``1/r`` [...]."""
    return _wave(path_difference(u @ geometry.positions.mT, curvature, geometry), geometry)[0]


def _wave(path: PathDifference, geometry: ArrayGeometry) -> tuple[Tensor, Tensor | float]:
    """Steering vectors, and their moduli ``g / |g|``: a constant, or ``(r/d_n) / |r/d|`` with the taper."""
    phase = path.delta * -geometry.wavenumber
    amplitude: Tensor | float = float(geometry.num_elements) ** -0.5
    if geometry.amplitude_taper:
        g = 1.0 / path.ratio
        amplitude = g / g.square().sum(-1, keepdim=True).sqrt()
    return torch.complex(phase.cos().mul_(amplitude), phase.sin().mul_(amplitude)), amplitude


def steering_jet(
    u: Tensor, curvature: Tensor, d_u: Tensor, d_curvature: Tensor, geometry: ArrayGeometry
) -> tuple[Tensor, Tensor]:
    """Steering vectors and their derivatives along J parameters, by the chain rule through (u, q).

    Args:
        u, curvature: directions [..., 3] and ``q = 1/r`` [...].
        d_u, d_curvature: derivatives of both along the parameters, [..., J, 3] and [..., J].
        geometry: wavefront model; one set of positions [N, 3].

    Returns:
        ``a`` [..., N] and ``da`` [..., J, N].
    """
    p = geometry.positions
    path = path_difference(u @ p.mT, curvature, geometry)
    dw, dq = d_u @ p.mT, d_curvature.unsqueeze(-1)
    along_w, along_q = path.slopes(geometry)
    d_delta = along_w.unsqueeze(-2) * dw + along_q.unsqueeze(-2) * dq
    a, amplitude = _wave(path, geometry)
    slope = torch.complex(torch.zeros_like(d_delta), d_delta * -geometry.wavenumber)
    if isinstance(amplitude, Tensor):  # logarithmic slope of the taper: -ds/s less its mean under |a_n|^2
        w, q, s = (u @ p.mT).unsqueeze(-2), curvature[..., None, None], path.ratio.unsqueeze(-2)
        ds = (-q * dw + (q * geometry.squared_radius - w) * dq) / s
        taper = -ds / s
        slope = slope + (taper - (amplitude.square().unsqueeze(-2) * taper).sum(-1, keepdim=True))
    return a, a.unsqueeze(-2) * slope


def steering_derivatives(
    azimuth: Tensor, elevation: Tensor, range_: Tensor, geometry: ArrayGeometry
) -> tuple[Tensor, Tensor]:
    """Steering vectors [..., N] and ``da/d(azimuth, elevation, range)`` [..., 3, N] (per rad, rad, m)."""
    d_azimuth, d_elevation = direction_slopes(azimuth, elevation)
    d_u = torch.stack([d_azimuth, d_elevation, torch.zeros_like(d_azimuth)], dim=-2)
    zero = torch.zeros_like(azimuth)
    q = 1.0 / range_
    d_q = torch.stack([zero, zero, -q.square()], dim=-1)
    return steering_jet(direction(azimuth, elevation), q, d_u, d_q, geometry)

"""Cramer-Rao bounds of source positions through the actual channel and codes.

With ``B_l = Phi_l A`` and ``D_l = Phi_l dA/dtheta`` (M x K and M x 3K), ``Phi_l = H diag(c_l)``:

* Conditional (symbols unknown and deterministic; Stoica and Nehorai, IEEE Trans. ASSP 37(5), 1989, with a
  measurement matrix that changes from snapshot to snapshot):
  ``J_ij = 2/sigma^2 Re sum_l conj(x_il) x_jl d_il^H P_l d_jl``, P_l the projector off ``B_l``.
* Unconditional (Gaussian symbols, powers and noise variance unknown; the Slepian-Bangs formula):
  ``J_ij = sum_l tr(R_l^-1 dR_l/di R_l^-1 dR_l/dj)``, ``R_l = B_l diag(p) B_l^H + sigma^2 I``.

With constant symbols both are those of the stacked snapshots: one amplitude a source, known not to change, or
drawn once from CN(0, p).

Parameters are ordered source by source as (azimuth, elevation, range).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.physics.geometry import ArrayGeometry, FieldOfView, cartesian_jacobian
from risctl.physics.scenes import Scenes, rows_by_count
from risctl.physics.stacking import stack
from risctl.physics.steering import steering_derivatives

RANK_TOLERANCE = 1e-12  # relative size below which a singular value of scaled float64 data is rounding
KNOWN_INFORMATION = 1e30  # about a parameter that is known: its bound is zero to all digits
NULL_COMPONENT = 1e-9  # squared component along a direction of no information that makes a bound infinite


@dataclass(frozen=True)
class SourceModel:
    """Parameters of the sources in a bound, without padding.

    Attributes:
        azimuth, elevation, range: [B, K], radians and metres.
        amplitudes: ``sqrt(p_k) s_kl``, complex [B, K, L]; the conditional bound reads these.
        power: [B, K]; the unconditional bound reads these.
        noise_var: [B].
    """

    azimuth: Tensor
    elevation: Tensor
    range: Tensor
    amplitudes: Tensor
    power: Tensor
    noise_var: Tensor


@dataclass(frozen=True)
class Bounds:
    """Lower bounds of the standard deviations, NaN past a scene's sources.

    Attributes:
        covariance: bound on the error covariance [B, 3K, 3K], source by source (azimuth, elevation, range).
        azimuth, elevation: [B, K], radians. range, position: [B, K], metres; position is the root of the
            trace of the bound mapped to Cartesian coordinates.
    """

    covariance: Tensor
    azimuth: Tensor
    elevation: Tensor
    range: Tensor
    position: Tensor


def scene_bounds(
    scenes: Scenes,
    geometry: ArrayGeometry,
    kind: str = "conditional",
    view: FieldOfView | None = None,
    symbols: str = "gaussian",
    static_path: bool = False,
) -> Bounds:
    """Bounds of simulated scenes at the truth, in float64, padded to K_max.

    Args:
        scenes: n scenes.
        geometry: the nominal geometry (bounds describe the model the estimators have).
        kind: ``conditional`` or ``unconditional``.
        view: says which coordinates are known; None: none.
        symbols: ``gaussian``, or ``constant``: one amplitude a source in all snapshots, which are stacked to
            one.
        static_path: with constant symbols, an unknown vector is added to all snapshots alike.
    """
    information = {"conditional": conditional_information, "unconditional": unconditional_information}[kind]
    geometry = geometry.to(scenes.y.device, torch.float64)
    B, K_max = scenes.azimuth.shape
    nan = torch.tensor(torch.nan, dtype=torch.float64, device=scenes.y.device)
    found = Bounds(nan.repeat(B, 3 * K_max, 3 * K_max), *(nan.repeat(B, K_max) for _ in range(4)))
    for K, rows in rows_by_count(scenes.num_sources):
        part = scenes[rows]
        amplitudes = (part.symbols * part.power.sqrt().unsqueeze(-1)).to(torch.complex128)[:, :K]
        H, codes = part.H.to(torch.complex128), part.codes.to(torch.complex128)
        if symbols == "constant":
            amplitudes, H = amplitudes[..., :1], stack(H.unsqueeze(1) * codes.unsqueeze(2), static_path)[:, 0]
            codes = torch.ones_like(codes[:, :1])
        sources = SourceModel(
            azimuth=part.azimuth[:, :K].double(),
            elevation=part.elevation[:, :K].double(),
            range=part.range[:, :K].double(),
            amplitudes=amplitudes,
            power=part.power[:, :K].double(),
            noise_var=part.noise_var.double(),
        )
        J = information(H, codes, sources, geometry)
        bounds = bounds_from_information(J if view is None else with_known(J, K, view), sources)
        found.covariance[rows, : 3 * K, : 3 * K] = bounds.covariance
        for name in ("azimuth", "elevation", "range", "position"):
            getattr(found, name)[rows, :K] = getattr(bounds, name)
    return found


def conditional_information(
    H: Tensor, codes: Tensor, sources: SourceModel, geometry: ArrayGeometry
) -> Tensor:
    """Fisher information of the positions given unknown deterministic symbols, [B, 3K, 3K].

    Args:
        H: [B, M, N]. codes: [B, L, N]. sources: K per scene. geometry: nominal, same precision.
    """
    K = sources.azimuth.shape[1]
    V = _observed_jet(H, codes, sources, geometry)
    S, D = V[..., :K], V[..., K:]
    Q, upper = torch.linalg.qr(S)  # not the normal equations: they square the condition of near sources
    projected = D - Q @ (Q.mH @ D)
    size = upper.diagonal(dim1=-2, dim2=-1).abs()
    distinct = (size.amin(-1) > RANK_TOLERANCE * size.amax(-1)).any(1)
    x = sources.amplitudes.repeat_interleave(3, dim=1).mT.unsqueeze(-2)  # [B, L, 1, 3K]
    E = projected * x
    J = (E.mH @ E).real.sum(1)
    # Amplitudes of coincident sources are not identifiable: no information, rather than a limit.
    return 2.0 * J / sources.noise_var[:, None, None] * distinct[:, None, None]


def unconditional_information(
    H: Tensor, codes: Tensor, sources: SourceModel, geometry: ArrayGeometry
) -> Tensor:
    """Fisher information of the positions with powers and noise variance eliminated, [B, 3K, 3K].

    Arguments as above.
    """
    K = sources.azimuth.shape[1]
    V = _observed_jet(H, codes, sources, geometry)
    S, p = V[..., :K], sources.power
    eye = torch.eye(S.shape[-2], dtype=S.dtype, device=S.device)
    R = (S * p[:, None, None, :]) @ S.mH + eye * sources.noise_var[:, None, None, None]
    WV = torch.linalg.solve(R, V)
    Q, Q2 = V.mH @ WV, WV.mH @ WV
    W2 = torch.linalg.solve(R, eye.expand_as(R)).abs().square().sum((-2, -1))
    owner = torch.arange(K, device=S.device).repeat_interleave(3)
    ss, sd, dd = Q[..., :K, :K], Q[..., :K, K:], Q[..., K:, K:]
    sd_own = sd[:, :, owner, :]  # b_k(i)^H W d_j
    p3 = p[:, owner]
    theta = sd_own * sd_own.mT + ss[:, :, owner][:, :, :, owner] * dd.mT
    J = 2.0 * theta.real * (p3.unsqueeze(-1) * p3.unsqueeze(-2)).unsqueeze(1)
    # With sd[m, i] = b_m^H W d_i: the cross terms with the powers and with the noise variance.
    theta_p = 2.0 * (ss[:, :, owner, :] * sd.mT).real * p3[:, None, :, None]
    own_columns = owner.expand(*Q2.shape[:2], 1, -1)
    theta_s = 2.0 * Q2[..., :K, K:].gather(-2, own_columns).real.mT * p3[:, None, :, None]
    power_s = Q2[..., :K, :K].diagonal(dim1=-2, dim2=-1).real.unsqueeze(-1)
    rows = [
        torch.cat([ss.abs().square(), power_s], dim=-1),
        torch.cat([power_s.mT, W2[..., None, None]], dim=-1),
    ]
    nuisance = torch.cat(rows, dim=-2).sum(1)
    cross = torch.cat([theta_p, theta_s], dim=-1).sum(1)
    # Schur complement J - cross nuisance^-1 cross^T, scaled first: powers and noise differ in unit.
    scale = nuisance.diagonal(dim1=-2, dim2=-1).rsqrt()
    scaled = nuisance * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    E = cross * scale.unsqueeze(-2)
    return J.sum(1) - E @ torch.linalg.pinv(scaled, rtol=RANK_TOLERANCE, hermitian=True) @ E.mT


def _observed_jet(H: Tensor, codes: Tensor, sources: SourceModel, geometry: ArrayGeometry) -> Tensor:
    """``Phi_l [A, dA]`` [B, L, M, K + 3K]."""
    a, da = steering_derivatives(sources.azimuth, sources.elevation, sources.range, geometry)
    columns = torch.cat([a, da.flatten(1, 2)], dim=1)  # [B, 4K, N]
    return torch.einsum("bmn,bln,bjn->blmj", H, codes, columns)


def with_known(J: Tensor, num_sources: int, view: FieldOfView) -> Tensor:
    """Information J [B, P, P] with the coordinates that are known held: no error in them, none by them.

    The first 3 K parameters are coordinates source by source; (azimuth, elevation, range) and (u_y, u_z, 1/r)
    will do, as the elevation is a function of u_z alone.
    """
    if not any(view.known):
        return J
    held = torch.zeros(J.shape[-1], dtype=torch.bool, device=J.device)
    held[: 3 * num_sources] = torch.tensor(view.known, device=J.device).repeat(num_sources)
    J = J.masked_fill(held | held.unsqueeze(-1), 0.0)
    return J + torch.diag(held * KNOWN_INFORMATION).to(J)


def invert_information(J: Tensor) -> tuple[Tensor, Tensor]:
    """Covariance bound from a singular information matrix J [B, P, P], and the unidentifiable parameters.

    Stoica and Marzetta, IEEE Trans. Signal Process. 49(1), 2001. With plane waves the ranges are
    unidentifiable, with coincident sources all parameters, as they are where J is not finite.

    Returns:
        Covariance [B, P, P], valid where both parameters are identifiable, and the unidentifiable ones, bool
        [B, P]: their bound is infinite.
    """
    J = J.masked_fill(~J.isfinite().all(-1).all(-1)[:, None, None], 0.0)
    own = J.diagonal(dim1=-2, dim2=-1)
    scale = torch.where(own > 0, own, torch.inf).rsqrt()
    correlation = J * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    w, U = torch.linalg.eigh(correlation.clamp(-1.0, 1.0))  # at most 1 but for rounding
    unseen = w <= RANK_TOLERANCE
    unidentifiable = (U.square() * unseen.unsqueeze(-2)).sum(-1) > NULL_COMPONENT
    inverse = (U * torch.where(unseen, 0.0, 1.0 / w).unsqueeze(-2)) @ U.mT
    return inverse * scale.unsqueeze(-1) * scale.unsqueeze(-2), unidentifiable


def bounds_from_information(J: Tensor, sources: SourceModel) -> Bounds:
    """Bounds from the information [B, 3K, 3K] of the positions."""
    B, K = sources.azimuth.shape
    known, unidentifiable = invert_information(J)
    covariance = known.masked_fill(unidentifiable.unsqueeze(-1) | unidentifiable.unsqueeze(-2), torch.inf)
    deviations = covariance.diagonal(dim1=-2, dim2=-1).reshape(B, K, 3).sqrt()
    blocks = known.reshape(B, K, 3, K, 3).diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2)
    jacobian = cartesian_jacobian(sources.azimuth, sources.elevation, sources.range)
    position = (jacobian @ blocks @ jacobian.mT).diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()
    lost = unidentifiable.reshape(B, K, 3).any(-1) | torch.isinf(sources.range)
    position = position.masked_fill(lost, torch.inf)
    azimuth, elevation, range_ = deviations.unbind(-1)
    return Bounds(covariance, azimuth, elevation, range_, position)

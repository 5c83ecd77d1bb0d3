"""The joint likelihood of a surface's response and of the sources of many scenes: gradient and information.

``y_l ~ CN(0, R_l)``, ``R_l = B_l P B_l^H + sigma^2 I``, ``B_l = U_l diag(g) A``,
``U_l = Phi_l diag(rho[q_l])``. With ``W = R^-1 = (I - B C B^H) / sigma^2``,
``C = (B^H B + sigma^2 P^-1)^-1`` and a parameter that moves B by D (so ``dR = D P B^H + B P D^H``),

    ``d log L = 2 Re sum_l (y^H W D xbar - tr(P B^H W D))``,  ``xbar = C B^H y``,
    ``F_ij = 2 Re sum_l (tr(P B^H W D_i P B^H W D_j) + tr(D_j^H W D_i P B^H W B P))``

(Slepian-Bangs). An element's parameter has ``D = u_n alpha_n``, a column of U times a row of A (or of its
slope in the element's position); a state's is dense; those of the sources are columns of ``U diag(g) dA``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from risctl.inference.gaussian import GaussianModel, GaussianParameters, gaussian_model
from risctl.inference.observation import Observation, tree_index
from risctl.inference.stacked import VARYING, SymbolModel
from risctl.inference.surface.response import POSITIONS, STATES, SurfaceResponse
from risctl.physics.geometry import ArrayGeometry
from risctl.physics.polar import polar_direction, polar_jet
from risctl.physics.steering import path_difference

# Of the log noise variances of scenes with constant symbols about their common share. A choice, not an
# estimate: scenes may differ more, but with little precision one of them is fitted exactly, at any
# likelihood.
NOISE_PRECISION = 100.0
CHUNK_NUMBERS = 330_000  # complex numbers of one L x N x N array of a chunk of scenes: stays in the cache


@dataclass(frozen=True)
class SceneGroup:
    """Scenes with the same number of sources.

    Attributes:
        obs: with the nominal ``Phi``, complex128.
        state: code values, int64, broadcast against Phi [B, L, M, N]; None: not told apart.
        params: of K sources.
        anchored: whose positions are known, bool [B].
        rows: indices of the scenes among all, [B].
        symbols: constant ones make the snapshots of a scene one coherent vector.
        noise_level: mean of a normal prior of the log noise variances, with precision `NOISE_PRECISION`, [B];
            None: they are free. One coherent vector of no more values than elements is fitted exactly by some
            response, at any likelihood.
    """

    obs: Observation
    state: Tensor | None
    params: GaussianParameters
    anchored: Tensor
    rows: Tensor
    symbols: SymbolModel = VARYING
    noise_level: Tensor | None = None

    def __len__(self) -> int:
        return len(self.obs)

    def local_model(self, response: SurfaceResponse, geometry: ArrayGeometry) -> GaussianModel:
        """Likelihood, gradient and information of the scenes' own parameters."""
        model = gaussian_model(self.observed(response), self.params, response.geometry(geometry))
        if self.noise_level is None:
            return model
        far = self.params.log_noise - self.noise_level
        value = model.log_likelihood - 0.5 * NOISE_PRECISION * far.square()
        slope = torch.nn.functional.pad(NOISE_PRECISION * far.unsqueeze(1), (model.gradient.shape[1] - 1, 0))
        return GaussianModel(value, model.gradient - slope, self.with_prior(model.information))

    def with_prior(self, information: Tensor) -> Tensor:
        """Information [B, 4K + 1, 4K + 1] with that of the noise's prior."""
        if self.noise_level is None:
            return information
        last = torch.zeros_like(information[0])
        last[-1, -1] = NOISE_PRECISION
        return information + last

    def observed(self, response: SurfaceResponse) -> Observation:
        """The measurements as seen through `response`, constant symbols stacked."""
        return self.symbols.seen(response.observed(self.obs, self.state))

    def chunks(self) -> Iterator[SceneGroup]:
        """The scenes, a few at a time."""
        _, L, _, N = self.obs.Phi.shape
        size = max(1, CHUNK_NUMBERS // ((1 if self.symbols.constant else L) * N * N))
        for rows in torch.split(torch.arange(len(self)), size):
            state = None if self.state is None else self.state[rows]
            obs, params = tree_index(self.obs, rows), tree_index(self.params, rows)
            yield replace(
                self,
                obs=obs,
                state=state,
                params=params,
                anchored=self.anchored[rows],
                rows=self.rows[rows],
            )

    def with_params(self, params: GaussianParameters) -> SceneGroup:
        """The same scenes at other parameters of the sources."""
        return replace(self, params=params)


@dataclass(frozen=True)
class SurfaceModel:
    """Joint model of P parameters of the surface and 4K + 1 of each of B scenes.

    Attributes:
        gradient: [P], summed over scenes. information: [P, P], likewise.
        cross: information between the surface's and each scene's parameters [B, P, 4K + 1].
        local: likelihood, gradient and information of each scene's own parameters.
    """

    gradient: Tensor
    information: Tensor
    cross: Tensor
    local: GaussianModel

    @classmethod
    def join(cls, parts: Sequence[tuple[Tensor, Tensor, Tensor]], local: GaussianModel) -> SurfaceModel:
        """The model of all scenes from gradient, information and cross of some at a time."""
        gradient, information, cross = zip(*parts, strict=True)
        return cls(torch.stack(gradient).sum(0), torch.stack(information).sum(0), torch.cat(cross), local)


def fisher_model(
    group: SceneGroup, response: SurfaceResponse, geometry: ArrayGeometry, kinds: tuple[str, ...]
) -> SurfaceModel:
    """The joint model of a group of scenes in the parameters `kinds` of the surface, with Fisher information.

    Args:
        geometry: nominal, float64.
    """
    parts = []
    for chunk in group.chunks():
        t = _Terms.compute(chunk, response, response.geometry(geometry))
        families = [t.family(kind, chunk, response) for kind in kinds]
        gradient = torch.cat([_reals(f, 2.0 * f.slope(t)) for f in families])
        blocks = [[_information(t, left, right) for right in families] for left in families]
        information = torch.cat([torch.cat(row, dim=1) for row in blocks])
        cross = torch.cat([_reals(f, 2.0 * f.cross(t)) for f in families], dim=1)
        parts.append((gradient, information, cross))
    return SurfaceModel.join(parts, group.local_model(response, geometry))


def average_model(
    group: SceneGroup,
    response: SurfaceResponse,
    geometry: ArrayGeometry,
    kinds: tuple[str, ...],
    dtype: torch.dtype = torch.complex64,
) -> SurfaceModel:
    """The same model with average information ``Re sum_l v_i^H W v_j``, ``v_i = dR_i W y``, to step by.

    It is the mean of the observed and the expected information but for second derivatives of R (Gilmour,
    Thompson and Cullis, Biometrics 51(4), 1995), with the same expectation and null directions as Fisher's.
    With a few unknowns a snapshot the observed curvature is more than twice the expected one in some
    directions, and Fisher scoring does not converge; these steps do, and cost one Gram matrix.

    Args:
        dtype: of the surface's part of that matrix: steps need no more than single precision. The gradient
            and the scenes' own blocks are in double.
    """
    parts, blocks = [], []
    for chunk in group.chunks():
        t = _Terms.compute(chunk, response, response.geometry(geometry), square=False)
        families = [t.family(kind, chunk, response) for kind in kinds]
        gradient = torch.cat([_reals(f, 2.0 * f.slope(t)) for f in families])
        v = torch.cat([f.moved_data(t, dtype) for f in families], dim=-1)
        own = t.moved_data()
        W_own = _whiten(t, own)
        information, cross = _gram(v, _whiten(t, v)).sum(0), _gram(v, W_own.to(dtype))
        parts.append((gradient, information.double(), cross.double()))
        blocks.append(_gram(own, W_own))
    local = replace(group.local_model(response, geometry), information=group.with_prior(torch.cat(blocks)))
    return SurfaceModel.join(parts, local)


def _whiten(t: _Terms, v: Tensor) -> Tensor:
    """``W v`` of columns v [B, L, M, P], in their precision, times the weight of a snapshot."""
    S, C = t.S.to(v.dtype), t.C.to(v.dtype)
    level = (t.weight / t.noise)[:, None, None, None].to(v.real.dtype)
    return (v - S @ (C @ (S.mH @ v))) * level


def _gram(left: Tensor, right: Tensor) -> Tensor:
    """``Re sum_l left_l^H right_l`` [B, P, Q] of columns [B, L, M, P] and [B, L, M, Q]."""
    a, b = (torch.cat([x.real, x.imag], dim=2).flatten(1, 2) for x in (left, right))
    return a.mT @ b


@dataclass(frozen=True)
class _Terms:
    """Products that all parameters share, for B scenes; J = 4K columns ``V = U diag(g) [A, dA]``."""

    a: Tensor  # steering vectors [B, K, N]
    slopes: Tensor  # g times their slopes in the elements' x, y, z [3, B, K, N]
    power: Tensor  # [B, K]
    noise: Tensor  # [B]
    weight: Tensor  # measured snapshots that a snapshot stands for, [B]
    S: Tensor  # B [B, L, M, K]
    C: Tensor  # [B, L, K, K]
    T: Tensor  # P B^H W V [B, L, K, J]
    Cx: Tensor  # P B^H W B P [B, L, K, K]
    Q: Tensor  # P B^H W U [B, L, K, N]
    WV: Tensor  # [B, L, M, J]
    VWU: Tensor  # V^H W U [B, L, J, N]
    WU: Tensor  # [B, L, M, N]
    UWU: Tensor  # transpose of U^H W U [B, L, N, N]
    x: Tensor  # xbar [B, L, K]
    yw: Tensor  # y^H W [B, L, M]
    back: Tensor  # y^H W U [B, L, N]
    U: Tensor  # [B, L, M, N]
    V: Tensor  # [B, L, M, J]

    @classmethod
    def compute(
        cls, group: SceneGroup, response: SurfaceResponse, geometry: ArrayGeometry, square: bool = True
    ) -> _Terms:
        """The terms at `geometry`, the displaced one; without `square` the N x N products are left empty."""
        points, p, s2 = group.params.points, group.params.log_power.exp(), group.params.log_noise.exp()
        K, noise = points.shape[1], s2[:, None, None, None]
        L, symbols = group.obs.y.shape[1], group.symbols
        y = symbols.coherent(group.obs.y, L).unsqueeze(-1)
        U = symbols.coherent(group.obs.Phi * response.factors(group.state), L)
        U = U.expand(-1, y.shape[1], -1, -1)
        a, da = polar_jet(points, geometry)
        V = U @ (torch.cat([a, da.flatten(1, 2)], dim=1) * response.gains).mT.unsqueeze(1)
        S, SH, VH = V[..., :K], V[..., :K].mH, V.mH
        G = SH @ V
        C = torch.linalg.inv(G[..., :K] + torch.diag_embed(s2[:, None] / p).unsqueeze(1))
        T, Q, x = C @ G, C @ (SH @ U), C @ (SH @ y)
        WU, WV, yw = (U - S @ Q) / noise, (V - S @ T) / noise, (y - S @ x).mH / noise
        slopes = _element_slopes(a, points, geometry) * response.gains
        Cx = T[..., :K] * p[:, None, None, :]
        data = x.squeeze(-1), yw.squeeze(-2), (yw @ U).squeeze(-2)
        UWU = U.mT @ WU.conj() if square else U[..., :0, :]
        return cls(a, slopes, p, s2, group.obs.weight, S, C, T, Cx, Q, WV, VH @ WU, WU, UWU, *data, U, V)

    def moved_data(self) -> Tensor:
        """``dR W y`` [B, L, M, 4K + 1] of the scenes' own parameters."""
        K, p, e = self.power.shape[1], self.power[:, None, None, :], self.yw.conj().unsqueeze(-1)
        owner = torch.arange(K).repeat_interleave(3)
        D = self.V[..., K:]
        point = D * self.x[..., owner].unsqueeze(-2) + (self.S * p)[..., owner] * (e.mT @ D.conj())
        power = self.S * (p * (e.mT @ self.S.conj()))
        return torch.cat([point, power, e * self.noise[:, None, None, None]], dim=-1)

    def family(self, kind: str, group: SceneGroup, response: SurfaceResponse) -> Family:
        """The parameters of one kind."""
        if kind == STATES:
            assert group.state is not None
            mask = torch.eq(group.state, torch.arange(len(response.states)).view(-1, 1, 1, 1, 1))
            L = group.obs.y.shape[1]
            Phi = torch.stack([group.symbols.coherent(torch.where(m, group.obs.Phi, 0.0), L) for m in mask])
            D = (Phi @ (self.a * response.gains).mT.unsqueeze(1)).permute(1, 2, 0, 3, 4)
            return States.build(D, self)
        if kind == POSITIONS:
            return Elements(tuple(self.slopes), (1.0,))
        return Elements((self.a,), (1.0, 1j))


def _element_slopes(a: Tensor, points: Tensor, geometry: ArrayGeometry) -> Tensor:
    """Derivatives [3, B, K, N] of steering vectors in the x, y and z of each element, by the phase alone.

    ``-j k0 d(delta_n)/d(p_n) a_n`` with delta the path difference: for a spherical wave its slope is the unit
    vector from the source to the element. An amplitude taper's own slope, 1 / (k0 d) of this, is left out.
    """
    u, q, p = polar_direction(points).unsqueeze(-2), points[..., 2, None, None], geometry.positions
    w = (u * p).sum(-1, keepdim=True)
    if geometry.wavefront == "spherical":
        slope = (q * p - u) / path_difference(w.squeeze(-1), points[..., 2], geometry).ratio.unsqueeze(-1)
    elif geometry.wavefront == "fresnel":
        slope = q * (p - w * u) - u
    else:
        slope = -u.expand(*w.shape[:-1], 3)
    return (-1j * geometry.wavenumber) * slope.movedim(-1, 0) * a


@dataclass(frozen=True)
class Elements:
    """Parameters of the elements: rows ``alpha`` [B, K, N], each with real classes ``factor * alpha``."""

    alphas: tuple[Tensor, ...]
    factors: tuple[complex, ...]

    def slope(self, t: _Terms) -> Tensor:
        """``sum (y^H W D xbar - tr(P B^H W D))`` [A, N]."""
        kernel = (t.x.unsqueeze(-1) * t.back.unsqueeze(-2) - t.Q).sum(1) * t.weight[:, None, None]
        return torch.stack([(alpha * kernel).sum((0, 1)) for alpha in self.alphas])

    def moved_data(self, t: _Terms, dtype: torch.dtype) -> Tensor:
        """``dR W y`` [B, L, M, A F N] in `dtype`, class after class."""
        U, S, e = t.U.to(dtype), t.S.to(dtype), t.back.conj().unsqueeze(-2).to(dtype)
        parts = []
        for alpha in self.alphas:
            ahead = U * (t.x.unsqueeze(-2) @ alpha.unsqueeze(1)).to(dtype)
            back = (S @ (t.power.unsqueeze(-1) * alpha.conj()).unsqueeze(1).to(dtype)) * e
            parts += _classes(ahead, back, self.factors)
        return torch.cat(parts, dim=-1)

    def cross(self, t: _Terms) -> Tensor:
        """Complex half of the information with the sources' parameters, [A, B, N, 4K + 1]."""
        K = t.power.shape[1]
        owner = torch.arange(K).repeat_interleave(3)
        T, Q = t.T, t.Q
        point = torch.einsum("blrj,bljn->brjn", T[..., K:], Q[:, :, owner])
        point = point + torch.einsum("blrj,bljn->brjn", t.Cx[..., owner], t.VWU[:, :, K:])
        power = torch.einsum("blrk,blkn->brkn", T[..., :K], Q)
        noise = t.noise[:, None, None] * (t.C @ (Q / t.power[:, None, :, None])).sum(1)
        kernel = torch.cat([point, power, noise.unsqueeze(2)], dim=2)  # [B, K, 4K + 1, N]
        kernel = kernel * t.weight[:, None, None, None]
        return torch.stack([torch.einsum("brn,brjn->bnj", alpha, kernel) for alpha in self.alphas])


@dataclass(frozen=True)
class States:
    """Parameters of the code values: ``D`` [B, L, Q, M, K], ``TD = P B^H W D``, ``WD = W D``."""

    D: Tensor
    TD: Tensor
    WD: Tensor
    factors: tuple[complex, ...] = (1.0, 1j)

    @classmethod
    def build(cls, D: Tensor, t: _Terms) -> States:
        """The parameters whose slopes of B are `D`."""
        S = t.S.unsqueeze(2)
        TD = t.C.unsqueeze(2) @ (S.mH @ D)
        return cls(D, TD, (D - S @ TD) / t.noise[:, None, None, None, None])

    def slope(self, t: _Terms) -> Tensor:
        """``sum (y^H W D xbar - tr(P B^H W D))`` [1, Q]."""
        seen = torch.einsum("blm,blqmk,blk->bq", t.yw, self.D, t.x)
        slope = seen - self.TD.diagonal(dim1=-2, dim2=-1).sum((1, 3))
        return (slope * t.weight[:, None]).sum(0, keepdim=True)

    def moved_data(self, t: _Terms, dtype: torch.dtype) -> Tensor:
        """``dR W y`` [B, L, M, F Q] in `dtype`, class after class."""
        ahead = torch.einsum("blqmk,blk->blmq", self.D, t.x)
        inner = torch.einsum("blqmk,blm->blkq", self.D.conj(), t.yw.conj())  # D^H W y
        back = t.S @ (t.power[:, None, :, None] * inner)
        return torch.cat(_classes(ahead, back, self.factors), dim=-1).to(dtype)

    def cross(self, t: _Terms) -> Tensor:
        """Complex half of the information with the sources' parameters, [1, B, Q, 4K + 1]."""
        K = t.power.shape[1]
        owner = torch.arange(K).repeat_interleave(3)
        point = torch.einsum("blqjr,blrj->bqj", self.TD[..., owner, :], t.T[..., K:])
        seen = t.WV[..., K:].mH.unsqueeze(2) @ self.D  # d_j^H W D_q [B, L, Q, 3K, K]
        point = point + torch.einsum("blqjr,blrj->bqj", seen, t.Cx[..., owner])
        power = torch.einsum("blqkr,blrk->bqk", self.TD, t.T[..., :K])
        noise = torch.einsum("blkr,br,blqrk->bq", t.C, 1.0 / t.power, self.TD.to(t.C)) * t.noise[:, None]
        kernel = torch.cat([point, power, noise.unsqueeze(-1)], dim=-1)
        return (kernel * t.weight[:, None, None]).unsqueeze(0)


Family = Elements | States


def _classes(ahead: Tensor, back: Tensor, factors: tuple[complex, ...]) -> list[Tensor]:
    """``f ahead + conj(f) back`` for every factor f, 1 or j."""
    return [ahead + back if f == 1.0 else f * (ahead - back) for f in factors]


def _reals(family: Family, x: Tensor) -> Tensor:
    """Real values of every class from complex ones [A, ..., n(, J)]: ``Re(factor x)``, joined along n."""
    values = torch.stack([(f * x).real for f in family.factors], dim=1).flatten(0, 1)  # [A F, ...]
    if x.dim() == 2:
        return values.flatten()
    return values.movedim(0, 1).flatten(1, 2)  # [B, A F n, J]


def _information(t: _Terms, left: Family, right: Family) -> Tensor:
    """Information between two families of the surface's parameters, over all scenes."""
    pairs = [[_kernels(t, left, a, right, b) for b in _rows(right)] for a in _rows(left)]
    return torch.cat(
        [
            torch.cat(
                [
                    2.0 * (f * h * E + f * complex(h).conjugate() * G).real
                    for E, G in row
                    for h in right.factors
                ],
                dim=1,
            )
            for row in pairs
            for f in left.factors
        ]
    )


def _rows(family: Family) -> Sequence[Tensor | None]:
    return family.alphas if isinstance(family, Elements) else (None,)


def _kernels(
    t: _Terms, left: Family, alpha: Tensor | None, right: Family, beta: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``E = sum tr(P B^H W D_i P B^H W D_j)`` and ``G = sum tr(D_j^H W D_i P B^H W B P)``."""
    weight = t.weight.to(t.C.dtype)
    if isinstance(left, Elements) and isinstance(right, Elements):
        assert alpha is not None
        assert beta is not None
        rows, columns = alpha.mT.unsqueeze(1), beta.unsqueeze(1)
        rows_w = rows * t.weight[:, None, None, None]
        E = (rows_w @ t.Q).mul_(t.Q.mT @ columns).sum((0, 1))
        return E, (rows_w @ (t.Cx @ columns.conj())).mul_(t.UWU).sum((0, 1))
    if isinstance(left, States) and isinstance(right, States):
        E = torch.einsum("blqkr,blprk,b->qp", left.TD, right.TD, weight)
        G = torch.einsum("blpmk,blqmr,blrk,b->qp", right.D.conj(), left.WD, t.Cx, weight)
        return E, G
    if isinstance(left, States):
        E, G = _kernels(t, right, beta, left, alpha)
        return E.mT, G.mH
    assert isinstance(right, States)
    assert alpha is not None
    E = torch.einsum("bkn,blqkr,blrn,b->nq", alpha, right.TD, t.Q, weight)
    G = torch.einsum("bkn,blkr,blqmr,blmn,b->nq", alpha, t.Cx, right.D.conj(), t.WU, weight)
    return E, G

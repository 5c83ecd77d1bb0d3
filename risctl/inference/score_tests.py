"""Score tests of what the fitted sources leave, against white noise of unknown level.

Each statistic is a quadratic form ``T = r^T A r / r^T r`` (but Bartlett's and John's), the locally
most powerful one for a small random departure with covariance A. Under the model ``r / |r|`` is uniform on a
sphere: T is a ratio of sums of chi-squares with the eigenvalues of A as weights. Its tail follows from their
first four moments (Pearson's approximation, see Imhof, Biometrika 48, 1961, and a term for the kurtosis),
without eigenvalues.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.concentrated import loaded_inverse
from risctl.inference.gaussian import square
from risctl.inference.observation import Observation
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.grid import PolarGrid
from risctl.physics.polar import clamp_to_view, polar_jet, polar_limits, polar_steering

ROUNDING = 1e-10  # share of residual energy below which single precision has made the residual
SAME_DIRECTION = 1e-6  # relative eigenvalue below which position derivatives are dependent
ON_LIMIT = 1e-6  # of the width of the field of view: distance from a limit within which a source is on it
INDEPENDENT = 0.5  # of the directions outside the field of view
INSIDE = 0.22  # of the points of a lattice in it, two a beam and eight rings
PEAKS = 8  # of the residual on that lattice
LOST = 1e-3  # of a source's mean response: what is left of it in a snapshot is no less
LEFT = 1e-4  # share of the elements' responses off the sources, below which it is rounding
EQUAL = 1e-9  # relative variance of the eigenvalues below which T is a constant


@dataclass(frozen=True)
class Residual:
    """What the fitted sources leave of B scenes, scaled to unit energy.

    Attributes:
        r: residual off the sources and off the tangents, complex128 [B, L, M].
        basis: orthonormal basis of ``Phi_l A`` [B, L, M, K].
        tangents: basis, orthonormal over the reals, of the directions in which positions move the fit
            [B, L, M, T]; zero where they are dependent.
        symbols: fitted symbols ``x_l`` [B, L, K]. inverse: ``((Phi_l A)^H Phi_l A)^-1`` [B, L, K, K], their
            covariance over the noise variance. gram: ``sum_l (Phi_l A)^H Phi_l A`` [B, K, K].
        field: fitted field on the elements, ``A x_l`` [B, L, N].
        shift: where the residual would move the positions in (u_y, u_z, q), in deviations [B, K, 3].
        freedom: real degrees of freedom that are left [B].
        energy: of the residual over that of the measurements [B].
        exact: scenes whose residual is no more than rounding, bool [B].
    """

    r: Tensor
    basis: Tensor
    tangents: Tensor
    symbols: Tensor
    inverse: Tensor
    gram: Tensor
    field: Tensor
    shift: Tensor
    freedom: Tensor
    energy: Tensor
    exact: Tensor


def residual(obs: Observation, points: Tensor, geometry: ArrayGeometry) -> Residual | None:
    """The residual of sources at polar `points` [B, K, 3], float64; None without a degree of freedom."""
    (B, L, M), K = obs.y.shape, points.shape[1]
    if 2 * L * (M - K) - 3 * K < 2:
        return None
    y = obs.y.to(torch.complex128)
    y = y / square(y).sum((1, 2), keepdim=True).sqrt()
    a, da = polar_jet(points, geometry)
    V = obs.observe(torch.cat([a, da.flatten(1, 2)], dim=1).to(obs.Phi.dtype)).to(y.dtype)
    S, D = V[..., :K], V[..., K:]
    gram = S.mH @ S
    inverse = loaded_inverse(gram)
    x = (inverse @ (S.mH @ y.unsqueeze(-1))).squeeze(-1)
    Q = torch.linalg.qr(S)[0]
    r = y - (Q @ (Q.mH @ y.unsqueeze(-1))).squeeze(-1)
    E = (D - Q @ (Q.mH @ D)) * x.repeat_interleave(3, dim=-1).unsqueeze(-2)
    U, back, rank = real_basis(E.flatten(1, 2))
    along = real_inner(U, r.flatten(1).unsqueeze(-1))
    r = r - (U @ along.to(U.dtype)).view(B, L, M)
    energy = square(r).sum((1, 2))
    freedom = 2.0 * L * (M - K) - rank
    unit = energy.clamp_min(torch.finfo(energy.dtype).tiny).sqrt()[:, None, None]
    t = (back @ along / back.square().sum(-1, keepdim=True).sqrt() / unit).squeeze(-1).nan_to_num(0.0)
    t = t * freedom.sqrt().unsqueeze(-1)
    t = t / (1.0 + t.square() / (2.0 * freedom.unsqueeze(-1))).sqrt()  # Student's to a normal deviate
    t = t.view(B, K, 3)
    U = U.view(B, L, M, 3 * K)
    field, exact = x @ a, energy < ROUNDING
    return Residual(r / unit, Q, U, x, inverse, gram.sum(1), field, t, freedom, energy, exact)


def real_inner(X: Tensor, Y: Tensor) -> Tensor:
    """Inner products over the reals, ``Re X^H Y``, of the columns of X [B, n, i] and Y [B, n, j]."""
    X, Y = (torch.cat([Z.real, Z.imag], dim=-2) for Z in (X, Y))
    return X.mT @ Y


def real_basis(E: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Basis of the real span of the columns of E [B, n, T], orthonormal over the reals.

    Dependent columns (plane waves have no range, sources may coincide) leave zeros.

    Returns:
        The basis [B, n, T]; the matrix by which the columns of E, scaled to one, make it [B, T, T]; its rank
        [B].
    """
    scale = square(E).sum(-2, keepdim=True).sqrt()
    E = E / scale.clamp_min(torch.finfo(scale.dtype).tiny)
    w, V = torch.linalg.eigh(real_inner(E, E))
    kept = w > SAME_DIRECTION
    root = torch.where(kept, w.clamp_min(SAME_DIRECTION).rsqrt(), 0.0)
    back = V * root.unsqueeze(-2)
    return E @ back.to(E.dtype), back, kept.sum(-1).to(w.dtype)


@dataclass(frozen=True)
class Moments:
    """Power sums ``sum w^n``, n = 1, ..., 4, of the eigenvalues of A off the tangents [B, 4]."""

    sums: Tensor

    @classmethod
    def off_tangents(cls, whole: Sequence[Tensor], inner: Sequence[Tensor]) -> Moments:
        """Moments of ``(I - U U^T) A (I - U U^T)``.

        Args:
            whole: traces of A, A^2, A^3, A^4 [B]. inner: ``U^T A^n U`` [B, T, T] for the same n.
        """
        G, G2, G3, G4 = inner
        GG = G @ G
        first = whole[0] - trace(G)
        second = whole[1] - 2.0 * trace(G2) + trace(GG)
        third = whole[2] - 3.0 * trace(G3) + 3.0 * trace(G2 @ G) - trace(GG @ G)
        fourth = whole[3] - 4.0 * trace(G4) + 4.0 * trace(G3 @ G) + 2.0 * trace(G2 @ G2)
        fourth = fourth - 4.0 * trace(G2 @ GG) + trace(GG @ GG)
        return cls(torch.stack([first, second, third, fourth], dim=-1))

    def tail(self, T: Tensor, freedom: Tensor) -> Tensor:
        """``P(sum w_i u_i / sum u_i > T)``, u_i independent chi-square(1) [B]; NaN where T is a constant.

        Which is ``P(sum (w_i - T) u_i > 0)``, from four cumulants.
        """
        a, b, c, d = self.sums.unbind(-1)
        first = a - freedom * T
        second = b - 2.0 * T * a + freedom * T.square()
        third = c - 3.0 * T * b + 3.0 * T.square() * a - freedom * T**3
        fourth = d - 4.0 * T * c + 6.0 * T.square() * b - 4.0 * T**3 * a + freedom * T**4
        constant = b - a.square() / freedom <= EQUAL * b
        spread = (2.0 * second).clamp_min(torch.finfo(T.dtype).tiny).sqrt()
        p = gamma_tail(-first / spread, 8.0 * third / spread**3, 48.0 * fourth / spread**4)
        return p.masked_fill(constant, torch.nan)


def gamma_tail(z: Tensor, skewness: Tensor, kurtosis: Tensor) -> Tensor:
    """``P(X > z)`` of a variable with mean 0, variance 1, this skewness and this excess kurtosis.

    Pearson's type III (a shifted gamma variable) and the first term of an Edgeworth series for the kurtosis
    that it lacks.
    """
    skewness = torch.where(skewness.abs() < 1e-3, 1e-3, skewness)
    shape = 4.0 / skewness.square()
    level = (shape + z * shape.sqrt() * skewness.sign()).clamp_min(0.0)
    upper, lower = torch.special.gammaincc(shape, level), torch.special.gammainc(shape, level)
    p = torch.where(skewness > 0, upper, lower)
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2.0 * math.pi)
    lacking = kurtosis - 1.5 * skewness.square()
    return (p + lacking / 24.0 * (z**3 - 3.0 * z) * density).clamp(0.0, 1.0)


def trace(A: Tensor) -> Tensor:
    """Trace over the last two axes."""
    return A.diagonal(dim1=-2, dim2=-1).sum(-1)


@dataclass(frozen=True)
class GainTest:
    """Test of errors of the elements' gains in B scenes.

    Attributes:
        p: p-value [B].
        score: ``Z^T r / sigma^2`` summed over the scenes: real parts, then imaginary parts [2 N].
        information: its covariance under the model [2 N, 2 N].
    """

    p: Tensor
    score: Tensor
    information: Tensor


def gain_test(obs: Observation, rest: Residual) -> GainTest:
    """Test for gains ``1 + delta`` of the elements, delta complex, small and random.

    Of ``Z_l = P_l Phi_l diag(A x_l)`` only ``C = Z^H Z`` [B, N, N] is formed: the same without the projector
    less ``W^H W``, ``W_l = Q_l^H Phi_l diag(A x_l)`` with the basis Q_l of what P_l takes out.
    """
    dtype, T = obs.Phi.dtype, rest.tangents.shape[-1]
    scale = square(rest.field).mean((1, 2), keepdim=True).sqrt()  # numbers of order one
    field = (rest.field / scale).to(dtype)
    columns = torch.cat([rest.tangents, rest.r.unsqueeze(-1), rest.basis], dim=-1).to(dtype)
    rows = obs.adjoint(columns.mT) * field.conj().unsqueeze(2)  # [B, L, J, N]
    h, score = rows[:, :, :T].sum(1).mT, rows[:, :, T].sum(1)  # Z^H U, Z^H r: P_l leaves U and r as they are
    whole = element_gram(obs, field)
    lost = rows[:, :, T + 1 :].flatten(1, 2)
    C = torch.baddbmm(whole, lost.mT, lost.conj(), alpha=-1)
    seen = trace(C).real > LEFT * trace(whole).real
    once = torch.stack([C.real, C.imag], dim=1)
    twice = hermitian_square(*once.unbind(1)).flatten(1)
    once = once.flatten(1)
    powers = [torch.linalg.vecdot(X, Y) for X, Y in ((once, once), (once, twice), (twice, twice))]
    sums = [2.0 * t.double() for t in (trace(C).real, *powers)]
    Ch = C @ h
    CCh = C @ Ch
    inner = [real_inner(x, y).double() for x, y in ((h, h), (h, Ch), (Ch, Ch), (Ch, CCh))]
    p = Moments.off_tangents(sums, inner).tail(square(score).sum(-1).double(), rest.freedom)
    # Score over the noise level, which scenes of one surface add up: Z and r are scaled to order one here.
    weight = torch.where(rest.exact | ~seen, 0.0, scale.flatten() * rest.freedom / rest.energy.sqrt())
    g = torch.view_as_real((weight.unsqueeze(-1) * score).sum(0)).mT.flatten()
    share = weight.square() / rest.freedom
    information = as_real((share.to(dtype) @ C.flatten(1)).view_as(C[0]).to(torch.complex128))
    return GainTest(p.masked_fill(~seen, torch.nan), g, information - outer(h, share[:, None, None]))


def element_gram(obs: Observation, field: Tensor) -> Tensor:
    """``sum_l diag(x_l)^H Phi_l^H Phi_l diag(x_l)`` [B, N, N] of the field x [B, L, N]."""
    if obs.H is not None and obs.codes is not None:
        front, field = obs.H, obs.codes * field
    elif obs.Phi.shape[1] == 1:
        front = obs.Phi[:, 0]
    else:
        Z = (obs.Phi * field.unsqueeze(2)).flatten(1, 2)
        return Z.mH @ Z
    return (front.mH @ front) * (field.mH @ field)


def hermitian_square(A: Tensor, B: Tensor) -> Tensor:
    """Real and imaginary part [..., 2, n, n] of ``(A + i B)^2``, Hermitian: ``B A = -(A B)^T``."""
    P = A @ B
    return torch.stack([(A + B) @ (A - B) + P + P.mT, P - P.mT], dim=-3)


def as_real(C: Tensor) -> Tensor:
    """The matrix [2 N, 2 N] by which C [N, N] acts on real parts above imaginary parts."""
    return torch.cat([torch.cat([C.real, -C.imag], dim=-1), torch.cat([C.imag, C.real], dim=-1)], dim=-2)


def outer(h: Tensor, weight: Tensor) -> Tensor:
    """``sum weight h h^T`` over scenes and columns of h [B, N, T], as real vectors; [2 N, 2 N]."""
    rows = torch.cat([h.real, h.imag], dim=-2)
    return torch.einsum("bit,bjt->ij", rows * weight, rows.to(weight))


def energy_test(rest: Residual) -> Tensor:
    """p-value [B] of the test for residuals as strong as the fitted sources are in each snapshot."""
    M, K = rest.basis.shape[-2:]
    e = square(rest.field).sum(-1)
    e = e / e.mean(1, keepdim=True)
    whole = [2.0 * (M - K) * e.pow(n).sum(1) for n in (1, 2, 3, 4)]
    U = rest.tangents
    inner = [
        real_inner(U.flatten(1, 2), (U * e.pow(n)[:, :, None, None]).flatten(1, 2)) for n in (1, 2, 3, 4)
    ]
    T = (e * square(rest.r).sum(-1)).sum(1)
    return Moments.off_tangents(whole, inner).tail(T, rest.freedom)


def static_test(rest: Residual) -> Tensor:
    """p-value [B] of the test for one vector that is added to all snapshots."""
    L, M, Q = *rest.r.shape[1:], rest.basis
    C = L * torch.eye(M, dtype=Q.dtype, device=Q.device) - (Q @ Q.mH).sum(1)
    C2 = C @ C
    whole = [2.0 * trace(X).real for X in (C, C2, C2 @ C, C2 @ C2)]
    h = rest.tangents.sum(1)
    inner = [real_inner(h, X) for X in (h, C @ h, C2 @ h, C2 @ (C @ h))]
    T = square(rest.r.sum(1)).sum(-1)
    return Moments.off_tangents(whole, inner).tail(T, rest.freedom)


def outside_test(obs: Observation, rest: Residual, directions: Tensor) -> Tensor:
    """p-value [B] of the test for one more source, where the steering vectors `directions` [G, N] point.

    At each the share of the residual along its responses has a beta distribution. The largest of G counts as
    the largest of ``G / 2`` independent ones, as which it behaves on simulated scenes.
    """
    G = len(directions)
    if not G:
        return torch.full_like(rest.energy, torch.nan)
    X = obs.observe(directions.to(obs.Phi.dtype).expand(len(rest.r), -1, -1))
    return one_more_source(rest, X, INDEPENDENT * G)


def inside_test(
    obs: Observation, rest: Residual, geometry: ArrayGeometry, view: FieldOfView, grid: PolarGrid
) -> Tensor:
    """p-value [B] of the test for one more source inside the field of view, where the residual peaks.

    The share counts as the largest of `INSIDE` times as many independent ones as the lattice has points, as
    which it behaves on simulated scenes; it is smaller where noise has made one of the fitted sources.
    """
    energy = grid.energy(obs.back_project(rest.r.to(obs.Phi.dtype)))
    peaks = clamp_to_view(grid.interpolated_maxima(energy, PEAKS), view).to(geometry.positions)
    X = obs.observe(polar_steering(peaks, geometry).to(obs.Phi.dtype))
    return one_more_source(rest, X, INSIDE * float(grid.inside.sum()))


def one_more_source(rest: Residual, X: Tensor, independent: float) -> Tensor:
    """p-value [B] of the largest share of the residual along one of the responses X [B, L, M, G].

    Under the model the share along any one response is a beta variable, ``Beta(L, freedom / 2 - L)``. The
    largest counts as that of so many `independent` ones.
    """
    L = rest.r.shape[1]
    if rest.r.shape[2] - rest.basis.shape[-1] < 2:
        return torch.full_like(rest.energy, torch.nan)
    Q, r = rest.basis.to(X.dtype), rest.r.to(X.dtype)
    norm = (square(X).sum(-2) - square(Q.mH @ X).sum(-2)).clamp_min(0.0)  # of what is left of them
    norm = norm + norm.mean((1, 2), keepdim=True) * LOST
    share = (square(r.conj().unsqueeze(-2) @ X).squeeze(-2) / norm).sum(1).amax(-1).double()  # P r = r
    p = beta_tail(share.clamp_max(1.0), L, rest.freedom / 2.0 - L)
    return -torch.expm1(independent * torch.log1p(-p.clamp_max(1.0 - 1e-15)))


def beta_tail(x: Tensor, a: int, b: Tensor) -> Tensor:
    """``P(X > x)`` of beta variables with a whole first parameter, [B]: a finite sum."""
    b = b.clamp_min(0.5)
    j = torch.arange(a, dtype=x.dtype, device=x.device)
    terms = torch.lgamma(b.unsqueeze(-1) + j) - torch.lgamma(b).unsqueeze(-1) - torch.lgamma(j + 1.0)
    terms = terms + j * x.clamp_min(torch.finfo(x.dtype).tiny).log().unsqueeze(-1)
    return (b * torch.log1p(-x.clamp_max(1.0 - 1e-15)) + terms.logsumexp(-1)).exp().clamp_max(1.0)


def limits_statistic(rest: Residual, points: Tensor, view: FieldOfView) -> tuple[Tensor, Tensor]:
    """How far [B] the residual would move sources at polar `points` [B, K, 3] out of the field of view.

    ``sum z^2`` over the coordinates on a limit whose move z across it, in deviations, is outward; and how
    many these are [B].
    """
    low, high = polar_limits(points, view)
    near = ON_LIMIT * (high - low)
    out = torch.where(points >= high - near, rest.shift, torch.where(points <= low + near, -rest.shift, 0.0))
    out = out.masked_fill(low >= high, 0.0).clamp_min(0.0)
    return out.square().sum((1, 2)), (out > 0).sum((1, 2))


def limits_tail(statistic: Tensor, moves: Tensor) -> Tensor:
    """p-value of the sum [...] of squares of so many outward moves [...]; NaN where there is none.

    Given which coordinates of sources on a limit move outward, their moves are half normal: a chi-square.
    Sources inside the field of view that were found on a limit move less.
    """
    p = torch.special.gammaincc(moves.clamp_min(1).to(statistic) / 2.0, statistic / 2.0)
    return p.masked_fill(moves == 0, torch.nan)


def antennas_test(rest: Residual) -> Tensor:
    """p-value [B] of the test for residuals that are correlated over the antennas.

    ``sum |r_l^H r_m|^2`` over pairs of snapshots, an unbiased form of John's statistic (Biometrika 58, 1971),
    with its exact mean and variance on the sphere and the shape of a chi-square variable.
    """
    L, (M, K), Q, r = rest.r.shape[1], rest.basis.shape[-2:], rest.basis, rest.r
    m, n = M - K, L * (M - K)
    if L < 2 or m < 2:
        return torch.full_like(rest.energy, torch.nan)
    T = square(r @ r.mH).sum((1, 2)) - square(r).sum(-1).square().sum(1)
    P = torch.eye(M, dtype=Q.dtype, device=Q.device) - Q @ Q.mH  # [B, L, M, M]
    flat = P.flatten(2)
    shared = (flat @ flat.mH).real  # tr P_l P_m
    shared = shared - torch.diag_embed(shared.diagonal(dim1=1, dim2=2))
    around = P @ (P.sum(1, keepdim=True) - P) @ P
    total = shared.sum((1, 2))  # moments of Gaussian residuals first, then on the sphere
    second = total.square() + 4.0 * square(around).sum((1, 2, 3)) + 2.0 * shared.square().sum((1, 2))
    mean = total / (n * (n + 1.0))
    variance = second / (n * (n + 1.0) * (n + 2.0) * (n + 3.0)) - mean.square()
    shape = torch.full_like(mean, m * m - 1.0)
    return gamma_tail((T - mean) / variance.sqrt(), (8.0 / shape).sqrt(), 12.0 / shape)


def snapshots_test(rest: Residual) -> Tensor:
    """p-value [B] of Bartlett's test for equal variance of the residuals of all snapshots."""
    L, (M, K) = rest.r.shape[1], rest.basis.shape[-2:]
    freedom = 2.0 * (M - K) - square(rest.tangents).sum((-2, -1))  # of each snapshot [B, L]
    total = freedom.sum(1)
    variance = square(rest.r).sum(-1) / freedom
    pooled = (freedom * variance).sum(1) / total
    ratio = (variance / pooled.unsqueeze(-1)).clamp_min(torch.finfo(pooled.dtype).tiny)
    correction = 1.0 + (freedom.reciprocal().sum(1) - 1.0 / total) / (3.0 * max(L - 1, 1))
    statistic = -(freedom * ratio.log()).sum(1) / correction
    p = torch.special.gammaincc(torch.full_like(statistic, (L - 1) / 2.0), statistic / 2.0)
    return p if L > 1 else torch.full_like(p, torch.nan)

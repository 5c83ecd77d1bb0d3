"""Ranks, traces, norms and symmetry of the three covariances, beside what they have to be."""

from __future__ import annotations

import torch
from torch import Tensor

from risctl.config import CovarianceConfig
from risctl.covariance import LowRank
from risctl.evaluation.alignment.report import Finding, number
from risctl.evaluation.alignment.sides import SideOutput

GROUP = "health"
RANK_TOLERANCE = 1e-6  # of the largest eigenvalue, from factors in double precision
TRACE_TOLERANCE = 1e-4
EPS_TOLERANCE = 1e-4  # of the smallest eigenvalue, absolute: rounding of entries near one
DISTINCT_BETA = 1e-3  # smallest beta at which R_samp adds to the rank that is counted
NORM_BAND = (30.0, 60.0)  # Frobenius norm of R_samp on default data


@torch.no_grad()
def health_findings(side: SideOutput, stated: CovarianceConfig, default_data: bool = False) -> list[Finding]:
    """Figures of one side's covariances, the worst over the batch.

    Args:
        side: results of the side.
        stated: covariance settings that it should have used.
        default_data: whether the scenes are of the default physics, whose norm of ``R_samp`` is known.
    """
    made, center = side.forward.covariances, stated.center
    N, L = made.samp.F.shape[1:]
    K_max = side.forward.prediction.A_angle.shape[-1]
    limits = {
        "R_samp": (made.samp, min(N, L - 1 if center else L)),
        "R_pred": (made.pred, min(N, 2 * K_max)),
        "R_blend": (made.blend, min(N, 2 * K_max + L)),
    }
    values = torch.cat([torch.view_as_real(R).flatten() for R in side.matrices.values()])
    share = float((~torch.isfinite(values)).double().mean())
    findings = [_finding(side, "share of NaN and Inf", share, "0", share == 0.0)]
    ranks = {}
    for name, (R, most) in limits.items():
        rank = ranks[name] = _ranks(R)
        good = bool((rank <= most).all() and (rank > 0).all())
        findings += [
            _finding(side, f"rank of {name}", _extent(rank), f"at most {most}", good),
            _trace(side, name, R),
            _hermitian(side, name),
        ]
    if DISTINCT_BETA <= stated.beta < 1.0:
        more = ranks["R_blend"] - ranks["R_pred"]
        good = bool((more > 0).logical_or(ranks["R_pred"] == N).all())
        findings.append(
            _finding(side, "rank of R_blend above that of R_pred", _extent(more), "at least 1", good)
        )
    probe = side.hermitian_error
    findings += [
        _finding(side, "Hermitian error of a skewed probe", probe, "0", probe == 0.0),
        _norm(side, NORM_BAND if default_data else (N / L**0.5, float(N))),
        _smallest(side, stated.eps_cov),
    ]
    return findings


def _finding(side: SideOutput, name: str, got: str | float, expected: str, passed: bool) -> Finding:
    shown = float(number(got)) if isinstance(got, float) else got
    return Finding(GROUP, name, shown, expected, passed, side.name)


def _ranks(R: LowRank) -> Tensor:
    """Number of eigenvalues of the factor part above `RANK_TOLERANCE` of the largest, per scene [B]."""
    values = LowRank(R.F.to(torch.complex128)).eigenvalues(R.F.shape[-1])
    return (values > RANK_TOLERANCE * values[:, :1]).sum(dim=1)


def _extent(values: Tensor) -> str:
    return f"{int(values.min())} to {int(values.max())}"


def _trace(side: SideOutput, name: str, R: LowRank) -> Finding:
    N = R.shape[-1]
    want = N * (1.0 + R.load)
    traces = side.matrices[name].diagonal(dim1=1, dim2=2).real.double().sum(-1)
    worst = traces[(traces - want).abs().argmax()]
    good = bool(((traces - want).abs() <= TRACE_TOLERANCE * want).all())
    return _finding(side, f"trace of {name}", float(worst), f"{want:g}", good)


def _hermitian(side: SideOutput, name: str) -> Finding:
    R = side.matrices[name]
    error = float((R - R.mH).abs().max())
    return _finding(side, f"Hermitian error of {name}", error, "0", error == 0.0)


def _norm(side: SideOutput, band: tuple[float, float]) -> Finding:
    norms = torch.linalg.matrix_norm(side.matrices["R_samp"])
    low, high = band
    text = f"{number(float(norms.min()))} to {number(float(norms.max()))}"
    slack = 1.0 + TRACE_TOLERANCE
    good = bool(((norms >= low / slack) & (norms <= high * slack)).all())
    return _finding(side, "norm of R_samp", text, f"{low:.4g} to {high:.4g}", good)


def _smallest(side: SideOutput, eps_cov: float) -> Finding:
    values = torch.linalg.eigvalsh(side.matrices["R_blend"].to(torch.complex128))[:, 0]
    worst = values[(values - eps_cov).abs().argmax()]
    good = bool((values >= eps_cov - EPS_TOLERANCE).all())
    return _finding(side, "smallest eigenvalue of R_blend", float(worst), f"at least {eps_cov:g}", good)

"""Ranks, traces, norms and symmetry of the three covariances, beside what they have to be."""

from functools import partial

import torch
from torch import Tensor

from risctl.config import CovarianceConfig
from risctl.covariance import LowRank
from risctl.evaluation.alignment.report import Finding, finding, number
from risctl.evaluation.alignment.sides import SideOutput

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
    line = partial(finding, "health", side=side.name)
    made = side.forward.covariances
    N, L = made.samp.F.shape[1:]
    K_max = side.forward.prediction.A_angle.shape[-1]
    values = torch.cat([torch.view_as_real(R).flatten() for R in side.matrices.values()])
    share = float((~torch.isfinite(values)).double().mean())
    findings = [line("share of NaN and Inf", share, "0", share == 0.0)]
    ranks = {}
    for name, R, most in (
        ("R_samp", made.samp, min(N, L - 1 if stated.center else L)),
        ("R_pred", made.pred, min(N, 2 * K_max)),
        ("R_blend", made.blend, min(N, 2 * K_max + L)),
    ):
        dense, trace = side.matrices[name], N * (1.0 + R.load)
        eigenvalues = LowRank(R.F.to(torch.complex128)).eigenvalues(R.F.shape[-1])
        rank = ranks[name] = (eigenvalues > RANK_TOLERANCE * eigenvalues[:, :1]).sum(dim=1)
        good = bool(((rank <= most) & (rank > 0)).all())
        findings.append(line(f"rank of {name}", _extent(rank), f"at most {most}", good))
        traces = dense.diagonal(dim1=1, dim2=2).real.double().sum(-1)
        off = (traces - trace).abs()
        good = bool((off <= TRACE_TOLERANCE * trace).all())
        findings.append(line(f"trace of {name}", float(traces[off.argmax()]), f"{trace:g}", good))
        error = float((dense - dense.mH).abs().max())
        findings.append(line(f"Hermitian error of {name}", error, "0", error == 0.0))
    if DISTINCT_BETA <= stated.beta < 1.0:
        more = ranks["R_blend"] - ranks["R_pred"]
        good = bool((more > 0).logical_or(ranks["R_pred"] == N).all())
        findings.append(line("rank of R_blend above that of R_pred", _extent(more), "at least 1", good))
    probe = side.hermitian_error
    findings.append(line("Hermitian error of a skewed probe", probe, "0", probe == 0.0))
    norms, slack = torch.linalg.matrix_norm(side.matrices["R_samp"]), 1.0 + TRACE_TOLERANCE
    low, high = NORM_BAND if default_data else (N / L**0.5, float(N))
    good = bool(((norms >= low / slack) & (norms <= high * slack)).all())
    text = f"{number(float(norms.min()))} to {number(float(norms.max()))}"
    findings.append(line("norm of R_samp", text, f"{low:.4g} to {high:.4g}", good))
    smallest, eps_cov = (
        torch.linalg.eigvalsh(side.matrices["R_blend"].to(torch.complex128))[:, 0],
        stated.eps_cov,
    )
    worst = float(smallest[(smallest - eps_cov).abs().argmax()])
    good = bool((smallest >= eps_cov - EPS_TOLERANCE).all())
    return [*findings, line("smallest eigenvalue of R_blend", worst, f"at least {eps_cov:g}", good)]


def _extent(values: Tensor) -> str:
    return f"{int(values.min())} to {int(values.max())}"

"""The settings of the covariance pipeline as a side used them, estimated from its results.

No configuration is read: beta and the load are the least-squares coefficients of ``R_blend`` in ``R_pred``,
``R_samp`` and I; alpha is the one with which the back-projection solves its own normal equations; the range
weight is the ratio of the two parts of the predicted factor; centring and scaling are seen on the factors.
"""

import torch
from torch import Tensor

from risctl.config import CovarianceConfig
from risctl.evaluation.alignment.report import Finding, finding
from risctl.evaluation.alignment.sides import SideOutput
from risctl.training.forward import Measured

# How far rounding in single precision may move a measured knob, relative. Smaller differences between the
# sides show in the matrices; this says which knob it was, and notices when both sides err alike.
TOLERANCE = {"beta": 1e-4, "tikhonov_alpha": 2e-2, "eps_cov": 1e-3, "range_weight": 1e-3, "trace": 1e-4}
ABSOLUTE = {"beta": 1e-5, "tikhonov_alpha": 5e-7, "eps_cov": 1e-6, "range_weight": 1e-6, "trace": 0.0}
INDISTINCT = 1e-3  # relative distance below which centred and plain snapshots are not told apart


@torch.no_grad()
def measure_knobs(side: SideOutput, measured: Measured) -> dict[str, float | bool | None]:
    """Settings of one side, means over the batch; None for one that has no effect on this batch."""
    made = side.forward.covariances
    beta, load = blend_coefficients(side)
    return {
        "beta": beta,
        "tikhonov_alpha": ridge_strength(made.back_projection, measured),
        "eps_cov": load,
        "range_weight": range_weight(side),
        "center": centred(side),
        "trace": float(made.samp.trace().double().mean()) / made.samp.shape[-1],
    }


def knob_findings(side: SideOutput, measured: Measured, stated: CovarianceConfig) -> list[Finding]:
    """Each measured setting beside the stated one."""
    expected = stated.model_dump() | {"trace": 1.0}
    findings = []
    for name, got in measure_knobs(side, measured).items():
        want, shown = expected[name], "makes no difference" if got is None else got
        if got is None:
            text, good = "any", True
        elif isinstance(want, bool):
            text, good = str(want), got == want
        else:
            good = abs(got - want) <= TOLERANCE[name] * abs(want) + ABSOLUTE[name]
            text = f"{want:g} (to {TOLERANCE[name]:g})"
        label = "trace / N" if name == "trace" else name
        findings.append(finding("knobs", label, shown, text, good, side.name))
    return findings


def blend_coefficients(side: SideOutput) -> tuple[float, float]:
    """beta and the load: least squares of ``R_blend`` on (``R_pred``, ``R_samp``, I), scene by scene."""
    pred, samp, blend = (side.matrices[name].to(torch.complex128) for name in ("R_pred", "R_samp", "R_blend"))
    eye = torch.eye(pred.shape[-1], dtype=pred.dtype, device=pred.device).expand_as(pred)
    X = torch.stack([pred, samp, eye], dim=-1).flatten(1, 2)
    x = torch.linalg.solve(X.mH @ X, X.mH @ blend.flatten(1).unsqueeze(-1)).squeeze(-1).real
    beta = x[:, 1] / (x[:, 0] + x[:, 1])
    return float(beta.mean()), float(x[:, 2].mean())


def ridge_strength(a: Tensor, measured: Measured) -> float:
    """alpha over the mean eigenvalue of ``Phi^H Phi``, from ``Phi^H Phi a + alpha a = Phi^H y``."""
    a, y, H, codes = (x.to(torch.complex128) for x in (a, measured.y, measured.H, measured.codes))
    H = H.unsqueeze(1)
    y, codes, a = (x[:, : a.shape[1]].unsqueeze(-1) for x in (y, codes, a))
    residual = y - H @ (codes * a)
    gradient = codes.conj() * (H.mH @ residual)
    alpha = (a.conj() * gradient).real.sum((-2, -1)) / a.abs().square().sum((-2, -1))
    mean = (H.abs().square() @ codes.abs().square()).sum((-2, -1)) / a.shape[-2]
    return float((alpha / mean).mean())


def range_weight(side: SideOutput) -> float | None:
    """Weight of ``A_range A_range^H`` over that of ``A_angle A_angle^H`` in ``R_pred``, from the factor.

    None where a scene has no range factor, as under plane waves.
    """
    prediction, F = side.forward.prediction, side.forward.covariances.pred.F.to(torch.complex128)
    parts = [x.to(torch.complex128) for x in (prediction.A_angle, prediction.A_range)]
    if not bool((parts[1].abs().square().sum((-2, -1)) > 0).all()):
        return None
    K = parts[0].shape[-1]
    angle, range_ = (
        (x.conj() * f).real.sum((-2, -1)) / x.abs().square().sum((-2, -1))
        for x, f in zip(parts, (F[..., :K], F[..., K:]), strict=True)
    )
    return float((range_ / angle).square().mean())


def centred(side: SideOutput) -> bool | None:
    """Whether ``R_samp`` is that of the centred back-projections or of the plain ones.

    None where the two are the same to rounding: snapshots whose mean is next to nothing, or all there is.
    """
    a = side.forward.covariances.back_projection.to(torch.complex128).mT
    middle = a - a.mean(dim=-1, keepdim=True)
    size, left = torch.linalg.matrix_norm(a), torch.linalg.matrix_norm(middle)
    if bool((left <= INDISTINCT * size).any()):
        return None
    plain, middle = (x / norm[:, None, None] for x, norm in ((a, size), (middle, left)))
    with_mean, without = plain @ plain.mH, middle @ middle.mH
    if bool((torch.linalg.matrix_norm(with_mean - without) <= INDISTINCT).any()):
        return None
    R = side.matrices["R_samp"].to(torch.complex128)
    R = R / R.diagonal(dim1=1, dim2=2).real.sum(-1)[:, None, None]
    nearer = torch.linalg.matrix_norm(R - without) < torch.linalg.matrix_norm(R - with_mean)
    return bool(nearer.all())

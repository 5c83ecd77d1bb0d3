"""Differences of the covariances where bits may differ: batch sizes, precisions, devices."""

from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter

import torch
from torch import Tensor

from risctl.evaluation.alignment.report import Finding, finding
from risctl.evaluation.alignment.sides import (
    MeasuredArrays,
    SideOutput,
    TwoSides,
    only_measured,
    relative_difference,
)
from risctl.training.forward import Measured

BATCH_TOLERANCE = 1e-3  # of R_blend: other batch sizes add numbers up in another order, in the network too
SAME_FACTORS_TOLERANCE = 1e-4  # of all three, from the same predicted factors, unless the ridge says more
ROUNDINGS = 16.0  # units of rounding, times the condition of the ridge system


def tolerance_findings(sides: TwoSides, measured: Measured, whole: SideOutput) -> list[Finding]:
    """The inference side against itself with another batch size, in double precision, on the accelerator."""
    inputs, blend = only_measured(measured), whole.matrices["R_blend"]
    rows = torch.split(torch.arange(len(inputs.y), device=inputs.y.device), 1)
    singly = [sides.run("inference", only_measured(inputs, itemgetter(i))) for i in rows]
    worst = relative_difference(blend, torch.cat([side.matrices["R_blend"] for side in singly]))
    name = f"R_blend, {len(singly)} scenes at once and singly"
    found = [finding("tolerance", name, worst, f"at most {BATCH_TOLERANCE:g}", worst <= BATCH_TOLERANCE)]
    found += _same_factors(sides, inputs, whole, "complex64 and complex128", lambda x: x.to(torch.complex128))
    if torch.cuda.is_available() and inputs.y.device.type == "cpu":
        found += _same_factors(sides, inputs, whole, "CPU and CUDA", lambda x: x.to("cuda"))
    if sides.precision != "float32":  # reported, for inference never uses it
        half = sides.run("training", inputs, sides.precision).matrices["R_blend"]
        worst = relative_difference(blend, half)
        name = f"R_blend, network in {sides.precision} and float32"
        found.append(finding("tolerance", name, worst, "finite", worst < float("inf")))
    return found


def ridge_condition(inputs: MeasuredArrays, alpha: float) -> float:
    """Largest condition number of ``Phi_l Phi_l^H + alpha_l I``, the moduli of the codes averaged."""
    H, power = inputs.H.to(torch.complex128), inputs.codes.abs().square().double().mean(1, keepdim=True)
    values = torch.linalg.eigvalsh((H * power) @ H.mH)
    load = alpha * values.sum(-1) / H.shape[-1]
    return float(((values[:, -1] + load) / (values[:, 0].clamp_min(0.0) + load)).max())


def _same_factors(
    sides: TwoSides, inputs: MeasuredArrays, whole: SideOutput, what: str, change: Callable[[Tensor], Tensor]
) -> list[Finding]:
    prediction = whole.forward.prediction
    fixed = replace(prediction, A_angle=change(prediction.A_angle), A_range=change(prediction.A_range))
    altered = sides.with_network("inference", lambda y, H, codes: fixed)
    changed = altered.run("inference", only_measured(inputs, change))
    rounding = ROUNDINGS * torch.finfo(torch.float32).eps
    limit = max(SAME_FACTORS_TOLERANCE, rounding * ridge_condition(inputs, sides.stated.tikhonov_alpha))
    worst = {name: relative_difference(whole.matrices[name], R) for name, R in changed.matrices.items()}
    return [
        finding("tolerance", f"{name}, {what}", x, f"at most {limit:g}", x <= limit)
        for name, x in worst.items()
    ]

"""How far the same covariances may lie apart where bits may differ: batch sizes, precisions, devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from risctl.evaluation.alignment.isolation import FixedPrediction
from risctl.evaluation.alignment.report import Finding, number
from risctl.evaluation.alignment.subject import Measurements, Side, Subject, relative_difference
from risctl.training.forward import Measured

GROUP = "tolerance"
BATCH_TOLERANCE = 1e-3  # of R_blend: other batch sizes add numbers up in another order, in the network too
SAME_FACTORS_TOLERANCE = 1e-4  # of all three, from the same predicted factors


def tolerance_findings(subject: Subject, measured: Measured, whole: Side) -> list[Finding]:
    """The inference side against itself with another batch size, in double precision, on the accelerator."""
    inputs = Measurements.of(measured)
    found = [batch_size_finding(subject, inputs, whole)]
    found += _same_factors(
        subject, inputs, whole, "complex64 and complex128", lambda x: x.to(torch.complex128)
    )
    if torch.cuda.is_available() and inputs.y.device.type == "cpu":
        found += _same_factors(subject, inputs, whole, "CPU and CUDA", lambda x: x.to("cuda"))
    return found


def batch_size_finding(subject: Subject, inputs: Measurements, whole: Side) -> Finding:
    """The batch at once against scene by scene."""
    rows = torch.split(torch.arange(len(inputs.y), device=inputs.y.device), 1)
    singles = [
        subject.run("inference", Measurements(inputs.y[i], inputs.H[i], inputs.codes[i])).matrices["R_blend"]
        for i in rows
    ]
    worst = relative_difference(whole.matrices["R_blend"], torch.cat(singles))
    return _finding(f"R_blend, {len(singles)} scenes at once and singly", worst, BATCH_TOLERANCE)


def _same_factors(
    subject: Subject, inputs: Measurements, whole: Side, what: str, change: Callable[[Tensor], Tensor]
) -> list[Finding]:
    said = whole.forward.prediction
    fixed = FixedPrediction(replace(said, A_angle=change(said.A_angle), A_range=change(said.A_range)))
    changed = subject.with_network("inference", fixed).run("inference", inputs.map(change))
    return [
        _finding(f"{name}, {what}", relative_difference(whole.matrices[name], R), SAME_FACTORS_TOLERANCE)
        for name, R in changed.matrices.items()
    ]


def _finding(name: str, worst: float, limit: float) -> Finding:
    return Finding(GROUP, name, float(number(worst)), f"at most {limit:g}", worst <= limit)

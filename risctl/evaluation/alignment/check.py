"""The whole check of one network on one batch, and the cheap part that every command runs first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from risctl.config import CovarianceConfig, PhysicsConfig, parse_section
from risctl.config.schema import Config
from risctl.errors import CheckFailedError, InputError
from risctl.evaluation.alignment.health import health_findings
from risctl.evaluation.alignment.isolation import gradient_findings, leakage_findings
from risctl.evaluation.alignment.knobs import knob_findings
from risctl.evaluation.alignment.report import Finding, Report, number
from risctl.evaluation.alignment.subject import Measurements, Side, Subject, relative_difference
from risctl.evaluation.alignment.tolerance import tolerance_findings
from risctl.physics import Scenes
from risctl.training.forward import Measured

# alpha cannot be told from rounding where a user's channel is badly conditioned; both sides may well agree.
ABOUT_THE_SCENES = ("tikhonov_alpha",)
SPOT_SCENES = 4


def check_alignment(subject: Subject, scenes: Scenes, weights: Sequence[Tensor]) -> Report:
    """Run both sides on the same batch and look at everything.

    Args:
        subject: the network and its two sides. scenes: the batch. weights: trainable parameters.
    """
    training, inference = sides(subject, scenes)
    findings = [
        *core_findings(subject, scenes, training, inference),
        *gradient_findings(subject, scenes, weights),
        *leakage_findings(subject, scenes),
        *tolerance_findings(subject, scenes, inference),
        refusal_finding(),
    ]
    return Report(tuple(findings))


def spot_check(subject: Subject, measured: Measured) -> Report:
    """The cheap part: equality to the bit, measured knobs, health, on the first batch of a command.

    Raises:
        CheckFailedError: naming the first line that did not pass.
    """
    first = Measurements.of(measured).map(lambda x: x[:SPOT_SCENES])
    found = core_findings(subject, first, *sides(subject, first))
    report = Report(tuple(f for f in found if f.name not in ABOUT_THE_SCENES))
    for bad in report.failures:
        raise CheckFailedError(
            f"training and inference are not aligned: {bad.label}: expected {bad.expected}, got {bad.got}"
        )
    return report


@torch.no_grad()
def sides(subject: Subject, measured: Measured) -> tuple[Side, Side]:
    """Both sides on the same batch."""
    return subject.run("training", measured), subject.run("inference", measured)


def core_findings(subject: Subject, measured: Measured, training: Side, inference: Side) -> list[Finding]:
    """Equality, knobs and health of both sides."""
    findings = equality_findings(training, inference)
    for side in (training, inference):
        findings += knob_findings(side, measured, subject.stated)
        findings += health_findings(side, subject.stated, default_data(subject))
    return findings


def default_data(subject: Subject) -> bool:
    """Whether norms can be held against those of the default scenes."""
    return subject.physics == PhysicsConfig() and subject.stated == CovarianceConfig()


def equality_findings(training: Side, inference: Side) -> list[Finding]:
    """Largest difference of each covariance between the sides: exactly zero."""
    worst = {name: relative_difference(R, inference.matrices[name]) for name, R in training.matrices.items()}
    return [
        Finding("equality", f"{name}: largest relative difference", float(number(x)), "0", x == 0.0)
        for name, x in worst.items()
    ]


def refusal_finding() -> Finding:
    """Coherent data with centring cannot even be configured."""
    name, expected = "coherent symbols with centring, which takes them out", "refused"
    try:
        parse_section(Config, {"physics": {"symbols": "coherent"}, "covariance": {"center": True}}, "check")
    except InputError:
        return Finding("refusal", name, "refused", expected, True)
    return Finding("refusal", name, "accepted", expected, False)

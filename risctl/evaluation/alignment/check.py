"""The whole check of one network on one batch, and the cheap part that every command runs first."""

from collections.abc import Sequence
from operator import itemgetter

import torch
from torch import Tensor

from risctl.config import CovarianceConfig, PhysicsConfig, parse_section
from risctl.config.schema import Config
from risctl.errors import CheckFailedError, InputError
from risctl.evaluation.alignment.health import health_findings
from risctl.evaluation.alignment.isolation import gradient_findings, leakage_findings
from risctl.evaluation.alignment.knobs import knob_findings
from risctl.evaluation.alignment.report import Finding, Report, finding, number
from risctl.evaluation.alignment.sides import SIDES, SideOutput, TwoSides, only_measured, relative_difference
from risctl.evaluation.alignment.tolerance import tolerance_findings
from risctl.losses import Truth
from risctl.physics import ArrayGeometry, Scenes
from risctl.training.forward import Measured

# Lines about the scenes, not about the two sides: a badly conditioned channel, one source at high SNR or
# another number of snapshots takes them out of their bands, whatever the two sides do.
DATA_DEPENDENT = ("tikhonov_alpha", "norm of R_samp", "rank of R_blend above that of R_pred")
SPOT_SCENES = 4
NMSE_TOLERANCE = 1e-3  # of the loss's NMSE, single precision from factors, against dense matrices
GUARD = 1e-12


def check_alignment(sides: TwoSides, scenes: Scenes, weights: Sequence[Tensor]) -> Report:
    """Run both sides on the same batch and compare everything.

    Args:
        sides: network, training side and inference side.
        scenes: the batch.
        weights: trainable parameters.
    """
    with torch.no_grad():
        training, inference = [sides.run(name, scenes) for name in SIDES]
    return Report(
        (
            *core_findings(sides, scenes, training, inference),
            *loss_findings(sides, scenes, training, inference),
            *gradient_findings(sides, scenes, weights),
            *leakage_findings(sides, scenes),
            *tolerance_findings(sides, scenes, inference),
            refusal_finding(),
        )
    )


@torch.no_grad()
def spot_check(sides: TwoSides, measured: Measured) -> Report:
    """The cheap part, on the first scenes of a command: equality to the bit, measured settings, health.

    Raises:
        CheckFailedError: naming the first line that did not pass.
    """
    first: Measured
    if isinstance(measured, Scenes):
        first = measured[:SPOT_SCENES]
    else:
        first = only_measured(measured, itemgetter(slice(SPOT_SCENES)))
    found = core_findings(sides, first, *[sides.run(name, first) for name in SIDES])
    report = Report(tuple(f for f in found if f.name not in DATA_DEPENDENT))
    if report.failures:
        bad = report.failures[0]
        where = f"{bad.label}: expected {bad.expected}, got {bad.got}"
        raise CheckFailedError(f"training and inference are not aligned: {where}")
    return report


def core_findings(
    sides: TwoSides, measured: Measured, training: SideOutput, inference: SideOutput
) -> list[Finding]:
    """Equality, settings and health of both sides."""
    findings = equality_findings(training, inference)
    # Norms are compared with those of the default scenes only where the scenes are of their kind.
    default_data = sides.physics == PhysicsConfig() and sides.stated == CovarianceConfig()
    for side in (training, inference):
        findings += knob_findings(side, measured, sides.stated)
        findings += health_findings(side, sides.stated, default_data)
    return findings


def equality_findings(training: SideOutput, inference: SideOutput) -> list[Finding]:
    """Largest difference of each covariance, and of the loss, between the sides: exactly zero."""
    worst = {name: relative_difference(R, inference.matrices[name]) for name, R in training.matrices.items()}
    if training.loss is not None and inference.loss is not None:
        worst["training loss"] = relative_difference(training.loss.total, inference.loss.total)
    label = "largest relative difference"
    return [finding("equality", f"{name}: {label}", x, "0", x == 0.0) for name, x in worst.items()]


@torch.no_grad()
def loss_findings(
    sides: TwoSides, scenes: Scenes, training: SideOutput, inference: SideOutput
) -> list[Finding]:
    """Covariance errors in the step's loss, against those of the inference side's dense matrices.

    ``NMSE = (lam_diag ||D||^2 / ||D_true||^2 + lam_off ||O||^2 / ||O_true||^2) / (lam_diag + lam_off)``, D
    and O the diagonal and the off-diagonal part of ``R - R_true``, R the matrix that inference uses.
    """
    if training.loss is None:
        return []
    truth = Truth.of(scenes, ArrayGeometry.from_config(sides.physics, scenes.y.device))
    R_true, loss = truth.covariance().dense().to(torch.complex128), sides.loss
    diagonal = torch.eye(R_true.shape[-1], dtype=torch.bool, device=R_true.device)
    findings = []
    for term, name in (("cov", "R_blend"), ("cov_pred", "R_pred")):
        error = inference.matrices[name].to(torch.complex128) - R_true
        nmse = torch.zeros(len(scenes), dtype=torch.float64, device=R_true.device)
        for weight, part in ((loss.lam_diag, diagonal), (loss.lam_off, ~diagonal)):
            size = torch.linalg.vector_norm(R_true * part, dim=(1, 2)).square()
            nmse += weight * torch.linalg.vector_norm(error * part, dim=(1, 2)).square() / (size + GUARD)
        want = float(nmse.mean()) / (loss.lam_diag + loss.lam_off + GUARD)
        got = float(training.loss.terms[term])
        good = abs(got - want) <= NMSE_TOLERANCE * (want + NMSE_TOLERANCE)
        text = f"{number(want)} (to {NMSE_TOLERANCE:g})"
        findings.append(finding("loss", f"{term}: NMSE of {name}", got, text, good, "training"))
    return findings


def refusal_finding() -> Finding:
    """Coherent data with centring cannot be configured."""
    got = "accepted"
    try:
        parse_section(Config, {"physics": {"symbols": "constant"}, "covariance": {"center": True}}, "check")
    except InputError:
        got = "refused"
    name = "constant symbols with centring, which takes them out"
    return Finding("refusal", name, got, "refused", got == "refused")

"""Isolation of the covariances: where gradients flow and where not, and that the truth has no influence."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from risctl.evaluation.alignment.report import Finding, number
from risctl.evaluation.alignment.sides import SIDES, SideOutput, TwoSides, only_measured
from risctl.physics import Scenes
from risctl.training.forward import Measured


def gradient_findings(sides: TwoSides, measured: Measured, weights: Sequence[Tensor]) -> list[Finding]:
    """Gradient of ``||R_blend||_F^2`` on the training side.

    It has to reach the weights and both factors, in every scene, and no measurement by way of ``R_samp``.
    """
    side = sides.run("training", measured)
    prediction, loss, findings = side.forward.prediction, _energy(side), []
    # Plane waves have no range factor, and beta = 1 leaves R_samp alone.
    has_range = bool(sides.stated.range_weight) and bool(prediction.A_range.detach().abs().sum())
    names = ("A_angle", "A_range")[: 1 + has_range] if sides.stated.beta < 1.0 else ()
    for name in names:  # through this factor alone
        factor = getattr(prediction, name)
        arriving = torch.autograd.grad(loss, factor, retain_graph=True, allow_unused=True)[0]
        parts: tuple[Tensor | None, ...] = ()
        if arriving is not None:
            parts = torch.autograd.grad(factor, weights, arriving, retain_graph=True, allow_unused=True)
        found = [g.flatten() for g in parts if g is not None]
        findings.append(_reaches(f"the weights by way of {name}", torch.cat(found)[None] if found else None))
    factors = [x.detach().clone().requires_grad_() for x in (prediction.A_angle, prediction.A_range)]
    # A network whose answer is constant: its input has an effect through R_samp only.
    fixed = replace(prediction, A_angle=factors[0], A_range=factors[1])
    inputs = only_measured(measured, lambda x: x.detach().clone().requires_grad_())
    again = sides.with_network("training", lambda y, H, codes: fixed).run("training", inputs)
    leaves = [*factors, inputs.y, inputs.H, inputs.codes]
    through = torch.autograd.grad(_energy(again), leaves, allow_unused=True)
    findings += [_reaches(name, gradient) for name, gradient in zip(names, through, strict=False)]
    for name, gradient in zip(("y", "H", "codes"), through[2:], strict=True):
        label = f"gradient of R_blend to {name} through R_samp"
        got = "none" if gradient is None else number(float(gradient.abs().max()))
        findings.append(Finding("isolation", label, got, "none", gradient is None))
    return findings


def leakage_findings(sides: TwoSides, scenes: Scenes) -> list[Finding]:
    """Equality to the bit of ``R_blend`` on both sides after the truth of the scenes was replaced."""
    other = replace(
        scenes,
        azimuth=scenes.azimuth.flip(0) * 0.5,
        elevation=scenes.elevation.flip(0) * 0.5,
        range=scenes.range.flip(0) + 1.0,
        power=scenes.power.flip(0) * 3.0,
        symbols=scenes.symbols.flip(0),
        num_sources=scenes.num_sources.flip(0) % scenes.azimuth.shape[1] + 1,
        snr_db=scenes.snr_db + 7.0,
        noise_var=scenes.noise_var * 2.0,
    )
    findings = []
    for name in SIDES:
        before, after = (sides.run(name, x).matrices["R_blend"] for x in (scenes, other))
        same = torch.equal(before, after)
        text = "unchanged" if same else "changed"
        findings.append(Finding("isolation", "R_blend under another truth", text, "unchanged", same, name))
    return findings


def _energy(side: SideOutput) -> Tensor:
    return torch.view_as_real(side.matrices["R_blend"]).square().sum()


def _reaches(name: str, gradient: Tensor | None) -> Finding:
    """The gradient has to be there, finite, and non-zero in every row."""
    got, good = "none", False
    if gradient is not None:
        size = gradient.flatten(1).abs().amax(dim=1)
        got, good = f"{number(float(size.min()))} or more", bool((torch.isfinite(size) & (size > 0)).all())
    return Finding("isolation", f"gradient of R_blend to {name}", got, "finite, not zero", good)

"""Self-test of the check: one alteration at a time, on one side only, each of which has to be noticed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from risctl.config import CovarianceConfig
from risctl.covariance import LowRank, lowrank, pipeline
from risctl.errors import RisctlError
from risctl.evaluation.alignment.check import check_alignment
from risctl.evaluation.alignment.report import Finding
from risctl.evaluation.alignment.sides import SIDES, InputChange, MeasuredArrays, SideName, TwoSides
from risctl.losses import Truth, total_loss
from risctl.model import Forward
from risctl.physics import ArrayGeometry, Scenes
from risctl.training import objective, step
from risctl.training.forward import Measured, forward_pass
from risctl.training.generators import Generators

NUDGE = 1e-3
JITTER = 0.01
KNOBS = ("beta", "tikhonov_alpha", "eps_cov", "range_weight")
DETACH = "detach of R_samp removed"
STEP = "training step: "
Alter = Callable[[TwoSides, SideName], TwoSides]


@dataclass(frozen=True)
class MutantResult:
    """Result of the check on one mutant.

    Attributes:
        mutant: what was altered.
        side: on which side.
        caught_by: lines of the check that did not pass; none if it survived.
    """

    mutant: str
    side: SideName
    caught_by: tuple[Finding, ...]

    @property
    def caught(self) -> bool:
        """Whether any line of the check failed."""
        return bool(self.caught_by)


def self_test(sides: TwoSides, scenes: Scenes, weights: Sequence[Tensor]) -> Iterator[MutantResult]:
    """Run the check on every mutant, one after another."""
    for name, side, alter in mutants(sides, scenes):
        try:
            caught = check_alignment(alter(sides, side), scenes, weights).failures
        except RisctlError as error:  # an alteration with which nothing can be computed
            caught = (Finding("error", type(error).__name__, str(error), "none", False),)
        yield MutantResult(name, side, caught)


def count_mutants(sides: TwoSides, scenes: Scenes) -> int:
    """Number of mutants."""
    return len(mutants(sides, scenes))


def mutants(sides: TwoSides, scenes: Scenes) -> list[tuple[str, SideName, Alter]]:
    """Every alteration on either side; the step's own on the training side only.

    Inference keeps no graph for a removed `detach` to leak through.
    """
    return [
        (name, side, alter)
        for name, alter in alterations(sides, scenes).items()
        for side in SIDES
        if side == "training" or not (name == DETACH or name.startswith(STEP))
    ]


def alterations(sides: TwoSides, scenes: Scenes) -> dict[str, Alter]:
    """Every alteration by its name, as a function that makes the altered sides.

    Left out are those that alter no number: the range weight without a range factor, conjugated real codes, a
    load that is zero, the order of a single snapshot, a ridge so weak that a part in a thousand is rounding.
    """
    used = list(KNOBS)
    if not bool(sides.run("inference", scenes).forward.prediction.A_range.abs().sum()):
        used.remove("range_weight")
    if sides.stated.tikhonov_alpha * NUDGE < torch.finfo(torch.float32).eps:
        used.remove("tikhonov_alpha")
    complex_codes = bool(scenes.codes.imag.abs().max() > 1e-3 * scenes.codes.abs().max())  # past rounding
    found = {f"{name} by one part in a thousand": _knobs(partial(_altered, name)) for name in used}
    found |= {"centring flipped": _knobs(partial(_altered, "center"))}
    found |= _pipeline_alterations(sides, scenes, complex_codes) | _step_alterations(sides.stated, used)
    if complex_codes:
        found["codes conjugated"] = _given(lambda m: MeasuredArrays(m.y, m.H, m.codes.conj_physical()))
    if scenes.y.shape[1] > 1:
        found["last snapshot dropped"] = _given(lambda m: MeasuredArrays(m.y[:, :-1], m.H, m.codes[:, :-1]))
        name = "snapshots not in the order of their codes"
        found[name] = _given(lambda m: MeasuredArrays(m.y.flip(1), m.H, m.codes))
    return found


def _pipeline_alterations(sides: TwoSides, scenes: Scenes, complex_codes: bool) -> dict[str, Alter]:
    """Alterations of the code of the covariance pipeline."""
    weight, blend, back_project = pipeline.blend_weight, pipeline.blended_covariance, pipeline.back_project
    geometry = ArrayGeometry.from_config(sides.physics, scenes.y.device)

    def jittered(samp: LowRank, beta: float, _offset: Tensor | None) -> Tensor:
        offset = -JITTER if beta > 0.5 else JITTER
        return weight(samp, beta, torch.full(samp.F.shape[:1], offset, device=samp.F.device))

    def true_for_sampled(measured: Measured) -> AbstractContextManager[Any]:
        """The true covariance of the scenes that a side is given, in place of the sample covariance."""
        truth = Truth.of(measured if isinstance(measured, Scenes) else scenes, geometry).covariance().F
        return patch.object(pipeline, "sample_factor", lambda a, center: truth[: len(a)].to(a))

    found: dict[str, Alter] = {
        "beta jitter left on": _patched(pipeline, "blend_weight", jittered),
        "trace scaled to 1": _patched(
            pipeline, "_to_trace_n", lambda F: F / torch.linalg.matrix_norm(F)[:, None, None]
        ),
        "R_true in place of R_samp": lambda sides, side: replace(sides, patches={side: true_for_sampled}),
        DETACH: _patched(LowRank, "detach", lambda R: R),
        "Hermitisation dropped": _patched(lowrank, "hermitian_part", lambda R: R),
    }
    if sides.stated.eps_cov:
        found["loading added twice"] = _patched(
            pipeline, "blended_covariance", lambda pred, samp, beta, eps: blend(pred, samp, beta, 2.0 * eps)
        )
    if complex_codes:
        found["codes conjugated in the ridge"] = _patched(
            pipeline,
            "back_project",
            lambda y, H, codes, *rest: back_project(y, H, codes.conj_physical(), *rest),
        )
    return found


def _step_alterations(stated: CovarianceConfig, used: Sequence[str]) -> dict[str, Alter]:
    """Alterations of the training step's code, which is configured as inference is."""

    def with_knobs(knobs: CovarianceConfig, network: Any, measured: Any, _knobs: Any, *rest: Any) -> Forward:
        return forward_pass(network, measured, knobs, *rest)

    def of_prediction(forward: Forward, *rest: Any) -> Any:
        made = forward.covariances
        return total_loss(replace(forward, covariances=replace(made, blend=made.pred)), *rest)

    def jitter(_generators: Generators, count: int, _half_width: float) -> Tensor:
        return torch.linspace(-JITTER, JITTER, count)

    others = {f"another {name}": _altered(name, stated) for name in used if name != "beta"}
    others["another beta"] = stated.model_copy(update={"beta": 0.5 if stated.beta != 0.5 else 0.4})
    others["centring flipped"] = _altered("center", stated)
    found = {
        f"{STEP}{name}": _patched(step, "forward_pass", partial(with_knobs, knobs))
        for name, knobs in others.items()
    }
    found[f"{STEP}beta jitter although it is 0"] = _patched(Generators, "beta_offsets", jitter)
    if stated.beta > 0:
        found[f"{STEP}losses of R_pred"] = _patched(objective, "total_loss", of_prediction)
    return found


def _knobs(change: Callable[[CovarianceConfig], CovarianceConfig]) -> Alter:
    """Alteration of the covariance settings of a side."""

    def alter(sides: TwoSides, side: SideName) -> TwoSides:
        own = sides.training_covariance if side == "training" else sides.estimator.covariance
        return sides.with_covariance(side, change(own))

    return alter


def _patched(owner: object, name: str, replacement: Callable[..., Any]) -> Alter:
    """Alteration that replaces a function of the library while a side runs."""
    return lambda sides, side: replace(
        sides, patches={side: lambda _measured: patch.object(owner, name, replacement)}
    )


def _given(change: InputChange) -> Alter:
    """Alteration of what a side is given."""
    return lambda sides, side: replace(sides, inputs={side: change})


def _altered(name: str, knobs: CovarianceConfig) -> CovarianceConfig:
    """Centring flipped, another setting moved by a part in a thousand (by that much from zero)."""
    value = getattr(knobs, name)
    step = -NUDGE * value if name == "beta" and value > 0.5 else NUDGE * (value or 1.0)
    return knobs.model_copy(update={name: not value if name == "center" else value + step})

"""Self-test of the check: one alteration at a time, on one side only, each of which has to be noticed."""

from __future__ import annotations

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
from risctl.data import Measurements
from risctl.errors import RisctlError
from risctl.evaluation.alignment.check import check_alignment
from risctl.evaluation.alignment.report import Finding
from risctl.evaluation.alignment.sides import SIDES, InputChange, Patch, SideName, TwoSides
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
    knobs: dict[str, Alter] = {f"{name} by one part in a thousand": partial(_knob, name) for name in used}
    code = _code_alterations(sides, scenes) | _step_alterations(sides.stated, used)
    return {
        **knobs,
        "centring flipped": _centring,
        **{name: partial(_patched_side, context) for name, context in code.items()},
        **{name: partial(_changed_input, change) for name, change in _input_alterations(scenes).items()},
    }


def _code_alterations(sides: TwoSides, scenes: Scenes) -> dict[str, Patch]:
    geometry = ArrayGeometry.from_config(sides.physics, scenes.y.device)
    code: dict[str, Patch] = {
        "beta jitter left on": _patched(pipeline, "blend_weight", _jittered),
        "trace scaled to 1": _patched(pipeline, "_to_trace_n", _to_trace_one),
        "R_true in place of R_samp": partial(_true_for_sampled, scenes, geometry),
        DETACH: _patched(LowRank, "detach", _itself),
        "Hermitisation dropped": _patched(lowrank, "hermitian_part", _itself),
    }
    if sides.stated.eps_cov:
        code["loading added twice"] = _patched(pipeline, "blended_covariance", _loaded_twice)
    if _complex(scenes.codes):
        code["codes conjugated in the ridge"] = _patched(pipeline, "back_project", _conjugated)
    return code


def _step_alterations(stated: CovarianceConfig, used: Sequence[str]) -> dict[str, Patch]:
    """Alterations of the training step's code, which is configured as inference is."""
    others = {f"{STEP}another {name}": _nudged(stated, name) for name in used if name != "beta"}
    others[f"{STEP}another beta"] = stated.model_copy(update={"beta": 0.5 if stated.beta != 0.5 else 0.4})
    others[f"{STEP}centring flipped"] = stated.model_copy(update={"center": not stated.center})
    code = {name: _patched(step, "forward_pass", partial(_with_knobs, x)) for name, x in others.items()}
    code[f"{STEP}beta jitter although it is 0"] = _patched(Generators, "beta_offsets", _always_jittered)
    if stated.beta > 0:
        code[f"{STEP}losses of R_pred"] = _patched(objective, "total_loss", _loss_of_prediction)
    return code


def _input_alterations(scenes: Scenes) -> dict[str, InputChange]:
    changes: dict[str, InputChange] = {}
    if _complex(scenes.codes):
        changes["codes conjugated"] = lambda m: Measurements(m.y, m.H, m.codes.conj().resolve_conj())
    if scenes.y.shape[1] > 1:
        changes["last snapshot dropped"] = lambda m: Measurements(m.y[:, :-1], m.H, m.codes[:, :-1])
        changes["snapshots not in the order of their codes"] = lambda m: Measurements(
            m.y.flip(1), m.H, m.codes
        )
    return changes


def _complex(codes: Tensor) -> bool:
    """Whether conjugation changes the codes by more than rounding."""
    return bool(codes.imag.abs().max() > 1e-3 * codes.abs().max())


_blend_weight, _blend, _back_project = (
    pipeline.blend_weight,
    pipeline.blended_covariance,
    pipeline.back_project,
)


def _nudged(knobs: CovarianceConfig, name: str) -> CovarianceConfig:
    value = getattr(knobs, name)
    value = value - NUDGE * value if name == "beta" and value > 0.5 else value + NUDGE * (value or 1.0)
    return knobs.model_copy(update={name: value})


def _covariance_of(sides: TwoSides, side: SideName) -> CovarianceConfig:
    return sides.training_covariance if side == "training" else sides.estimator.covariance


def _knob(name: str, sides: TwoSides, side: SideName) -> TwoSides:
    return sides.with_covariance(side, _nudged(_covariance_of(sides, side), name))


def _centring(sides: TwoSides, side: SideName) -> TwoSides:
    knobs = _covariance_of(sides, side)
    return sides.with_covariance(side, knobs.model_copy(update={"center": not knobs.center}))


def _patched(owner: object, name: str, replacement: Callable[..., Any]) -> Patch:
    """Context in which a function of the library is replaced."""
    return lambda _measured: patch.object(owner, name, replacement)


def _patched_side(context: Patch, sides: TwoSides, side: SideName) -> TwoSides:
    return replace(sides, patches={side: context})


def _changed_input(change: InputChange, sides: TwoSides, side: SideName) -> TwoSides:
    return replace(sides, inputs={side: change})


def _true_for_sampled(
    known: Scenes, geometry: ArrayGeometry, measured: Measured
) -> AbstractContextManager[Any]:
    """The true covariance of the scenes that a side is given, in place of the sample covariance."""
    scenes = measured if isinstance(measured, Scenes) else known
    truth = Truth.of(scenes, geometry).covariance().F
    return patch.object(pipeline, "sample_factor", lambda a, center: truth[: len(a)].to(a))


def _itself(x: Any) -> Any:
    return x


def _jittered(samp: LowRank, beta: float, beta_offset: Tensor | None) -> Tensor:
    offset = -JITTER if beta > 0.5 else JITTER
    return _blend_weight(samp, beta, torch.full(samp.F.shape[:1], offset, device=samp.F.device))


def _always_jittered(_generators: Generators, count: int, _half_width: float) -> Tensor:
    return torch.linspace(-JITTER, JITTER, count)


def _with_knobs(
    knobs: CovarianceConfig, network: Any, measured: Any, _covariance: Any, *rest: Any
) -> Forward:
    return forward_pass(network, measured, knobs, *rest)


def _loss_of_prediction(forward: Forward, *rest: Any) -> Any:
    made = forward.covariances
    return total_loss(replace(forward, covariances=replace(made, blend=made.pred)), *rest)


def _to_trace_one(F: Tensor) -> Tensor:
    return F / torch.linalg.matrix_norm(F)[:, None, None]


def _loaded_twice(pred: LowRank, samp: LowRank, beta: Tensor, eps_cov: float) -> LowRank:
    return _blend(pred, samp, beta, 2.0 * eps_cov)


def _conjugated(y: Tensor, H: Tensor, codes: Tensor, covariance: CovarianceConfig) -> Tensor:
    return _back_project(y, H, codes.conj().resolve_conj(), covariance)

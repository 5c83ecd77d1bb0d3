"""Does the check notice? One thing altered at a time, on one side only."""

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
from risctl.errors import RisctlError
from risctl.evaluation.alignment.check import check_alignment
from risctl.evaluation.alignment.report import Finding
from risctl.evaluation.alignment.subject import SIDES, Around, Measurements, SideName, Subject
from risctl.losses import Truth
from risctl.physics import ArrayGeometry, Scenes
from risctl.training.forward import Measured

NUDGE = 1e-3
JITTER = 0.01
KNOBS = ("beta", "tikhonov_alpha", "eps_cov", "range_weight")
Alter = Callable[[Subject, SideName], Subject]


@dataclass(frozen=True)
class Verdict:
    """What became of one mutant.

    Attributes:
        mutant: what was altered. side: where.
        caught_by: the lines of the check that did not pass; none if it survived.
    """

    mutant: str
    side: SideName
    caught_by: tuple[Finding, ...]

    @property
    def caught(self) -> bool:
        """Whether any line of the check noticed."""
        return bool(self.caught_by)


def self_test(subject: Subject, scenes: Scenes, weights: Sequence[Tensor]) -> Iterator[Verdict]:
    """Run the check on every mutant, one after another."""
    for name, side, alter in mutants(subject, scenes):
        try:
            caught = check_alignment(alter(subject, side), scenes, weights).failures
        except RisctlError as error:  # so loud an alteration that nothing could be computed
            caught = (Finding("error", type(error).__name__, str(error), "none", False),)
        yield Verdict(name, side, caught)


def count_mutants(subject: Subject, scenes: Scenes) -> int:
    """How many there are."""
    return len(mutants(subject, scenes))


def mutants(subject: Subject, scenes: Scenes) -> list[tuple[str, SideName, Alter]]:
    """Every alteration on either side; inference keeps no graph for a removed `detach` to leak through."""
    return [
        (name, side, alter)
        for name, alter in alterations(subject, scenes).items()
        for side in SIDES
        if (name, side) != (DETACH, "inference")
    ]


DETACH = "detach of R_samp removed"


def alterations(subject: Subject, scenes: Scenes) -> dict[str, Alter]:
    """Every alteration by its name, as a function that makes the altered subject.

    Left out are those that alter no number: the range weight without a range factor, conjugated real codes, a
    load that is zero, the order of a single snapshot, a ridge so weak that a part in a thousand is rounding.
    """
    knobs = {f"{name} by one part in a thousand": partial(_knob, name) for name in KNOBS}
    if not bool(subject.run("inference", scenes).forward.prediction.A_range.abs().sum()):
        del knobs["range_weight by one part in a thousand"]
    if subject.stated.tikhonov_alpha * NUDGE < torch.finfo(torch.float32).eps:
        del knobs["tikhonov_alpha by one part in a thousand"]
    code = _code_alterations(subject, scenes)
    return {
        **knobs,
        "centring flipped": _centring,
        **{name: partial(_around, context) for name, context in code.items()},
        **{name: partial(_fed, change) for name, change in _fed_alterations(scenes).items()},
    }


def _code_alterations(subject: Subject, scenes: Scenes) -> dict[str, Around]:
    geometry = ArrayGeometry.from_config(subject.physics, scenes.y.device)
    code: dict[str, Around] = {
        "beta jitter left on": _patched(pipeline, "blend_weight", _jittered),
        "trace scaled to 1": _patched(pipeline, "_to_trace_n", _to_trace_one),
        "R_true in place of R_samp": partial(_true_for_sampled, scenes, geometry),
        DETACH: _patched(LowRank, "detach", _itself),
        "Hermitisation dropped": _patched(lowrank, "hermitian_part", _itself),
    }
    if subject.stated.eps_cov:
        code["loading added twice"] = _patched(pipeline, "blended_covariance", _loaded_twice)
    if _complex(scenes.codes):
        code["codes conjugated in the ridge"] = _patched(pipeline, "back_project", _conjugated)
    return code


def _fed_alterations(scenes: Scenes) -> dict[str, Callable[[Measured], Measured]]:
    fed: dict[str, Callable[[Measured], Measured]] = {}
    if _complex(scenes.codes):
        fed["codes conjugated"] = lambda m: Measurements(m.y, m.H, m.codes.conj().resolve_conj())
    if scenes.y.shape[1] > 1:
        fed["last snapshot dropped"] = lambda m: Measurements(m.y[:, :-1], m.H, m.codes[:, :-1])
        fed["snapshots not in the order of their codes"] = lambda m: Measurements(m.y.flip(1), m.H, m.codes)
    return fed


def _complex(codes: Tensor) -> bool:
    """Whether conjugation changes the codes by more than rounding."""
    return bool(codes.imag.abs().max() > 1e-3 * codes.abs().max())


_blend_weight, _blend, _back_project = (
    pipeline.blend_weight,
    pipeline.blended_covariance,
    pipeline.back_project,
)


def _knobs_of(subject: Subject, side: SideName) -> CovarianceConfig:
    return subject.training_covariance if side == "training" else subject.estimator.covariance


def _knob(name: str, subject: Subject, side: SideName) -> Subject:
    knobs = _knobs_of(subject, side)
    value = knobs.model_dump()[name]
    value = value - NUDGE * value if name == "beta" and value > 0.5 else value + NUDGE * (value or 1.0)
    return subject.with_knobs(side, knobs.model_copy(update={name: value}))


def _centring(subject: Subject, side: SideName) -> Subject:
    knobs = _knobs_of(subject, side)
    return subject.with_knobs(side, knobs.model_copy(update={"center": not knobs.center}))


def _patched(owner: object, name: str, replacement: Callable[..., Any]) -> Around:
    """A context in which the pipeline's own code is replaced."""
    return lambda _measured: patch.object(owner, name, replacement)


def _true_for_sampled(
    known: Scenes, geometry: ArrayGeometry, measured: Measured
) -> AbstractContextManager[Any]:
    """The truth of the scenes that a side is shown, slipped in where the sample covariance is made."""
    scenes = measured if isinstance(measured, Scenes) else known
    truth = Truth.of(scenes, geometry).covariance().F
    return patch.object(pipeline, "sample_factor", lambda a, center: truth[: len(a)].to(a))


def _itself(x: Any) -> Any:
    return x


def _around(context: Around, subject: Subject, side: SideName) -> Subject:
    return replace(subject, around={side: context})


def _fed(change: Callable[[Measured], Measured], subject: Subject, side: SideName) -> Subject:
    return replace(subject, feed={side: change})


def _jittered(samp: LowRank, beta: float, beta_offset: Tensor | None) -> Tensor:
    offset = -JITTER if beta > 0.5 else JITTER
    return _blend_weight(samp, beta, torch.full(samp.F.shape[:1], offset, device=samp.F.device))


def _to_trace_one(F: Tensor) -> Tensor:
    return F / torch.linalg.matrix_norm(F)[:, None, None]


def _loaded_twice(pred: LowRank, samp: LowRank, beta: Tensor, eps_cov: float) -> LowRank:
    return _blend(pred, samp, beta, 2.0 * eps_cov)


def _conjugated(y: Tensor, H: Tensor, codes: Tensor, covariance: CovarianceConfig) -> Tensor:
    return _back_project(y, H, codes.conj().resolve_conj(), covariance)

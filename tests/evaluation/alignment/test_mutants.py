"""The check has teeth: every alteration of one side is noticed."""

import pytest

from risctl.evaluation.alignment import MutantResult, Report, TwoSides, mutants, self_test
from risctl.physics import Scenes
from tests.evaluation.alignment.conftest import Check, LinearNetwork

KNOBS = ("beta", "tikhonov_alpha", "eps_cov", "range_weight")
ASKED = {
    *(f"{knob} by one part in a thousand" for knob in KNOBS),
    *(f"training step: another {knob}" for knob in KNOBS),
    "centring flipped",
    "beta jitter left on",
    "trace scaled to 1",
    "R_true in place of R_samp",
    "detach of R_samp removed",
    "Hermitisation dropped",
    "loading added twice",
    "codes conjugated",
    "last snapshot dropped",
    "training step: centring flipped",
    "training step: beta jitter although it is 0",
    "training step: losses of R_pred",
}


@pytest.fixture(scope="module")
def verdicts(sides: TwoSides, scenes: Scenes, network: LinearNetwork) -> list[MutantResult]:
    return list(self_test(sides, scenes, list(network.parameters())))


def test_every_alteration_is_noticed(sides: TwoSides, scenes: Scenes, verdicts: list[MutantResult]) -> None:
    assert {v.mutant for v in verdicts} >= ASKED
    assert len(verdicts) == mutants.count_mutants(sides, scenes) >= 36
    assert [f"{v.mutant} ({v.side})" for v in verdicts if not v.caught] == []


@pytest.mark.usefixtures("verdicts")
def test_nothing_stays_altered(sides: TwoSides, checked: Check) -> None:
    assert checked(sides).passed


def test_the_slipped_in_truth_is_a_leak(verdicts: list[MutantResult]) -> None:
    caught = {(v.mutant, v.side): {f.label for f in v.caught_by} for v in verdicts}
    for side in ("training", "inference"):
        assert f"{side}: R_blend under another truth" in caught["R_true in place of R_samp", side]


def test_a_blind_check_lets_mutants_survive(
    sides: TwoSides, scenes: Scenes, network: LinearNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutants, "check_alignment", lambda *_: Report(()))
    assert not any(v.caught for v in self_test(sides, scenes, list(network.parameters())))

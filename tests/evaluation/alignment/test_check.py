"""The check passes where both sides are one path, and each of its lines can fail."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from risctl.config import Config, CovarianceConfig, parse_section
from risctl.covariance import LowRank, pipeline
from risctl.data import SceneStream
from risctl.errors import CheckFailedError
from risctl.evaluation.alignment import Report, TwoSides, check, check_alignment, self_test, spot_check
from risctl.evaluation.alignment.health import health_findings
from risctl.evaluation.alignment.knobs import measure_knobs
from risctl.evaluation.alignment.sides import SideOutput, only_measured, relative_difference
from risctl.losses import total
from risctl.model import Forward
from risctl.physics import Scenes
from risctl.training import forward_pass
from tests.evaluation.alignment.conftest import SMALL, Check, LinearNetwork, two_sides

Change = Callable[[torch.Tensor], torch.Tensor]
KNOBS = [
    CovarianceConfig(),
    CovarianceConfig(beta=0.71, tikhonov_alpha=0.2, eps_cov=0.05, range_weight=1.7, center=False),
]


GROUPS = {"equality", "knobs", "loss", "health", "isolation", "tolerance", "refusal"}


def failed(report: Report) -> set[str]:
    return {finding.label for finding in report.failures}


def sick(side: SideOutput, sides: TwoSides) -> set[str]:
    return {f.label for f in health_findings(side, sides.stated) if not f.passed}


def test_both_sides_are_one_path(sides: TwoSides, checked: Check) -> None:
    report = checked(sides)
    assert report.passed, report.failures
    assert {f.group for f in report.findings} == GROUPS
    assert report.document()["passed"] is True


@pytest.mark.parametrize("knobs", KNOBS, ids=["default", "others"])
def test_knobs_are_read_off_the_matrices(sides: TwoSides, scenes: Scenes, knobs: CovarianceConfig) -> None:
    side = sides.with_covariance("inference", knobs).run("inference", scenes)
    measured = measure_knobs(side, scenes)
    assert measured.pop("trace") == pytest.approx(1.0, rel=1e-5)
    assert measured.pop("center") is knobs.center
    for name, value in measured.items():
        assert value == pytest.approx(getattr(knobs, name), rel=1e-2), name


def test_both_sides_wrong_alike_is_noticed_too(sides: TwoSides, checked: Check) -> None:
    """Two sides that agree on other knobs than the stated ones are equal, and still refused."""
    other = CovarianceConfig(beta=0.301)
    both = sides.with_covariance("training", other).with_covariance("inference", other)
    assert failed(checked(both)) == {"training: beta", "inference: beta"}


@pytest.mark.parametrize("update", [{"beta": 0.5}, {"eps_cov": 2e-3}, {"center": False}], ids=str)
def test_a_training_step_that_passes_other_covariance_settings_is_noticed(
    sides: TwoSides, scenes: Scenes, checked: Check, monkeypatch: pytest.MonkeyPatch, update: dict[str, float]
) -> None:
    """The step's own call, not its configuration; the loss that it makes of them shows too."""

    def passed(network: object, measured: object, covariance: CovarianceConfig, *rest: object) -> Forward:
        return forward_pass(network, measured, covariance.model_copy(update=update), *rest)

    monkeypatch.setattr("risctl.training.step.forward_pass", passed)
    names = failed(checked(sides))
    assert f"training: {next(iter(update))}" in names
    assert {f"{name}: largest relative difference" for name in ("R_blend", "training loss")} <= names
    with pytest.raises(CheckFailedError, match="not aligned"):
        spot_check(sides, scenes)


def test_a_loss_of_the_prediction_instead_of_the_blend_is_noticed(
    sides: TwoSides, checked: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides alike: only the dense matrices tell."""
    original = total._covariance_terms

    def of_prediction(forward: Forward, *rest: object) -> dict[str, torch.Tensor]:
        made = forward.covariances
        return original(replace(forward, covariances=replace(made, blend=made.pred)), *rest)

    monkeypatch.setattr(total, "_covariance_terms", of_prediction)
    assert failed(checked(sides)) == {"training: cov: NMSE of R_blend"}


def test_a_blend_without_new_directions_is_noticed(sides: TwoSides, scenes: Scenes) -> None:
    side = sides.run("inference", scenes)
    made = side.forward.covariances
    alone = replace(side.forward, covariances=replace(made, blend=made.pred))
    assert "inference: rank of R_blend above that of R_pred" in sick(replace(side, forward=alone), sides)


def test_other_weights_are_noticed(sides: TwoSides, checked: Check) -> None:
    other = LinearNetwork()
    with torch.no_grad():
        other.weight.mul_(1.0 + 1e-3 * torch.rand(other.weight.shape))
    names = failed(checked(sides.with_network("inference", other)))
    assert "R_pred: largest relative difference" in names


def test_a_network_without_gradient_is_noticed(
    sides: TwoSides, checked: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = pipeline.predicted_covariance
    monkeypatch.setattr(pipeline, "predicted_covariance", lambda A, B, w: original(A, B.detach(), w))
    assert failed(checked(sides)) == {
        "gradient of R_blend to A_range",
        "gradient of R_blend to the weights by way of A_range",
    }


def test_the_spot_check_names_what_is_wrong(sides: TwoSides, scenes: Scenes) -> None:
    assert spot_check(sides, scenes).passed
    altered = sides.with_covariance("inference", CovarianceConfig(beta=0.3003))
    with pytest.raises(CheckFailedError, match="not aligned: R_blend"):
        spot_check(altered, scenes)


def test_differences_of_other_shapes_and_of_nan() -> None:
    a = torch.ones(2, 3)
    assert relative_difference(a, a) == 0.0
    assert relative_difference(a, torch.ones(2, 4)) == float("inf")
    bad = a.clone()
    bad[0, 0] = float("nan")
    assert not relative_difference(a, bad) <= 1.0


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda R: R * float("nan"), "share of NaN and Inf"),
        (lambda R: 1.01 * R, "trace of R_blend"),
        (lambda R: R + 1e-3j, "Hermitian error of R_blend"),
        (lambda R: R - 1e-3 * torch.eye(R.shape[-1]), "smallest eigenvalue of R_blend"),
    ],
)
def test_a_sick_blend_is_noticed(sides: TwoSides, scenes: Scenes, change: Change, name: str) -> None:
    side = sides.run("inference", scenes)
    R, which = change(side.matrices["R_blend"]), "R_blend"
    if name == "share of NaN and Inf":
        R, which = torch.where(torch.eye(24, dtype=torch.bool), R, side.matrices["R_blend"]), "R_pred"
    assert f"inference: {name}" in sick(replace(side, matrices=side.matrices | {which: R}), sides)


def test_too_high_a_rank_is_noticed(sides: TwoSides, scenes: Scenes) -> None:
    side = sides.run("inference", scenes)
    made = side.forward.covariances
    noise = 0.1 * torch.randn(4, 24, 9, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    swollen = replace(made, pred=LowRank(torch.cat([made.pred.F, noise], dim=-1)))
    ranked = SideOutput(side.name, replace(side.forward, covariances=swollen), side.matrices, 0.0)
    assert "inference: rank of R_pred" in sick(ranked, sides)


def test_refusing_nothing_fails_the_refusal_line(monkeypatch: pytest.MonkeyPatch, config: Config) -> None:
    assert check.refusal_finding().passed
    monkeypatch.setattr(check, "parse_section", lambda *_: config)
    assert not check.refusal_finding().passed


@pytest.mark.parametrize("center", [True, False])
def test_centring_without_a_difference_is_not_judged(sides: TwoSides, scenes: Scenes, center: bool) -> None:
    """Snapshots whose back-projections have no mean look alike centred and plain."""
    codes = scenes.codes[:, :1].expand(-1, 8, -1)
    quiet = replace(only_measured(scenes), y=scenes.y - scenes.y.mean(dim=1, keepdim=True), codes=codes)
    knobs = CovarianceConfig(center=center)
    both = sides.with_covariance("training", knobs).with_covariance("inference", knobs)
    side = both.run("inference", quiet)
    assert measure_knobs(side, quiet)["center"] is None
    assert spot_check(replace(both, stated=knobs), quiet).passed


TAME = ({"covariance": {"beta": 0.0}}, {"covariance": {"range_weight": 0.0}})  # every alteration applies


@pytest.mark.parametrize(
    "words",
    [
        pytest.param({"covariance": {"beta": 1.0}}, marks=pytest.mark.slow),
        {"covariance": {"beta": 0.0}},
        pytest.param({"covariance": {"eps_cov": 0.0}}, marks=pytest.mark.slow),
        {"covariance": {"range_weight": 0.0}},
        pytest.param({"covariance": {"tikhonov_alpha": 1e-6}}, marks=pytest.mark.slow),
        pytest.param({"physics": {"codebook": "hadamard"}}, marks=pytest.mark.slow),
        pytest.param({"physics": {"num_snapshots": 2}}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_settings_at_their_limits_pass_and_keep_the_teeth(words: dict[str, dict[str, object]]) -> None:
    values = {name: {**SMALL.get(name, {}), **words.get(name, {})} for name in ("physics", "covariance")}
    config = parse_section(Config, values | {"inference": SMALL["inference"]}, "test")
    batch = SceneStream(config.physics, 0, "val", 3).scenes(0, 3)
    network = LinearNetwork()
    sides, weights = two_sides(network, config), list(network.parameters())
    report = check_alignment(sides, batch, weights)
    assert report.passed, report.failures
    if words not in TAME:
        assert all(v.caught for v in self_test(sides, batch, weights))

"""The overfit gate: its verdict, the runs it judges, and whether a verdict is known for a network."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from risctl import runs
from risctl.config import load_config
from risctl.config.layers import Layers
from risctl.errors import CheckFailedError, DivergedError, InputError, RisctlError, StorageError
from risctl.runs import passed_gate, write_json
from risctl.runs.gate import Gate, fingerprints, gate_document, largest_rise
from risctl.runs.gate import judge as judge_all
from risctl.training import Outcome
from tests.runs.tiny import after_step, status_of, tiny

GOOD = {"nmse_blend": 0.2, "count_accuracy": 0.99, "median_angle_deg_high_snr": 0.4}
OUTCOME = Outcome(
    best_value=0.4,
    best_epoch=1,
    first_value=2.0,
    epochs=2,
    steps=32,
    skipped=0,
    sanitised=0,
    stopped_by=None,
    early_stopped=False,
    finished=True,
    best_path=Path("best.safetensors"),
    last_path=Path("last.safetensors"),
)


MOVED = [{"moved": 0.1}, {"moved": 0.2}]
WEIGHTS = {"gap": 0.05, "margin": 0.05, "align": 0.002}


def _epochs(totals: list[float | None], **changed: float | None) -> list[dict[str, Any]]:
    return [
        {
            "epoch": i,
            "val": {"total": total},
            "train": dict.fromkeys(WEIGHTS, 0.1 / (i + 1)),
            "metrics": GOOD | changed,
        }
        for i, total in enumerate(totals)
    ]


def judge(
    outcome: Outcome,
    epochs: list[dict[str, Any]],
    failure: str | None = None,
    steps: list[dict[str, Any]] = MOVED,
) -> Gate:
    return judge_all(outcome, epochs, steps, WEIGHTS, failure)


def test_everything_met_is_ready() -> None:
    gate = judge(OUTCOME, _epochs([2.0, 0.4]))
    assert gate.verdict == "ready"
    assert gate.missed == ""
    assert all(check.met for check in gate.checks)


@pytest.mark.parametrize(
    ("loss", "verdict"), [(0.499, "ready"), (0.5, "debug"), (0.99, "debug"), (1.01, "broken")]
)
def test_the_loss_decides(loss: float, verdict: str) -> None:
    assert judge(replace(OUTCOME, best_value=loss), _epochs([2.0, loss])).verdict == verdict


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("nmse_blend", 0.25),
        ("median_angle_deg_high_snr", 1.0),
        ("median_angle_deg_high_snr", None),
        ("count_accuracy", 0.95),
    ],
)
def test_one_figure_missed_is_debug(figure: str, value: float | None) -> None:
    gate = judge(OUTCOME, _epochs([2.0, 0.4], **{figure: value}))
    assert gate.verdict == "debug"
    assert [check.met for check in gate.checks].count(False) == 1


def test_parameters_that_stand_still_are_broken() -> None:
    still = [{"moved": 0.0}, {"moved": 0.0}, {"moved": 0.1}]
    gate = judge(OUTCOME, _epochs([2.0, 0.4]), steps=still)
    assert gate.verdict == "broken"
    assert "steps that moved the parameters 0.3333 (wanted above 0.5)" in gate.missed


@pytest.mark.parametrize("term", WEIGHTS)
def test_a_structure_loss_without_effect_is_debug(term: str) -> None:
    epochs = _epochs([2.0, 0.4])
    for epoch in epochs:
        epoch["train"][term] = 0.0
    gate = judge(OUTCOME, epochs)
    assert gate.verdict == "debug"
    assert "inactive gap, margin or align terms 1" in gate.missed


@pytest.mark.parametrize("changed", [{"skipped": 1}, {"sanitised": 1}, {"best_value": None}])
def test_trouble_is_broken(changed: dict[str, Any]) -> None:
    assert judge(replace(OUTCOME, **changed), _epochs([2.0, 0.4])).verdict == "broken"


@pytest.mark.parametrize("totals", [[0.4, 2.1], [2.0, 0.4, None], [2.0, 0.4, math.nan]])
def test_an_explosion_is_broken(totals: list[float | None]) -> None:
    assert judge(OUTCOME, _epochs(totals)).verdict == "broken"


def test_the_figures_are_those_of_the_best_epoch() -> None:
    epochs = _epochs([2.0, 0.4, 0.45])
    epochs[2]["metrics"] = GOOD | {"nmse_blend": 0.9}
    assert judge(OUTCOME, epochs).verdict == "ready"


def test_rises() -> None:
    assert largest_rise([3.0, 1.0, 2.0, 0.5, 1.5]) == 3.0
    assert largest_rise([3.0, 2.0]) == 1.0
    assert largest_rise([]) == 1.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A place for a verdict among the runs in `tmp_path`."""
    (tmp_path / "overfit" / "a").mkdir(parents=True)
    return tmp_path / "overfit" / "a" / "overfit.json"


def test_a_passed_gate_is_known_for_its_network_alone(path: Path, tmp_path: Path) -> None:
    config = load_config("overfit")
    assert passed_gate(config, tmp_path) is None
    write_json(path, gate_document(judge(OUTCOME, _epochs([2.0, 0.4])), config, OUTCOME))
    assert passed_gate(config, tmp_path) == path
    for word in ("model.head=factors", "covariance.beta=0.31", "loss.cov=2.0"):
        assert passed_gate(load_config("overfit", None, [word]), tmp_path) is None
    assert passed_gate(load_config("overfit", None, ["model.dropout=0.1"]), tmp_path) == path
    write_json(path, gate_document(judge(OUTCOME, _epochs([2.0, 0.4], nmse_blend=0.3)), config, OUTCOME))
    assert passed_gate(config, tmp_path) is None


def test_a_run_that_is_not_the_gate_never_passes(path: Path, tmp_path: Path) -> None:
    for word, part in (
        ("data.train_scenes=16", "16 scenes instead of 512"),
        ("loss.cov=2.0", "loss weights"),
    ):
        config = load_config("overfit", None, [word])
        document = gate_document(judge(OUTCOME, _epochs([2.0, 0.4])), config, OUTCOME)
        assert (document["verdict"], document["is_gate"]) == ("ready", False)
        assert [part in text for text in document["departures"]] == [True]
        write_json(path, document)
        assert passed_gate(config, tmp_path) is None
        write_json(path, document | {"is_gate": True})
        assert (passed_gate(config, tmp_path) is None) == (config.data.train_scenes == 16)


def test_a_gate_holds_for_a_training_on_more_scenes(path: Path, tmp_path: Path) -> None:
    config = load_config("overfit")
    write_json(path, gate_document(judge(OUTCOME, _epochs([2.0, 0.4])), config, OUTCOME))
    assert passed_gate(load_config("overfit", None, ["data.train_scenes=50000"]), tmp_path) == path
    assert passed_gate(load_config("overfit", None, ["physics.wavelength=0.31"]), tmp_path) is None


def test_a_failure_is_broken_however_good_the_figures() -> None:
    gate = judge(OUTCOME, _epochs([2.0, 0.4]), "the loss is not finite")
    assert gate.verdict == "broken"
    document = gate_document(gate, load_config("overfit"), OUTCOME, "the loss is not finite")
    assert document["reason"] == "the loss is not finite"


def test_fingerprints_tell_networks_losses_covariances_and_surfaces_apart() -> None:
    base = fingerprints(load_config("overfit"), 512)
    assert set(base) == {"model", "loss", "covariance", "physics", "scenes"}
    for word, key in (("covariance.beta=0.31", "covariance"), ("physics.wavelength=0.31", "physics")):
        changed = fingerprints(load_config("overfit", None, [word]), 512)
        assert [name for name in base if base[name] != changed[name]] == [key]
    assert base["scenes"] != fingerprints(load_config("overfit"), 16)["scenes"]


def test_a_network_that_has_not_learned_is_broken() -> None:
    judged = runs.overfit(runs.prepare_overfit(tiny()))
    assert isinstance(judged, runs.Judged)
    run, verdict = judged.trained.run, judged.verdict
    assert run.parent == Path("runs/overfit")
    assert runs.read_document(run / "overfit.json").items() >= verdict.items()
    assert (judged.gate.verdict, verdict["verdict"]) == ("broken", "broken")
    assert "validation loss" in {check["name"] for check in verdict["checks"] if not check["met"]}
    assert set(verdict["fingerprints"]) == {"model", "loss", "covariance", "physics", "scenes"}
    assert (verdict["scenes"], verdict["is_gate"], verdict["reason"]) == (32, False, None)
    assert judged.trained.files == (run / "curves.png",)
    assert (status_of(run)["state"], status_of(run)["exit_status"]) == ("failed", 3)
    config = load_config(None, run / "config.json").data
    assert (config.validate_on, config.repeat) == ("train", True)


def _overfit_failing(step: int, error: RisctlError, resume: Path | None = None) -> runs.Judged:
    """The gate's training with an error before the validation after a step."""

    def fail() -> None:
        raise error

    layers = Layers() if resume else tiny()
    judged = runs.overfit(runs.prepare_overfit(layers, resume), [after_step(step, fail)])
    assert isinstance(judged, runs.Judged)
    return judged


@pytest.mark.parametrize("good", [0, 1])
@pytest.mark.parametrize("kind", [DivergedError, CheckFailedError])
def test_a_training_that_fails_is_judged_broken_by_what_it_recorded(
    good: int, kind: type[RisctlError]
) -> None:
    why = "the validation loss is not finite (cov)"
    judged = _overfit_failing(4 * (good + 1), kind(why))
    run, verdict = judged.trained.run, judged.verdict
    assert (verdict["verdict"], verdict["epochs"], verdict["reason"]) == ("broken", good, why)
    assert judged.message == f"overfit: {judged.label}: {why}"
    assert [bool(judged.trained.files), verdict["checkpoint"] is not None] == [good == 1] * 2
    assert judged.trained.outcome.steps == 4 * (good + 1)
    status = status_of(run)
    assert (status["state"], status["exit_status"], status["message"]) == ("failed", 3, why)


def test_a_resumed_training_that_fails_is_judged_too() -> None:
    with pytest.raises(StorageError):
        _overfit_failing(8, StorageError("the disk is full"))
    (run,) = Path("runs/overfit").iterdir()
    assert not (run / "overfit.json").exists()
    judged = _overfit_failing(8, DivergedError("not finite"), run)
    assert (judged.trained.run, judged.failure) == (run, "not finite")
    assert runs.read_document(run / "overfit.json")["reason"] == "not finite"


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("training.epochs=31", "training.epochs"),
        ("data.validate_on=val", "data"),
        ("data.repeat=false", "data"),
        ("data.val_scenes=16", "data.val_scenes"),
    ],
)
def test_settings_that_make_it_meaningless_are_refused(word: str, key: str) -> None:
    with pytest.raises(InputError) as refused:
        runs.prepare_overfit(tiny(word))
    assert (refused.value.key, word.partition("=")[0] in str(refused.value)) == (key, True)

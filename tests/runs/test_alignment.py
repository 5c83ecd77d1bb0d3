"""The alignment check of fresh networks and trained models, and what stops where it fails."""

import json
from pathlib import Path

import pytest

from risctl import runs
from risctl.config import reference_directory
from risctl.config.layers import Layers
from risctl.data import SceneStream, write_measurements
from risctl.errors import CheckFailedError
from risctl.evaluation.alignment import check, mutants
from risctl.evaluation.alignment.report import Finding
from tests.runs.tiny import NETWORK, SURFACE, tiny

FRESH = Layers(overrides=(*SURFACE, *NETWORK))
BAD = Finding("equality", "R_blend: largest relative difference", 0.25, "0", False)


def _check(target: str | None = None, **how: bool) -> runs.Alignment:
    return runs.check_alignment(runs.prepare_check(FRESH if target is None else Layers(), target), 2, **how)


def test_a_fresh_network_is_aligned() -> None:
    found = _check()
    assert found.failure is None
    assert all(finding.passed for finding in found.report.findings)
    assert [f.got for f in found.report.findings if f.group == "equality"] == [0.0] * 4
    assert list(found.fingerprints) == ["configuration"]
    assert not list(Path().iterdir())


def test_every_alteration_is_noticed_and_listed() -> None:
    found = _check(mutants=True)
    assert found.failure is None
    assert len(found.verdicts) >= 24
    assert all(verdict.caught and verdict.caught_by for verdict in found.verdicts)


def test_a_trained_model_is_aligned(run: Path) -> None:
    for target in (run, run / "checkpoints" / "last.safetensors"):
        found = _check(str(target))
        assert found.report.passed
        assert found.fingerprints["checkpoint"] == found.fingerprints["configuration"]


def test_a_result_of_other_covariances_is_refused(run: Path) -> None:
    (run / "eval").mkdir()
    shipped = json.loads((reference_directory().parent / "eval" / "results.json").read_text())
    runs.write_json(run / "eval" / "results.json", shipped | {"covariance_fingerprint": "0123456789abcdef"})
    with pytest.raises(CheckFailedError, match=r"results\.json: .* got 0123456789abcdef"):
        _check(str(run))


def test_a_line_that_fails_is_the_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "core_findings", lambda *_: [BAD])
    found = _check()
    assert not found.report.passed
    assert str(found.failure).endswith("R_blend: largest relative difference: expected 0, got 0.25")


def test_a_survivor_is_the_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    unaltered = {"nothing at all": lambda subject, side: subject}
    monkeypatch.setattr(mutants, "alterations", lambda subject, scenes: unaltered)
    found = _check(mutants=True)
    assert found.report.passed
    assert [verdict.caught for verdict in found.verdicts] == [False, False]
    assert str(found.failure).startswith("2 alterations went unnoticed: nothing at all (")


def test_everything_stops_where_training_and_inference_disagree(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = runs.prepare_training(tiny())
    scenes = SceneStream(prepared.config.physics, 0, "test", 2).scenes(0, 2)
    write_measurements("m.npz", scenes.y, scenes.H, scenes.codes)
    request = runs.EvaluationRequest(estimators=("learned",), scenes=4, model_path=str(run), plots=False)
    monkeypatch.setattr(check, "core_findings", lambda *_: [BAD])
    for start in (
        lambda: runs.train(prepared),
        lambda: runs.overfit(runs.prepare_overfit(tiny())),
        lambda: runs.evaluate(request),
        lambda: runs.locate_file(runs.choose_estimator(Layers(), model=run), Path("m.npz")),
    ):
        with pytest.raises(CheckFailedError, match="training and inference are not aligned"):
            start()
    assert not Path("runs/overfit").exists()

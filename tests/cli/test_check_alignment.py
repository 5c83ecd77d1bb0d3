"""`check-alignment`: fresh networks, checkpoints, other processes, and what must be refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from risctl.cli.app import main
from risctl.evaluation.alignment import check
from risctl.evaluation.alignment.report import Finding
from tests.runs.tiny import NETWORK, SURFACE, TINY, ask

Capture = pytest.CaptureFixture[str]
FRESH = (*SURFACE, *NETWORK)
FEW = ("--scenes", "2")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny trained run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("trained"))
        assert main(["train", *TINY]) == 0
        return next(Path.cwd().glob("runs/train/*"))


def test_a_fresh_network_is_aligned(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    document = ask(capsys, "check-alignment", *FRESH, *FEW)
    assert document["passed"] is True
    assert all(finding["passed"] for finding in document["findings"])
    exact = [f["got"] for f in document["findings"] if f["group"] == "equality"]
    assert exact == [0.0, 0.0, 0.0]
    assert list(document["fingerprints"]) == ["configuration"]
    assert list(tmp_path.iterdir()) == []


def test_the_table_shows_both_sides(capsys: Capture) -> None:
    assert main(["check-alignment", *FRESH, *FEW]) == 0
    shown = capsys.readouterr().out
    for part in ("training", "inference", "tikhonov_alpha", "covariance fingerprint", "as they should be"):
        assert part in shown


def test_every_alteration_is_noticed_and_listed(capsys: Capture) -> None:
    document = ask(capsys, "check-alignment", "--self-test", *FRESH, *FEW)
    assert len(document["mutants"]) >= 24
    assert all(mutant["caught"] and mutant["caught_by"] for mutant in document["mutants"])


def test_a_trained_checkpoint_is_aligned_in_this_process_and_in_another(run: Path, capsys: Capture) -> None:
    checkpoint = run / "checkpoints" / "last.safetensors"
    here = ask(capsys, "check-alignment", str(checkpoint), *FEW)
    assert here["passed"] is True
    assert here["fingerprints"]["checkpoint"] == here["fingerprints"]["configuration"]
    command = [sys.executable, "-m", "risctl", "check-alignment", str(run), "--json", *FEW]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passed"] is True


def test_a_preset_that_disagrees_is_refused(run: Path, capsys: Capture) -> None:
    assert main(["check-alignment", str(run), "covariance.beta=0.301"]) == 2
    error = capsys.readouterr().err
    assert "covariance.beta" in error
    assert "0.3, which the model was trained with" in error
    assert "0.301" in error


def test_a_result_of_other_covariances_is_refused(run: Path, capsys: Capture, tmp_path: Path) -> None:
    result = run / "eval" / "results.json"
    result.parent.mkdir()
    try:
        result.write_text(json.dumps({"covariance_fingerprint": "0123456789abcdef"}))
        assert main(["check-alignment", str(run), *FEW]) == 3
        error = capsys.readouterr().err
        assert "results.json" in error
        assert "0123456789abcdef" in error
    finally:
        result.unlink()
        result.parent.rmdir()


def test_a_line_that_fails_ends_with_status_3(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = Finding("equality", "R_blend: largest relative difference", 0.25, "0", False)
    monkeypatch.setattr(check, "equality_findings", lambda *_: [bad])
    document = ask(capsys, "check-alignment", *FRESH, *FEW, status=3)
    assert document["passed"] is False
    assert main(["check-alignment", *FRESH, *FEW]) == 3
    assert "expected 0, got 0.25" in capsys.readouterr().err


def test_a_survivor_ends_with_status_3(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from risctl.evaluation.alignment import mutants

    unaltered = {"nothing at all": lambda subject, side: subject}
    monkeypatch.setattr(mutants, "alterations", lambda subject, scenes: unaltered)
    document = ask(capsys, "check-alignment", "--self-test", *FRESH, *FEW, status=3)
    assert document["passed"] is True
    assert [mutant["caught"] for mutant in document["mutants"]] == [False, False]


@pytest.mark.parametrize("command", ["train", "eval", "locate"])
def test_commands_stop_where_training_and_inference_disagree(
    command: str, run: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    from risctl.config import PhysicsConfig
    from risctl.data import SceneStream, write_measurements

    values = {"ris_columns": 6, "ris_rows": 6, "num_snapshots": 4, "num_antennas": 4, "max_sources": 2}
    scenes = SceneStream(PhysicsConfig(**values), 0, "test", 2).scenes(0, 2)
    write_measurements(tmp_path / "m.npz", scenes.y, scenes.H, scenes.codes)
    bad = Finding("equality", "R_blend: largest relative difference", 0.25, "0", False)
    monkeypatch.setattr(check, "equality_findings", lambda *_: [bad])
    arguments = {
        "train": ["train", *TINY],
        "eval": ["eval", str(run), "--scenes", "4", "--estimators", "learned"],
        "locate": ["locate", "m.npz", "--model", str(run)],
    }
    assert main(arguments[command]) == 3
    assert "training and inference are not aligned" in capsys.readouterr().err


def test_dry_run_writes_nothing(capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert ask(capsys, "check-alignment", "--dry-run")["dry_run"] is True
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("arguments", "part"), [(("--scenes", "1"), "2 to 1024"), (("nowhere",), "nowhere")])
def test_bad_input_is_one_line(arguments: tuple[str, ...], part: str, capsys: Capture) -> None:
    assert main(["check-alignment", *arguments]) == 2
    error = capsys.readouterr().err
    assert part in error
    assert error.count("\n") == 1

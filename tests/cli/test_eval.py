"""`eval`: documents, tables, dry runs, sweeps from the command line, flags in what is refused."""

import json
from pathlib import Path

import pytest

from risctl import runs
from risctl.cli.app import main
from tests.cli.command import Capture, ask
from tests.runs.tiny import SURFACE, status_of

FAST = ("eval", "--estimators", "music", "--device", "cpu", "--scenes", "4", "--no-plots")
SMALL = (*SURFACE, "evaluation.snr_values_db=[20]", "evaluation.bootstrap=10")
SNAPSHOTS = ("--sweep", "physics.num_snapshots=3,5")


def test_an_evaluation_prints_one_document_and_what_comes_next(capsys: Capture) -> None:
    flags = ("--known-num-sources", "--workers", "2", "--batch", "2", "--seed", "5")
    assert main([*FAST, *SMALL, *flags, "--json"]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    run = Path(document["run"])
    assert document["results"] == runs.read_document(run / "eval" / "results.json")
    assert sorted(map(str, (run / "eval").iterdir())) == sorted(document["files"])
    result, headline, following = captured.err.splitlines()[-3:]
    assert str(run) in result
    assert "bound" in headline
    assert document["results"]["num_sources_known"]
    assert runs.read_document(run / "provenance.json")["seeds"] == {"data.seed": 5, "bootstrap": 5}
    assert following == "next:     risctl locate FILE --estimator nomp"
    assert not list(Path("runs").rglob("*.png"))


def test_a_trained_model_is_named_in_the_next_command(run: Path, capsys: Capture) -> None:
    fast = ("--estimators", "learned", *FAST[3:], "evaluation.snr_values_db=[20]", "evaluation.bootstrap=0")
    assert main(["eval", str(run), *fast]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"next:     risctl locate FILE --model {run}"


def test_dry_run_writes_nothing(run: Path, capsys: Capture, tmp_path: Path) -> None:
    before = list(tmp_path.rglob("*"))
    assert main(["eval", "--dry-run", *SMALL]) == 0
    assert "estimator learned left out: the shipped model: physics.ris_" in capsys.readouterr().out
    document = ask(capsys, *FAST, *SMALL, "--dry-run")
    assert document["config"]["physics"]["stratified"]
    assert document["needs"]["disk_bytes"] > 0
    of_model = ask(capsys, "eval", str(run), "--dry-run", "physics.num_snapshots=6")
    assert of_model["needs"]["parameters"] > 1000
    document = ask(capsys, *FAST, *SMALL, *SNAPSHOTS, "--dry-run")
    assert document["sweeps"] == [{"key": "physics.num_snapshots", "values": [3, 5]}]
    assert document["needs"]["disk_bytes"] > 0
    assert list(tmp_path.rglob("*")) == before


def test_a_sweep_has_a_document_and_says_how_to_go_on(capsys: Capture) -> None:
    document = ask(capsys, *FAST, *SMALL, *SNAPSHOTS)
    assert document["sweeps"] == [runs.read_document(Path(document["run"]) / "eval/sweep_num_snapshots.json")]
    assert main(["eval", "--resume", document["run"]]) == 0
    captured = capsys.readouterr()
    assert "num_snapshots" in captured.out
    assert captured.err.splitlines() == [
        f"run: {document['run']} (what interrupts it loses nothing: risctl eval --resume {document['run']})",
        "physics.num_snapshots=3: done before",
        "physics.num_snapshots=5: done before",
    ]


def test_ctrl_c_ends_a_sweep_with_status_130(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(label: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("risctl.cli.eval.progress", interrupted)
    assert main([*FAST, *SMALL, *SNAPSHOTS]) == 130
    (run,) = Path("runs/eval").iterdir()
    said = capsys.readouterr().err.splitlines()
    assert said[0].endswith(f"risctl eval --resume {run})")
    assert said[-1] == "risctl: interrupted"
    assert status_of(run)["state"] == "interrupted"

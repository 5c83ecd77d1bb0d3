"""`eval`: documents, tables, dry runs, sweeps from the command line, flags in what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from risctl import runs
from risctl.cli.app import main
from tests.cli.command import Capture, ask, refused
from tests.runs.tiny import SURFACE, TINY, status_of

FAST = ("eval", "--estimators", "music", "--device", "cpu", "--scenes", "4", "--no-plots")
SMALL = (*SURFACE, "evaluation.snr_values_db=[20]", "evaluation.bootstrap=10")
SNAPSHOTS = ("--sweep", "physics.num_snapshots=3,5")


def test_the_document_holds_the_run_its_files_and_figures(capsys: Capture) -> None:
    document = ask(capsys, *FAST, *SMALL)
    run = Path(document["run"])
    assert document["results"] == runs.read_document(run / "eval" / "results.json")
    assert sorted(map(str, (run / "eval").iterdir())) == sorted(document["files"])


def test_the_screen_ends_with_path_headline_and_next_command(capsys: Capture) -> None:
    assert main([*FAST, *SMALL]) == 0
    result, headline, following = capsys.readouterr().out.splitlines()[-3:]
    assert "runs/eval/" in result
    assert "bound" in headline
    assert following == "next:     risctl locate FILE --estimator nomp"
    assert not list(Path("runs").rglob("*.png"))


def test_a_trained_model_is_named_in_the_next_command(run: Path, capsys: Capture) -> None:
    fast = ("--estimators", "learned", *FAST[3:], "evaluation.snr_values_db=[20]", "evaluation.bootstrap=0")
    assert main(["eval", str(run), *fast]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"next:     risctl locate FILE --model {run}"


def test_a_shipped_model_that_is_left_out_is_said(capsys: Capture) -> None:
    assert main(["eval", "--dry-run", *SMALL]) == 0
    assert "estimator learned left out: the reference model: physics.ris_" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["eval", "locate", "check-alignment"])
def test_what_contradicts_a_model_is_one_line(command: str, run: Path, capsys: Capture) -> None:
    target = ["m.npz", "--model", str(run)] if command == "locate" else [str(run)]
    message = refused(capsys, command, *target, "covariance.beta=0.26")
    assert "covariance.beta: expected 0.3, which the model was trained with, got 0.26" in message
    assert "covariance.beta" in refused(
        capsys, command, *target, *TINY, "--preset", "quick", "covariance.beta=0.2"
    )


def test_dry_run_writes_nothing(run: Path, capsys: Capture, tmp_path: Path) -> None:
    before = list(tmp_path.rglob("*"))
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--sweep", "nonsense"), "--sweep: expected section.key=v1,v2,..., got 'nonsense'"),
        (
            ("--sweep", "physics.num_snapshots=4,0"),
            "--sweep physics.num_snapshots=0: physics.num_snapshots: expected greater",
        ),
        ((*SNAPSHOTS, *SNAPSHOTS), "--sweep: physics.num_snapshots: expected every setting once"),
        ((*SNAPSHOTS, "--data", "d"), "--sweep: expected no dataset"),
        (("--resume", "nowhere"), "--resume: expected nothing beside it"),
    ],
)
def test_what_does_not_go_together(arguments: tuple[str, ...], message: str, capsys: Capture) -> None:
    assert message in refused(capsys, *FAST, *arguments)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--resume: expected a run of a sweep"),
        (("--preset", "full"), "--preset: expected none for a sweep that is resumed"),
        (("--config", "c.toml"), "--config: expected none for a sweep that is resumed"),
    ],
)
def test_only_a_sweep_can_be_resumed_and_with_its_own_settings(
    arguments: tuple[str, ...], message: str, capsys: Capture
) -> None:
    assert message in refused(capsys, "eval", "--resume", ".", *arguments)


def test_an_oracle_needs_an_estimator_beside_it_and_is_none_of_locate(capsys: Capture) -> None:
    message = refused(capsys, "eval", "--estimators", "ceiling", *SMALL, *SNAPSHOTS)
    assert "--estimators: expected an estimator beside the oracle" in message
    message = refused(capsys, "locate", "x.npz", "--estimator", "ceiling")
    assert "--estimator: expected one of " in message
    assert "music, sbl, got 'ceiling', an oracle that needs the true positions" in message

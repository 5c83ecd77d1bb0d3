"""`eval --sweep`: one line for what cannot be swept, a run per sweep, what is done stays done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from risctl.cli.sweeps import parse_sweeps

from risctl.cli import sweep_run
from risctl.cli.app import main
from risctl.errors import InputError
from risctl.evaluation import Sweep, evaluate
from tests.cli.tiny import SURFACE, ask, status_of

Capture = pytest.CaptureFixture[str]
FAST = ("--estimators", "music", "--device", "cpu", "--scenes", "4")
SMALL = (*SURFACE, "evaluation.snr_values_db=[20]", "evaluation.bootstrap=10")
SNAPSHOTS = ("--sweep", "physics.num_snapshots=3,5")


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_sweep_leaves_document_table_and_picture(capsys: Capture) -> None:
    document = ask(capsys, "eval", *FAST, *SMALL, *SNAPSHOTS)
    run = Path(document["run"])
    assert status_of(run)["state"] == "done"
    names = {path.name for path in (run / "eval").iterdir() if path.is_file()}
    assert names == {"request.json"} | {f"sweep_num_snapshots{end}" for end in (".json", ".csv", ".png")}
    assert sorted(document["files"]) == sorted(str(run / "eval" / n) for n in names - {"request.json"})
    (sweep,) = (Sweep.model_validate_json(json.dumps(item)) for item in document["sweeps"])
    assert [(point.value, point.scenes) for point in sweep.points] == [(3, 4), (5, 4)]
    assert sweep == Sweep.model_validate_json((run / "eval" / "sweep_num_snapshots.json").read_text())
    config = json.loads((run / "config.json").read_text())
    assert config["physics"]["num_snapshots"] == 4  # what is swept stays as it was


def test_the_values_are_what_was_evaluated(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []

    def watched(source: Any, estimators: Any, physics: Any, evaluation: Any, **how: Any) -> Any:
        scenes = source.scenes(0, 4)
        seen.append((scenes.y.shape[1:], scenes.snr_db.tolist(), scenes.range.tolist()))
        return evaluate(source, estimators, physics, evaluation, **how)

    monkeypatch.setattr("risctl.evaluation.evaluate", watched)
    swept = (*SNAPSHOTS, "--sweep", "physics.num_antennas=4,6", "--sweep", "physics.snr_db=5,10")
    ask(capsys, "eval", *FAST, *SMALL, *swept, "--no-plots")
    assert [tuple(shape) for shape, _, _ in seen] == [(3, 4), (5, 4), (4, 4), (4, 6), (4, 4), (4, 4)]
    assert [snr for _, snr, _ in seen] == [[20.0] * 4] * 4 + [[5.0] * 4, [10.0] * 4]
    assert all(places == seen[0][2] for _, _, places in seen)  # the same sources throughout


def test_an_interrupted_sweep_goes_on_with_the_next_value(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ask(capsys, "eval", *FAST, *SMALL, *SNAPSHOTS, "--no-plots")
    run = Path(whole["run"])
    second = run / "eval" / "sweep_num_snapshots_points" / "01.json"
    second.unlink()
    (run / "eval" / "sweep_num_snapshots.json").unlink()
    labels: list[str] = []
    evaluated = sweep_run.evaluate_source

    def counted(*arguments: Any, label: str) -> Any:
        labels.append(label)
        return evaluated(*arguments, label=label)

    monkeypatch.setattr(sweep_run, "evaluate_source", counted)
    again = ask(capsys, "eval", "--resume", str(run))
    assert labels == ["physics.num_snapshots=5"]
    assert again["run"] == whole["run"]
    assert without_times(again) == without_times(whole)
    assert len(json.loads((run / "provenance.json").read_text())["resumed"]) == 1


def test_ctrl_c_ends_with_what_is_done_and_the_way_to_go_on(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated, labels = sweep_run.evaluate_source, []

    def interrupted(*arguments: Any, label: str) -> Any:
        labels.append(label)
        if len(labels) == 2:
            raise KeyboardInterrupt
        return evaluated(*arguments, label=label)

    monkeypatch.setattr(sweep_run, "evaluate_source", interrupted)
    assert main(["eval", *FAST, *SMALL, *SNAPSHOTS, "--no-plots"]) == 130
    (run,) = Path("runs/eval").iterdir()
    assert f"risctl eval --resume {run})" in capsys.readouterr().err
    assert status_of(run)["state"] == "interrupted"
    ask(capsys, "eval", "--resume", str(run))
    assert [label[-1] for label in labels] == ["3", "5", "5"]
    assert status_of(run)["state"] == "done"


def without_times(document: dict[str, Any]) -> list[Any]:
    cells = [point["cells"] for sweep in document["sweeps"] for point in sweep["points"]]
    return [cells, [sweep["breaks"] for sweep in document["sweeps"]], document["files"]]


def test_figures_of_other_settings_are_not_taken_for_these(capsys: Capture) -> None:
    run = Path(ask(capsys, "eval", *FAST, *SMALL, *SNAPSHOTS, "--no-plots")["run"])
    path = run / "eval" / "sweep_num_snapshots_points" / "00.json"
    path.write_text(path.read_text().replace('"fingerprint": "', '"fingerprint": "0', 1))
    assert main(["eval", "--resume", str(run)]) == 2
    assert "figures of the same settings" in capsys.readouterr().err
    path.write_text("{")
    assert main(["eval", "--resume", str(run)]) == 4
    assert "00.json" in capsys.readouterr().err


def test_dry_run_says_what_would_be_swept_and_writes_nothing(capsys: Capture, tmp_path: Path) -> None:
    document = ask(capsys, "eval", *FAST, *SMALL, *SNAPSHOTS, "--dry-run")
    assert document["sweeps"] == [{"key": "physics.num_snapshots", "values": [3, 5]}]
    assert document["needs"]["disk_bytes"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("nonsense", "--sweep: expected section.key=v1,v2,..., got 'nonsense'"),
        ("physics.num_snapshot=4,8", "known key (nearest: physics.num_snapshots)"),
        ("physics.num_snapshots=4", "expected 2 to 64 values, got 1"),
        ("physics.num_snapshots=4,4", "expected every value once, got 4 twice"),
        ("physics.num_snapshots=4,,8", "expected values like 4,8,16"),
        ("physics.num_snapshots=[4,8", "expected values like 4,8,16"),
        (
            "physics.num_snapshots=4,0",
            "--sweep physics.num_snapshots=0: physics.num_snapshots: expected greater",
        ),
        ("physics.num_antennas=4,2", "--sweep physics.num_antennas=2: physics.max_sources: expected fewer"),
        ("physics.codebook=random,dtf", "--sweep physics.codebook=dtf: physics.codebook: expected 'random'"),
        ("physics.snr_db=0,400", "--sweep physics.snr_db=400: physics.snr_db: expected less"),
        ("physics.snr_values_db=0,10", "expected physics.snr_db"),
        ("physics.impairments=1,2", "expected one setting, got a table"),
        ("evaluation.gate_deg=1,2", "expected a key of physics, inference, covariance"),
    ],
)
def test_what_cannot_be_swept_is_one_line(word: str, message: str, capsys: Capture, tmp_path: Path) -> None:
    assert main(["eval", *FAST, *SMALL, "--sweep", word]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*SNAPSHOTS, *SNAPSHOTS), "every setting once"),
        ((*SNAPSHOTS, "--data", "d"), "no --data"),
        (("--resume", "nowhere"), "nothing beside it"),
    ],
)
def test_what_does_not_go_together(arguments: tuple[str, ...], message: str, capsys: Capture) -> None:
    assert main(["eval", *FAST, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_only_a_sweep_can_be_resumed_and_with_its_own_settings(capsys: Capture, tmp_path: Path) -> None:
    assert main(["eval", "--resume", str(tmp_path)]) == 2
    assert "a run of eval --sweep" in capsys.readouterr().err
    assert main(["eval", "--resume", str(tmp_path), "--preset", "full"]) == 2
    assert "none beside --resume" in capsys.readouterr().err


def test_the_reference_needs_an_estimator_beside_it(capsys: Capture) -> None:
    assert main(["eval", "--estimators", "ceiling", *SMALL, *SNAPSHOTS]) == 2
    assert "an estimator beside the reference" in capsys.readouterr().err


def test_override_words_of_an_axis() -> None:
    snr, codes = parse_sweeps(["physics.snr_db=[-5, 0.5]", "physics.codebook=dft,random"])
    assert [snr.override(i) for i in range(2)] == [f"evaluation.snr_values_db=[{v}]" for v in ("-5", "0.5")]
    assert codes.override(0) == 'physics.codebook="dft"'
    with pytest.raises(InputError, match="scalar"):
        parse_sweeps(["physics.snr_db=2026-01-01,2026-01-02"])


def test_ceiling_is_listed_apart_and_refused_by_locate(capsys: Capture) -> None:
    arguments = ("eval", "--estimators", "music,ceiling", "--device", "cpu", "--no-plots", "--scenes", "4")
    results = ask(capsys, *arguments, *SMALL)["results"]
    assert results["estimators"] == ["music"]
    (reference,) = results["references"]
    assert (reference["name"], reference["scenes"]) == ("ceiling", 4)
    assert reference["median_angle_deg"] < 0.2
    assert main(["locate", "x.npz", "--estimator", "ceiling"]) == 2
    error = capsys.readouterr().err
    assert "a reference that must be told the truth" in error
    assert "music, sbl, got" in error

"""`export` and `calibrate`: what is handed on of a run, and what is fitted after it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from risctl.cli.app import main
from risctl.cli.export import thinned, without_places
from risctl.model import load_checkpoint
from tests.cli.tiny import TINY, ask

Capture = pytest.CaptureFixture[str]
EVAL = ("--scenes", "8", "--no-plots", "--device", "cpu", "evaluation.snr_values_db=[10, 20]")
CHEAP = ("--estimators", "learned", *EVAL, "evaluation.bootstrap=0")


@pytest.fixture(name="run", scope="module")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        patch.setattr("risctl.cli.training_report.draw_curves", lambda trained, _gate=None: trained.run)
        assert main(["train", *TINY]) == 0
        (found,) = (directory / "runs" / "train").iterdir()
        assert main(["calibrate", str(found), "--scenes", "256", "--val-scenes", "256"]) == 0
    return found


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_exported_model_answers_as_its_run_does(run: Path, capsys: Capture) -> None:
    document = ask(capsys, "export", str(run), "--out", "m")
    assert {"checkpoints/best.safetensors", "checkpoints/fusion.safetensors"} <= set(document["files"])
    weights = sum(p.numel() for p in load_checkpoint("m").network.parameters())
    assert Path("m/checkpoints/best.safetensors").stat().st_size < 4 * weights + 20_000
    whole, small = (ask(capsys, "eval", target, *CHEAP)["results"] for target in (str(run), "m"))
    assert whole["cells"] == small["cells"]
    argv = json.loads(Path("m/provenance.json").read_text())["argv"]
    assert not any(word.startswith("/") for word in argv)


def test_nothing_can_go_on_from_it(run: Path, capsys: Capture) -> None:
    ask(capsys, "export", str(run), "--out", "m")
    assert main(["train", "--resume", "m", "training.epochs=9", "--fork", "--device", "cpu"]) == 2
    assert "expected a run with a saved state" in capsys.readouterr().err
    assert main(["calibrate", "m"]) == 2
    assert "expected a checkpoint of a training, got an exported one" in capsys.readouterr().err


def test_a_directory_that_exists_is_left_alone(run: Path, capsys: Capture) -> None:
    Path("m").mkdir()
    assert main(["export", str(run), "--out", "m"]) == 2
    assert "--out: expected a directory that does not exist" in capsys.readouterr().err
    assert list(Path("m").iterdir()) == []


def test_the_fitted_count_is_used_and_one_of_other_weights_refused(run: Path, capsys: Capture) -> None:
    assert ask(capsys, "eval", str(run), *CHEAP, "inference.count_by=fusion")
    ask(capsys, "export", str(run), "--out", "m")
    Path("m/checkpoints/fusion.safetensors").unlink()
    assert main(["eval", "m", *CHEAP, "inference.count_by=fusion"]) == 2
    assert "inference.count_by" in capsys.readouterr().err
    last = run / "checkpoints" / "last.safetensors"
    document = json.loads((run / "checkpoints" / "best.json").read_text())
    if document["step"] != json.loads((run / "checkpoints" / "last.json").read_text())["step"]:
        assert main(["eval", str(last), *CHEAP]) == 2
        assert "fit the count fusion anew" in capsys.readouterr().err


def test_calibrating_again_takes_the_place_of_the_first(run: Path, capsys: Capture) -> None:
    document = ask(capsys, "calibrate", str(run), "--scenes", "256", "--val-scenes", "256")
    assert [row[0] for row in document["table"]] == ["head", "evidence", "fusion"]
    assert load_checkpoint(run).fusion is not None


def test_metrics_are_thinned_and_places_left_out() -> None:
    lines = [json.dumps({"event": "epoch", "n": 0})]
    lines += [json.dumps({"event": "step", "n": n}) for n in range(5000)]
    kept = [json.loads(line) for line in thinned("\n".join(lines)).splitlines()]
    assert kept[0] == {"event": "epoch", "n": 0}
    assert [line["n"] for line in kept[1:]] == list(range(0, 5000, 5))
    places = {"argv": ["/a/b/risctl", "train"], "from": {"run": "/c/d"}, "x": 1}
    assert without_places(places) == {"argv": ["risctl", "train"], "from": {"run": "d"}, "x": 1}

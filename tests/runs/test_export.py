"""Exports and calibrations: what is handed on of a run, and what is fitted after it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from risctl import runs
from risctl.config.layers import Layers
from risctl.errors import DamagedFileError, InputError
from risctl.model import load_checkpoint
from risctl.runs.export import thinned, without_places
from tests.runs.tiny import killed_at_once, train

CHEAP = ("evaluation.snr_values_db=[10, 20]", "evaluation.bootstrap=0")
FUSED = "inference.count_by=fusion"


def _calibrate(run: Path) -> runs.Calibrated:
    return runs.calibrate(runs.prepare_calibration(Layers(), str(run)), scenes=256, val_scenes=256)


@pytest.fixture(scope="module")
def calibrated(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Path(shutil.copytree(trained, tmp_path_factory.mktemp("export") / trained.name))
    _calibrate(run)
    return run


def _cells(model: Path | str, *words: str) -> Any:
    layers = Layers(overrides=(*CHEAP, *words))
    request = runs.EvaluationRequest(layers, None, ("learned",), 8, model_path=str(model), plots=False)
    return runs.evaluate(request).evaluation.results.cells


def test_an_exported_model_answers_as_its_run_does(calibrated: Path) -> None:
    exported = runs.export(calibrated, Path("m"))
    assert {"checkpoints/best.safetensors", "checkpoints/fusion.safetensors"} <= set(exported.files)
    weights = sum(p.numel() for p in load_checkpoint("m").network.parameters())
    assert Path("m/checkpoints/best.safetensors").stat().st_size < 4 * weights + 20_000
    assert _cells(calibrated) == _cells("m")
    argv = runs.read_document(Path("m/provenance.json"))["argv"]
    assert not any(word.startswith("/") for word in argv)


def test_a_directory_that_exists_is_left_alone(calibrated: Path) -> None:
    Path("m").mkdir()
    with pytest.raises(InputError, match=r"^out: expected a directory that does not exist"):
        runs.export(calibrated, Path("m"))
    assert list(Path("m").iterdir()) == []


def test_the_fitted_count_is_used_and_one_of_other_weights_refused(calibrated: Path) -> None:
    assert _cells(calibrated, FUSED)
    runs.export(calibrated, Path("m"))
    Path("m/checkpoints/fusion.safetensors").unlink()
    with pytest.raises(InputError, match=r"inference\.count_by"):
        _cells("m", FUSED)
    best, last = (
        json.loads((calibrated / f"checkpoints/{name}.json").read_text()) for name in ("best", "last")
    )
    if best["step"] != last["step"]:
        with pytest.raises(InputError, match="fit the count fusion anew"):
            _cells(calibrated / "checkpoints" / "last.safetensors")


def test_calibrating_again_takes_the_place_of_the_first(calibrated: Path) -> None:
    found = _calibrate(calibrated)
    assert [row[0] for row in found.table] == ["head", "evidence", "fusion"]
    assert load_checkpoint(calibrated).fusion is not None


def test_metrics_are_thinned_and_places_left_out() -> None:
    records: list[dict[str, Any]] = [{"event": "epoch", "n": 0}]
    kept = thinned(records + [{"event": "step", "n": n} for n in range(5000)])
    assert kept[0] == {"event": "epoch", "n": 0}
    assert [line["n"] for line in kept[1:]] == list(range(0, 5000, 5))
    places = {"argv": ["/a/b/risctl", "train"], "from": {"run": "/c/d"}, "x": 1}
    assert without_places(places) == {"argv": ["risctl", "train"], "from": {"run": "d"}, "x": 1}


def test_an_exported_model_is_not_resumed_nor_touched(calibrated: Path) -> None:
    runs.export(calibrated, Path("m"))
    before = {path: path.read_bytes() for path in Path("m").rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"a saved state .*, got weights alone, an exported model"):
        runs.prepare_training(Layers(), resume=Path("m"))
    with pytest.raises(InputError, match=r"model\.width: expected 8, which its weights were made for"):
        runs.prepare_training(Layers(overrides=("model.width=16",)), resume=Path("m"), fork=True)
    assert {path: path.read_bytes() for path in Path("m").rglob("*") if path.is_file()} == before


def test_a_fork_begins_with_exported_weights(calibrated: Path) -> None:
    runs.export(calibrated, Path("m"))
    stop = runs.StopFlag()
    stop.request(15)  # before the first step
    prepared = runs.prepare_training(Layers(), resume=Path("m"), fork=True)
    began = runs.train(prepared, stop=stop)
    ours, theirs = load_checkpoint(began.run / "checkpoints" / "last.safetensors"), load_checkpoint("m")
    for name, weight in ours.network.state_dict().items():
        assert torch.equal(weight, theirs.network.state_dict()[name]), name
    gone_on = runs.train(runs.prepare_training(Layers(), resume=began.run))
    assert (gone_on.outcome.epochs, gone_on.outcome.finished) == (2, True)
    assert runs.read_document(began.run / "provenance.json")["forked_from"] == str(Path("m").absolute())


def test_a_killed_fork_of_an_exported_model_goes_on(calibrated: Path) -> None:
    runs.export(calibrated, Path("m"))
    run = killed_at_once(Layers(overrides=("training.lr=0.001",)), resume=Path("m"), fork=True)
    assert train(Layers(), resume=run).outcome.finished


@pytest.mark.parametrize(
    ("name", "damage", "error"),
    [
        ("metrics.jsonl", lambda text: text[:-20], None),
        ("metrics.jsonl", lambda text: text.replace(b"{", b"\xff", 1), DamagedFileError),
        ("metrics.jsonl", lambda text: text.replace(b'"event"', b'"e"', 3), DamagedFileError),
        ("provenance.json", lambda text: text[:-20], DamagedFileError),
        ("provenance.json", lambda text: b"[]", DamagedFileError),
        ("status.json", lambda text: text.replace(b'"', b"\xff", 1), DamagedFileError),
    ],
)
def test_a_torn_end_is_left_out_and_other_damage_refused(
    run: Path, name: str, damage: Callable[[bytes], bytes], error: type[Exception] | None
) -> None:
    (run / name).write_bytes(damage((run / name).read_bytes()))
    if error is None:
        runs.export(run, Path("m"))
        return
    with pytest.raises(error, match=name):
        runs.export(run, Path("m"))
    assert {path.name for path in Path().iterdir()} == {"runs"}

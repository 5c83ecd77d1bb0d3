"""Exports and calibrations: what is handed on of a run, and what is fitted after it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from risctl import runs
from risctl.config.layers import Layers
from risctl.errors import InputError
from risctl.model import load_checkpoint
from risctl.runs.export import thinned, without_places

CHEAP = ("evaluation.snr_values_db=[10, 20]", "evaluation.bootstrap=0")
FUSED = "inference.count_by=fusion"


def _calibrate(run: Path) -> runs.Calibrated:
    return runs.calibrate(*runs.prepare_calibration(Layers(), str(run)), scenes=256, val_scenes=256)


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
    lines = [json.dumps({"event": "epoch", "n": 0})]
    lines += [json.dumps({"event": "step", "n": n}) for n in range(5000)]
    kept = [json.loads(line) for line in thinned("\n".join(lines)).splitlines()]
    assert kept[0] == {"event": "epoch", "n": 0}
    assert [line["n"] for line in kept[1:]] == list(range(0, 5000, 5))
    places = {"argv": ["/a/b/risctl", "train"], "from": {"run": "/c/d"}, "x": 1}
    assert without_places(places) == {"argv": ["risctl", "train"], "from": {"run": "d"}, "x": 1}


def test_an_exported_model_is_not_resumed_nor_touched(calibrated: Path) -> None:
    runs.export(calibrated, Path("m"))
    before = {path: path.read_bytes() for path in Path("m").rglob("*") if path.is_file()}
    for fork in (False, True):
        with pytest.raises(InputError, match=r"a saved state .*, got weights alone, an exported model"):
            runs.prepare_training(Layers(), resume=Path("m"), fork=fork)
    with pytest.raises(InputError, match="expected a checkpoint of a training, got an exported one"):
        _calibrate(Path("m"))
    assert {path: path.read_bytes() for path in Path("m").rglob("*") if path.is_file()} == before

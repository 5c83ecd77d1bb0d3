"""`demo`: a complete run directory: dataset, figures, pictures, a measurement file and its answer."""

import json
from pathlib import Path

from risctl import runs
from risctl.cli.app import main
from risctl.cli.demo import BASELINES, TRAINED
from risctl.config import PhysicsConfig, load_config
from risctl.data import SceneStream, open_dataset
from risctl.evaluation import read_results
from risctl.runs.demo import measured_scenes
from tests.cli.command import Capture
from tests.runs.tiny import LENGTH, NETWORK, status_of

SMALL = (
    *NETWORK,
    *LENGTH,
    "physics.num_snapshots=6",
    "physics.max_sources=2",
    "evaluation.snr_values_db=[10, 20]",
    "evaluation.bootstrap=20",
    "inference.swap_rounds=0",
    "inference.sbl_iterations=3",
)


def test_everything_is_there_and_shown(capsys: Capture) -> None:
    assert main(["demo", "--scenes", "4", "--workers", "1", "--json", *SMALL]) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    run = Path(document["run"])
    assert run.parent == Path("runs/demo")
    assert status_of(run)["state"] == "done"
    assert len(open_dataset(run / "data")) == document["dataset"]["num_scenes"] == 4
    results = read_results(run / "eval" / "results.json")
    assert results.estimators == (TRAINED, *BASELINES)  # the shipped model is for more sources
    assert results.model_dump(mode="json") == document["results"]
    assert all(Path(file).is_file() for file in document["files"])
    pictures = {Path(file).name for file in document["files"] if file.endswith(".png")}
    assert pictures >= {"curves.png", "rmse.png", "rates.png", "confusion.png", "scene.png", "spectrum.png"}
    answer = runs.read_document(run / "positions.json")
    assert answer == document["located"]
    assert answer["schema_version"] == 2
    assert [scene["index"] for scene in answer["scenes"]] == [0, 1]
    assert load_config(None, run / "config.json").physics == open_dataset(run / "data").physics
    lines = captured.err.splitlines()
    for part in ("[1/4]", "[2/4]", "[3/4]", "[4/4]", "(first ", "Cramer-Rao", "off by m", "bound"):
        assert any(part in line for line in lines), part
    result, headline, following = lines[-3:]
    assert "runs/demo/" in result
    assert "bound" in headline
    assert following.split()[1:3] == ["risctl", "locate"]
    assert Path(following.split()[3]).is_file()
    assert following.split()[4] == "--model"
    assert (Path(following.split()[5]) / "checkpoints" / "best.safetensors").is_file()


def test_measured_scenes_are_of_the_highest_snr_and_of_several_counts() -> None:
    physics = PhysicsConfig(num_snapshots=4, snr_values_db=(0.0, 20.0), stratified=True)
    scenes = measured_scenes(SceneStream(physics, 0, "test", 20))
    assert scenes.num_sources.tolist() == [1, 2, 3]
    assert scenes.snr_db.tolist() == [20.0, 20.0, 20.0]
    many = physics.model_copy(update={"min_sources": 5})
    assert measured_scenes(SceneStream(many, 0, "test", 4)).num_sources.tolist() == [5]

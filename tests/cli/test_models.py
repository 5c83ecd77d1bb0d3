"""A trained model in `eval` and `locate`: its own settings count, and nothing may contradict them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from risctl.cli.app import main
from risctl.config import load_config
from risctl.covariance import PIPELINE_VERSION, covariance_fingerprint
from risctl.data import SceneStream, write_dataset, write_measurements
from risctl.evaluation import read_results
from tests.cli.tiny import SURFACE, TINY, ask

Capture = pytest.CaptureFixture[str]
BETA = "covariance.beta=0.25"
EVAL = ("--scenes", "8", "--no-plots", "--device", "cpu", "evaluation.snr_values_db=[10, 20]")
CHEAP = (*EVAL, "evaluation.bootstrap=0", "inference.swap_rounds=0")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run with another beta than every preset's."""
    directory = tmp_path_factory.mktemp("model")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        patch.setattr("risctl.cli.training_report.draw_curves", lambda trained, _gate=None: trained.run)
        assert main(["train", *TINY, BETA]) == 0
    (found,) = (directory / "runs" / "train").iterdir()
    return found


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _measurements(run: Path) -> str:
    scenes = SceneStream(load_config(None, run / "config.json").physics, 0, "test", 3).scenes(0, 3)
    write_measurements(Path("m.npz"), scenes.y, scenes.H, scenes.codes)
    return "m.npz"


def test_eval_shows_the_learned_estimator_beside_the_configured_ones(run: Path, capsys: Capture) -> None:
    document = ask(capsys, "eval", str(run), *CHEAP)
    assert document["results"]["estimators"] == ["learned", "nomp", "music"]
    config = load_config(None, Path(document["run"]) / "config.json")
    assert (config.covariance.beta, config.model.width) == (0.25, 8)
    results = read_results(Path(document["run"]) / "eval" / "results.json")
    assert results.covariance_fingerprint == covariance_fingerprint(config.covariance)
    assert results.pipeline_version == PIPELINE_VERSION
    assert Path(str(results.checkpoint)).name == "best.safetensors"
    provenance = json.loads((Path(document["run"]) / "provenance.json").read_text())
    assert provenance["model"]["covariance_fingerprint"] == results.covariance_fingerprint
    assert provenance["model"]["parameters"] > 1000


def test_workers_give_the_learned_estimators_figures_too(run: Path, capsys: Capture) -> None:
    arguments = ("eval", str(run / "checkpoints" / "last.safetensors"), "--estimators", "learned", *CHEAP)
    one = ask(capsys, *arguments)["results"]
    two = ask(capsys, *arguments, "--workers", "2", "--batch", "4")["results"]
    assert one["estimators"] == two["estimators"] == ["learned"]
    assert [cell["estimated_sources"] for cell in one["cells"]] == [
        cell["estimated_sources"] for cell in two["cells"]
    ]


def test_locate_with_a_model_is_the_learned_estimator(run: Path, capsys: Capture) -> None:
    file = _measurements(run)
    learned = ask(capsys, "locate", file, "--model", str(run), "--device", "cpu")
    assert learned["estimator"] == "learned"
    assert len(learned["scenes"]) == 3
    angles = [source["azimuth_deg"] for scene in learned["scenes"] for source in scene["sources"]]
    assert np.isfinite(angles).all()
    classical = ask(capsys, "locate", file, "--model", str(run), "--estimator", "music", "--device", "cpu")
    assert classical["estimator"] == "music"


CONFLICTS = (
    (("covariance.beta=0.26",), "covariance.beta", "0.25", "0.26"),
    (("--preset", "quick", *TINY), "covariance.beta", "0.25", "0.3"),
    (("model.head=factors",), "model.head", '"structured"', '"factors"'),
    (("physics.wavelength=0.2",), "physics.wavelength", "0.3", "0.2"),
    (("physics.max_sources=3",), "physics.max_sources", "2", "3"),
    (("physics.ris_rows=8",), "physics.ris_rows", "6", "8"),
)


@pytest.mark.parametrize(("words", "key", "trained", "wanted"), CONFLICTS, ids=[c[1] for c in CONFLICTS])
@pytest.mark.parametrize("command", ["eval", "locate", "check-alignment"])
def test_what_contradicts_the_model_is_refused_with_both_values(
    command: str, words: tuple[str, ...], key: str, trained: str, wanted: str, run: Path, capsys: Capture
) -> None:
    target = ["m.npz", "--model", str(run)] if command == "locate" else [str(run)]
    assert main([command, *target, *words]) == 2
    message = capsys.readouterr().err
    assert f"{key}: expected {trained}, which the model was trained with, got {wanted}" in message
    assert not Path("runs").exists()


def test_a_config_file_that_contradicts_the_model_is_refused(run: Path, capsys: Capture) -> None:
    Path("c.toml").write_text("[covariance]\ntikhonov_alpha = 0.002\n")
    assert main(["eval", str(run), "--config", "c.toml"]) == 2
    assert "covariance.tikhonov_alpha: expected 0.001" in capsys.readouterr().err


def test_what_a_model_may_be_tried_on_is_allowed(run: Path, capsys: Capture) -> None:
    words = ("physics.num_snapshots=6", "physics.num_antennas=5", "physics.codebook=dft", "training.lr=0.1")
    document = ask(capsys, "eval", str(run), "--dry-run", *words)
    assert document["config"]["physics"]["num_snapshots"] == 6
    assert document["config"]["covariance"]["beta"] == 0.25
    assert document["needs"]["parameters"] > 1000
    same = ask(capsys, "eval", str(run), "--dry-run", "--preset", "quick", *TINY, BETA)
    assert same["config"]["covariance"]["beta"] == 0.25


def test_a_dataset_of_another_surface_is_refused(run: Path, capsys: Capture) -> None:
    physics = load_config("quick", None, [*SURFACE, "physics.range_max=8.0"]).physics
    write_dataset(Path("d"), physics, seed=0, split="test", num_scenes=8, shard_scenes=8)
    assert main(["eval", str(run), "--data", "d"]) == 2
    assert "physics.range_max: expected 10.0" in capsys.readouterr().err


SMALL = ("evaluation.scenes=8", "evaluation.snr_values_db=[10, 20]", "evaluation.bootstrap=0")
OTHER = ("physics.ris_rows=6", "physics.ris_columns=6")


def test_the_shipped_model_answers_where_none_is_named(capsys: Capture) -> None:
    learned = ("--estimators", "learned", "--no-plots", "--device", "cpu")
    document = ask(capsys, "eval", *learned, *SMALL)
    assert document["results"]["estimators"] == ["learned"]
    assert "reference" in document["results"]["checkpoint"]
    config = load_config(None, Path(document["run"]) / "config.json")
    assert config.model == load_config("reference", None).model
    scenes = SceneStream(config.physics, 0, "test", 3).scenes(0, 3)
    write_measurements(Path("n.npz"), scenes.y, scenes.H, scenes.codes)
    assert ask(capsys, "locate", "n.npz", "--device", "cpu")["estimator"] == "learned"


def test_on_another_surface_the_shipped_model_is_left_out_and_says_so(run: Path, capsys: Capture) -> None:
    assert main(["eval", "--dry-run", *SMALL, *OTHER]) == 0
    assert "learned left out: the reference model: physics.ris_" in capsys.readouterr().out
    file = _measurements(run)
    assert main(["locate", file, "--dry-run", *SURFACE]) == 0
    assert "estimator nomp: the reference model" in capsys.readouterr().out


@pytest.mark.parametrize(
    "wanted", [("eval", "--estimators", "learned"), ("locate", "m", "--estimator", "learned")]
)
@pytest.mark.parametrize(
    ("word", "key"), [(OTHER[0], "physics.ris_rows"), ("covariance.beta=0.26", "covariance.beta")]
)
def test_the_shipped_model_is_refused_where_it_does_not_fit(
    wanted: tuple[str, ...], word: str, key: str, capsys: Capture
) -> None:
    assert main([*wanted, word]) == 2
    assert f"the reference model: {key}: expected" in capsys.readouterr().err


def test_an_edited_beta_is_a_damaged_file(run: Path, capsys: Capture, tmp_path: Path) -> None:
    target = tmp_path / "edited.safetensors"
    content = (run / "checkpoints" / "best.safetensors").read_bytes()
    edited = content.replace(b'\\"beta\\":0.25', b'\\"beta\\":0.26')
    assert edited != content
    target.write_bytes(edited)
    locate = ["locate", "m.npz", "--model", str(target)]
    for arguments in (["eval", str(target)], locate, ["check-alignment", str(target)]):
        assert main(arguments) == 4
        assert str(target) in capsys.readouterr().err

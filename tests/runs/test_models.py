"""Trained models in evaluations and answers: their own settings count, and nothing may contradict them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from risctl import runs
from risctl.config import load_config, reference_directory
from risctl.config.layers import Layers
from risctl.covariance import PIPELINE_VERSION, covariance_fingerprint
from risctl.data import SceneStream, write_dataset, write_measurements
from risctl.errors import DamagedFileError, InputError
from risctl.evaluation import read_results
from risctl.runs import EvaluationRequest
from tests.runs.tiny import SURFACE, tiny, train, without_curves

BETA = "covariance.beta=0.25"
CHEAP = Layers(
    overrides=("evaluation.snr_values_db=[10, 20]", "evaluation.bootstrap=0", "inference.swap_rounds=0")
)
SMALL = Layers(overrides=("evaluation.scenes=8", *CHEAP.overrides))
OTHER = "physics.ris_rows=6"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run with another beta than every preset's."""
    with pytest.MonkeyPatch.context() as patch:
        without_curves(patch)
        patch.chdir(tmp_path_factory.mktemp("model"))
        return str(train(tiny(BETA)).run.absolute())


def _measurements(physics: Any) -> Path:
    clear = physics.model_copy(update={"snr_min_db": 15.0, "snr_max_db": 20.0})  # in noise it may report none
    scenes = SceneStream(clear, 0, "test", 3).scenes(0, 3)
    write_measurements(Path("m.npz"), scenes.y, scenes.H, scenes.codes)
    return Path("m.npz")


def test_the_learned_estimator_stands_beside_the_configured_ones(model: str) -> None:
    evaluated = runs.evaluate(EvaluationRequest(CHEAP, scenes=8, model_path=model, plots=False))
    results = evaluated.evaluation.results
    assert results.estimators == ("learned", "nomp", "music")
    assert read_results(evaluated.run / "eval" / "results.json") == results
    config = load_config(None, evaluated.run / "config.json")
    assert (config.covariance.beta, config.model.width) == (0.25, 8)
    assert results.covariance_fingerprint == covariance_fingerprint(config.covariance)
    assert results.pipeline_version == PIPELINE_VERSION
    assert Path(str(results.checkpoint)).name == "best.safetensors"
    provenance = runs.read_document(evaluated.run / "provenance.json")
    assert provenance["model"]["covariance_fingerprint"] == results.covariance_fingerprint
    assert provenance["model"]["parameters"] > 1000


@pytest.mark.slow
def test_workers_give_the_learned_estimators_figures_too(model: str) -> None:
    last = f"{model}/checkpoints/last.safetensors"
    counts = []
    for how in ({}, {"workers": 2, "batch": 4}):
        request = EvaluationRequest(CHEAP, None, ("learned",), 8, model_path=last, plots=False, **how)
        results = runs.evaluate(request).evaluation.results
        assert results.estimators == ("learned",)
        counts.append([cell.estimated_sources for cell in results.cells])
    assert counts[0] == counts[1]


def test_answers_with_a_model_are_those_of_the_learned_estimator(model: str) -> None:
    file = _measurements(load_config(None, Path(model) / "config.json").physics)
    chosen = runs.choose_estimator(Layers(), model=model)
    assert chosen.name == "learned"
    estimates = runs.locate_file(chosen, file).estimates
    assert len(estimates.num_sources) == 3
    assert torch.isfinite(estimates.azimuth[:, 0]).all()
    assert runs.choose_estimator(Layers(), "music", model).name == "music"


CONFLICTS = (
    (Layers(overrides=("covariance.beta=0.26",)), "covariance.beta", "0.25", "0.26"),
    (tiny(preset="quick"), "covariance.beta", "0.25", "0.3"),
    (Layers(overrides=("model.head=factors",)), "model.head", '"structured"', '"factors"'),
    (Layers(overrides=("physics.wavelength=0.2",)), "physics.wavelength", "0.3", "0.2"),
    (Layers(overrides=("physics.max_sources=3",)), "physics.max_sources", "2", "3"),
    (Layers(overrides=("physics.ris_rows=8",)), "physics.ris_rows", "6", "8"),
    (Layers(file=Path("c.toml")), "covariance.tikhonov_alpha", "0.001", "0.002"),
)


@pytest.mark.parametrize(("layers", "key", "trained", "wanted"), CONFLICTS, ids=[c[1] for c in CONFLICTS])
def test_what_contradicts_the_model_is_refused_with_both_values(
    layers: Layers, key: str, trained: str, wanted: str, model: str
) -> None:
    Path("c.toml").write_text("[covariance]\ntikhonov_alpha = 0.002\n")
    for ask in (
        lambda: runs.evaluate(EvaluationRequest(layers, model_path=model)),
        lambda: runs.choose_estimator(layers, model=model),
        lambda: runs.prepare_check(layers, model),
    ):
        with pytest.raises(InputError) as refused:
            ask()
        assert (refused.value.key, refused.value.got) == (key, wanted)
        assert refused.value.expected == f"{trained}, which the model was trained with"
    assert not Path("runs").exists()


def test_what_a_model_may_be_tried_on_is_allowed(model: str) -> None:
    words = ("physics.num_snapshots=6", "physics.num_antennas=5", "physics.codebook=dft", "training.lr=0.1")
    request = EvaluationRequest(Layers(overrides=words), model_path=model)
    config = request.resolve()
    assert (config.physics.num_snapshots, config.covariance.beta) == (6, 0.25)
    assert request.needs(config).parameters > 1000
    same = EvaluationRequest(tiny(BETA, preset="quick"), model_path=model)
    assert same.resolve().covariance.beta == 0.25


def test_a_dataset_of_another_surface_is_refused(model: str) -> None:
    physics = load_config("quick", None, [*SURFACE, "physics.range_max=8.0"]).physics
    write_dataset(Path("d"), physics, seed=0, split="test", num_scenes=8, shard_scenes=8)
    with pytest.raises(InputError, match=r"physics\.range_max: expected 10\.0"):
        runs.evaluate(EvaluationRequest(data=Path("d"), model_path=model))


def test_the_shipped_model_answers_where_none_is_named() -> None:
    evaluated = runs.evaluate(EvaluationRequest(SMALL, estimators=("learned",), plots=False))
    results = evaluated.evaluation.results
    assert results.estimators == ("learned",)
    assert "reference" in str(results.checkpoint)
    config = load_config(None, evaluated.run / "config.json")
    assert config.model == load_config(None, reference_directory() / "config.json").model
    chosen = runs.choose_estimator(Layers())
    assert chosen.name == "learned"
    assert len(runs.locate_file(chosen, _measurements(config.physics)).estimates) == 3


def test_on_another_surface_the_shipped_model_is_left_out_and_says_so() -> None:
    request = EvaluationRequest(SMALL.with_overrides(OTHER))
    assert "learned" not in request.resolve().evaluation.estimators
    assert str(request.left_out).startswith("the shipped model: physics.ris_")
    chosen = runs.choose_estimator(Layers(overrides=SURFACE))
    assert chosen.name == "nomp"
    assert str(chosen.reason).startswith("the shipped model: physics.ris_")


@pytest.mark.parametrize("word", [OTHER, "covariance.beta=0.26"])
def test_the_shipped_model_is_refused_where_it_does_not_fit(word: str) -> None:
    layers = Layers(overrides=(word,))
    for ask in (
        lambda: runs.evaluate(EvaluationRequest(layers, estimators=("learned",))),
        lambda: runs.choose_estimator(layers, "learned"),
    ):
        with pytest.raises(InputError) as refused:
            ask()
        assert (refused.value.where, refused.value.key) == ("the shipped model", word.partition("=")[0])


def test_an_edited_beta_is_a_damaged_file(model: str) -> None:
    content = (Path(model) / "checkpoints" / "best.safetensors").read_bytes()
    edited = content.replace(b'\\"beta\\":0.25', b'\\"beta\\":0.26')
    assert edited != content
    Path("edited.safetensors").write_bytes(edited)
    target = "edited.safetensors"
    for ask in (
        lambda: runs.evaluate(EvaluationRequest(model_path=target)),
        lambda: runs.choose_estimator(Layers(), model=target),
        lambda: runs.prepare_check(Layers(), target),
    ):
        with pytest.raises(DamagedFileError, match=target):
            ask()

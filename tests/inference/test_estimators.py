"""What every estimator of the registry does alike; and a new one is its own file and one line."""

import ast
import pickle
import re
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

import risctl
from risctl.config import CovarianceConfig, EvaluationConfig, InferenceConfig, PhysicsConfig
from risctl.errors import InputError
from risctl.inference import Ceiling, Estimator, build_estimator, build_oracle
from risctl.physics import FieldOfView, Scenes
from risctl.registry import ESTIMATORS, EstimatorEntry, estimator_names
from tests.inference.conftest import make_scenes

COVARIANCE, INFERENCE = CovarianceConfig(), InferenceConfig()
SURFACE = {"ris_columns": 6, "ris_rows": 5, "num_antennas": 8, "num_snapshots": 6, "max_sources": 3}
PHYSICS = PhysicsConfig(**SURFACE)


def simulate(num_scenes: int) -> Scenes:
    return make_scenes(num_scenes, seed=24, snr_values_db=(15.0,), stratified=True, **SURFACE)[1]


NEW = """
from dataclasses import dataclass
from risctl.inference import Estimates

@dataclass(frozen=True)
class NoSources:
    max_sources: int
    name: str = "none"

    @classmethod
    def from_config(cls, physics, covariance, inference, device):
        return cls(physics.max_sources)

    def __call__(self, y, H, codes, num_sources=None):
        return Estimates.empty(len(y), self.max_sources)
"""


def strings_with(word: str) -> set[str]:
    """Source files, relative to the package, in which a string holds `word`."""
    package, found = Path(risctl.__file__).parent, set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and re.search(rf"\b{word}\b", text):
                found.add(str(path.relative_to(package)))
    return found


@pytest.fixture(params=estimator_names("classical"))
def estimator(request: pytest.FixtureRequest) -> Estimator:
    built = build_estimator(request.param, PHYSICS, COVARIANCE, INFERENCE)
    assert built.name == request.param
    return built


def test_answers_are_padded_ordered_and_inside_the_view(estimator: Estimator) -> None:
    scenes = simulate(12)
    K = scenes.num_sources.long()
    found = estimator(scenes.y, scenes.H, scenes.codes, K)
    assert torch.equal(found.num_sources, K)
    for x in (found.azimuth, found.elevation, found.range, found.std_azimuth):
        assert torch.equal(~x.isnan(), scenes.source_mask)
    assert torch.equal(found.power > 0, scenes.source_mask)
    assert bool((found.power.diff(dim=1) <= 0).all())
    view, near = FieldOfView.from_config(PHYSICS), 1 + 1e-6
    assert float(found.azimuth.nan_to_num(0.0).abs().max()) <= view.azimuth * near
    assert float(found.elevation.nan_to_num(0.0).abs().max()) <= view.elevation * near
    ranges = found.range[scenes.source_mask]
    assert view.range_min / near <= float(ranges.min()) <= float(ranges.max()) <= view.range_max * near


@pytest.mark.parametrize("counts", [[1, 6], [-1, 1], [1]])
def test_impossible_counts_are_refused(estimator: Estimator, counts: list[int]) -> None:
    scenes = simulate(2)
    with pytest.raises(ValueError, match=r"2 source counts within 0\.\.3"):
        estimator(scenes.y, scenes.H, scenes.codes, torch.tensor(counts))


def test_scenes_without_sources_and_no_scenes_at_all(estimator: Estimator) -> None:
    scenes = simulate(3)
    found = estimator(scenes.y, scenes.H, scenes.codes, torch.tensor([0, 1, 0]))
    assert found.num_sources.tolist() == [0, 1, 0]
    assert bool(found.azimuth[[0, 2]].isnan().all())
    assert bool(torch.isfinite(found.azimuth[1, 0]))
    assert len(estimator(scenes.y[:0], scenes.H[:0], scenes.codes[:0])) == 0


def test_a_pickled_estimator_answers_the_same(estimator: Estimator) -> None:
    scenes = simulate(2)
    a, b = (e(scenes.y, scenes.H, scenes.codes) for e in (estimator, pickle.loads(pickle.dumps(estimator))))
    assert torch.equal(a.num_sources, b.num_sources)
    torch.testing.assert_close(a.azimuth, b.azimuth, rtol=0.0, atol=0.0, equal_nan=True)


def test_an_oracle_is_built_by_its_name_and_is_no_estimator() -> None:
    ceiling = build_oracle("ceiling", PHYSICS, COVARIANCE, INFERENCE)
    assert isinstance(ceiling, Ceiling)
    assert ceiling.name == "ceiling"
    for build, name in ((build_estimator, "ceiling"), (build_estimator, "learned"), (build_oracle, "nomp")):
        with pytest.raises(InputError, match="estimator: expected one of"):
            build(name, PHYSICS, COVARIANCE, INFERENCE)


def test_a_new_estimator_is_its_file_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="'learned', 'blend', 'nomp', 'music', 'sbl' or 'ceiling'"):
        EvaluationConfig.model_validate({"estimators": ["none"]})
    (tmp_path / "no_sources.py").write_text(NEW, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(ESTIMATORS, "none", EstimatorEntry("classical", "no_sources:NoSources", "nothing"))
    config = EvaluationConfig.model_validate({"estimators": ["nomp", "none"]})
    assert config.estimators == ("nomp", "none")
    scenes = simulate(2)
    found = build_estimator("none", PHYSICS, COVARIANCE, INFERENCE)(scenes.y, scenes.H, scenes.codes)
    assert torch.equal(found.num_sources, torch.zeros(2, dtype=torch.int64))


def test_no_other_file_spells_the_name_of_an_estimator() -> None:
    assert strings_with("sbl") == {"registry.py", "inference/sbl.py"}

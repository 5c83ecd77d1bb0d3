"""The registry of estimators: each can be built, and a new one is its own file and one line."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

import risctl
from risctl.config import CovarianceConfig, EvaluationConfig, InferenceConfig
from risctl.errors import InputError
from risctl.inference import Ceiling, build_estimator, build_oracle
from risctl.registry import ESTIMATORS, EstimatorEntry, estimator_names
from tests.inference.conftest import make_scenes

COVARIANCE, INFERENCE = CovarianceConfig(), InferenceConfig()
NEW = """
from dataclasses import dataclass
from risctl.inference import Estimates

@dataclass(frozen=True)
class NoSources:
    max_sources: int
    name: str = "none"

    @classmethod
    def from_config(cls, physics, covariance, inference, device="cpu"):
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


@pytest.mark.parametrize("name", estimator_names("classical"))
def test_a_classical_estimator_is_built_by_its_name(name: str) -> None:
    assert build_estimator(name, make_scenes(1)[0], COVARIANCE, INFERENCE).name == name


def test_an_oracle_is_built_by_its_name_and_is_no_estimator() -> None:
    physics, _ = make_scenes(1)
    ceiling = build_oracle("ceiling", physics, COVARIANCE, INFERENCE)
    assert isinstance(ceiling, Ceiling)
    assert ceiling.name == "ceiling"
    for build, name in ((build_estimator, "ceiling"), (build_estimator, "learned"), (build_oracle, "nomp")):
        with pytest.raises(InputError, match="estimator: expected one of"):
            build(name, physics, COVARIANCE, INFERENCE)


def test_a_new_estimator_is_its_file_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="'learned', 'nomp', 'music', 'sbl' or 'ceiling'"):
        EvaluationConfig.model_validate({"estimators": ["none"]})
    (tmp_path / "no_sources.py").write_text(NEW, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(ESTIMATORS, "none", EstimatorEntry("classical", "no_sources:NoSources", "nothing"))
    config = EvaluationConfig.model_validate({"estimators": ["nomp", "none"]})
    assert config.estimators == ("nomp", "none")
    physics, scenes = make_scenes(2)
    found = build_estimator("none", physics, COVARIANCE, INFERENCE)(scenes.y, scenes.H, scenes.codes)
    assert torch.equal(found.num_sources, torch.zeros(2, dtype=torch.int64))


def test_no_other_file_spells_the_name_of_an_estimator() -> None:
    assert strings_with("sbl") == {"registry.py", "inference/sbl.py"}

"""The pipeline's fingerprint: the same for the same arithmetic, another for anything else."""

import pytest

from risctl.config import CovarianceConfig
from risctl.covariance import covariance_fingerprint, pipeline

CHANGES = {
    "beta": 0.301,
    "tikhonov_alpha": 1.001e-3,
    "eps_cov": 1.001e-3,
    "range_weight": 0.3003,
    "center": False,
}


def test_every_field_is_tried() -> None:
    assert CHANGES.keys() | {"normalisation"} == CovarianceConfig.model_fields.keys()


@pytest.mark.parametrize("name", CHANGES)
def test_each_knob_changes_it(name: str) -> None:
    changed = CovarianceConfig(**{name: CHANGES[name]})
    assert covariance_fingerprint(changed) != covariance_fingerprint(CovarianceConfig())


def test_equal_knobs_share_it() -> None:
    assert covariance_fingerprint(CovarianceConfig(beta=0.3)) == covariance_fingerprint(CovarianceConfig())


def test_another_version_of_the_pipeline_changes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = covariance_fingerprint(CovarianceConfig())
    monkeypatch.setattr(pipeline, "PIPELINE_VERSION", pipeline.PIPELINE_VERSION + 1)
    assert covariance_fingerprint(CovarianceConfig()) != before

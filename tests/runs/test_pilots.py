"""A measurement file with constant symbols: who answers, and the fit on stacked snapshots."""

from pathlib import Path

import pytest

import risctl
from risctl.errors import InputError
from tests.inference.conftest import make_scenes


def test_a_file_with_constant_symbols_is_located_by_nomp(tmp_path: Path) -> None:
    changes = {"symbols": "constant", "static_path": True, "snr_values_db": (20.0,), "stratified": True}
    _, scenes = make_scenes(10, seed=3, **changes)
    file = tmp_path / "pilots.npz"
    says = {"symbols": "constant", "static_path": True}
    risctl.write_measurements(file, scenes.y, scenes.H, scenes.codes, **says)
    located = risctl.locate(risctl.read_measurements(file))
    assert located.estimator == "nomp"
    assert located.reason is not None
    assert "symbols: expected gaussian" in located.reason
    assert located.num_sources.tolist() == scenes.num_sources.tolist()
    assert (located.misfit_p > 0.01).mean() >= 0.8


@pytest.mark.parametrize("estimator", ["music", "sbl", "learned"])
def test_other_estimators_refuse_it_in_one_line(estimator: str) -> None:
    _, scenes = make_scenes(1, symbols="constant", max_sources=2)
    with pytest.raises(InputError, match="constant"):
        risctl.locate(scenes.y, scenes.H, scenes.codes, symbols="constant", estimator=estimator)


def test_a_static_path_with_random_symbols_is_refused_in_one_line() -> None:
    _, scenes = make_scenes(1, max_sources=2)
    with pytest.raises(InputError, match="static_path: expected false unless symbols=constant"):
        risctl.locate(scenes.y, scenes.H, scenes.codes, static_path=True)

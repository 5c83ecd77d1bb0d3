"""A site of the surface study, small: what calibration is worth on fresh scenes, and what it claims."""

import pytest

from tests.surface_study import rms, site


@pytest.mark.slow
def test_one_known_scene_of_twenty_brings_errors_near_those_of_the_true_response() -> None:
    found = site("anchor", 0.3, 100, 30, count=20)
    assert found["relative_error"] < 0.006
    assert found["phase_rms"] < 0.04
    assert found["dead_missed"] + found["dead_false"] <= 1
    for level, most in (("10", 1.1), ("20", 1.35)):
        errors = found[level]
        for name in ("azimuth", "elevation", "range"):
            assert rms(errors[f"after {name}"]) < most * rms(errors[f"known {name}"])
            assert 0.5 < sum(errors[f"after {name} in"]) / len(errors[f"after {name} in"]) < 0.85
        assert abs(found[f"{level} after recall"] - found[f"{level} known recall"]) <= 0.02
        assert abs(found[f"{level} after count"] - found[f"{level} known count"]) <= 0.04

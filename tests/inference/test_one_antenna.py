"""No more antennas than sources: codes that change tell sources apart by the power received."""

import pytest
import torch

from risctl.config import CovarianceConfig, InferenceConfig
from risctl.inference import build_estimator
from tests.inference.conftest import make_scenes


@pytest.mark.parametrize(("antennas", "K"), [(1, 1), (2, 2)])
def test_sources_are_found_with_no_more_antennas_than_sources(antennas: int, K: int) -> None:
    physics, scenes = make_scenes(
        8, num_antennas=antennas, num_snapshots=256, min_sources=K, max_sources=K, snr_min_db=20.0, seed=4
    )
    estimator = build_estimator("nomp", physics, CovarianceConfig(), InferenceConfig(swap_rounds=1))
    found = estimator(scenes.y, scenes.H, scenes.codes, scenes.num_sources.long())
    azimuth, truth = found.azimuth.sort(dim=1).values, scenes.azimuth.double().sort(dim=1).values
    error = torch.rad2deg((azimuth - truth).abs()).amax(1)
    assert float((error < 5.0).double().mean()) >= 0.75, error


def test_one_antenna_is_answered_blind() -> None:
    physics, scenes = make_scenes(4, num_antennas=1, num_snapshots=128, max_sources=3, seed=5, snr_min_db=15)
    for name in ("nomp", "music", "sbl"):
        found = build_estimator(name, physics, CovarianceConfig(), InferenceConfig())(
            scenes.y, scenes.H, scenes.codes
        )
        there = torch.arange(found.azimuth.shape[1]) < found.num_sources.unsqueeze(1)
        assert bool(there.any()), name  # intensities alone seldom tell a source from noise
        assert bool((torch.isfinite(found.azimuth) == there).all())
        assert bool(torch.isfinite(found.noise_var).all())

"""The network's own terms: zero at the truth, growing with the error, at the right cells."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from risctl.config import LossConfig, PhysicsConfig
from risctl.losses import Truth
from risctl.losses.presence import (
    DETECTION_TERMS,
    cell_targets,
    detection_terms,
    detection_weights,
    focal_loss,
)
from risctl.model import Prediction
from risctl.model.slots import (
    LOG_POWER_LIMIT,
    LOG_STD_LIMITS,
    NUM_CHANNELS,
    OFFSET_LIMIT,
    OFFSET_Y,
    OFFSET_Z,
    POWER,
    PRESENCE,
    RANGE,
    RANGE_STD,
    decode,
)
from risctl.physics import ArrayGeometry, FieldOfView, simulate_scenes
from risctl.physics.polar import from_polar
from tests.losses.cases import map_truth

SHAPE = (16, 32)


@pytest.fixture(scope="module")
def truth(geometry: ArrayGeometry) -> Truth:
    rng = np.random.Generator(np.random.SFC64(5))
    return Truth.of(simulate_scenes(PhysicsConfig(), rng, 12), geometry)


def _terms(maps: Tensor | None, truth: Truth, view: FieldOfView) -> dict[str, Tensor]:
    return detection_terms(Prediction(*[torch.zeros(1)] * 5, maps), truth, view)


def _perfect(truth: Truth, view: FieldOfView) -> Tensor:
    """Maps that say what the targets say."""
    maps = torch.zeros(len(truth.power), NUM_CHANNELS, *SHAPE)
    target = cell_targets(maps, truth, view)
    maps[:, PRESENCE] = torch.where(target.hit, 12.0, -12.0)
    away = (target.offset.clamp(-1.4, 1.4) / OFFSET_LIMIT).atanh() * OFFSET_LIMIT
    maps[:, OFFSET_Y], maps[:, OFFSET_Z] = away[:, 0], away[:, 1]
    share = (target.curvature * view.range_max).log() / math.log(view.range_max / view.range_min)
    maps[:, RANGE] = torch.logit(share.clamp(1e-6, 1.0 - 1e-6))
    relative = target.log_power - math.log(truth.A.shape[1] / 3)
    maps[:, POWER] = (relative.clamp(-2.9, 2.9) / LOG_POWER_LIMIT).atanh() * LOG_POWER_LIMIT
    maps[:, RANGE_STD] = -30.0
    return maps


def test_perfect_maps_cost_nothing(truth: Truth, view: FieldOfView) -> None:
    found = _terms(_perfect(truth, view), truth, view)
    assert tuple(found) == DETECTION_TERMS
    for name in ("presence", "offset", "range", "power"):
        assert float(found[name]) == pytest.approx(0.0, abs=1e-3), name
    assert float(found["std"]) == pytest.approx(LOG_STD_LIMITS[0], abs=0.05)


def test_perfect_maps_decode_to_the_truth(truth: Truth, view: FieldOfView) -> None:
    slots = decode(_perfect(truth, view), truth.power.shape[1], view)
    found = torch.stack(from_polar(slots.points), dim=-1)
    distance = (found.unsqueeze(1) - truth.position.unsqueeze(2)).abs().amax(-1)  # [B, source, slot]
    nearest = distance.min(dim=2).values[truth.mask]
    # Sources in neighbouring cells hide one another.
    assert float((nearest < 1e-3).float().mean()) > 0.9


@pytest.mark.parametrize(
    ("channel", "name", "step"),
    [
        (PRESENCE, "presence", -8.0),
        (OFFSET_Y, "offset", 0.2),
        (OFFSET_Z, "offset", -0.2),
        (RANGE, "range", 0.5),
        (RANGE_STD, "std", 29.0),
    ],
)
def test_errors_cost_more_the_larger_they_are(
    channel: int, name: str, step: float, truth: Truth, view: FieldOfView
) -> None:
    maps, values = _perfect(truth, view), []
    for _ in range(3):
        values.append(float(_terms(maps, truth, view)[name]))
        maps[:, channel] += step
    assert values[0] < values[1] < values[2]


def test_the_power_is_relative_to_the_scene(truth: Truth, view: FieldOfView) -> None:
    maps = _perfect(truth, view)
    maps[:, POWER] = 0.0
    scaled = replace(truth, power=truth.power * 7.0)
    one, other = (_terms(maps, t, view)["power"] for t in (truth, scaled))
    torch.testing.assert_close(one, other)
    assert float(one) > 0.05


def test_only_the_standard_deviation_learns_from_its_term(truth: Truth, view: FieldOfView) -> None:
    maps = _perfect(truth, view).requires_grad_()
    _terms(maps, truth, view)["std"].backward()
    assert maps.grad is not None
    used = maps.grad.abs().sum((0, 2, 3)) > 0
    assert used.nonzero().flatten().tolist() == [RANGE_STD]


def test_the_standard_deviation_settles_at_the_error(truth: Truth, view: FieldOfView) -> None:
    maps = _perfect(truth, view)
    target = cell_targets(maps, truth, view)
    wrong = (target.curvature + 0.1) * view.range_max
    share = wrong.log() / math.log(view.range_max / view.range_min)
    maps[:, RANGE] = torch.logit(share.clamp(1e-6, 1.0 - 1e-6))

    def cost(std: float) -> float:
        low, high = LOG_STD_LIMITS
        maps[:, RANGE_STD] = torch.logit(torch.tensor((math.log(std) - low) / (high - low)))
        return float(_terms(maps, truth, view)["std"])

    assert cost(0.1) < cost(0.08)
    assert cost(0.1) < cost(0.125)


def test_targets_are_at_the_cells_of_the_sources(truth: Truth, view: FieldOfView) -> None:
    target = cell_targets(torch.zeros(len(truth.power), NUM_CHANNELS, *SHAPE), truth, view)
    assert int(target.hit.sum()) <= int(truth.num_sources.sum())
    assert int(target.hit.sum()) >= 0.95 * int(truth.num_sources.sum())
    assert float(target.presence.max()) == 1.0
    at = target.offset.movedim(1, -1)[target.hit]
    assert float(at.abs().max()) <= 0.5 + 1e-4
    assert bool((target.weight > 0)[target.hit].all())
    assert float(target.offset.movedim(1, -1)[target.weight > 0].abs().max()) <= 1.0
    for scene in range(len(truth.power)):
        q = 1.0 / truth.position[scene, truth.mask[scene], 2]
        distance = (target.curvature[scene][target.hit[scene]].unsqueeze(-1) - q).abs().amin(-1)
        assert float(distance.max()) < 1e-5


def test_empty_slots_leave_no_target(truth: Truth, view: FieldOfView) -> None:
    moved = truth.position.clone()
    moved[~truth.mask] = torch.tensor([0.5, 0.2, 3.0])
    maps = torch.randn(len(truth.power), NUM_CHANNELS, *SHAPE, generator=torch.Generator().manual_seed(0))
    found = _terms(maps, truth, view)
    other = _terms(maps, replace(truth, position=moved), view)
    for name, x in found.items():
        torch.testing.assert_close(x, other[name], rtol=0.0, atol=0.0)


def test_a_batch_is_the_mean_of_its_parts(truth: Truth, view: FieldOfView) -> None:
    """However many sources each part has: batches are shared between processes, or accumulated."""
    maps = torch.randn(len(truth.power), NUM_CHANNELS, *SHAPE, generator=torch.Generator().manual_seed(2))
    whole = _terms(maps, truth, view)
    halves = (slice(0, 6), slice(6, 12))
    parts = [_terms(maps[rows], map_truth(truth, lambda x, rows=rows: x[rows]), view) for rows in halves]
    for name, value in whole.items():
        assert float(value) == pytest.approx(sum(float(part[name]) for part in parts) / 2, rel=1e-5)


def test_focal_loss_limits() -> None:
    logits = torch.tensor([[[0.0, 20.0, -20.0, 0.0]]])
    hit = torch.tensor([[[True, True, False, False]]])
    target = torch.tensor([[[1.0, 1.0, 0.0, 0.0]]])
    # Sure and right costs nothing; p = 1/2 costs (1/2)^2 log 2 either way.
    assert float(focal_loss(logits, target, hit)) == pytest.approx(2 * 0.25 * math.log(2.0) / 2, rel=1e-5)
    near = focal_loss(torch.zeros(1, 1, 1), torch.tensor([[[0.9]]]), torch.tensor([[[False]]]))
    far = focal_loss(torch.zeros(1, 1, 1), torch.tensor([[[0.0]]]), torch.tensor([[[False]]]))
    assert float(near) == pytest.approx(1e-4 * float(far), rel=1e-3)
    extreme = torch.tensor([[[200.0, -200.0]]], requires_grad=True)
    focal_loss(extreme, torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[False, True]]])).backward()
    assert extreme.grad is not None
    assert bool(torch.isfinite(extreme.grad).all())


def test_gradients_are_right(view: FieldOfView, geometry64: ArrayGeometry) -> None:
    rng = np.random.Generator(np.random.SFC64(6))
    few = Truth.of(simulate_scenes(PhysicsConfig(), rng, 2), geometry64)
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, NUM_CHANNELS, 4, 8, generator=generator, dtype=torch.float64).requires_grad_()
    for name in ("presence", "offset", "range", "power"):
        assert torch.autograd.gradcheck(lambda x, n=name: _terms(x, few, view)[n], (maps,), fast_mode=True)


def test_weights_are_the_section_s_and_no_maps_no_terms(truth: Truth, view: FieldOfView) -> None:
    loss = LossConfig(detection_presence=0.7)
    assert tuple(detection_weights(loss)) == DETECTION_TERMS
    assert detection_weights(loss)["presence"] == 0.7
    assert _terms(None, truth, view) == {}

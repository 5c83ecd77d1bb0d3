"""Assignment against the Hungarian method, and what the distances make of slots and power."""

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from risctl.config import LossConfig
from risctl.losses import match_slots
from risctl.losses.positions import assign, direction_chamfer, matched_distance
from tests.losses.cases import LOSS, build, simulated

CASE = build(0.0, simulated(count=16))


@pytest.mark.parametrize("K", range(1, 9))
def test_assignment_equals_the_hungarian_method(K: int) -> None:
    cost = torch.rand(40, K, K, dtype=torch.float64, generator=torch.Generator().manual_seed(K))
    found = assign(cost)
    assert torch.equal(found.sort(-1).values, torch.arange(K).expand(40, K))
    for one, slots in zip(cost.numpy(), found.tolist(), strict=True):
        assert slots == linear_sum_assignment(one)[1].tolist()


def test_assignment_of_equal_costs_is_a_permutation() -> None:
    found = assign(torch.zeros(3, 5, 5))
    assert torch.equal(found.sort(-1).values, torch.arange(5).expand(3, 5))
    assert torch.equal(found[0], found[1])


def test_a_cheap_pair_is_given_up_for_the_sum() -> None:
    assert assign(torch.tensor([[0.0, 1.0], [0.1, 9.0]])).tolist() == [1, 0]


def test_matching_finds_the_slots_again() -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = torch.empty_like(CASE.position)
    shuffled[:, order] = CASE.position  # source k is in slot order[k]
    shuffled[:, :, 0] += 0.01
    found = match_slots(shuffled, CASE.truth)
    assert torch.equal(found[CASE.truth.mask], order.expand(16, 5)[CASE.truth.mask])
    assert torch.equal(found.sort(-1).values, torch.arange(5).expand(16, 5))


@pytest.mark.parametrize(
    ("axis", "change", "expected", "loss"),
    [
        (0, 0.2, 0.2**2 / 2, LOSS),
        (1, -0.2, (1.5 * 0.2) ** 2 / 2, LOSS),
        (2, math.exp(0.3), 0.3**2 / 2, LOSS),
        (2, math.exp(2.0), 1.5, LOSS),
        (0, 0.3, 0.3 - 0.05, LossConfig(aux_beta=0.1)),
    ],
)
def test_aux_is_in_radians_and_nepers_and_turns_linear_at_its_parameter(
    axis: int, change: float, expected: float, loss: LossConfig
) -> None:
    position = CASE.position[:, :1].repeat(1, 5, 1)
    position[..., axis] = position[..., axis] * change if axis == 2 else position[..., axis] + change
    values = matched_distance(position, CASE.truth, loss)[CASE.truth.num_sources == 1]
    torch.testing.assert_close(values, torch.full_like(values, expected))


def test_empty_slots_do_not_count_wherever_they_are() -> None:
    moved = torch.where(CASE.truth.mask.unsqueeze(-1), CASE.position, CASE.position + 0.7)
    assert float(direction_chamfer(moved, CASE.power, CASE.truth).max()) == 0.0
    spread = direction_chamfer(moved, torch.full_like(CASE.power, 0.2), CASE.truth)
    assert float(spread[CASE.truth.num_sources < 5].min()) > 0.05


def test_an_empty_slot_is_no_hit() -> None:
    """Right place, no power: as far as a direction can be, sharing out over the sources."""
    power = CASE.power.clone()
    power[:, 0] = 0.0
    several = CASE.truth.num_sources > 1
    missed = direction_chamfer(CASE.position, power, CASE.truth)[several]
    nearest = 2.0 / CASE.truth.num_sources[several].double()
    assert bool((missed > 0.02).all())
    assert bool((missed <= nearest + 1e-12).all())


def test_angles_between_single_directions() -> None:
    """K = 1, every slot the same angle off: both sides see the chord."""
    turned = CASE.truth.position[:, :1].expand(-1, 5, -1).clone()
    turned[..., 1] += 0.1
    values = direction_chamfer(turned, CASE.power, CASE.truth)[CASE.truth.num_sources == 1]
    torch.testing.assert_close(values, torch.full_like(values, 2 * 2 * math.sin(0.05)), rtol=0, atol=3e-6)


def test_range_zero_is_survived() -> None:
    position = CASE.position.clone()
    position[..., 2] = 0.0
    position.requires_grad_()
    value = matched_distance(position, CASE.truth, LOSS)
    (gradient,) = torch.autograd.grad(value.sum(), position)
    assert bool(torch.isfinite(value).all())
    assert bool(torch.isfinite(gradient).all())

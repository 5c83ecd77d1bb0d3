"""The sum of the terms, and the weights it is made with."""

from dataclasses import replace

import pytest
import torch

from risctl.config import LossConfig
from risctl.losses import TERMS, main_weights, term_weights, total_loss
from tests.losses.cases import LOSS, build, simulated

SCENES = simulated()


def test_total_is_the_weighted_sum_of_the_means() -> None:
    case = build(0.3, SCENES)
    weights = main_weights(LOSS)
    found = total_loss(case.forward(), case.truth, LOSS, weights, case.geometry)
    raw = {name: value.mean() for name, value in case.terms().items()}
    assert tuple(found.raw) == TERMS
    for name in TERMS:
        assert torch.equal(found.raw[name], raw[name])
    torch.testing.assert_close(found.total, sum(weights[name] * raw[name] for name in TERMS))


def test_a_term_without_weight_reaches_neither_total_nor_gradient() -> None:
    case = build(0.3, SCENES)
    case = replace(case, count_logits=torch.full_like(case.count_logits, torch.inf)).requires_grad()
    weights = main_weights(LOSS) | {"K": 0.0}
    found = total_loss(case.forward(), case.truth, LOSS, weights, case.geometry)
    assert not bool(torch.isfinite(found.raw["K"]))
    assert bool(torch.isfinite(found.total))
    found.total.backward()
    assert case.count_logits.grad is None


def test_the_mean_over_two_halves_is_the_whole() -> None:
    """What lets a global batch be split over processes and a validation set over batches."""
    case = build(0.3, SCENES)
    weights = main_weights(LOSS)

    def total(part: slice) -> torch.Tensor:
        half = case.scenes(part)
        return total_loss(half.forward(), half.truth, LOSS, weights, half.geometry).total

    torch.testing.assert_close((total(slice(0, 4)) + total(slice(4, 8))) / 2, total(slice(0, 8)))


def test_weights_of_the_main_phase() -> None:
    assert main_weights(LossConfig()) == {
        "cov": 1.0,
        "cov_pred": 0.03,
        "ortho": 1e-3,
        "cross": 1e-3,
        "gap": 0.05,
        "margin": 0.05,
        "K": 0.3,
        "aux": 0.5,
        "peak": 0.05,
        "align": 0.002,
        "subspace_align": 0.05,
        "peak_contrast": 0.1,
    }
    assert tuple(main_weights(LossConfig())) == TERMS


@pytest.mark.parametrize(
    ("epoch", "epochs", "subspace_align", "peak_contrast"),
    [
        (0, 100, 0.02, 0.05),
        (2, 100, 0.02, 0.05),
        (3, 100, 0.05, 0.10),
        (79, 100, 0.05, 0.10),
        (80, 100, 0.07, 0.12),
        (99, 100, 0.07, 0.12),
        (23, 30, 0.05, 0.10),
        (24, 30, 0.07, 0.12),
        (0, 1, 0.02, 0.05),
        (2, 4, 0.02, 0.05),
        (3, 4, 0.07, 0.12),
    ],
)
def test_schedule(epoch: int, epochs: int, subspace_align: float, peak_contrast: float) -> None:
    scheduled = {"subspace_align": subspace_align, "peak_contrast": peak_contrast}
    assert term_weights(LossConfig(), epoch, epochs) == main_weights(LossConfig()) | scheduled


def test_a_fraction_of_zero_has_no_last_phase() -> None:
    weights = term_weights(LossConfig(schedule_final_fraction=0.0), 99, 100)
    assert weights == main_weights(LossConfig())

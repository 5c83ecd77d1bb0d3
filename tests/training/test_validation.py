"""Validation: every scene once, the main phase's weights, the network inference would use."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from risctl.config import LossConfig, PhysicsConfig
from risctl.data import SceneStream
from risctl.errors import CheckFailedError, DivergedError
from risctl.losses import TERMS, Truth, main_weights, total_loss
from risctl.model import Forward, Prediction, predict
from risctl.physics import ArrayGeometry
from risctl.training import FIGURES, EpochResult, FirstBatch, inactive_terms, moved_share
from risctl.training.metrics import great_circle, scene_figures, source_figures
from risctl.training.process_group import ProcessGroup
from risctl.training.validation import Validator
from tests.training.checks import Poisoned
from tests.training.small import (
    PHYSICS,
    Recorder,
    SmallNetwork,
    real_network,
    small_plan,
    train_small,
    weighted_terms,
)


def _validate(plan: Any) -> Any:
    network = plan.network.eval()
    return Validator(plan, plan.objective, ProcessGroup())(network, lambda: False)


def test_the_total_is_the_main_phases_over_all_scenes() -> None:
    """The mean over the scenes, whatever the batches: the same as the loss of all of them at once."""
    plan = small_plan(objective=weighted_terms(), val_scenes=21)
    found = _validate(plan)
    scenes, geometry = plan.validation.scenes(0, 21), ArrayGeometry.from_config(PHYSICS)
    truth, loss = Truth.of(scenes, geometry), LossConfig()
    with torch.no_grad():
        forward = predict(plan.network.eval(), scenes.y, scenes.H, scenes.codes, plan.covariance)
        expected = total_loss(forward, truth, loss, main_weights(loss), geometry)
    assert found.terms["total"] == pytest.approx(float(expected.total), rel=1e-5)
    assert set(found.terms) == {*TERMS, "total"}
    for name in TERMS:
        assert found.terms[name] == pytest.approx(float(expected.raw[name]), rel=1e-4, abs=1e-6)


def test_batches_do_not_matter() -> None:
    a, b = (_validate(small_plan(batch=batch, val_scenes=21)) for batch in (4, 8))
    assert a.terms == pytest.approx(b.terms, rel=1e-6)
    assert a.metrics == pytest.approx(b.metrics, rel=1e-6)


def test_simulated_scenes_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plan, made = small_plan(objective=weighted_terms(), val_scenes=21), []
    original = SceneStream.scenes
    monkeypatch.setattr(SceneStream, "scenes", lambda *a: made.append(a[1:]) or original(*a))
    validator, network = Validator(plan, plan.objective, ProcessGroup()), plan.network.eval()
    first, second = (validator(network, lambda: False) for _ in range(2))
    assert first == second
    assert made == sorted(set(made))


def test_maps_are_made_once_and_change_nothing() -> None:
    network, made = real_network(), list[int]()
    plan = small_plan(objective=weighted_terms(), network=network, val_scenes=21)
    validator = Validator(plan, plan.objective, ProcessGroup())
    network.features.register_forward_hook(lambda *_: made.append(1))
    first, batches = validator(network.eval(), lambda: False), len(made)
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.count.net[-1].bias[0] += 10.0
    second = validator(other, lambda: False)
    assert len(made) == batches > 0
    assert second == _validate(replace(plan, network=other))
    assert second.terms["K"] != first.terms["K"]


def test_a_run_validates_the_average_without_dropout(tmp_path: Path) -> None:
    recorder = Recorder()
    outcome = train_small(tmp_path, recorder, epochs=2, swa_fraction=0.0)
    first, last = recorder.of(EpochResult)
    assert (first.weights, last.weights) == ("ema", "ema")
    assert (outcome.first_value, outcome.last) == (first.val["total"], last.val)
    assert outcome.metrics == last.metrics


def test_validation_is_never_filtered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    original = SceneStream.scenes

    def scenes(self: SceneStream, start: int, stop: int) -> Any:
        if self.split == "val":
            seen.append((start, stop))
        return original(self, start, stop)

    monkeypatch.setattr(SceneStream, "scenes", scenes)
    train_small(tmp_path, epochs=1, curriculum=True)
    assert seen == [(0, 8), (8, 16)]


def test_a_network_that_diverges_ends_the_run(tmp_path: Path) -> None:
    class Diverging(SmallNetwork):
        def forward(self, *measured: Tensor) -> Prediction:
            out = super().forward(*measured)
            return out if self.training else replace(out, A_angle=out.A_angle * math.nan)

    with pytest.raises(DivergedError, match="not finite"):
        train_small(tmp_path, network=Diverging())


def test_too_many_skipped_steps_end_the_run(tmp_path: Path) -> None:
    class Failing(SmallNetwork):
        done = 0

        def forward(self, *measured: Tensor) -> Prediction:
            out = super().forward(*measured)
            self.done += self.training
            nothing = {"A_angle": out.A_angle * 0.0, "A_range": out.A_range * 0.0}
            return replace(out, **nothing) if self.training and self.done > 1 else out

    with pytest.raises(CheckFailedError, match=r"3 of 4 steps were skipped.*0\.05"):
        train_small(tmp_path / "a", network=Failing())
    assert train_small(tmp_path / "b", network=Failing(), max_skipped_fraction=1.0).skipped == 11


def test_too_many_sanitised_steps_end_the_run(tmp_path: Path) -> None:
    first, second = (Poisoned(math.nan, range(1, 13)) for _ in range(2))
    with pytest.raises(CheckFailedError, match=r"3 of 3 steps were sanitised"):
        train_small(tmp_path / "a", network=first)
    assert train_small(tmp_path / "b", network=second, max_sanitised_fraction=1.0).sanitised == 12


def test_the_first_batch_is_described_once(tmp_path: Path) -> None:
    recorder = Recorder()
    train_small(tmp_path, recorder)
    (found,) = recorder.of(FirstBatch)
    N, L, K = PHYSICS.num_elements, PHYSICS.num_snapshots, PHYSICS.max_sources
    assert found.ranks == {"pred": 2 * K, "samp": L - 1, "blend": N}  # 2 K + L - 1 > N here
    for name, norm in found.norms.items():
        assert math.sqrt(N) <= norm <= 1.1 * N, name  # between the identity and rank one


def test_the_table_of_figures_names_what_a_validation_finds(tmp_path: Path) -> None:
    metrics = train_small(tmp_path, epochs=1).metrics
    norms = {"norm_pred", "norm_samp", "norm_blend"}
    assert {figure.name for figure in FIGURES} == set(metrics) - norms
    angle = next(figure for figure in FIGURES if figure.unit == "deg")
    assert (angle.label, angle.row) == ("median angle error, deg, >= 10 dB", "angle deg, >= 10 dB")
    assert angle.sentence(0.594) == "median angle error 0.59 deg at >= 10 dB"


def test_steps_that_move_nothing_and_terms_without_effect_are_found() -> None:
    assert moved_share([{"moved": 0.1}, {"moved": 0.0}]) == 0.5
    assert moved_share([]) == 0.0
    weights = {"gap": 0.05, "margin": 0.05, "align": 0.0}
    epochs = [{"train": {"gap": 0.2, "margin": 0.02, "align": 0.5}}]
    epochs.append({"train": {"gap": 0.0, "margin": 0.02, "align": 0.4}})
    assert inactive_terms(epochs, weights) == ["margin", "align"]  # constant; without weight
    assert inactive_terms([{"train": {"gap": 0.0}}], weights) == ["gap", "margin", "align"]


def test_angles_of_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(200, 3, generator=generator, dtype=torch.float64) - 0.5
    b = torch.rand(200, 3, generator=generator, dtype=torch.float64) - 0.5
    phi, theta = a[:, 0] - b[:, 0], torch.stack([a[:, 1], b[:, 1]])
    cosine = theta.sin().prod(0) + theta.cos().prod(0) * phi.cos()
    assert torch.allclose(great_circle(a, b), torch.arccos(cosine), atol=1e-9)
    near = a + torch.tensor([1e-7, 0.0, 0.0], dtype=torch.float64)
    assert torch.allclose(great_circle(a, near), 1e-7 * a[:, 1].cos(), rtol=1e-5)
    assert torch.equal(great_circle(a, a), torch.zeros(200, dtype=torch.float64))


def test_errors_and_norms_are_those_of_the_dense_matrices() -> None:
    plan = small_plan(objective=weighted_terms())
    scenes = plan.validation.scenes(0, 16)
    truth = Truth.of(scenes, ArrayGeometry.from_config(PHYSICS))
    with torch.no_grad():
        forward = predict(plan.network.eval(), scenes.y, scenes.H, scenes.codes, plan.covariance)
    found, R_true = scene_figures(forward, truth), truth.covariance().dense()
    for name in ("pred", "samp", "blend"):
        R = getattr(forward.covariances, name).dense()
        assert torch.allclose(found[f"norm_{name}"], torch.linalg.matrix_norm(R), rtol=1e-4)
        if name != "samp":
            error = (R - R_true).abs().square().sum((1, 2)) / R_true.abs().square().sum((1, 2))
            assert torch.allclose(found[f"nmse_{name}"], error, rtol=1e-4)


def test_a_prediction_of_the_truth_has_no_error() -> None:
    """Slots in any order, spare ones anywhere."""
    physics = PhysicsConfig()
    scenes, geometry = SceneStream(physics, 1, "val").scenes(0, 64), ArrayGeometry.from_config(physics)
    truth = Truth.of(scenes, geometry)
    order = torch.tensor([3, 0, 4, 1, 2])
    A = truth.A * truth.power.sqrt().unsqueeze(1)
    logits = torch.nn.functional.one_hot(truth.num_sources - 1, 5).float()
    prediction = Prediction(A, A * 0, logits, truth.position[:, order], truth.power[:, order])
    made = predict(lambda *_: prediction, scenes.y, scenes.H, scenes.codes, small_plan().covariance)
    figures = scene_figures(made, truth)
    assert figures["nmse_pred"].abs().max() < 1e-5
    assert bool((figures["count_accuracy"] == 1).all())
    errors = source_figures(Forward(prediction, made.covariances), truth)
    assert errors["angle"][truth.mask].max() < 1e-3
    assert errors["range"][truth.mask].max() < 1e-4
    assert torch.equal(errors["counts"] > 0, truth.mask & (scenes.snr_db >= 10).unsqueeze(1))

"""One step: its order, what is counted, and what a step that does not happen leaves alone."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import risctl.training.step as step_module
from risctl.config import Config, TrainingConfig
from risctl.model import Prediction
from risctl.training.plan import TrainingPlan
from tests.training import checks
from tests.training.checks import Bench, Poisoned
from tests.training.small import SmallNetwork, TwoTerms


class Diverging(SmallNetwork):
    """Its factors are `value` in the forward passes listed."""

    def __init__(self, value: float, calls: set[int]) -> None:
        super().__init__(dropout=0.0)
        self.value, self.calls, self.done = value, calls, 0

    def forward(self, y: Tensor, H: Tensor, codes: Tensor) -> Prediction:
        self.done += 1
        out = super().forward(y, H, codes)
        factors = {"A_angle": out.A_angle * self.value, "A_range": out.A_range * 0}
        return replace(out, **factors) if self.done in self.calls else out


class Silent(SmallNetwork):
    """The head gets no gradient in the second step."""

    done = 0

    def forward(self, y: Tensor, H: Tensor, codes: Tensor) -> Prediction:
        self.done += 1
        self.head.requires_grad_(self.done != 2)
        try:
            return super().forward(y, H, codes)
        finally:
            self.head.requires_grad_(True)


def test_the_order_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, calls = Bench(precision="fp16"), []
    state = bench.state

    def record(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **options: Any) -> Any:
            calls.append((owner, name))
            return original(*args, **options)

        monkeypatch.setattr(owner, name, call)

    order = [
        (torch.autograd, "backward"),
        (state.scaler, "unscale_"),
        (step_module, "count_nonfinite"),
        (step_module, "sanitise"),
        (torch.nn.utils, "clip_grad_norm_"),
        (step_module, "refusal"),
        (state.optimiser, "step"),
        (state.scaler, "update"),
        (state.optimiser, "zero_grad"),
        (state.scheduler, "step"),
        (state.ema, "update_exponential"),
    ]
    for owner, name in order:
        record(owner, name)
    assert not bench.step().skipped
    assert calls == order


def test_a_nonfinite_gradient_is_counted() -> None:
    checks.a_nonfinite_gradient_is_counted()


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0])
def test_a_network_that_diverges_skips_the_step(value: float) -> None:
    checks.a_skipped_step_changes_nothing(Diverging(value, {2}))


def test_a_group_without_a_gradient_skips_the_step() -> None:
    checks.a_skipped_step_changes_nothing(Silent(dropout=0.0))


def test_a_loss_that_is_not_finite_skips_the_step() -> None:
    class Bad(TwoTerms):
        def training(self, forward: Any, truth: Any, epoch: int) -> Any:
            loss = super().training(forward, truth, epoch)
            return type(loss)(loss.total * math.inf, {**loss.terms, "K": loss.terms["K"] * math.nan})

    bench = Bench(objective=Bad())
    before = bench.weights()
    report = bench.step()
    assert (report.skipped, report.total) == (True, None)
    assert "K" in report.message
    assert torch.equal(before, bench.weights())


def test_sanitised_values() -> None:
    weight = torch.nn.Parameter(torch.zeros(4))
    weight.grad = torch.tensor([math.nan, math.inf, -math.inf, 0.25])
    assert step_module.count_nonfinite([weight]) == 3
    step_module.sanitise([weight])
    assert weight.grad.tolist() == [0.0, 1.0, -1.0, 0.25]


def test_an_overflow_under_a_scaler_skips_and_lowers_the_scale() -> None:
    bench = Bench(Poisoned(math.inf, [2]), precision="fp16")
    assert not bench.step().skipped
    scale, before = bench.state.scaler.get_scale(), bench.weights()
    report = bench.step()
    assert report.skipped
    assert report.sanitised > 0
    assert "overflow" in report.message
    assert bench.state.scaler.get_scale() == scale / 2
    assert torch.equal(before, bench.weights())
    assert bench.state.scheduler.position == 1
    assert not bench.step().skipped


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_close_to_single(precision: str) -> None:
    single, half = Bench(SmallNetwork(dropout=0.0)), Bench(SmallNetwork(dropout=0.0), precision=precision)
    for _ in range(3):
        a, b = single.step().total, half.step().total
        assert a != b
        assert b == pytest.approx(a, rel=0.05)


@pytest.mark.parametrize("fast", [False, True])
def test_automatic_precision_is_what_the_processor_is_fast_with(
    fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    expected = "bf16" if fast else "float32"
    config = Config(training=TrainingConfig(precision="auto"))
    plan = TrainingPlan.from_config(config)
    assert plan.training.precision == plan.document["training"]["precision"] == expected
    automatic, stated = (Bench(SmallNetwork(dropout=0.0), precision=p) for p in ("auto", expected))
    assert automatic.step().total == stated.step().total


def test_clipping_bounds_the_gradient_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    bench, seen = Bench(clip=1e-3), []
    original = bench.state.optimiser.step

    def step(*args: Any) -> Any:
        norms = [p.grad.norm() for p in bench.state.parameters if p.grad is not None]
        seen.append(float(torch.stack(norms).norm()))
        return original(*args)

    monkeypatch.setattr(bench.state.optimiser, "step", step)
    report = bench.step()
    assert math.hypot(*report.grad_norm.values()) > 0.1
    assert seen == pytest.approx([1e-3], rel=1e-3)


def test_accumulation_is_one_large_batch() -> None:
    large = Bench(SmallNetwork(dropout=0.0), batch=16, beta_jitter=0.0)
    small = Bench(SmallNetwork(dropout=0.0), batch=4, accumulate=4, beta_jitter=0.0)
    for _ in range(3):
        a, b = large.step(), small.step()
        assert a.total == pytest.approx(b.total, rel=1e-5)
        assert a.terms == pytest.approx(b.terms, rel=1e-5)
        assert a.grad_norm == pytest.approx(b.grad_norm, rel=1e-4)
    assert torch.allclose(large.weights(), small.weights(), atol=1e-5)


def test_the_loss_weights_of_every_step_follow_their_schedule(tmp_path: Path) -> None:
    checks.loss_weights_follow_their_schedule(tmp_path)


def test_the_covariances_of_every_step_are_those_of_inference(tmp_path: Path) -> None:
    checks.training_covariances_are_those_of_inference(tmp_path)


def test_movement_is_the_length_of_the_change() -> None:
    bench = Bench()
    before = bench.weights()
    report = bench.step()
    assert report.moved == pytest.approx(float((bench.weights() - before).norm()), rel=1e-5)
    assert report.moved > 0


def test_the_jitter_is_drawn_per_scene_and_only_when_asked_for() -> None:
    bench = Bench(beta_jitter=0.05)
    offsets = bench.state.generators.beta_offsets(4000, 0.05)
    assert offsets.abs().max() <= 0.05
    assert float(offsets.std()) == pytest.approx(0.05 / math.sqrt(3), rel=0.05)
    assert len(offsets.unique()) > 3000
    assert bench.state.generators.beta_offsets(4, 0.0) is None
    wide, narrow = (Bench(SmallNetwork(dropout=0.0), beta_jitter=jitter) for jitter in (0.3, 0.0))
    assert wide.step().total != narrow.step().total


def test_training_leaves_the_callers_random_state_alone() -> None:
    bench = Bench()
    before = torch.get_rng_state()
    bench.step()
    assert torch.equal(before, torch.get_rng_state())

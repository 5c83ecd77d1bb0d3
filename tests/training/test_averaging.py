"""Averages of weights against their plain formulas."""

import pytest
import torch
from torch import Tensor

from risctl.training.averaging import WeightAverage, ema_decay
from tests.training.checks import Bench
from tests.training.small import SmallNetwork


def _weights(network: SmallNetwork) -> Tensor:
    return torch.cat([p.detach().double().reshape(-1) for p in network.parameters()])


def _move(network: SmallNetwork) -> Tensor:
    """Add the same random step to the weights and return them."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p += torch.randn(p.shape, generator=generator)
    return _weights(network)


def test_the_decay_grows_to_its_limit() -> None:
    assert ema_decay(0.999, 0) == pytest.approx(0.1)
    assert ema_decay(0.999, 90) == pytest.approx(0.91)
    assert ema_decay(0.999, 10**6) == 0.999
    assert ema_decay(0.5, 90) == 0.5


def test_the_exponential_average() -> None:
    network = SmallNetwork()
    average, expected = WeightAverage(network), _weights(network)
    for t in range(40):
        current = _move(network)
        average.update_exponential(network, 0.7)
        decay = min(0.7, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * current
    assert torch.allclose(_weights(average.network), expected, atol=1e-5)
    assert average.updates == 40


def test_the_plain_average_is_the_mean() -> None:
    network = SmallNetwork()
    average, seen = WeightAverage(network), []
    for _ in range(25):
        seen.append(_move(network))
        average.update_mean(network)
    assert torch.allclose(_weights(average.network), torch.stack(seen).mean(0), atol=1e-5)


def test_an_average_takes_no_part_in_training() -> None:
    bench = Bench()
    bench.step()
    assert not bench.state.ema.network.training
    assert not any(p.requires_grad for p in bench.state.ema.network.parameters())


def test_a_run_averages_in_the_right_phase() -> None:
    """Of twelve steps the last four are averaged; the mean is that of the weights after each of them."""
    bench, seen = Bench(), []
    for step in range(12):
        assert bench.state.weights == ("raw" if step == 0 else "ema" if step <= 8 else "swa")
        bench.step()
        seen.append(bench.weights().double())
    assert bench.state.swa.updates == 4
    groups = bench.state.swa.network.parameter_groups().values()
    found = torch.cat([p.double().reshape(-1) for group in groups for p in group])
    assert torch.allclose(found, torch.stack(seen[8:]).mean(0), atol=1e-6)
    assert bench.state.inference_network() is bench.state.swa.network
    assert bench.state.ema.updates == 12

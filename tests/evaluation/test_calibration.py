"""Fitting the count fusion: it finds what tells the counts apart, and follows from data and seed alone."""

import torch

from risctl.evaluation.calibration import CountData, count_accuracy, fit_fusion


def _data(scenes: int, seed: int) -> CountData:
    """The head guesses; the evidence is right only where the second figure is positive, else one too low."""
    g = torch.Generator().manual_seed(seed)
    K = torch.randint(1, 6, (scenes,), generator=g)
    figures = torch.randn(scenes, 4, generator=g) * 3.0 + 5.0
    seen = torch.where(figures[:, 1] > 5.0, K - 1, (K - 2).clamp_min(0))
    evidence = torch.nn.functional.one_hot(seen, 5).float() * 4.0 - 4.0
    head = torch.randn(scenes, 5, generator=g).log_softmax(1)
    return CountData(head, evidence, torch.cat([figures, evidence], 1), K, torch.zeros(scenes))


def test_it_learns_when_to_believe_whom() -> None:
    validation = _data(1000, 2)
    fit = fit_fusion(_data(4000, 1), validation, seed=0)
    assert count_accuracy(validation.head, validation) < 0.3
    assert count_accuracy(validation.evidence, validation) < 0.65
    assert fit.accuracy > 0.85
    assert fit.epoch > 0


def test_it_follows_from_data_and_seed_and_leaves_other_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    train, validation = _data(600, 1), _data(300, 2)
    first, second = (fit_fusion(train, validation, seed=3).network.state_dict() for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = fit_fusion(train, validation, seed=4).network.state_dict()
    assert not torch.equal(first["net.0.weight"], other["net.0.weight"])

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from risctl.physics.random import complex_normal, normal, random_bytes, random_words, uniform
from tests.physics.reference import assert_mean

COUNT = 400_000


def draw(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


class Constant(np.random.Generator):
    """A generator stuck on one word, the corners of the transform included."""

    def __init__(self, word: int) -> None:
        super().__init__(np.random.PCG64(0))
        self.word = word

    def integers(self, *_: Any, size: Any = None, **__: Any) -> Any:
        return np.full(size, self.word, dtype=np.int64)


def test_complex_normal_moments() -> None:
    z = complex_normal(draw(), (COUNT,)).numpy().astype(np.complex128)
    assert_mean(z, 0.0)
    assert_mean(z**2, 0.0)  # circular: real and imaginary parts of equal power, uncorrelated
    assert_mean(z**4, 0.0)
    for order in (1, 2, 3):
        assert_mean(np.abs(z) ** (2 * order), math.factorial(order))


def test_complex_normal_distribution() -> None:
    z = complex_normal(draw(), (COUNT,)).numpy().astype(np.complex128)
    assert stats.kstest(np.abs(z) ** 2, "expon").pvalue > 1e-3
    assert stats.kstest(np.angle(z), stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3
    assert stats.kstest(z.real * np.sqrt(2), "norm").pvalue > 1e-3
    assert stats.spearmanr(np.abs(z), np.angle(z)).pvalue > 1e-3


@pytest.mark.parametrize("lag", [1, 2, 100, COUNT // 2])
def test_complex_normal_samples_are_independent(lag: int) -> None:
    z = complex_normal(draw(), (COUNT,)).numpy().astype(np.complex128)
    early, late = z[:-lag], z[lag:]
    assert_mean(late * early.conj(), 0.0)
    assert_mean((np.abs(late) ** 2 - 1) * (np.abs(early) ** 2 - 1), 0.0)


@pytest.mark.parametrize("word", [0, -1, 2**63 - 1, -(2**63), 0x7FFFFFFF, 0x7FFFFFFF80000000])
def test_complex_normal_is_finite_at_the_corners(word: int) -> None:
    z = complex_normal(Constant(word), (6,))
    assert bool(torch.isfinite(z.abs()).all())
    assert z.abs().max() <= math.sqrt(32 * math.log(2)) + 1e-6


def test_random_words_fill_all_bits() -> None:
    words = random_words(draw(), 20_000).numpy().view(np.uint64)
    bits = np.unpackbits(words.view(np.uint8)).reshape(-1, 64)
    counts = bits.sum(0)
    assert stats.chi2.sf(np.sum((counts - 10_000) ** 2) / 5_000, 64) > 1e-3


@pytest.mark.parametrize("bits", range(1, 9))
def test_random_bytes_are_uniform(bits: int) -> None:
    q = random_bytes(draw(bits), (100, 7, 91), bits)
    assert q.dtype == torch.uint8
    assert q.shape == (100, 7, 91)
    assert stats.chisquare(np.bincount(q.flatten().numpy(), minlength=2**bits)).pvalue > 1e-3


def test_uniform_and_normal() -> None:
    u = uniform(draw(), (COUNT,), -2.0, 3.0)
    assert u.dtype == torch.float32
    assert stats.kstest(u.double().numpy(), stats.uniform(-2, 5).cdf).pvalue > 1e-3
    g = normal(draw(), (COUNT,), 0.3)
    assert g.dtype == torch.float32
    assert stats.kstest(g.double().numpy() / 0.3, "norm").pvalue > 1e-3


@pytest.mark.parametrize(
    "sample",
    [
        lambda rng: complex_normal(rng, (50, 3)),
        lambda rng: uniform(rng, (50, 3)),
        lambda rng: normal(rng, (50, 3)),
        lambda rng: random_bytes(rng, (50, 3), 5),
    ],
)
def test_the_generator_decides(sample: Any) -> None:
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    first, again, other = sample(draw(4)), sample(draw(4)), sample(draw(5))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)

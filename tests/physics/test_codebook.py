from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from risctl.config import PhysicsConfig
from risctl.physics import code_phasors
from risctl.physics.codebook import draw_code_index, hadamard_matrix
from tests import oracle
from tests.physics.reference import Array

CODEBOOKS = ("random", "dft", "hadamard", "mixed")
BITS = range(1, 9)


def draw(codebook: str, count: int = 1, seed: int = 1, **changes: Any) -> tuple[Tensor, PhysicsConfig]:
    physics = PhysicsConfig(codebook=codebook, **changes)
    return draw_code_index(np.random.default_rng(seed), physics, count), physics


def phasors(index: Tensor, physics: PhysicsConfig) -> Array:
    return code_phasors(index, physics.phase_bits).numpy().astype(np.complex128)


def beams(columns: int, rows: int) -> Array:
    """[N, N]: the two-dimensional DFT of the panel before any quantisation."""
    horizontal, vertical = np.fft.ifft(np.eye(columns)) * columns, np.fft.ifft(np.eye(rows)) * rows
    return np.kron(vertical, horizontal)


def beam_numbers(codes: Array, columns: int, rows: int, phase_bits: int) -> Array:
    """Which DFT beam each code [L, N] is, its phases nowhere further than half a step from the beam's."""
    exact = beams(columns, rows)
    best = np.argmax(np.abs(codes @ exact.conj().T), axis=1)
    error = np.angle(codes * exact[best].conj())
    assert np.max(np.abs(error)) <= np.pi / 2**phase_bits + 1e-6
    return best


@pytest.mark.parametrize("codebook", CODEBOOKS)
@pytest.mark.parametrize("bits", BITS)
def test_codes_are_quantised_phases(codebook: str, bits: int) -> None:
    index, _ = draw(codebook, 2, phase_bits=bits, num_snapshots=5)
    assert index.dtype == torch.uint8
    assert index.shape == (2, 5, 144)
    assert int(index.max()) < 2**bits
    codes = code_phasors(index, bits)
    assert codes.dtype == torch.complex64
    np.testing.assert_allclose(codes.numpy(), oracle.codes_from_index(index.numpy(), bits), atol=1e-7)


@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_the_generator_decides(codebook: str) -> None:
    first, again, other = (draw(codebook, 3, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("bits", BITS)
def test_phasors_are_exact_to_rounding(bits: int) -> None:
    exact = oracle.codes_from_index(np.arange(2**bits), bits)
    assert np.max(np.abs(code_phasors(torch.arange(2**bits), bits).numpy() - exact)) < 1e-7


@pytest.mark.parametrize("bits", BITS)
def test_random_phases_are_uniform(bits: int) -> None:
    index, _ = draw("random", 40, seed=bits, phase_bits=bits)
    assert stats.chisquare(np.bincount(index.flatten().numpy(), minlength=2**bits)).pvalue > 1e-3


@pytest.mark.parametrize(("axis", "lag"), [(2, 1), (2, 8), (2, 12), (1, 1), (0, 1)])
def test_random_phases_are_independent(axis: int, lag: int) -> None:
    index = draw("random", 40)[0].numpy().astype(int)
    early, late = np.split(index, [index.shape[axis] - lag], axis)[0], np.split(index, [lag], axis)[1]
    counts = np.bincount((8 * early + late).ravel(), minlength=64)
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(("columns", "rows"), [(12, 12), (5, 8)])
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_every_dft_beam_comes_once(columns: int, rows: int, bits: int) -> None:
    N = columns * rows
    index, physics = draw("dft", ris_columns=columns, ris_rows=rows, num_snapshots=N, phase_bits=bits)
    numbers = beam_numbers(phasors(index[0], physics), columns, rows, bits)
    assert sorted(numbers) == list(range(N))


def test_dft_beams_are_orthogonal_before_quantisation() -> None:
    """At 8 bits the 12 x 12 beams are within a step of it; 4 and 8 divide 2^3, so there they are exact."""
    np.testing.assert_allclose(beams(12, 12) @ beams(12, 12).conj().T, 144 * np.eye(144), atol=1e-10)
    index, physics = draw("dft", num_snapshots=144, phase_bits=8)
    codes = phasors(index[0], physics)
    assert np.max(np.abs(codes @ codes.conj().T / 144 - np.eye(144))) < 0.03
    index, physics = draw("dft", ris_columns=8, ris_rows=4, num_snapshots=32)
    codes = phasors(index[0], physics)
    np.testing.assert_allclose(codes @ codes.conj().T, 32 * np.eye(32), atol=1e-5)


def test_dft_beams_repeat_only_when_all_have_been() -> None:
    index, physics = draw("dft", 3, ris_columns=4, ris_rows=3, num_snapshots=30)
    for scene in phasors(index, physics):
        numbers = beam_numbers(scene, 4, 3, 3)
        assert sorted(numbers[:12]) == sorted(numbers[12:24]) == list(range(12))
        assert len(set(numbers[24:])) == 6


def test_dft_beams_are_equally_likely() -> None:
    index, physics = draw("dft", 300, ris_columns=4, ris_rows=4, num_snapshots=2)
    numbers = beam_numbers(phasors(index, physics).reshape(-1, 16), 4, 4, 3)
    assert stats.chisquare(np.bincount(numbers, minlength=16)).pvalue > 1e-3


@pytest.mark.parametrize("order", [1, 2, 4, 8, 12, 16, 20, 24, 32, 40, 44, 48, 64])
def test_hadamard_rows_are_orthogonal(order: int) -> None:
    matrix = hadamard_matrix(order)
    assert matrix is not None
    M = matrix.long()
    assert bool((M.abs() == 1).all())
    assert torch.equal(M @ M.mT, order * torch.eye(order, dtype=torch.int64))


@pytest.mark.parametrize("order", [3, 5, 6, 7, 14, 18, 28])
def test_orders_without_a_construction(order: int) -> None:
    """28 has a Hadamard matrix (Paley II), but neither doubling nor Paley I reaches it."""
    assert hadamard_matrix(order) is None


@pytest.mark.parametrize(("columns", "rows"), [(12, 12), (8, 12), (4, 4)])
@pytest.mark.parametrize("bits", BITS)
def test_hadamard_codes_are_orthogonal_on_the_panel(columns: int, rows: int, bits: int) -> None:
    N = columns * rows
    index, physics = draw("hadamard", ris_columns=columns, ris_rows=rows, num_snapshots=N, phase_bits=bits)
    codes = phasors(index[0], physics)
    np.testing.assert_allclose(codes.imag, 0.0, atol=1e-6)
    np.testing.assert_allclose(codes @ codes.conj().T, N * np.eye(N), atol=1e-4)


def test_a_panel_without_a_hadamard_matrix_takes_cut_rows() -> None:
    index, physics = draw("hadamard", ris_columns=3, ris_rows=3, num_snapshots=16)
    codes = phasors(index[0], physics).real
    np.testing.assert_allclose(np.abs(codes), 1.0, atol=1e-6)
    assert len(np.unique(np.sign(codes), axis=0)) == 16
    np.testing.assert_allclose(codes.T @ codes, 16 * np.eye(9), atol=1e-5)  # the columns stay orthogonal


@pytest.mark.parametrize("snapshots", [1, 2, 7, 16])
def test_mixed_is_half_beams_half_random(snapshots: int) -> None:
    index, physics = draw("mixed", 60, num_snapshots=snapshots)
    half = snapshots // 2
    codes = phasors(index, physics)
    for scene in codes[:, :half]:
        assert len(set(beam_numbers(scene, 12, 12, 3))) == half if half else True
    rest = index[:, half:]
    assert stats.chisquare(np.bincount(rest.flatten().numpy(), minlength=8)).pvalue > 1e-3
    gains = np.abs(codes[:, half:].reshape(-1, 144) @ beams(12, 12).conj().T) / 144
    assert np.max(gains) < 0.5  # no beam hides among them

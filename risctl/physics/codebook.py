"""RIS codebooks: the phase of each element in each snapshot.

A code is stored as the index q of the quantised phase ``2 pi q / 2^bits``.

* ``random``: every phase uniform and independent.
* ``dft``: beams of the 2-D DFT of the panel, drawn at random without repetition as far as they last.
* ``hadamard``: rows of a Hadamard matrix (phases 0 and pi), likewise. Where both sides of the panel have a
  Sylvester or Paley-I matrix (12 x 12 does) rows are orthogonal; otherwise rows of the next Sylvester matrix
  are cut to length.
* ``mixed``: the first half of the snapshots ``dft``, the rest ``random``.
"""

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor

from risctl.config import PhysicsConfig
from risctl.physics.random import random_bytes


def draw_code_index(rng: np.random.Generator, physics: PhysicsConfig, num_scenes: int) -> Tensor:
    """Codes for `num_scenes` scenes, uint8 [n, L, N], of the configured codebook."""
    L, N = physics.num_snapshots, physics.num_elements
    if physics.codebook == "random":
        return random_bytes(rng, (num_scenes, L, N), physics.phase_bits)
    if physics.codebook == "hadamard":
        return _pick_rows(rng, _hadamard_index(physics), num_scenes, L)
    if physics.codebook == "dft":
        return _pick_rows(rng, _dft_index(physics), num_scenes, L)
    beams = _pick_rows(rng, _dft_index(physics), num_scenes, L // 2)
    return torch.cat([beams, random_bytes(rng, (num_scenes, L - L // 2, N), physics.phase_bits)], dim=1)


def code_phasors(code_index: Tensor, phase_bits: int) -> Tensor:
    """Unit-modulus codes ``exp(j 2 pi q / 2^bits)``, complex64 of the shape of `code_index`."""
    q = torch.arange(2**phase_bits, dtype=torch.float64)
    table = torch.exp(2j * math.pi * q / 2**phase_bits).to(torch.complex64).to(code_index.device)
    return table.index_select(0, code_index.flatten().int()).view(code_index.shape)


def _pick_rows(rng: np.random.Generator, book: Tensor, num_scenes: int, L: int) -> Tensor:
    """`L` rows of `book` [R, N] per scene, at random; none is repeated before all were used."""
    rounds = max(1, -(-L // book.shape[0]))
    rows = [np.argsort(rng.random((num_scenes, book.shape[0])), axis=1) for _ in range(rounds)]
    return book[torch.from_numpy(np.concatenate(rows, axis=1)[:, :L])]


def _dft_index(physics: PhysicsConfig) -> Tensor:
    """All N two-dimensional DFT beams, phases rounded to the quantiser, uint8 [N, N]."""
    columns, rows, levels = physics.ris_columns, physics.ris_rows, 2**physics.phase_bits
    horizontal = torch.outer(torch.arange(columns), torch.arange(columns)).double() / columns
    vertical = torch.outer(torch.arange(rows), torch.arange(rows)).double() / rows
    turns = vertical[:, None, :, None] + horizontal[None, :, None, :]
    index = torch.round(turns.reshape(columns * rows, -1) * levels).long() % levels
    return index.to(torch.uint8)


def _hadamard_index(physics: PhysicsConfig) -> Tensor:
    """Rows of a Hadamard matrix as phase indices (0 or half a turn), uint8 [R, N]."""
    N = len(physics.elements.positions)
    signs = _panel_hadamard(N, 1) if N else _panel_hadamard(physics.ris_columns, physics.ris_rows)
    return (signs < 0).to(torch.uint8) * 2 ** (physics.phase_bits - 1)


@cache
def _panel_hadamard(columns: int, rows: int) -> Tensor:
    horizontal, vertical = hadamard_matrix(columns), hadamard_matrix(rows)
    if horizontal is not None and vertical is not None:
        return torch.kron(vertical, horizontal)
    sylvester = hadamard_matrix(1 << (columns * rows - 1).bit_length())
    assert sylvester is not None
    return sylvester[:, : columns * rows].contiguous()


def hadamard_matrix(order: int) -> Tensor | None:
    """A Hadamard matrix of `order` (int8) by Sylvester doubling of 1 or of a Paley-I matrix, or None."""
    if order == 1:
        return torch.ones(1, 1, dtype=torch.int8)
    if order % 2:
        return None
    half = hadamard_matrix(order // 2)
    if half is not None:
        return torch.cat([torch.cat([half, half], 1), torch.cat([half, -half], 1)])
    return _paley(order)


def _paley(order: int) -> Tensor | None:
    """Paley's first construction, for ``order - 1`` a prime congruent to 3 modulo 4 (Paley, 1933)."""
    p = order - 1
    if p < 3 or p % 4 != 3 or any(p % f == 0 for f in range(2, math.isqrt(p) + 1)):
        return None
    squares = {(i * i) % p for i in range(1, p)}
    character = torch.tensor([0] + [1 if i in squares else -1 for i in range(1, p)], dtype=torch.int8)
    S = torch.zeros(order, order, dtype=torch.int8)
    S[0, 1:], S[1:, 0] = 1, -1
    i = torch.arange(p)
    S[1:, 1:] = character[(i[:, None] - i[None, :]) % p]
    return S + torch.eye(order, dtype=torch.int8)

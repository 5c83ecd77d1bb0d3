"""A batch of simulated scenes: measurements and true parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from risctl.physics.codebook import code_phasors
from risctl.physics.geometry import Device


@dataclass(frozen=True)
class Scenes:
    """n scenes; every tensor has the scene as its first axis and is zero past the scene's sources.

    Attributes:
        y: snapshots, complex64 [n, L, M].
        H: channel BS <- RIS, complex64 [n, M, N].
        code_index: phase indices q of the codes ``exp(j 2 pi q / 2^bits)``, uint8 [n, L, N].
        azimuth, elevation, range: source positions, float32 [n, K_max] (rad, rad, m).
        power: source powers, float32 [n, K_max] (linear).
        symbols: unit-power source symbols, complex64 [n, K_max, L].
        num_sources: K, uint8 [n].
        snr_db: scene SNR in dB, float32 [n].
        noise_var: noise variance sigma^2, float32 [n].
        phase_bits: bits of the phase quantiser.
    """

    y: Tensor
    H: Tensor
    code_index: Tensor
    azimuth: Tensor
    elevation: Tensor
    range: Tensor
    power: Tensor
    symbols: Tensor
    num_sources: Tensor
    snr_db: Tensor
    noise_var: Tensor
    phase_bits: int

    def __len__(self) -> int:
        return int(self.y.shape[0])

    def __getitem__(self, index: slice | Tensor) -> Scenes:
        return Scenes(**{k: v[index] for k, v in self.tensors().items()}, phase_bits=self.phase_bits)

    def tensors(self) -> dict[str, Tensor]:
        """The eleven stored tensors by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "phase_bits"}

    def to(self, device: Device) -> Scenes:
        """These scenes on another device."""
        return Scenes(**{k: v.to(device) for k, v in self.tensors().items()}, phase_bits=self.phase_bits)

    @property
    def codes(self) -> Tensor:
        """Unit-modulus codes ``c_l``, complex64 [n, L, N]."""
        return code_phasors(self.code_index, self.phase_bits)

    @property
    def source_mask(self) -> Tensor:
        """Which of the K_max entries are sources, bool [n, K_max]."""
        slots = torch.arange(self.azimuth.shape[1], device=self.azimuth.device)
        return slots < self.num_sources.long().unsqueeze(-1)

    @staticmethod
    def concatenate(parts: Sequence[Scenes]) -> Scenes:
        """Scenes of all `parts` in order (at least one part, all of the same shapes)."""
        tensors = {k: torch.cat([p.tensors()[k] for p in parts]) for k in parts[0].tensors()}
        return Scenes(**tensors, phase_bits=parts[0].phase_bits)


def rows_by_count(num_sources: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Each source count K > 0 that occurs in `num_sources` [n], with the indices of its scenes."""
    for K in torch.unique(num_sources[num_sources > 0]).tolist():
        yield K, (num_sources == K).nonzero().squeeze(-1)

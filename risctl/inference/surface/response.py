"""What a real surface differs in from its nominal model, and the parameters by which it is fitted.

Every entry of the steering vector of a source gets the factor ``g_n rho_q`` of its element n and of the code
value q that the element has in the snapshot, and the element is displaced by delta_n:

    ``y_l = Phi_l diag(g o rho[q_l]) A(positions + delta) x_l + w_l``.

Parameters are real: ``Re g, Im g`` [2N], ``Re rho, Im rho`` [2Q], ``delta_x, delta_y, delta_z`` [3N].
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from risctl.inference.observation import Observation
from risctl.physics.geometry import ArrayGeometry

GAINS, STATES, POSITIONS = "gains", "states", "positions"
KINDS = (GAINS, STATES, POSITIONS)
Parameters = dict[str, Tensor]  # kind -> real vector


@dataclass(frozen=True)
class SurfaceResponse:
    """Factors of the elements and of the code values, and displacements of the elements.

    Attributes:
        gains: g, complex128 [N].
        states: rho, complex128 [Q]; Q = 1 where code values are not told apart.
        displacement: metres, float64 [N, 3].
    """

    gains: Tensor
    states: Tensor
    displacement: Tensor

    @classmethod
    def nominal(cls, num_elements: int, num_states: int = 1) -> SurfaceResponse:
        """The response of a surface as it should be."""
        gains, states = (torch.ones(n, dtype=torch.complex128) for n in (num_elements, num_states))
        return cls(gains, states, torch.zeros(num_elements, 3, dtype=torch.float64))

    def factors(self, state: Tensor | None) -> Tensor:
        """``rho[q]``, of the shape of `state`; one number where code values are not told apart."""
        return self.states[:1] if state is None or len(self.states) == 1 else self.states[state]

    def observed(self, obs: Observation, state: Tensor | None) -> Observation:
        """The measurements as seen through this response: ``Phi``, and codes, times its factors."""
        factors = (self.gains * self.factors(state)).to(obs.Phi.dtype)
        codes = None if obs.codes is None else self.applied(obs.codes, state)
        return replace(obs, codes=codes, Phi=obs.Phi * factors)

    def applied(self, codes: Tensor, state: Tensor | None) -> Tensor:
        """What the elements do where `codes` [B, L, N] were set, with their values `state` [B, L, 1, N]."""
        factors = (self.gains * self.factors(state)).to(codes.dtype)
        return codes * (factors if factors.dim() == 1 else factors.squeeze(2))

    def geometry(self, nominal: ArrayGeometry) -> ArrayGeometry:
        """The nominal geometry with the elements displaced."""
        if not bool(self.displacement.any()):
            return nominal
        return replace(nominal, positions=nominal.positions + self.displacement.to(nominal.positions))

    def parameters(self) -> Parameters:
        """The real parameters by kind."""
        return {
            GAINS: torch.cat([self.gains.real, self.gains.imag]),
            STATES: torch.cat([self.states.real, self.states.imag]),
            POSITIONS: self.displacement.mT.flatten(),
        }

    def moved(self, step: Parameters) -> SurfaceResponse:
        """This response with a step of some of its parameters added."""
        x = self.parameters()
        x |= {kind: x[kind] + d for kind, d in step.items()}
        gains, states = (torch.complex(*x[kind].chunk(2)) for kind in (GAINS, STATES))
        return SurfaceResponse(gains, states, x[POSITIONS].view(3, -1).mT.contiguous())

    def null_vectors(self, kinds: tuple[str, ...]) -> Tensor:
        """Unit vectors [J, P] along a common factor, which changes the sources' powers and phases alone."""
        x, rows = self.parameters(), []
        sizes = [len(x[kind]) for kind in kinds]
        for i, kind in enumerate(kinds):
            if kind == POSITIONS:
                continue
            real, imag = x[kind].chunk(2)
            for vector in (x[kind], torch.cat([-imag, real])):
                parts = [torch.zeros(size, dtype=torch.float64) for size in sizes]
                parts[i] = vector / vector.norm()
                rows.append(torch.cat(parts))
        return torch.stack(rows) if rows else torch.zeros(0, sum(sizes), dtype=torch.float64)

    def normalised(self, kinds: tuple[str, ...]) -> tuple[SurfaceResponse, float]:
        """Unit mean square and zero phase of the sum, and the factor by which the powers of sources rise."""
        factor, gains, states = 1.0, self.gains, self.states
        if GAINS in kinds:
            gains, square = _unit(gains)
            factor *= square
        if STATES in kinds:
            states, square = _unit(states)
            factor *= square
        return replace(self, gains=gains, states=states), factor


def _unit(z: Tensor) -> tuple[Tensor, float]:
    """z over its root mean square, turned so that its sum is real and positive; and the mean square."""
    square, total = float(z.abs().square().mean()), z.sum()
    turn = total.abs() / total if float(total.abs()) > 0 else torch.ones_like(total)
    return z * (turn / square**0.5), square

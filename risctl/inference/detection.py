"""Detection of one more source on the grid, given those already found.

Two scores, one for each likelihood:

* conditional: the decrease of the concentrated cost, ``sum_l |b_gl^H P_l y_l|^2 / |P_l b_gl|^2``, residual
  and candidate both projected off the sources already found (orthogonal least squares; Chen, Billings and
  Luo, Int. J. Control 50(5), 1989). Projecting the candidate matters more than usual: all sources reach the
  base station through one channel whose line of sight has rank one, so they have most of their energy in
  common.
* Gaussian: the rise of the Gaussian-symbol likelihood by a source of power p at g,
  ``sum_l p |q|^2 / (1 + p s) - log(1 + p s)``, ``s = b^H R_l^-1 b``, ``q = b^H R_l^-1 y_l`` (Tipping and
  Faul, AISTATS 2003), the largest over a few powers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.inference.concentrated import AmplitudeFit
from risctl.inference.gaussian import GaussianParameters
from risctl.inference.observation import Observation
from risctl.physics.geometry import ArrayGeometry
from risctl.physics.grid import PolarGrid
from risctl.physics.polar import polar_steering

MERGED = 1e-5  # relative diagonal load, for sources found at one place
NORM_FLOOR = 1e-2  # least share of a candidate's own energy that must survive the projection in a snapshot
POWER_LADDER = (0.3, 1.0, 3.0)  # candidate powers, times the mean power of the sources already found


@dataclass(frozen=True)
class Detector:
    """Likelihood gain of one more source at every grid point.

    Attributes:
        grid: the lattice.
        obs: the scenes.
        norms: ``|Phi_l a_g|^2`` [B, L, G], or [B, 1, G] where Phi is the same in all snapshots.
    """

    grid: PolarGrid
    obs: Observation
    norms: Tensor

    @classmethod
    def compute(cls, obs: Observation, grid: PolarGrid) -> Detector:
        """Responses of the grid through the scenes' channel and codes: the costly part, once per scene."""
        return cls(grid, obs, grid.energy(obs.Phi.conj()))

    def __getitem__(self, rows: Tensor) -> Detector:
        return Detector(self.grid, self.obs[rows], self.norms[rows])

    def conditional_gain(self, fit: AmplitudeFit | None) -> Tensor:
        """Decrease of the concentrated cost [B, G] by one more source; zero outside the field of view.

        Args:
            fit: the sources already found, or None.
        """
        if fit is None:
            return self._matched(self.obs.y).div_(self._floored(self.norms)).sum(1) * self.grid.inside
        K = fit.gram.shape[-1]
        level = fit.gram.diagonal(dim1=-2, dim2=-1).real.mean(-1)[..., None, None] * MERGED
        eye = torch.eye(K, dtype=fit.gram.dtype, device=fit.gram.device)
        norms = self.norms - self._explained(fit.basis, fit.gram + eye * level)
        return self._matched(fit.residual).div_(self._floored(norms)).sum(1) * self.grid.inside

    def gaussian_gain(self, params: GaussianParameters, geometry: ArrayGeometry) -> Tensor:
        """Rise of the Gaussian-symbol log-likelihood [B, G] by one more source; -inf outside the view."""
        S = self.obs.observe(polar_steering(params.points, geometry))
        p, noise = params.log_power.exp(), params.log_noise.exp()
        gram = S.mH @ S + torch.diag_embed(noise[:, None] / p).unsqueeze(1).to(S.dtype)
        x = torch.linalg.solve_ex(gram, S.mH @ self.obs.y.unsqueeze(-1))[0]
        matched = self._matched(self.obs.y - (S @ x).squeeze(-1)) / noise[:, None, None]
        norms = (self.norms - self._explained(S, gram)).clamp_min(0.0)
        gain = torch.full_like(norms[:, 0], -torch.inf)
        level = p.mean(1) if p.shape[1] else noise / self.norms.mean((1, 2)) * self.obs.y.shape[2]
        for step in POWER_LADDER:
            snr = (step * level / noise)[:, None, None]
            ratio = 1.0 + snr * norms
            gain = torch.maximum(gain, (matched * snr / ratio - ratio.log()).sum(1))
        return gain.masked_fill(~self.grid.inside, -torch.inf)

    def _matched(self, residual: Tensor) -> Tensor:
        """``|b_gl^H r_l|^2`` [B, L, G]."""
        return torch.view_as_real(self.grid.correlate(self.obs.back_project(residual))).square().sum(-1)

    def _explained(self, basis: Tensor, gram: Tensor) -> Tensor:
        """``b_gl^H B_l gram^-1 B_l^H b_gl``, shape of `norms`, through the Cholesky factor of `gram`."""
        if not basis.shape[-1]:
            return torch.zeros_like(self.norms)
        distinct = self.norms.shape[1]
        factor = torch.linalg.cholesky_ex(gram[:, :distinct])[0]
        Q = torch.linalg.solve_triangular(factor.mH, basis[:, :distinct], upper=True, left=False)
        return self.grid.energy(self.obs.adjoint(Q.mT))

    def _floored(self, norms: Tensor) -> Tensor:
        floor = self.norms * NORM_FLOOR + torch.finfo(norms.dtype).tiny
        return torch.maximum(norms, floor)

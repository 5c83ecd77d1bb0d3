"""`gap`, `margin`: the eigenvalue gap of the blend at the true number of sources.

    g = (lambda_K - lambda_{K+1}) / N
    gap = max(0, gap_margin - g)
    margin = margin_target - min(g, margin_target)

Eigenvalues are counted in units of N, the trace, so that they add up to one; K is the scene's true source
count. The load moves both eigenvalues alike and drops out. `gap` is not zero at the truth where the weakest
source holds less than `gap_margin` of the power.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.losses.moments import Moments


@dataclass(frozen=True)
class Spectrum:
    """Eigenpairs of a Gram matrix ``F^H F``, descending, detached from the autograd graph.

    Attributes:
        values: [B, r], the non-zero eigenvalues of ``F F^H``, none below zero.
        V: eigenvectors of the Gram matrix in columns [B, r, r].
    """

    values: Tensor
    V: Tensor

    @classmethod
    def of(cls, gram: Tensor) -> Spectrum:
        """One eigendecomposition for all terms that use the spectrum."""
        G = gram.detach()
        values, V = torch.linalg.eigh((G + G.mH) / 2.0)
        return cls(values.flip(-1).clamp_min(0.0), V.flip(-1))


def eigenvalue_gap(moments: Moments, spectrum: Spectrum, num_sources: Tensor) -> Tensor:
    """``(lambda_K - lambda_{K+1}) / N`` [B] of R, differentiable in its Gram matrix.

    The eigenvalue is written ``lambda_i = v_i^H G v_i`` with v_i held fixed: as ``d lambda_i = v_i^H dG v_i``
    that has the eigenvalue's gradient, and no difference of eigenvalues is ever divided by.
    """
    r = moments.gram.shape[-1]
    index = torch.stack([num_sources - 1, num_sources], dim=-1)
    V = spectrum.V.gather(-1, index.clamp_max(r - 1).unsqueeze(-2).expand(-1, r, -1))
    V = V * (index < r).unsqueeze(-2)  # past the rank of the factor eigenvalues are zero
    pair = (V.conj() * (moments.gram @ V)).real.sum(-2)
    return (pair[:, 0] - pair[:, 1]) / moments.R.shape[-1]

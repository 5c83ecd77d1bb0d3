"""A start where nothing is known of the surface's phases: from scenes whose source positions are known."""

from __future__ import annotations

import torch

from risctl.errors import InputError
from risctl.inference.surface.calibrate import CalibrationScenes, Calibrator
from risctl.inference.surface.response import SurfaceResponse
from risctl.physics.polar import polar_steering

RIDGE = 0.1  # of the back-projection, in units of N


def phases_from_anchors(calibrator: Calibrator, scenes: CalibrationScenes) -> SurfaceResponse:
    """Gains from anchored scenes alone: a spectral start, and scoring on them.

    A back-projected snapshot ``U^H (U U^H + ridge)^-1 y`` looks like ``g o a_k`` times a symbol: times
    ``conj(a_k)``, its second moment over snapshots and sources has g as its leading eigenvector.

    Raises:
        InputError: no scene has known positions.
    """
    rows = scenes.anchored.nonzero().squeeze(-1)
    if not len(rows):
        raise InputError("anchors", "", "scenes of known positions for start = anchors", "none")
    known = scenes[rows]
    seen = known.symbols.seen(known.obs)
    U, y = seen.Phi.expand(-1, seen.y.shape[1], -1, -1), seen.y.unsqueeze(-1)
    N, M = U.shape[-1], U.shape[-2]
    gram = U @ U.mH
    level = gram.diagonal(dim1=-2, dim2=-1).real.mean((1, 2))[:, None, None, None]
    eye = torch.eye(M, dtype=U.dtype)
    back = (U.mH @ torch.linalg.solve(gram + RIDGE * level * eye, y)).squeeze(-1)  # [B, L, N]
    moment = torch.zeros(N, N, dtype=torch.complex128)
    for scene, points in zip(back, known.anchors, strict=True):
        a = polar_steering(points[torch.isfinite(points[:, 0])], calibrator.geometry)
        v = (a.conj().unsqueeze(1) * scene.unsqueeze(0)).flatten(0, 1)
        moment += v.mT @ v.conj()
    leading = torch.linalg.eigh(moment)[1][:, -1]
    start = calibrator.nominal()
    start = SurfaceResponse(leading * N**0.5, start.states, start.displacement)
    return list(calibrator.rounds(known, start))[-1].response

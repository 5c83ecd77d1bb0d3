"""Posterior means of sources with constant symbols.

For each coordinate in turn the likelihood (amplitudes, their power and the noise integrated out) is summed
along the line on which that coordinate has its value and the others the values most likely with it, by the
Fisher information. Positions are uniform in azimuth, elevation and range over the field of view. A maximum on
a limit, or one with a shoulder beside it, is not where a source is to be expected.
"""

import torch
from torch import Tensor

from risctl.inference.common_power import common_power_fit
from risctl.inference.count import position_widths
from risctl.inference.observation import Observation
from risctl.inference.posterior import TAILS
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.polar import clamp_to_view, polar_limits

NODES = 33  # of the sum, `TAILS` standard deviations to either side


def pilot_posterior(
    obs: Observation, points: Tensor, information: Tensor, geometry: ArrayGeometry, view: FieldOfView
) -> tuple[Tensor, Tensor]:
    """Means and deviations of the coordinates near an optimum.

    Args:
        obs: one snapshot a scene, complex128. points: the optimum, polar [B, K, 3].
        information: Fisher information there [B, 3K, 3K], very large for what is known.

    Returns:
        Polar points [B, K, 3], the mean range in the mean direction, and deviations of ``(u_y, u_z, q)``
        [B, K, 3], that of q as the deviation of the range over the square of its mean.
    """
    B, K, _ = points.shape
    low, high = (x.flatten(1) for x in polar_limits(points, view))
    prior = torch.where(high > low, 12.0 / (high - low).square(), 0.0)
    C = torch.linalg.inv_ex(information + torch.diag_embed(prior))[0]
    sigma = C.diagonal(dim1=-2, dim2=-1).sqrt()
    free = [i for i in range(3 * K) if not view.known[i % 3]]
    t = torch.linspace(-TAILS, TAILS, NODES, dtype=points.dtype, device=points.device)
    mean, std = points.flatten(1).clone(), sigma.clone()
    for i in free:
        line = t[:, None] * (C[:, i] / sigma[:, i, None]).unsqueeze(1)
        trial = points.flatten(1).unsqueeze(1) + line  # [B, T, 3K]
        x = trial[..., i]
        outside = (x < low[:, i, None]) | (x > high[:, i, None])
        trial = clamp_to_view(trial.view(B, NODES, K, 3), view)
        fit = common_power_fit(obs, trial, int(obs.y.shape[-1]), geometry)
        volume = position_widths(trial.flatten(0, 1), view)[:, free].log().sum(-1).view(B, NODES)
        weight = (fit.log_marginal - volume).masked_fill(outside & (t != 0), -torch.inf).softmax(dim=1)
        x = 1.0 / trial.flatten(2)[..., i] if i % 3 == 2 else x
        centre = (weight * x).sum(1)
        spread = (weight * (x - centre.unsqueeze(1)).square()).sum(1).sqrt()
        mean[:, i], std[:, i] = (1.0 / centre, spread / centre.square()) if i % 3 == 2 else (centre, spread)
    return clamp_to_view(mean.view(B, K, 3), view), std.view(B, K, 3)

"""Whether measurements are likelier by another convention than the one they are read by.

A wrong sign or order leaves sources that explain part of the measurements, and at low SNR a test of what is
left over may not see it. The scenes are located again under each other convention, and the likelihoods of
what is found are compared. Under the stated model ``E[L' / L] = 1`` for any one alternative L', L at the true
sources: the largest of n alternatives is ``exp(t)`` times likelier with probability ``n exp(-t)`` at most
(Markov). The sources found stand for the true ones, which holds where the search finds the maximum.

Gains of several scenes by one convention add up. Where ``E[exp((gain - 5) / 2)] <= 1`` in scenes of the
stated convention, and scenes are independent, their sum is as large as it is with probability
``exp(-sum(gain - 5) / 2)`` at most (Markov). In simulated scenes the mean was at most 0.81, if every source
more than by the stated convention costs 10 nats: five sources fit 40 nats of noise where none is reported.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from risctl.inference.estimates import Estimates
from risctl.inference.gaussian import GaussianParameters, gaussian_value
from risctl.inference.observation import Observation
from risctl.physics.geometry import ArrayGeometry
from risctl.physics.polar import to_polar

PRICE, RATE = 5.0, 0.5  # of a scene, nats, and the exponent of a sum of gains
ALTERNATIVES = 1e6  # conventions times places and powers of sources that can be told apart

Arrays = tuple[Tensor, Tensor, Tensor]  # y [B, L, M], H [B, M, N], codes [B, L, N]


def conventions(y: Tensor, H: Tensor, codes: Tensor, panel: tuple[int, int] | None) -> Mapping[str, Arrays]:
    """The measurements under each other convention, by its name.

    Args:
        y: snapshots, complex [B, L, M]. H: channel, complex [B, M, N]. codes: complex [B, L, N].
        panel: rows and columns of the surface; None: elements of no such order.
    """
    turned = {
        "codes conjugated": (y, H, codes.conj()),
        "H conjugated": (y, H.conj(), codes),
        "y conjugated": (y.conj(), H, codes),
    }
    if panel is not None:
        order = torch.arange(H.shape[-1], device=H.device).view(*panel[::-1]).T.flatten()
        turned["elements numbered by columns"] = (y, H[..., order], codes[..., order])
    return {
        name: (a.resolve_conj(), b.resolve_conj(), c.resolve_conj()) for name, (a, b, c) in turned.items()
    }


def log_likelihood(obs: Observation, found: Estimates, geometry: ArrayGeometry) -> Tensor:
    """Log-likelihood [B] of scenes with random symbols by the sources found, their powers and the noise."""
    fine, obs = geometry.to(obs.y.device, torch.float64), obs.double()
    value = torch.zeros(len(obs), dtype=torch.float64, device=obs.y.device)
    for K in torch.unique(found.num_sources).tolist():
        rows = (found.num_sources == K).nonzero().squeeze(-1)
        points = to_polar(*(x[rows, :K] for x in (found.azimuth, found.elevation, found.range)))
        params = GaussianParameters(points, found.power[rows, :K].log(), found.noise_var[rows].log())
        value[rows] = gaussian_value(obs[rows], params, fine).log_likelihood
    return value


def p_of_gain(gain: Tensor) -> Tensor:
    """p-value [B] of scenes that are ``exp(gain)`` times likelier by the best of the other conventions."""
    return (ALTERNATIVES * torch.exp(-gain)).clamp_max(1.0)


def p_of_gains(gains: Tensor) -> float:
    """p-value ``exp(-sum(gain - 5) / 2)`` of scenes that gain so much [n] by one convention, all together."""
    return min(1.0, math.exp(-max(0.0, RATE * float((gains - PRICE).sum()))))

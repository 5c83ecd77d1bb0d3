"""Rician channel between the RIS and the base station."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from risctl.config import PhysicsConfig
from risctl.physics.geometry import ArrayGeometry, Device
from risctl.physics.random import complex_normal, uniform
from risctl.physics.steering import steering_vector

CPU_SCENES = 32  # rows of a batch that stay in a processor's cache: their channels take 0.6 MB


def draw_channel(
    rng: np.random.Generator, physics: PhysicsConfig, num_scenes: int, device: Device = "cpu"
) -> Tensor:
    """Channels ``H`` complex64 [n, M, N] with unit mean power per entry.

    ``H = sqrt(k/(k+1)) H_los + sqrt(1/(k+1)) H_nlos`` with a linear K-factor k uniform on the configured
    interval and ``H_nlos`` i.i.d. CN(0, 1). ``H_los = b a^T`` is the outer product of the unit-modulus
    responses of the base station (half-wavelength uniform linear array, arrival angle uniform within the
    azimuth limit) and of the RIS towards a direction uniform in the field of view at `channel_distance`.
    """
    n, M, N = num_scenes, physics.num_antennas, physics.num_elements
    k = uniform(rng, (n, 1, 1), physics.rician_k_min, physics.rician_k_max).to(device)
    arrival, azimuth = uniform(rng, (2, n), -1.0, 1.0).to(device) * math.radians(physics.azimuth_limit_deg)
    elevation = uniform(rng, (n,), -1.0, 1.0).to(device) * math.radians(physics.elevation_limit_deg)
    distance = torch.full_like(azimuth, physics.channel_distance)
    geometry = ArrayGeometry.from_config(physics, device)
    scale = (k / (k + 1)).sqrt()
    b = ula_response(arrival, M) * scale[:, :, 0]
    a = steering_vector(azimuth, elevation, distance, geometry) * math.sqrt(N)
    scattered = (1.0 / (k + 1)).sqrt().cpu()
    H = torch.empty(n, M, N, dtype=torch.complex64, device=device)
    for rows in cache_sized(n, device):
        part = complex_normal(rng, H[rows].shape, scattered[rows]).to(device)
        torch.addcmul(part, b[rows].unsqueeze(-1), a[rows].unsqueeze(-2), out=H[rows])
    return H


def ula_response(angle: Tensor, num_antennas: int) -> Tensor:
    """Unit-modulus response ``exp(-j pi m sin(angle))`` of a half-wavelength ULA, complex [..., M]."""
    m = torch.arange(num_antennas, device=angle.device, dtype=angle.dtype)
    phase = -math.pi * angle.sin().unsqueeze(-1) * m
    return torch.complex(phase.cos(), phase.sin())


def cache_sized(num_scenes: int, device: Device) -> Iterator[slice]:
    """Slices that cover `num_scenes` rows: small ones on a CPU, one elsewhere."""
    step = CPU_SCENES if torch.device(device).type == "cpu" else max(num_scenes, 1)
    for start in range(0, num_scenes, step):
        yield slice(start, min(start + step, num_scenes))

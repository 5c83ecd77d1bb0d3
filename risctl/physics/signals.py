"""The signal model: positions, powers, symbols, snapshots.

``y_l = H diag(c_l) A diag(sqrt(p)) s_l + w_l`` with ``w_l ~ CN(0, sigma^2 I)``. The scene's SNR is
``mean(|noise-free y|^2) / sigma^2`` over its snapshots and antennas.

Each ingredient draws from its own child of the scene block's generator, so that changing one (the codebook,
an impairment, the SNR) leaves the others as they were and sweeps compare like with like.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from risctl.config import PhysicsConfig
from risctl.errors import InputError
from risctl.physics.channel import cache_sized, draw_channel
from risctl.physics.codebook import code_phasors, draw_code_index
from risctl.physics.geometry import ArrayGeometry, Device
from risctl.physics.impairments import draw_impairments
from risctl.physics.pairs import set_pair_coherence, steering_at
from risctl.physics.random import complex_normal, uniform
from risctl.physics.scenes import Scenes
from risctl.physics.steering import steering_vector

MAX_REDRAWS = 1000


@dataclass(frozen=True)
class Sources:
    """Positions [n, K_max] and counts [n] drawn for n scenes (entries past the count are unused draws)."""

    azimuth: Tensor
    elevation: Tensor
    range: Tensor
    num_sources: Tensor
    steering: Tensor  # nominal, [n, K_max, N]


def simulate_scenes(
    physics: PhysicsConfig,
    rng: np.random.Generator,
    num_scenes: int,
    first_index: int = 0,
    device: Device = "cpu",
) -> Scenes:
    """Simulate `num_scenes` scenes.

    Args:
        physics: the configuration.
        rng: generator to spawn the ingredients' generators from; it is not drawn from itself.
        num_scenes: n.
        first_index: index of the first scene, which a stratified design cycles on.
        device: where the physics run and the result lies; the draws are the same on all of them.

    Raises:
        InputError: if `max_coherence` is so small that positions cannot be found.
    """
    streams = rng.spawn(7)
    geometry = ArrayGeometry.from_config(physics, device)
    sources = draw_sources(streams[0], physics, num_scenes, first_index, geometry)
    mask = _source_mask(sources.num_sources, physics.max_sources)
    power = draw_powers(streams[1], physics, sources.range) * mask
    H = draw_channel(streams[2], physics, num_scenes, device)
    code_index = draw_code_index(streams[3], physics, num_scenes).to(device)
    symbols = draw_symbols(streams[4], physics, num_scenes).to(device) * mask.unsqueeze(-1)
    surface = draw_impairments(streams[6], physics, num_scenes, geometry)
    A = sources.steering
    if surface.geometry is not geometry:
        A = steering_vector(sources.azimuth, sources.elevation, sources.range, surface.geometry)
    A = A if surface.gain is None else A * surface.gain
    noise = complex_normal(streams[5], (num_scenes, physics.num_snapshots, physics.num_antennas)).to(device)
    clean = torch.empty_like(noise)
    for rows in cache_sized(num_scenes, device):
        codes = code_phasors(code_index[rows], physics.phase_bits)
        clean[rows] = received_signal(H[rows], codes, A[rows], power[rows], symbols[rows])
    snr_db = draw_snr(streams[5], physics, num_scenes, first_index).to(device)
    mean_power = torch.view_as_real(clean).square().sum((-3, -2, -1)) / clean[0].numel()
    noise_var = mean_power / 10.0 ** (snr_db / 10.0)
    return Scenes(
        y=clean + noise * noise_var.sqrt()[:, None, None],
        H=H,
        code_index=code_index,
        azimuth=sources.azimuth * mask,
        elevation=sources.elevation * mask,
        range=sources.range * mask,
        power=power,
        symbols=symbols,
        num_sources=sources.num_sources.to(torch.uint8),
        snr_db=snr_db,
        noise_var=noise_var,
        phase_bits=physics.phase_bits,
    )


def received_signal(H: Tensor, codes: Tensor, A: Tensor, power: Tensor, symbols: Tensor) -> Tensor:
    """Noise-free snapshots [n, L, M]: ``H diag(c_l) A diag(sqrt(p)) s_l``.

    Args:
        H: [n, M, N]. codes: [n, L, N]. A: steering vectors [n, K, N]. power: [n, K]. symbols: [n, K, L].
    """
    amplitudes = (symbols * power.sqrt().unsqueeze(-1)).mT
    return torch.mul(amplitudes @ A, codes) @ H.mT


def draw_num_sources(
    rng: np.random.Generator, physics: PhysicsConfig, num_scenes: int, first_index: int
) -> Tensor:
    """K per scene, int64 [n]: uniform, or cycling fastest in a stratified design."""
    low, high = physics.min_sources, physics.max_sources
    if physics.stratified:
        return low + (first_index + torch.arange(num_scenes)) % (high - low + 1)
    return torch.from_numpy(rng.integers(low, high + 1, size=num_scenes))


def draw_snr(rng: np.random.Generator, physics: PhysicsConfig, num_scenes: int, first_index: int) -> Tensor:
    """SNR in dB, float32 [n]: uniform on the interval, or on the listed values (cycling if stratified)."""
    values = physics.snr_values_db
    if not values:
        return uniform(rng, (num_scenes,), physics.snr_min_db, physics.snr_max_db)
    if physics.stratified:
        cells = physics.max_sources - physics.min_sources + 1
        index = ((first_index + np.arange(num_scenes)) // cells) % len(values)
    else:
        index = rng.integers(0, len(values), size=num_scenes)
    return torch.tensor(values, dtype=torch.float32)[torch.from_numpy(index)]


def draw_sources(
    rng: np.random.Generator,
    physics: PhysicsConfig,
    num_scenes: int,
    first_index: int,
    geometry: ArrayGeometry,
) -> Sources:
    """Positions uniform in azimuth, elevation and range, given that no two sources are too coherent.

    A scene in which some pair has ``|a_i^H a_j| > max_coherence`` is drawn anew as a whole, which leaves the
    positions uniform on the allowed set. `pair_coherence` then brings its first two sources together.
    """
    K = physics.max_sources
    num_sources = draw_num_sources(rng, physics, num_scenes, first_index).to(geometry.positions.device)
    position = _draw_positions(rng, physics, num_scenes).to(geometry.positions)
    steering = steering_at(position, geometry)
    bad = _too_coherent(steering, _source_mask(num_sources, K), physics.max_coherence)
    for _ in range(MAX_REDRAWS):
        if not bool(bad.any()):
            if physics.pair_coherence:
                position = set_pair_coherence(position, physics.pair_coherence, geometry)
                steering = steering_at(position, geometry)
            azimuth, elevation, range_ = position.unbind(0)
            return Sources(azimuth, elevation, range_, num_sources, steering)
        rows = bad.nonzero().squeeze(-1)
        fresh = _draw_positions(rng, physics, len(rows)).to(geometry.positions)
        position[:, rows] = fresh
        steering[rows] = steering_at(fresh, geometry)
        mask = _source_mask(num_sources[rows], K)
        bad[rows] = _too_coherent(steering[rows], mask, physics.max_coherence)
    got = f"{physics.max_coherence}, at which {MAX_REDRAWS} draws of {K} positions found none"
    raise InputError("configuration", "physics.max_coherence", "a cap that random positions can meet", got)


def _draw_positions(rng: np.random.Generator, physics: PhysicsConfig, n: int) -> Tensor:
    """Azimuth, elevation and range stacked, float32 [3, n, K_max]."""
    shape = (n, physics.max_sources)
    azimuth = uniform(rng, shape, -1.0, 1.0) * math.radians(physics.azimuth_limit_deg)
    elevation = uniform(rng, shape, -1.0, 1.0) * math.radians(physics.elevation_limit_deg)
    return torch.stack([azimuth, elevation, uniform(rng, shape, physics.range_min, physics.range_max)])


def _too_coherent(steering: Tensor, mask: Tensor, limit: float) -> Tensor:
    """Whether any two sources of a scene are more coherent than `limit`, bool [n]."""
    gram = (steering @ steering.mH).abs()
    pairs = (mask.unsqueeze(-1) & mask.unsqueeze(-2)).triu(diagonal=1)
    return ((gram > limit) & pairs).flatten(1).any(dim=1)


def _source_mask(num_sources: Tensor, K_max: int) -> Tensor:
    return torch.arange(K_max, device=num_sources.device) < num_sources.unsqueeze(-1)


def draw_powers(rng: np.random.Generator, physics: PhysicsConfig, range_: Tensor) -> Tensor:
    """Source powers, float32 [n, K_max]: uniform in dB on +-spread, times 1/r^2 with `path_loss`."""
    spread = physics.power_spread_db
    power = 10.0 ** (uniform(rng, range_.shape, -spread, spread) / 10.0)
    power = power.to(range_)
    return power / range_.square() if physics.power_control == "path_loss" else power


def draw_symbols(rng: np.random.Generator, physics: PhysicsConfig, num_scenes: int) -> Tensor:
    """CN(0, 1) symbols, complex64 [n, K_max, L]; `coherent` holds them constant over the snapshots."""
    if physics.symbols == "coherent":
        held = complex_normal(rng, (num_scenes, physics.max_sources, 1))
        return held.expand(-1, -1, physics.num_snapshots).contiguous()
    return complex_normal(rng, (num_scenes, physics.max_sources, physics.num_snapshots))

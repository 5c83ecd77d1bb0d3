"""The signal model: positions, powers, symbols, snapshots.

``y_l = H diag(c_l) A diag(sqrt(p)) s_l + w_l`` with ``w_l ~ CN(0, sigma^2 I)``. The scene's SNR is
``mean(|noise-free y|^2) / sigma^2`` over its snapshots and antennas; a static path, which is the same in all
snapshots and is added to y, is no part of it. Where there is no source, sigma^2 is 1.

Each ingredient draws from its own child of the scene block's generator, so that changing one (the codebook,
an impairment, the SNR) leaves the others as they were and sweeps compare like with like.
"""

import math

import numpy as np
import torch
from torch import Tensor

from risctl.config import PhysicsConfig
from risctl.errors import InputError
from risctl.physics.channel import cache_sized, draw_channel
from risctl.physics.codebook import code_phasors, draw_code_index
from risctl.physics.geometry import ArrayGeometry, Device
from risctl.physics.impairments import draw_impairments
from risctl.physics.random import complex_normal, uniform
from risctl.physics.scenes import Scenes
from risctl.physics.steering import steering_vector

MAX_REDRAWS = 1000
PATH_STEPS = 64  # on the way of a paired source: fine against a beam, so that the first crossing is seen
BISECTIONS = 24


def simulate_scenes(
    physics: PhysicsConfig,
    rng: np.random.Generator,
    num_scenes: int,
    first_index: int = 0,
    device: Device = "cpu",
    surface_rng: np.random.Generator | None = None,
) -> Scenes:
    """Simulate `num_scenes` scenes.

    Args:
        physics: the configuration.
        rng: generator to spawn the ingredients' generators from; it is not drawn from itself.
        num_scenes: n.
        first_index: index of the first scene, which a stratified design cycles on.
        device: where the physics run and the result lies; the draws are the same on all of them.
        surface_rng: generator of the impairments that all scenes share; None: of these scenes' own.

    Raises:
        InputError: if `max_coherence` is so small that positions cannot be found.
    """
    streams = rng.spawn(8)
    geometry = ArrayGeometry.from_config(physics, device)
    num_sources = draw_num_sources(streams[0], physics, num_scenes, first_index).to(device)
    mask = torch.arange(physics.max_sources, device=device) < num_sources.unsqueeze(-1)
    position, A = draw_positions(streams[0], physics, mask, geometry)
    azimuth, elevation, range_ = position.unbind(0)
    power = draw_powers(streams[1], physics, range_) * mask
    H = draw_channel(streams[2], physics, num_scenes, device)
    code_index = draw_code_index(streams[3], physics, num_scenes).to(device)
    symbols = draw_symbols(streams[4], physics, num_scenes).to(device) * mask.unsqueeze(-1)
    hardware = streams[6] if surface_rng is None else surface_rng
    surface = draw_impairments(hardware, physics, num_scenes, geometry)
    if surface.geometry is not geometry:
        A = steering_vector(azimuth, elevation, range_, surface.geometry)
    A = A if surface.gain is None else A * surface.gain
    noise = complex_normal(streams[5], (num_scenes, physics.num_snapshots, physics.num_antennas)).to(device)
    clean = torch.empty_like(noise)
    for rows in cache_sized(num_scenes, device):
        codes = code_phasors(code_index[rows], physics.phase_bits)
        codes = surface.applied(code_index[rows], codes, rows)
        clean[rows] = received_signal(H[rows], codes, A[rows], power[rows], symbols[rows])
    snr_db = draw_snr(streams[5], physics, num_scenes, first_index).to(device)
    mean_power = torch.view_as_real(clean).square().sum((-3, -2, -1)) / clean[0].numel()
    noise_var = torch.where(num_sources > 0, mean_power / 10.0 ** (snr_db / 10.0), 1.0)
    static = draw_static_path(streams[7], physics, mean_power) if physics.static_path else 0.0
    return Scenes(
        y=clean + noise * noise_var.sqrt()[:, None, None] + static,
        H=H,
        code_index=code_index,
        azimuth=azimuth * mask,
        elevation=elevation * mask,
        range=range_.where(mask, 0.0),
        power=power,
        symbols=symbols,
        num_sources=num_sources.to(torch.uint8),
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


def draw_positions(
    rng: np.random.Generator, physics: PhysicsConfig, mask: Tensor, geometry: ArrayGeometry
) -> tuple[Tensor, Tensor]:
    """Positions uniform in azimuth, elevation and range, given that no two sources are too coherent.

    A scene in which some pair has ``|a_i^H a_j| > max_coherence`` is drawn anew as a whole, which leaves the
    positions uniform on the allowed set. `pair_coherence` then brings its first two sources together.

    Args:
        mask: which slots hold a source, bool [n, K_max]; the others get unused draws.
        geometry: nominal geometry.

    Returns:
        Azimuth, elevation and range stacked, float32 [3, n, K_max], and the steering vectors [n, K_max, N].
    """
    n, K = mask.shape
    pairs = (mask.unsqueeze(-1) & mask.unsqueeze(-2)).triu(diagonal=1)
    position = geometry.positions.new_empty(3, n, K)
    steering = torch.empty(n, K, physics.num_elements, dtype=torch.complex64, device=mask.device)
    rows = torch.arange(n, device=mask.device)
    for _ in range(MAX_REDRAWS):
        shape = (len(rows), K)
        azimuth = uniform(rng, shape, -1.0, 1.0) * math.radians(physics.azimuth_limit_deg)
        elevation = uniform(rng, shape, -1.0, 1.0) * math.radians(physics.elevation_limit_deg)
        range_ = uniform(rng, shape, physics.range_min, physics.range_max)
        if physics.known_elevation is not None:
            elevation = torch.full_like(elevation, physics.known_elevation)
        if physics.known_range is not None:
            range_ = torch.full_like(range_, physics.known_range)
        fresh = torch.stack([azimuth, elevation, range_]).to(geometry.positions)
        a = steering_vector(fresh[0], fresh[1], fresh[2], geometry)
        position[:, rows], steering[rows] = fresh, a
        coherent = (a @ a.mH).abs() > physics.max_coherence
        rows = rows[(coherent & pairs[rows]).flatten(1).any(dim=1)]
        if not len(rows):
            break
    else:
        got = f"{physics.max_coherence}, at which {MAX_REDRAWS} draws of {K} positions found none"
        raise InputError(
            "configuration", "physics.max_coherence", "a cap that random positions can meet", got
        )
    if physics.pair_coherence:
        position = set_pair_coherence(position, physics.pair_coherence, geometry)
        steering = steering_vector(position[0], position[1], position[2], geometry)
    return position, steering


def set_pair_coherence(position: Tensor, coherence: float, geometry: ArrayGeometry) -> Tensor:
    """Move the second source of each scene towards the first until ``|a_1^H a_2| = coherence``.

    It moves on the straight line in (azimuth, elevation, range), which stays in the field of view, and stops
    where the coherence first falls to the requested value. Nothing is drawn, so scenes of one seed
    differ between two coherences only in the position of the second source.

    Args:
        position: azimuth, elevation, range stacked [3, n, K]; the coherence of the first two sources is at
            most `coherence`. With K = 1 nothing is moved.
        coherence: in (0, 1).
        geometry: nominal geometry.

    Returns:
        The positions [3, n, K], the second source's replaced.
    """
    if position.shape[-1] < 2:
        return position
    fine = geometry.to(position.device, torch.float64)
    start, end = position[..., :1].double(), position[..., 1:2].double()
    way = torch.where(start == end, 0.0, end - start)  # of an infinite range no difference

    def coherence_at(t: Tensor) -> Tensor:  # [n, T] -> [n, T]
        a, b = (steering_vector(x[0], x[1], x[2], fine) for x in (start, start + t * way))
        return (b @ a.mH).abs().squeeze(-1)

    steps = torch.arange(1, PATH_STEPS + 1, dtype=torch.float64, device=position.device) / PATH_STEPS
    steps = steps.expand(position.shape[1], -1)
    reached = (coherence_at(steps) <= coherence).to(torch.uint8)
    reached[:, -1] = 1  # the position drawn: above the value by rounding at most
    high = steps.gather(1, reached.argmax(dim=1, keepdim=True))
    low = high - 1.0 / PATH_STEPS
    for _ in range(BISECTIONS):
        middle = (low + high) / 2.0
        above = coherence_at(middle) > coherence
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    moved = position.clone()
    moved[..., 1:2] = (start + high * way).to(position.dtype)
    return moved


def draw_powers(rng: np.random.Generator, physics: PhysicsConfig, range_: Tensor) -> Tensor:
    """Source powers, float32 [n, K_max]: uniform in dB on +-spread, times 1/r^2 with `path_loss`."""
    spread = physics.power_spread_db
    power = 10.0 ** (uniform(rng, range_.shape, -spread, spread) / 10.0)
    power = power.to(range_)
    falls = physics.power_control == "path_loss" and physics.known_range != math.inf
    return power / range_.square() if falls else power


def draw_symbols(rng: np.random.Generator, physics: PhysicsConfig, num_scenes: int) -> Tensor:
    """Symbols of unit mean power, complex64 [n, K_max, L].

    CN(0, 1) and independent; or `constant` over the snapshots, of unit modulus or, with Rayleigh fading,
    CN(0, 1).
    """
    shape = (num_scenes, physics.max_sources)
    if physics.symbols == "gaussian":
        return complex_normal(rng, (*shape, physics.num_snapshots))
    held = complex_normal(rng, (*shape, 1))
    if physics.fading == "none":
        held = held / held.abs()
    return held.expand(-1, -1, physics.num_snapshots).contiguous()


def draw_static_path(rng: np.random.Generator, physics: PhysicsConfig, mean_power: Tensor) -> Tensor:
    """A vector CN(0, p I) complex64 [n, 1, M] for all snapshots; p from the sources' `mean_power` [n]."""
    power = mean_power * 10.0 ** (physics.static_path_db / 10.0)
    d = complex_normal(rng, (len(mean_power), 1, physics.num_antennas)).to(mean_power.device)
    return d * power.sqrt()[:, None, None]

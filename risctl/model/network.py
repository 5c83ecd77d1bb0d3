"""The network: y, H and codes in, covariance factors, source count, positions and powers out."""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, pixel_shuffle

from risctl.config import ModelConfig, PhysicsConfig
from risctl.covariance import full_precision
from risctl.model.backbone import Backbone
from risctl.model.features import MapFeatures
from risctl.model.predict import Prediction
from risctl.model.slots import NUM_CHANNELS, PRESENCE, Slots, decode, peak_logits
from risctl.physics.geometry import ArrayGeometry, FieldOfView
from risctl.physics.polar import from_polar, polar_direction
from risctl.physics.steering import steering_jet

HIDDEN = 128
TINY = 1e-12
PRIOR_PRESENCE = 0.01  # initial probability of a source in a cell (Lin et al., ICCV 2017)
EXTRA_PEAKS = 3  # peaks beyond the number of slots that the count head uses
POOL = (2, 4)


class CellHead(nn.Module):
    """Presence, offsets, range, power and range uncertainty of every cell, from features of patches."""

    def __init__(self, channels: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.out = nn.Conv2d(channels, NUM_CHANNELS * patch**2, 1)
        bias = torch.zeros(NUM_CHANNELS, patch**2)
        bias[PRESENCE] = math.log(PRIOR_PRESENCE / (1.0 - PRIOR_PRESENCE))
        self.out.bias = nn.Parameter(bias.flatten())

    def forward(self, patches: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, 6, h * patch, w * patch]."""
        return pixel_shuffle(self.out(patches), self.patch)


class CountHead(nn.Module):
    """Logits of K = 1..K_max from the scene's features, its scalars and the sorted peaks of the presence."""

    def __init__(self, channels: int, scalars: int, max_sources: int, hidden: int) -> None:
        super().__init__()
        self.peaks = max_sources + EXTRA_PEAKS
        self.net = nn.Sequential(
            nn.Linear(2 * channels + scalars + self.peaks, hidden), nn.SiLU(), nn.Linear(hidden, max_sources)
        )

    def forward(self, scene: Tensor, scalars: Tensor, presence: Tensor) -> Tensor:
        """Scene features [B, C, h, w], scalars and presence logits [B, rows, columns] -> [B, K_max]."""
        peaks = peak_logits(presence)
        strongest = peaks.topk(min(self.peaks, peaks.shape[1]), dim=1).values.clamp(-10.0, 10.0)
        strongest = nn.functional.pad(strongest, (0, self.peaks - strongest.shape[1]), value=-10.0)
        pooled = [scene.mean((2, 3)), scene.amax((2, 3)), scalars, strongest]
        return self.net(torch.cat(pooled, dim=1))


class FactorHead(nn.Module):
    """Both covariance factors as free outputs, 4 N K_max real numbers."""

    def __init__(self, channels: int, num_elements: int, max_sources: int, hidden: int) -> None:
        super().__init__()
        self.shape = (num_elements, max_sources)
        size = 4 * num_elements * max_sources
        pooled = channels * POOL[0] * POOL[1]
        self.net = nn.Sequential(nn.Linear(pooled, hidden), nn.SiLU(), nn.Linear(hidden, size))

    def forward(self, scene: Tensor) -> tuple[Tensor, Tensor]:
        """Scene features [B, C, h, w] -> A_angle, A_range, complex [B, N, K_max]."""
        x = self.net(adaptive_avg_pool2d(scene, POOL).flatten(1)).float()
        x = x.view(-1, 4, *self.shape)
        return torch.complex(x[:, 0], x[:, 1]), torch.complex(x[:, 2], x[:, 3])


class RisNetwork(nn.Module):
    """Estimator of the sources' positions and covariance from y, H and codes.

    Energy maps on a lattice (:mod:`risctl.model.features`), a U-shaped convolution network, a detection head
    in the manner of Zhou, Wang and Kraehenbuehl, "Objects as Points" (2019), decoded into K_max slots, and a
    source-count head. The factors of the covariance are computed from the slots (`structured`) or are free
    outputs (`factors`).

    Training and evaluation mode differ in dropout only. The same weights accept any L and M.

    Args:
        physics: panel, field of view and K_max.
        model: size and head.
    """

    positions: Tensor

    def __init__(self, physics: PhysicsConfig, model: ModelConfig) -> None:
        super().__init__()
        geometry = ArrayGeometry.from_config(physics)
        self._geometry, self.view = geometry, FieldOfView.from_config(physics)
        self.max_sources = physics.max_sources
        self.register_buffer("positions", geometry.positions, persistent=False)
        self.features = MapFeatures(
            geometry, self.view, model.map_columns, model.map_rows, model.map_ranges, model.map_alphas
        )
        scalars = self.features.num_scalars
        self.backbone = Backbone(self.features.channels, scalars, model)
        channels = self.backbone.scene_channels
        self.cells = CellHead(self.backbone.cell_channels, model.patch)
        self.count = CountHead(channels, scalars, self.max_sources, HIDDEN)
        self.factors = None
        if model.head == "factors":
            self.factors = FactorHead(channels, physics.num_elements, self.max_sources, 2 * HIDDEN)

    @property
    def geometry(self) -> ArrayGeometry:
        """Geometry of the nominal panel, on the network's device."""
        return replace(self._geometry, positions=self.positions)

    def forward(self, y: Tensor, H: Tensor, codes: Tensor) -> Prediction:
        """Predict from snapshots y [B, L, M], channels H [B, M, N] and codes [B, L, N]."""
        return self.answer(*self.features(y, H, codes))

    def answer(self, maps: Tensor, scalars: Tensor) -> Prediction:
        """Predict from the maps and scalars that `features` makes of B scenes.

        Under autocast only the convolutions of the backbone run in low precision.
        """
        cells, scene = self.backbone(maps, scalars)
        with full_precision(maps):
            raw = self.cells(cells)
            count_logits = self.count(scene, scalars, raw[:, PRESENCE])
            free = None if self.factors is None else self.factors(scene)
            slots = decode(raw, self.max_sources, self.view)
            power = slot_powers(slots, count_logits)
            A_angle, A_range = free or structured_factors(slots, power, self.geometry)
            position = torch.stack(from_polar(slots.points), dim=-1)
        return Prediction(A_angle, A_range, count_logits, position, power, raw)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters, each once, by group; backbone and heads have learning rates of their own."""
        backbone = list(self.backbone.parameters())
        known = {id(p) for p in backbone}
        return {"backbone": backbone, "head": [p for p in self.parameters() if id(p) not in known]}


def slot_powers(slots: Slots, count_logits: Tensor) -> Tensor:
    """Relative powers [B, K_max] of sum 1; slot k is weighted with the probability of k or more sources."""
    likely = count_logits.softmax(dim=1).flip(1).cumsum(1).flip(1)
    power = likely * slots.log_power.exp()
    return power / power.sum(1, keepdim=True)


def structured_factors(slots: Slots, power: Tensor, geometry: ArrayGeometry) -> tuple[Tensor, Tensor]:
    """``sqrt(p_k) a_k`` and ``sqrt(p_k) rho_k t_k`` [B, N, K_max].

    t is the unit-norm range tangent ``(da/dr) / |da/dr|`` and rho what an error of one standard deviation in
    ``1/r`` makes of the steering vector, ``tanh(std |da/dq|)``. To first order ``E[a a^H]`` over such errors
    is ``a a^H + rho^2 t t^H``. A plane wave has no range tangent: its column is zero.
    """
    u, q = polar_direction(slots.points), slots.points[..., 2]
    still, ones = torch.zeros_like(u).unsqueeze(-2), torch.ones_like(q).unsqueeze(-1)
    a, jet = steering_jet(u, q, still, ones, geometry)
    slope = -jet.squeeze(-2)
    length = torch.view_as_real(slope).square().sum((-2, -1)).add(TINY).sqrt()
    rho = torch.tanh(slots.curvature_std * length)
    scale = power.clamp_min(TINY).sqrt()
    return (scale.unsqueeze(-1) * a).mT, ((scale * rho / length).unsqueeze(-1) * slope).mT


def build_network(physics: PhysicsConfig, model: ModelConfig, seed: int) -> RisNetwork:
    """Build a network whose initial weights follow from the seed alone; no other random state is touched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RisNetwork(physics, model)

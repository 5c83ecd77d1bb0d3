"""A U-shaped convolution network over the lattice, conditioned on a few scalars of the scene."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from risctl.config import ModelConfig

GROUP_CHANNELS = 8  # channels normalised together


class GroupNorm(nn.GroupNorm):
    """Group normalisation in single precision, whatever the precision of the convolutions around it.

    The same in training and inference, independent of the batch. A processor normalises half precision ten
    times slower than single, which costs more than half-precision convolutions gain.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C, h, w], float32 or wider."""
        return super().forward(input.float() if input.dtype.itemsize < 4 else input)


def group_norm(channels: int) -> GroupNorm:
    """Normalisation of `GROUP_CHANNELS` channels at a time."""
    return GroupNorm(max(1, channels // GROUP_CHANNELS), channels)


class ResidualBlock(nn.Module):
    """``x + f(x)``, f two 3 x 3 convolutions (pre-activation: He et al., ECCV 2016)."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            group_norm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            group_norm(channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C, h, w]."""
        return x + self.body(x)


class Level(nn.Module):
    """One resolution of the U: the coarser ones, added to its input, then residual blocks.

    There are blocks on the way up only: on the way down, at the finest resolution, they would cost the most
    and have the smallest receptive field.

    Args:
        channels: channels of every level from this one down.
        blocks: residual blocks per level.
        dropout: dropout rate inside the blocks.
        scalars: number of scene scalars, added to the coarsest level's channels.
    """

    def __init__(self, channels: tuple[int, ...], blocks: int, dropout: float, scalars: int) -> None:
        super().__init__()
        C, *deeper = channels
        self.blocks = nn.Sequential(*(ResidualBlock(C, dropout) for _ in range(blocks)))
        self.coarser = Coarser(channels, blocks, dropout, scalars) if deeper else None
        self.scene = None if deeper else nn.Linear(scalars, C)

    def forward(self, x: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, h, w] -> the same shape, and the coarsest level's features."""
        if self.coarser is not None:
            coarse, deepest = self.coarser(x, scalars)
            return self.blocks(x + coarse), deepest
        assert self.scene is not None
        x = self.blocks(x + self.scene(scalars)[:, :, None, None])
        return x, x


class Coarser(nn.Module):
    """The coarser levels applied to the features of a level, at its resolution."""

    def __init__(self, channels: tuple[int, ...], blocks: int, dropout: float, scalars: int) -> None:
        super().__init__()
        C, below = channels[:2]
        self.norm = group_norm(C)
        self.shrink = nn.Conv2d(C, below, 3, stride=2, padding=1)
        self.level = Level(channels[1:], blocks, dropout, scalars)
        self.widen = nn.Conv2d(below, C, 1)

    def forward(self, x: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, C, h, w] -> the same shape, and the coarsest level's features."""
        coarse, deepest = self.level(self.shrink(silu(self.norm(x))), scalars)
        return interpolate(self.widen(coarse), size=x.shape[-2:], mode="nearest"), deepest


class Backbone(nn.Module):
    """Maps and scalars to features of every cell and of the scene.

    Args:
        channels: channels of the input maps.
        scalars: number of scene scalars.
        model: width (channels at the finest resolution, doubled with every halving), depth (number of
            resolutions), blocks (residual blocks per resolution), dropout, and patch (cells along either
            side of one feature at the finest resolution).
    """

    def __init__(self, channels: int, scalars: int, model: ModelConfig) -> None:
        super().__init__()
        width, patch = model.width, model.patch
        widths = tuple(width * 2**i for i in range(model.depth))
        self.cell_channels, self.scene_channels = width, widths[-1]
        # The kernel reaches one cell beyond its patch on every side.
        self.stem = nn.Conv2d(channels, width, patch + 2, stride=patch, padding=1)
        self.levels = Level(widths, model.blocks, model.dropout, scalars)
        self.cell_norm, self.scene_norm = group_norm(width), group_norm(widths[-1])

    def forward(self, maps: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Features of every patch of cells [B, width, h, w] and of the coarsest level [B, C, h', w']."""
        x = self.stem(maps.contiguous(memory_format=torch.channels_last))
        cells, deepest = self.levels(x, scalars)
        return silu(self.cell_norm(cells)), silu(self.scene_norm(deepest))

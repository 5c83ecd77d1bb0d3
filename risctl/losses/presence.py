"""Detection losses: training targets of every cell of the network's maps.

They act on the cells directly, where the loss terms only see the slots decoded from them. They are logged
apart and are no part of any validation loss.

- presence: focal loss against a Gaussian around every source (Law and Deng, "CornerNet", ECCV 2018), per
  source.
- offset, range, power: absolute errors in cells, in ``log r`` and in the logarithm of the relative power, at
  the cells next to a source, weighted like their presence.
- std: negative log-likelihood of the error in ``1/r`` under the predicted Gaussian, at the same cells; only
  the predicted standard deviation learns from it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from risctl.config import LossConfig
from risctl.covariance import full_precision
from risctl.losses.truth import Truth
from risctl.model import Prediction
from risctl.model.slots import (
    POWER,
    PRESENCE,
    RANGE,
    RANGE_STD,
    cell_centres,
    cell_size,
    curvature,
    log_curvature_std,
    log_power,
    offsets,
)
from risctl.physics import FieldOfView
from risctl.physics.polar import to_polar

DETECTION_TERMS = ("presence", "offset", "range", "power", "std")
SPREAD = 0.8  # standard deviation of the Gaussian around a source, cells
REACH = 1.0  # cells from a source in each direction up to which its cells learn where it is
FOCUS, EASE = 2.0, 4.0  # exponents of the focal loss: on the error, on the distance to a source
ERROR_FLOOR = 1e-3  # of 1/r, 1/metres


@dataclass(frozen=True)
class CellTargets:
    """Targets of every cell: shapes [B, rows, columns], offsets [B, 2, rows, columns].

    Attributes:
        presence: 1 at the cell nearest to a source, a Gaussian around it.
        hit: whether the cell is the nearest to a source.
        weight: weight of the cell in the regressions, 0 away from sources.
        offset: from the cell's centre to the nearest source, in cells.
        curvature: ``1/r`` of that source, 1/metres.
        log_power: logarithm of its power.
    """

    presence: Tensor
    hit: Tensor
    weight: Tensor
    offset: Tensor
    curvature: Tensor
    log_power: Tensor


def detection_weights(loss: LossConfig) -> dict[str, float]:
    """Weight of every term of `DETECTION_TERMS`."""
    return {name: getattr(loss, f"detection_{name}") for name in DETECTION_TERMS}


def detection_terms(prediction: Prediction, truth: Truth, view: FieldOfView) -> dict[str, Tensor]:
    """Raw detection losses, scalars, means over scenes of means over their sources; empty without maps.

    Args:
        prediction: with its cell maps [B, 6, rows, columns].
        truth: of the same scenes.
        view: the field of view the maps cover.
    """
    if prediction.maps is None:
        return {}
    with full_precision(prediction.maps):
        maps = prediction.maps.to(torch.promote_types(prediction.maps.dtype, torch.float32))
        target = cell_targets(maps, truth, view)
        # Per scene first: the mean over a batch is then that over its parts, in other processes perhaps.
        weight = target.weight / target.weight.sum((1, 2), keepdim=True).clamp_min(1e-6) / len(maps)
        error = curvature(maps[:, RANGE], view) - target.curvature
        log_std = log_curvature_std(maps[:, RANGE_STD])
        deviation = error.detach().square() + ERROR_FLOOR**2
        log_range = (curvature(maps[:, RANGE], view) / target.curvature).log()
        relative = _centred(log_power(maps[:, POWER]), target.weight)
        return {
            "presence": focal_loss(maps[:, PRESENCE], target.presence, target.hit),
            "offset": ((offsets(maps) - target.offset).abs().sum(1) * weight).sum(),
            "range": (log_range.abs() * weight).sum(),
            "power": ((relative - _centred(target.log_power, target.weight)).abs() * weight).sum(),
            "std": ((0.5 * deviation * (-2.0 * log_std).exp() + log_std) * weight).sum(),
        }


def focal_loss(logits: Tensor, target: Tensor, hit: Tensor) -> Tensor:
    """``-(1-p)^2 log p`` where `hit`, ``-(1-target)^4 p^2 log(1-p)`` elsewhere, per hit; mean over scenes."""
    p = logits.sigmoid()
    positive = (1.0 - p).pow(FOCUS) * logsigmoid(logits)
    negative = (1.0 - target).pow(EASE) * p.pow(FOCUS) * logsigmoid(-logits)
    return -(torch.where(hit, positive, negative).sum((1, 2)) / hit.sum((1, 2)).clamp_min(1)).mean()


def cell_targets(maps: Tensor, truth: Truth, view: FieldOfView) -> CellTargets:
    """Targets of maps [B, C, rows, columns]."""
    rows, columns = maps.shape[-2:]
    points = to_polar(*truth.position.to(maps).unbind(-1))  # [B, K, 3]
    size = points.new_tensor(cell_size((rows, columns), view))
    away = points[..., :2, None, None] - cell_centres(maps, view).to(maps)
    away = away / size.view(2, 1, 1)  # [B, K, 2, rows, columns], in cells
    distance = away.square().sum(2).masked_fill(~truth.mask[..., None, None], torch.inf)
    nearest, source = distance.min(dim=1)
    offset = away.gather(1, source[:, None, None].expand(-1, 1, 2, -1, -1)).squeeze(1)
    flat = distance.flatten(2)
    hit = torch.zeros_like(flat[:, 0], dtype=torch.int32)  # CUDA scatters no truth values
    hit = hit.scatter_reduce(1, flat.argmin(2), truth.mask.int(), "amax").view(-1, rows, columns) > 0
    gaussian = torch.exp(-nearest / (2.0 * SPREAD**2))
    power = truth.power.to(maps).clamp_min(1e-12).log()
    pick = source.flatten(1)
    return CellTargets(
        presence=torch.where(hit, torch.ones_like(gaussian), gaussian),
        hit=hit,
        weight=torch.where(offset.abs().amax(1) <= REACH, gaussian, torch.zeros_like(gaussian)),
        offset=offset,
        curvature=points[..., 2].gather(1, pick).view_as(nearest),
        log_power=power.gather(1, pick).view_as(nearest),
    )


def _centred(x: Tensor, weight: Tensor) -> Tensor:
    """x [B, rows, columns] minus its weighted mean over the scene."""
    mean = (x * weight).sum((1, 2), keepdim=True) / weight.sum((1, 2), keepdim=True).clamp_min(1e-6)
    return x - mean

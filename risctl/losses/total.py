"""The loss terms of a batch and their weighted sum.

Every term is computed per scene in single precision or wider, autocast off, from factors and r x r Gram
matrices; what several terms need (Gram matrices, one eigendecomposition, the energies of steering vectors
inside the signal subspace) is computed once. R is ``R_blend`` in all of them but `cov_pred`.

Weights follow a schedule in training. Validation, gates, checkpoints and searches always use those of the
main phase, so that their losses can be compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from risctl.config import LossConfig
from risctl.covariance import full_precision
from risctl.losses.covariance import covariance_nmse, covariance_outside
from risctl.losses.factors import slot_coherence
from risctl.losses.moments import Moments, Reference, inner_products, power_share
from risctl.losses.music import peak_contrast, stencil_steering
from risctl.losses.positions import direction_chamfer, matched_distance
from risctl.losses.projector import energy_inside
from risctl.losses.spectrum import Spectrum, eigenvalue_gap
from risctl.losses.truth import Truth
from risctl.model import Forward, Prediction
from risctl.physics import ArrayGeometry, steering_vector

TERMS = (
    "cov",
    "cov_pred",
    "ortho",
    "cross",
    "gap",
    "margin",
    "K",
    "aux",
    "peak",
    "align",
    "subspace_align",
    "peak_contrast",
)  # each named like its weight in `LossConfig`
SCHEDULED = ("subspace_align", "peak_contrast")


@dataclass(frozen=True)
class LossValue:
    """Weighted sum of the loss terms, with its parts.

    Attributes:
        total: weighted sum, scalar.
        raw: mean of every term over the scenes, scalars in the order of `TERMS`.
    """

    total: Tensor
    raw: dict[str, Tensor]


def total_loss(
    forward: Forward,
    truth: Truth,
    loss: LossConfig,
    weights: Mapping[str, float],
    geometry: ArrayGeometry,
) -> LossValue:
    """Weighted sum of the loss terms, mean over the scenes.

    Args:
        forward: prediction and covariances of B scenes.
        truth: their sources.
        loss: shape parameters of the terms.
        weights: weight of every term of `TERMS`; one of weight zero is logged and adds nothing.
        geometry: the nominal surface.
    """
    raw = {name: x.mean() for name, x in per_scene_terms(forward, truth, loss, geometry).items()}
    # A term of weight zero must not reach the sum: it may be infinite.
    counted = [weights[name] * raw[name] for name in TERMS if weights[name] != 0.0]
    return LossValue(torch.stack([torch.zeros_like(raw["cov"]), *counted]).sum(), raw)


def per_scene_terms(
    forward: Forward, truth: Truth, loss: LossConfig, geometry: ArrayGeometry
) -> dict[str, Tensor]:
    """The loss terms per scene, [B] each, in the order of `TERMS`."""
    with full_precision(truth.A):
        prediction = _single_or_wider(forward.prediction)
        found = _slot_terms(prediction, truth, loss)
        found |= _covariance_terms(forward, prediction, truth, loss, geometry)
        return {name: found[name] for name in TERMS}


def _single_or_wider(prediction: Prediction) -> Prediction:
    """The prediction, with what an autocast network left in half precision widened."""
    real = (prediction.count_logits, prediction.position, prediction.power)
    wide = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in real)
    return Prediction(prediction.A_angle, prediction.A_range, *wide)


def _slot_terms(prediction: Prediction, truth: Truth, loss: LossConfig) -> dict[str, Tensor]:
    """Terms of the slots and factors, without a covariance."""
    ortho, cross = slot_coherence(prediction.A_angle, prediction.A_range)
    return {
        "ortho": ortho,
        "cross": cross,
        "K": cross_entropy(prediction.count_logits, truth.num_sources - 1, reduction="none"),
        "aux": matched_distance(prediction.position, truth, loss),
        "peak": direction_chamfer(prediction.position, prediction.power, truth),
    }


def _covariance_terms(
    forward: Forward, prediction: Prediction, truth: Truth, loss: LossConfig, geometry: ArrayGeometry
) -> dict[str, Tensor]:
    """Terms of the covariances: errors of prediction and blend, the blend's spectrum and signal subspace.

    ``align = sum_k w_k (1 - a_k^H P_R a_k)`` in [0, 1] is the energy of the predicted steering vectors a_k,
    w_k their power shares, outside the signal subspace: P_R projects on the K leading eigenvectors of R.
    """
    reference, R = Reference.of(truth), forward.covariances.blend
    R_pred = forward.covariances.pred
    azimuth, elevation, range_ = prediction.position.unbind(-1)
    slots = steering_vector(azimuth, elevation, range_, geometry)
    gram, at_truth, at_slots, around = inner_products(
        R.F, truth.A.mT, slots, stencil_steering(truth, geometry, loss)
    )
    blend = Moments(R, gram, at_truth)
    spectrum = Spectrum.of(gram)
    gap = eigenvalue_gap(blend, spectrum, truth.num_sources)
    b = torch.cat([at_slots, at_truth, around], dim=-1)
    K = at_truth.shape[-1]
    inside = energy_inside(gram, b, spectrum, truth.num_sources, most=K)
    return {
        "cov": covariance_nmse(blend, reference, loss),
        "cov_pred": covariance_nmse(Moments(R_pred, *inner_products(R_pred.F, truth.A.mT)), reference, loss),
        "gap": (loss.gap_margin - gap).clamp_min(0.0),
        "margin": loss.margin_target - gap.clamp_max(loss.margin_target),
        "align": (power_share(prediction.power) * (1.0 - inside[:, :K])).sum(-1),
        "subspace_align": covariance_outside(blend, reference, loss),
        "peak_contrast": peak_contrast(inside[:, K : 2 * K], inside[:, 2 * K :], truth),
    }


def main_weights(loss: LossConfig) -> dict[str, float]:
    """Weight of every term in the main phase."""
    return {name: getattr(loss, name) for name in TERMS}


def term_weights(loss: LossConfig, epoch: int, epochs: int) -> dict[str, float]:
    """Weight of every term in training.

    The last `schedule_final_fraction` of the epochs (rounded to whole epochs) is the final phase; of the
    others the first `schedule_start_epochs` are the first phase, the rest the main phase.

    Args:
        loss: weights and schedule.
        epoch: from 0.
        epochs: number of epochs of the run.
    """
    phase = ""
    if epoch >= epochs - round(loss.schedule_final_fraction * epochs):
        phase = "_final"
    elif epoch < loss.schedule_start_epochs:
        phase = "_start"
    return main_weights(loss) | {name: getattr(loss, name + phase) for name in SCHEDULED}

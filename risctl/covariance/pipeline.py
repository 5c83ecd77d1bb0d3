"""The one pipeline from measurements and a prediction to ``R_samp``, ``R_pred`` and ``R_blend``.

    R_samp  = sum_l a_l a_l^H, centred or not, scaled to trace N
    R_pred  = A_angle A_angle^H + range_weight A_range A_range^H, scaled to trace N
    R_blend = (1 - beta) R_pred + beta R_samp, scaled to trace N, plus eps_cov I

Training, validation and inference all call :func:`covariances`, which cannot tell them apart.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from risctl.config import CovarianceConfig
from risctl.config.compare import canonical_json
from risctl.config.former import digest16, former_canonical_json
from risctl.covariance.lowrank import LowRank
from risctl.covariance.precision import (
    energy,
    finite_scenes,
    first_scene,
    full_precision,
    require_finite,
    widened,
)
from risctl.covariance.ridge import ridge_back_projection, ridge_through
from risctl.covariance.sample import sample_factor
from risctl.errors import DivergedError

# Raise it with any change that makes the same measurements and settings give other covariances.
PIPELINE_VERSION = 1


@dataclass(frozen=True)
class Covariances:
    """The three covariances of B scenes in factor form, with the weight and back-projection behind them.

    Attributes:
        samp: ``R_samp``, rank about L - 1.
        pred: ``R_pred``, rank at most 2 K_max.
        blend: ``R_blend``, factor [B, N, 2 K_max + L] and load eps_cov.
        beta: weight of the sample covariance as it was used, real [B].
        back_projection: the a_l behind ``R_samp``, complex [B, L, N].
    """

    samp: LowRank
    pred: LowRank
    blend: LowRank
    beta: Tensor
    back_projection: Tensor


def covariances(
    y: Tensor,
    H: Tensor,
    codes: Tensor,
    A_angle: Tensor,
    A_range: Tensor,
    covariance: CovarianceConfig,
    beta_offset: Tensor | None = None,
) -> Covariances:
    """Sample, predicted and blended covariance of B scenes.

    Gradients flow into both factors and into no measurement.

    Args:
        y: snapshots, complex [B, L, M].
        H: channel, complex [B, M, N].
        codes: RIS codes, complex [B, L, N].
        A_angle, A_range: the network's factors, complex [B, N, K_max].
        covariance: settings of the pipeline.
        beta_offset: training's jitter [B], added to beta per scene and the sum clamped to [0, 1].

    Raises:
        MeasurementError: naming the first scene whose measurements are not finite or without energy.
        DivergedError: naming the first scene whose factors are not finite or without energy.
    """
    a = back_project(y, H, codes, covariance)
    samp = LowRank(sample_factor(a, covariance.center))
    pred = predicted_covariance(A_angle, A_range, covariance.range_weight)
    beta = blend_weight(samp, covariance.beta, beta_offset)
    return Covariances(samp, pred, blended_covariance(pred, samp, beta, covariance.eps_cov), beta, a)


def back_project(y: Tensor, H: Tensor, codes: Tensor, covariance: CovarianceConfig) -> Tensor:
    """Ridge back-projection [B, L, N] of checked measurements."""
    for name, x in (("y", y), ("H", H), ("codes", codes)):
        require_finite(x, name)
    return ridge_back_projection(y, H, codes, covariance.tikhonov_alpha)


def snapshot_factor(y: Tensor, H: Tensor, codes: Tensor, covariance: CovarianceConfig) -> Tensor:
    """Factor F [B, N, L] of the sample covariance ``R_samp = F F^H`` (trace N) of measured scenes.

    Args:
        y: snapshots, complex [B, L, M].
        H: channel, complex [B, M, N].
        codes: RIS codes, complex [B, L, N].
        covariance: ridge strength and centring.

    Raises:
        MeasurementError: naming the first scene with a value that is not finite or without energy.
    """
    return sample_factor(back_project(y, H, codes, covariance), covariance.center)


def snapshot_factor_through(y: Tensor, Phi: Tensor, covariance: CovarianceConfig) -> Tensor:
    """The same through any measurement matrices Phi [B, L, M, N] or [B, 1, M, N]; F is [B, N, min(L, N)]."""
    for name, x in (("y", y), ("Phi", Phi)):
        require_finite(x, name)
    F = sample_factor(ridge_through(y, Phi, covariance.tikhonov_alpha), covariance.center)
    return F if F.shape[-1] <= F.shape[-2] else torch.linalg.qr(F.mH, mode="r")[1].mH


def predicted_covariance(A_angle: Tensor, A_range: Tensor, range_weight: float) -> LowRank:
    """``R_pred`` of trace N from the factors [B, N, K_max].

    Raises:
        DivergedError: naming the first scene with a value that is not finite or without energy.
    """
    with full_precision(A_angle):
        A_angle, A_range = widened(A_angle, A_range)
        F = torch.cat([A_angle, math.sqrt(range_weight) * A_range], dim=-1)
        bad = first_scene(~finite_scenes(F))
        if bad is not None:
            raise DivergedError(f"the network's covariance factors of scene {bad} are not finite")
        size = energy(F.detach())
        bad = first_scene(~((size > 0) & torch.isfinite(size)))
        if bad is not None:
            raise DivergedError(f"the network predicts no covariance of finite energy for scene {bad}")
        return LowRank(_to_trace_n(F))


def blend_weight(samp: LowRank, beta: float, beta_offset: Tensor | None) -> Tensor:
    """Weight of the sample covariance per scene, real [B]."""
    weight = torch.full((samp.shape[0],), beta, dtype=samp.F.real.dtype, device=samp.F.device)
    return weight if beta_offset is None else (weight + beta_offset.to(weight)).clamp(0.0, 1.0)


def blended_covariance(pred: LowRank, samp: LowRank, beta: Tensor, eps_cov: float) -> LowRank:
    """``R_blend`` from ``R_pred``, ``R_samp`` (through which no gradient passes) and the weight beta [B]."""
    if pred.shape != samp.shape:  # whatever the interpreter's flags
        raise AssertionError(f"R_pred is {pred.shape}, R_samp is {samp.shape}")
    with full_precision(pred.F):
        weight = beta[:, None, None]
        parts = [(1.0 - weight).sqrt() * pred.F, weight.sqrt() * samp.detach().F]
        return LowRank(_to_trace_n(torch.cat(parts, dim=-1)), load=eps_cov)


def _to_trace_n(F: Tensor) -> Tensor:
    """Scale factors so that the trace of ``F F^H`` is N."""
    return F * (F.shape[-2] / energy(F)).sqrt()[:, None, None]


def covariance_fingerprint(covariance: CovarianceConfig) -> str:
    """16 hexadecimal digits: BLAKE2b over the pipeline's version and the settings in canonical form.

    Results with the same fingerprint used the same arithmetic.
    """
    return digest16(f"{PIPELINE_VERSION}:{canonical_json(covariance)}")


def is_covariance_fingerprint(stored: str, covariance: CovarianceConfig) -> bool:
    """Whether `stored` was made for these settings and this pipeline, by this version or by risctl 0.1.0."""
    former = digest16(f"{PIPELINE_VERSION}:{former_canonical_json(covariance, 'covariance')}")
    return stored in (covariance_fingerprint(covariance), former)

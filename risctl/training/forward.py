"""The forward path of a training step: network in the step's precision, covariances in single or wider."""

from typing import Literal, Protocol

import torch
from torch import Tensor

from risctl.config import CovarianceConfig
from risctl.model import Forward, Network, Prediction, predict

Precision = Literal["auto", "float32", "bf16", "fp16"]
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Measured(Protocol):
    """Measurements of B scenes; the forward pass reads nothing else."""

    @property
    def y(self) -> Tensor:
        """Snapshots, complex [B, L, M]."""

    @property
    def H(self) -> Tensor:
        """Channel, complex [B, M, N]."""

    @property
    def codes(self) -> Tensor:
        """RIS codes, complex [B, L, N]."""


def usable_precision(precision: Precision, device: torch.device) -> Precision:
    """The precision itself, and for `auto` bf16 where the device multiplies it faster, float32 elsewhere."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    fast = device.type == "cpu" and (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )
    return "bf16" if fast else "float32"


def forward_pass(
    network: Network,
    measured: Measured,
    covariance: CovarianceConfig,
    precision: Precision = "float32",
    beta_offset: Tensor | None = None,
) -> Forward:
    """Prediction and covariances of B scenes as a training step and a validation compute them.

    Args:
        network: in the caller's mode.
        measured: y, H and codes, on the network's device.
        covariance: settings of the covariance pipeline.
        precision: arithmetic of the network; covariances are never below single.
        beta_offset: a training step's jitter of beta [B].

    Raises:
        MeasurementError, DivergedError: see :func:`risctl.model.predict`.
    """
    called, device = network, measured.y.device
    precision = usable_precision(precision, device)
    if precision != "float32":  # nothing but the network runs under it

        def called(y: Tensor, H: Tensor, codes: Tensor) -> Prediction:
            with torch.autocast(device.type, dtype=HALF[precision]):
                return network(y, H, codes)

    return predict(called, measured.y, measured.H, measured.codes, covariance, beta_offset)

"""The `model`, `loss` and `training` sections."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from risctl.config.base import Fraction, NonNegative, Positive, Section, Seed, as_tuple, cross_field_error

Alphas = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1e6)], ...], as_tuple, Field(min_length=1, max_length=16)
]
MapSide = Annotated[int, Field(ge=1, le=512)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]


class ModelConfig(Section):
    """The network: its covariance head, its size and the detection maps it looks at."""

    head: Literal["structured", "factors"] = "structured"
    """Covariance factors built from the slots, or emitted freely."""
    width: Annotated[int, Field(ge=8, le=4096)] = 128
    """Channels of the backbone."""
    depth: Annotated[int, Field(ge=1, le=64)] = 6
    """Blocks of the backbone."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Dropout rate."""
    map_alphas: Alphas = (1e-2, 1.0, 10.0)
    """Ridge strengths of the detection maps, in the units of `covariance.tikhonov_alpha`."""
    map_rows: MapSide = 16
    """Elevations of a detection map."""
    map_columns: MapSide = 32
    """Azimuths of a detection map."""
    map_ranges: Annotated[int, Field(ge=1, le=64)] = 4
    """Range planes of a detection map."""


class LossConfig(Section):
    """Weights of the twelve loss terms, named like the terms, and their fixed shape parameters."""

    cov: NonNegative = 1.0
    """NMSE of the blended covariance against the true one."""
    cov_pred: NonNegative = 0.03
    """The same on the predicted covariance alone."""
    ortho: NonNegative = 1e-3
    """Off-diagonal energy of the normalised Gram matrix of the angle factor."""
    cross: NonNegative = 1e-3
    """Coherence between angle and range columns of different slots."""
    gap: NonNegative = 0.05
    """Hinge on the eigenvalue gap after the K-th."""
    margin: NonNegative = 0.05
    """The same gap clamped to `margin_target`."""
    K: NonNegative = 0.3
    """Cross-entropy of the source count."""
    aux: NonNegative = 0.5
    """Matched smooth-L1 of angles (radians) and log-range."""
    peak: NonNegative = 0.05
    """Chamfer distance between predicted and true directions."""
    align: NonNegative = 0.002
    """Energy of predicted steering vectors outside the top-K subspace."""
    subspace_align: NonNegative = 0.05
    """Energy of the covariance outside the span of the true steering vectors, main phase."""
    peak_contrast: NonNegative = 0.10
    """Contrast of the MUSIC spectrum at the true sources, main phase."""
    lam_diag: NonNegative = 1.0
    """Weight of the diagonal part in `cov` and `cov_pred`."""
    lam_off: NonNegative = 1.0
    """Weight of the off-diagonal part in `cov` and `cov_pred`."""
    gap_margin: Positive = 0.10
    """Hinge margin of `gap`."""
    margin_target: Positive = 0.02
    """Clamp of `margin`."""
    elevation_factor: Positive = 1.5
    """Weight of elevation against azimuth in `aux`."""
    subspace_load: Positive = 1e-4
    """Diagonal load of the K x K solve of `subspace_align`."""
    subspace_align_start: NonNegative = 0.02
    """Weight of `subspace_align` in the first epochs."""
    subspace_align_final: NonNegative = 0.07
    """Weight of `subspace_align` in the last epochs."""
    peak_contrast_start: NonNegative = 0.05
    """Weight of `peak_contrast` in the first epochs."""
    peak_contrast_final: NonNegative = 0.12
    """Weight of `peak_contrast` in the last epochs."""
    schedule_start_epochs: Annotated[int, Field(ge=0, le=100_000)] = 3
    """Epochs of the first phase."""
    schedule_final_fraction: Fraction = 0.2
    """Share of the epochs in the last phase."""


class TrainingConfig(Section):
    """The optimisation: length, rates, averaging, stopping and what counts as a failed run."""

    seed: Seed = 0
    """Seed of weights, order, dropout and jitter."""
    epochs: Epochs = 160
    """Passes over the training scenes."""
    batch: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Scenes of one step."""
    accumulate: Annotated[int, Field(ge=1, le=1024)] = 1
    """Batches whose gradients are summed before a step."""
    lr: Annotated[float, Field(gt=0, le=1)] = 2e-4
    """Peak learning rate of the backbone."""
    head_lr_factor: Positive = 4.0
    """Rate of the heads over the backbone's."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 1e-2
    """Decoupled weight decay."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps in the linear warm-up; cosine after it."""
    clip: Positive = 1.0
    """Global gradient norm."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the exponential weight average; 0 switches it off."""
    swa_fraction: Fraction = 0.2
    """Share of the epochs at the end that are averaged; 0 switches it off."""
    swa_lr_factor: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Rate during averaging over the peak rate."""
    curriculum: bool = True
    """Three phases: few sources at high SNR first."""
    early_stop_patience: Annotated[int, Field(ge=0, le=100_000)] = 25
    """Epochs without a better validation loss before stopping; 0 never stops."""
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    """Arithmetic of the network; covariances are float32 or wider always."""
    beta_jitter: Annotated[float, Field(ge=0, le=0.5)] = 0.05
    """Half width of the uniform jitter of `covariance.beta`, in training only."""
    max_skipped_fraction: Fraction = 0.05
    """Share of skipped steps past which the run fails."""
    max_sanitised_fraction: Fraction = 0.05
    """Share of steps with a non-finite gradient past which the run fails."""

    @model_validator(mode="after")
    def _check_phases(self) -> Self:
        if self.warmup_fraction + self.swa_fraction > 1:
            got = f"{self.warmup_fraction} + {self.swa_fraction}"
            raise cross_field_error("warmup_fraction", "warm-up and averaging to fit into the run", got)
        return self
